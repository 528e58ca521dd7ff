#!/usr/bin/env bash
# peerhub-stress attack as a command: its list, its exit codes, its JSON, a seed that repeats, and the
# attacks that work against another process.
set -euo pipefail

build=${1:?build directory}
stress=$build/peerhub-stress
echo_server=$build/peerhub-echo
[ -x "$stress" ] && [ -x "$echo_server" ] || exit 77

work=$(mktemp -d)
server=
finish() {
	[ -z "$server" ] || kill "$server" 2>/dev/null || true
	rm -rf "$work"
}
trap finish EXIT

fail() {
	echo "command_line: $*" >&2
	exit 1
}

expect() {
	local wanted=$1 code=0
	shift
	"$stress" attack "$@" >"$work/out" 2>&1 || code=$?
	if [ "$code" -ne "$wanted" ]; then
		tail -n 40 "$work/out" >&2
		fail "exit code $code, not $wanted, for: attack $*"
	fi
}

expect 0 --help
grep -q 'remote' "$work/out" || fail "no --remote in the help"
expect 0 --list
[ "$(wc -l <"$work/out")" -ge 20 ] || fail "a short list"
expect 2 nonsense
expect 2 --seed x silent
expect 2 --patience 0 silent
expect 2 --remote nowhere silent
expect 2 --remote 127.0.0.1:1 silent
expect 2 --tls none silent
expect 2 --no-such-option
expect 4 pings --patience 120 --json "$work/no/such/directory"

expect 0 pings --seed 7 --json "$work/json"
grep -q '^seed 7$' "$work/out" || fail "another seed than was asked for"
python3 - "$work/json" <<'PYTHON'
import json, sys
report = json.load(open(sys.argv[1]))
assert report["seed"] == 7 and not report["full"]
(attack,) = report["attacks"]
assert attack["name"] == "pings" and attack["verdict"] == "held" and attack["faults"] == 0
PYTHON

# Another process: what needs a look inside is left out.
"$echo_server" --port 0 --threads 2 --address 127.0.0.1 --framing message >"$work/echo" 2>&1 &
server=$!
for _ in $(seq 600); do
	port=$(sed -n 's/^ready \([0-9.]*\) \([0-9]*\)$/\1:\2/p' "$work/echo")
	[ -z "$port" ] || break
	kill -0 "$server" 2>/dev/null || {
		cat "$work/echo" >&2
		exit 77
	}
	sleep 0.1
done
[ -n "$port" ] || fail "peerhub-echo does not say where it listens"
expect 0 pings vanish ids --remote "$port" --tls none
grep -q 'left out' "$work/out" || fail "nothing was left out with --remote"
grep -q 'held 2' "$work/out" || fail "not both were held"
kill "$server"
wait "$server" || true
server=
echo "command_line: OK"
