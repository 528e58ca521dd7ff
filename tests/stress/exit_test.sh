#!/usr/bin/env bash
# Every exit code happens when it should, wrong command lines name the option and what it takes, and
# Ctrl-C ends a run with its report.
set -euo pipefail

build=${1:?build directory}
stress=$build/peerhub-stress
[ -x "$stress" ] || exit 77

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
	echo "exit_test: $*" >&2
	tail -n 40 "$work/out" >&2
	exit 1
}

# expect CODE "TEXT IN THE OUTPUT" ARGUMENTS...
expect() {
	local wanted=$1 text=$2 code=0
	shift 2
	"$stress" "$@" >"$work/out" 2>&1 || code=$?
	! grep -q 'cannot start: .*io_uring' "$work/out" || exit 77
	[ "$code" -eq "$wanted" ] || fail "exit code $code, not $wanted, for: $*"
	grep -qF -e "$text" "$work/out" || fail "no \"$text\" for: $*"
}

# 0: help, of the program and of each command, with examples.
expect 0 'Start here:' --help
for command in storm churn slow soak; do
	expect 0 'Examples:' "$command" --help
	expect 0 'Exit codes:' "$command" --help
done

# 2: the option and what it takes.
expect 2 'usage:'
expect 2 'no such command: strom' strom
expect 2 'there is no option --conections' storm --conections 5
expect 2 "--connections takes a whole number from 1 to 100000, not '0'" storm --connections 0
expect 2 "--connections takes a whole number from 1 to 100000, not '1e3'" churn --connections=1e3
expect 2 "--by takes dialler, acceptor or both, not 'me'" storm --by me
expect 2 '--rounds wants a value' storm --rounds
expect 2 '--flood takes no value' storm --flood=1
expect 2 "'now' is no option" slow now
expect 2 '--close 9 is more than --connections 8' storm --connections 8 --close 9
expect 2 'the kind is none of' storm --fault rest:5
expect 2 'its argument is a number or a range' storm --fault reset:many
expect 2 'its argument is a number or a range' storm --fault delay:9-3
expect 2 'its argument is a number or a range' storm --fault slow:0
expect 2 'the scope is 1% to 100%' storm --fault 'segment@0%'
expect 2 'there is no group g4' storm --fault 'segment@group=g4'
expect 2 'errno takes NAME,OP' storm --fault errno:ENOENT
expect 2 'no such error' storm --fault errno:EWHAT,recv
expect 2 'the operation is none of' storm --fault errno:EPIPE,write
expect 2 'lost takes recv' storm --fault lost:cancel
expect 2 'at most 9000 connections at once' storm --connections 20000 --fault segment
expect 2 '--cert, --key and --ca belong to' storm --remote 127.0.0.1:1
expect 2 'numeric HOST:PORT' churn --remote nowhere
expect 2 'only the dialler' storm --remote 127.0.0.1:1 --tls none --by both
expect 2 'from 20 to 9000' soak --connections 5
expect 2 'at most 2 beside' soak --fault segment --fault segment --fault segment

# 4: it could not run: nobody there, no such file for its report.
expect 4 'no connection could be opened' storm --connections 2 --tls none --remote 127.0.0.1:1
expect 4 'no/such/file' storm --connections 2 --tls none --json "$work/no/such/file"

# 1: a finding. A byte that changes on its way without TLS is one; with TLS it is only an end.
expect 1 'VIOLATION: a message was damaged' churn --tls none --connections 2 --cycles 8 --early 0 \
	--message-bytes 60000 --queue-bytes 1000000 --fault damage:30000
expect 0 'OK' churn --connections 2 --cycles 8 --early 0 --rss-percent 0 \
	--message-bytes 60000 --queue-bytes 1000000 --fault damage:30000

# 3: a hang. A kernel that loses an answer is seen, and the hubs' state is shown.
expect 3 'HANG: ' storm --tls none --connections 10 --patience 1 --close-ms 100 --fault lost:recv,1
grep -q '^shard 0' "$work/out" || fail "the hubs were not shown"

# Ctrl-C: the report so far, the verdict's exit code.
interrupted() {
	local code=0
	"$stress" "$@" --json "$work/json" >"$work/out" 2>&1 &
	local pid=$!
	for _ in $(seq 600); do
		grep -q '^seed' "$work/out" && break
		sleep 0.1
	done
	sleep 0.3
	kill -INT "$pid"
	wait "$pid" || code=$?
	[ "$code" -eq 0 ] || fail "exit code $code after SIGINT of: $*"
	grep -q '^OK$' "$work/out" || fail "no verdict after SIGINT of: $*"
	python3 -c 'import json, sys; sys.exit(not json.load(open(sys.argv[1]))["interrupted"])' \
		"$work/json" || fail "the report does not say that it was interrupted: $*"
}
interrupted storm --connections 50 --rounds 1000000 --tls none --patience 100
interrupted churn --seconds 1000 --tls none --rate 200 --rss-percent 0 --patience 100
interrupted slow --seconds 1000 --tls none --rate 1000 --connections 10 --patience 100
interrupted soak --seconds 1000 --connections 20 --rss-percent 0 --patience 100
echo "exit_test: OK"
