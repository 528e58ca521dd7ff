#!/usr/bin/env bash
# storm, churn and slow in small: they run, find nothing, and say in JSON what they did. How long
# anything took is not judged here.
set -euo pipefail

build=${1:?build directory}
stress=$build/peerhub-stress
[ -x "$stress" ] && [ -x "$build/peerhub-echo" ] || exit 77

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
	echo "storm_test: $*" >&2
	tail -n 60 "$work/out" >&2
	exit 1
}

# run "PYTHON CONDITION on j" SUBCOMMAND OPTIONS...
run() {
	local check=$1 code=0
	shift
	rm -f "$work/json"
	"$stress" "$@" --patience 100 --json "$work/json" >"$work/out" 2>&1 || code=$?
	# A machine that refuses io_uring cannot run this test.
	! grep -q 'cannot start: .*io_uring' "$work/out" || exit 77
	[ "$code" -eq 0 ] || fail "exit code $code for: $*"
	grep -q '^OK$' "$work/out" || fail "no verdict for: $*"
	python3 - "$work/json" "$check" <<-'PYTHON' || fail "the report of: $*"
		import json, sys
		with open(sys.argv[1]) as f: j = json.load(f)
		ok = j["ok"] and not j["interrupted"] and j["audit"]["violations"] == 0
		ok = ok and j["audit"]["finals"] == j["audit"]["ends"] > 0
		ok = ok and str(j["seed"]) in j["command"]
		if not (ok and eval("(" + sys.argv[2] + ")")):
		    print(json.dumps(j, indent=1), "\ndoes not hold:", sys.argv[2])
		    sys.exit(1)
	PYTHON
	sed -n '1p' "$work/out"
}

# Every close of ours shows at both ends as what it was.
run 'j["close"]["closes"] == 150 and j["ends_dialler"]["local_close"] == 150 and
     j["ends_acceptor"]["remote_close"] == 150 and j["graceful"]["call"]["count"] == 150 and
     j["audit"]["graceful_proved"] == 150' \
	storm --connections 150 --tls none --close-ms 60000
run 'j["ends_dialler"]["remote_reset"] == 40 and j["ends_acceptor"]["local_abort"] == 40 and
     j["abort"]["reset_seen"]["count"] > 0' \
	storm --connections 40 --by acceptor --how abort --flood --flood-ms 100
run 'j["close"]["closes"] == 60 and j["close"]["rounds"] == 3 and j["open"]["opened"] == 80' \
	storm --connections 40 --close 20 --rounds 3 --window 2 --by both --how mixed --tls none \
	--close-ms 60000 \
	--flood --flood-rate 5000 --flood-ms 50 --shards 2
run 'j["churn"]["cycles"] == 400 and
     j["baseline"]["end_descriptors"] <= j["baseline"]["warm_descriptors"]' \
	churn --connections 20 --cycles 400 --tls none --rss-percent 0
run 'j["churn"]["cycles"] == 60' \
	churn --connections 10 --cycles 60 --by dialler --how graceful --early 4 --rss-percent 0
run 'j["slow"]["count"] == 8 and j["slow"]["closed_mute"] + j["slow"]["closed_slow"] <= 8 and
     0 < j["memory"]["queue_max"] <= j["memory"]["queue_bound"] == 32768' \
	slow --connections 20 --slow-percent 40 --seconds 1 --tls none --queue-bytes 32768 \
	--close-slow-ms 300 --rate 20000

# The same seed chooses the same seats: the first replays the second, word for word of the command.
run 'j["seed"] == 7' storm --connections 10 --tls none --how mixed --seed 7
first=$(grep -E 'local_(close|abort)' "$work/out")
run 'j["seed"] == 7' storm --connections 10 --tls none --how mixed --seed=7
[ "$first" = "$(grep -E 'local_(close|abort)' "$work/out")" ] || fail "the seed chose otherwise"

# Another process at the far end.
"$build/peerhub-echo" --port 0 --threads 1 --framing message --address 127.0.0.1 >"$work/ready" &
echo_pid=$!
trap 'kill "$echo_pid" 2>/dev/null || true; rm -rf "$work"' EXIT
for _ in $(seq 600); do
	grep -q '^ready' "$work/ready" && break
	sleep 0.1
done
port=$(sed -n 's/^ready [^ ]* //p' "$work/ready")
run 'j["close"]["closes"] == 50 and j["audit"]["ends"] == 50' \
	storm --connections 50 --tls none --remote "127.0.0.1:$port" --flood --flood-ms 50
run 'j["churn"]["cycles"] == 100 and j["faults"]["relayed"] > 0' \
	churn --connections 10 --cycles 100 --tls none --remote "127.0.0.1:$port" \
	--fault 'delay:1@50%' --rss-percent 0
kill "$echo_pid"
wait "$echo_pid"
echo "storm_test: OK"
