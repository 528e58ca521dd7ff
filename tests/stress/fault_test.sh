#!/usr/bin/env bash
# Every kind of fault, on streams and at the ring: it is made, and the audit's rules hold all the
# same: one final event an id, in the right order, receipts that agree.
set -euo pipefail

build=${1:?build directory}
stress=$build/peerhub-stress
[ -x "$stress" ] || exit 77

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
	echo "fault_test: $*" >&2
	head -n 12 "$work/out" >&2
	tail -n 60 "$work/out" >&2
	exit 1
}

# run "FAULTS THAT MUST HAVE BEEN MADE" SUBCOMMAND OPTIONS...
run() {
	local made=$1 code=0
	shift
	"$stress" "$@" --patience 100 --json "$work/json" >"$work/out" 2>&1 || code=$?
	! grep -q 'cannot start: .*io_uring' "$work/out" || exit 77
	[ "$code" -eq 0 ] || fail "exit code $code for: $*"
	python3 - "$work/json" $made <<-'PYTHON' || fail "not every fault was made by: $*"
		import json, sys
		with open(sys.argv[1]) as f: j = json.load(f)
		missing = [name for name in sys.argv[2:] if j["faults"].get(name, 0) == 0]
		if missing or not j["ok"]: print(j["faults"], "missing:", missing)
		sys.exit(bool(missing) or not j["ok"])
	PYTHON
	sed -n '1p' "$work/out"
}

run "delay segment slow relayed" churn --connections 20 --cycles 100 --tls none --rss-percent 0 \
	--fault 'delay:0-3+2@40%' --fault 'segment@30%' --fault 'slow:50000-100000@30%'
run "reset truncate" churn --connections 20 --cycles 200 --tls none --rss-percent 0 \
	--fault 'reset:0-800@30%' --fault 'truncate:0-800@30%' --fault 'reset:1-20ms@10%'
run "stall" churn --connections 10 --cycles 60 --tls none --rss-percent 0 \
	--fault 'stall:0-200,50@group=g1' --message-bytes 32
run "reset truncate segment damage" churn --connections 10 --cycles 80 --rss-percent 0 \
	--fault 'reset:0-5000@20%' --fault 'truncate:0-5000@20%' --fault 'segment:1-50@20%' \
	--fault 'damage:0-5000@20%'
run "ring_recv ring_send ring_connect ring_socket ring_accept ring_name" \
	churn --connections 20 --cycles 600 --tls none --rss-percent 0 \
	--fault errno:ENOBUFS,recv,20 --fault errno:ECONNRESET,recv,100 \
	--fault errno:EPIPE,send,50 --fault errno:ECONNREFUSED,connect,30 \
	--fault errno:EMFILE,socket,30 --fault errno:EMFILE,accept,3 \
	--fault errno:ENOTCONN,name,20
run "ring_cancel ring_disconnect ring_unsent ring_option" \
	churn --connections 20 --cycles 300 --tls none --rss-percent 0 \
	--fault errno:EALREADY,cancel,4 --fault errno:ENOENT,cancel,4 \
	--fault errno:EINVAL,disconnect,4 --fault errno:EOPNOTSUPP,unsent,4 \
	--fault errno:ENOPROTOOPT,option,8
run "ring_recv" storm --connections 40 --how mixed --by both --flood --flood-ms 50 \
	--fault 'errno:ECONNRESET,recv,10@group=g2' --fault errno:ENOBUFS,recv,10
run "delay" slow --connections 20 --seconds 1 --tls none --rate 5000 --fault 'delay:5@70%'
echo "fault_test: OK"
