#!/usr/bin/env bash
# Proves: peerhub-million goes through all its phases with 500 connections on 4 shards a side, says OK
# and writes a whole JSON file; both ends may close; a Ctrl-C in the middle ends all its processes.
set -euo pipefail
program=$1/peerhub-million
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

ulimit -n "$(ulimit -Hn)"
"$program" --preflight 20000 >"$work/out" || {
	cat "$work/out"
	exit 77
}

fail() {
	echo "million_test: $1" >&2
	cat "$work/out" >&2
	exit 1
}

"$program" --hub-shards 4 --peer-shards 4 --peers 2 --json "$work/a.json" 500 >"$work/out" 2>&1 ||
	fail "500 connections closed by the hub"
grep -q '^peerhub-million: OK$' "$work/out" || fail "no OK"
grep -q 'closes won 500 and lost 500$' "$work/out" || fail "not each close had one winner"
python3 - "$work/a.json" <<'PY' || fail "the JSON file"
import json, sys
result = json.load(open(sys.argv[1]))
assert result["good"] is True
assert result["hub"]["opened"] == result["hub"]["closed"] == 500
assert result["peers"]["verified"] == 500
assert result["checkpoints"][-1]["connections"] == 500
PY
"$program" --close-by peers --plain --threads 3 300 >"$work/out" 2>&1 ||
	fail "300 plain connections closed by the peers"

# Ctrl-C: far from done, since one opening at a time is under way.
"$program" --window 1 20000 >"$work/out" 2>&1 &
pid=$!
for _ in $(seq 600); do
	children=$(cat "/proc/$pid/task/$pid/children" 2>/dev/null || true)
	[ "$(wc -w <<<"$children")" -ge 2 ] && break
	sleep 0.1
done
[ "$(wc -w <<<"$children")" -ge 2 ] || fail "the processes did not start"
# A shell's background command ignores SIGINT; SIGTERM is handled alike.
kill -TERM "$pid"
code=0
wait "$pid" || code=$?
[ "$code" = 130 ] || fail "interrupted: exit code $code"
for child in $children; do
	[ ! -d "/proc/$child" ] || fail "process $child is still there"
done

code=0
"$program" 2500001 >"$work/out" 2>&1 || code=$?
[ "$code" = 2 ] || fail "too many connections: exit code $code"
echo "million_test: OK"
