#!/usr/bin/env bash
# Short spins over the kernel's ring, 30 seconds of them: the native interface with and without TLS, one
# hub and two, a table that is too small, allocations that fail; the p2p interface; both. The seeds are
# new in each run and printed; a finding prints the command that repeats it.
set -euo pipefail

build=${1:?build directory}
stress=$build/peerhub-stress
total=${PEERHUB_SPIN_SECONDS:-30} # of all spins together
[ -x "$stress" ] || exit 77

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
	echo "spin_test: $*" >&2
	exit 1
}

# spin PART ARGUMENTS...: PART thirtieths of the time, a second at least.
spin() {
	local seconds=$(($1 * total / 30)) code=0
	shift
	[ "$seconds" -gt 0 ] || seconds=1
	"$stress" spin --seconds "$seconds" --patience 60 --json "$work/json" "$@" >"$work/out" 2>&1 ||
		code=$?
	# A machine that refuses io_uring cannot run this test.
	! grep -q 'cannot start: .*io_uring' "$work/out" || exit 77
	if [ "$code" -ne 0 ]; then
		tail -n 80 "$work/out" >&2
		fail "exit code $code for: spin $*"
	fi
	python3 - "$work/json" >>"$work/figures" <<'PYTHON'
import json, sys
result = json.load(open(sys.argv[1]))
print(result.get("audit", {}).get("messages_raw", 0), result.get("p2p", {}).get("calls", 0))
PYTHON
	grep -q '^spin: OK, 0 violations$' "$work/out" || fail "no verdict"
	head -n 1 "$work/out"
}

expect_usage() {
	local code=0
	"$stress" "$@" >"$work/out" 2>&1 || code=$?
	[ "$code" -eq 2 ] || fail "exit code $code for: $*"
}
expect_usage
expect_usage spin
expect_usage spin --connections 1 --threads 1
expect_usage spin --connections 1 --threads 0 --seconds 1
expect_usage spin --connections 1 --threads 1 --seconds 1 --hubs 3
expect_usage spin --connections 1 --threads 1 --seconds 1 --remote 127.0.0.1:1
expect_usage spin --connections 1 --threads 1 --seconds 1 --api posix
expect_usage spin --connections 1 --threads 1 --seconds 1 --api both
expect_usage spin --connections 1 --threads 2 --seconds 1 --api p2p --fill
expect_usage spin --connections 1 --threads 1 --seconds 1 --fail-allocations 0
expect_usage job
"$stress" --help >/dev/null
"$stress" spin --help >/dev/null
"$stress" job --help >/dev/null

spin 4 --connections 200 --threads 4 --hubs 1 --tls none
spin 7 --connections 100 --threads 4 --hubs 2 --tls mutual
spin 1 --connections 40 --threads 4 --hubs 1 --tls none --slots 16
spin 1 --connections 60 --threads 4 --hubs 1 --tls none --fail-allocations 100
spin 5 --connections 60 --threads 4 --hubs 2 --tls mutual --fail-allocations 100
spin 8 --connections 60 --threads 4 --api p2p
spin 4 --connections 60 --threads 4 --api both --hubs 2
# Whatever else the machine did: raw streams were read, and p2p.h was called.
read -r raw p2p < <(awk '{a += $1; b += $2} END {print a, b}' "$work/figures")
echo "spin_test: $raw messages out of raw streams, $p2p p2p calls"
[ "$raw" -gt 0 ] || fail "no message came out of a raw stream"
[ "$p2p" -gt 0 ] || fail "p2p.h was not called"
echo "spin_test: OK"
