#!/usr/bin/env bash
# Short spins over the kernel's ring: with and without TLS, one hub and two, and a table that is too
# small. The seeds are new in each run and printed; a finding prints the command that repeats it.
set -euo pipefail

build=${1:?build directory}
stress=$build/peerhub-stress
seconds=${PEERHUB_SPIN_SECONDS:-3}
[ -x "$stress" ] || exit 77

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
	echo "spin_test: $*" >&2
	exit 1
}

spin() {
	local code=0
	"$stress" spin --seconds "$seconds" --patience 60 --json "$work/json" "$@" >"$work/out" 2>&1 ||
		code=$?
	# A machine that refuses io_uring cannot run this test.
	! grep -q 'cannot start: .*io_uring' "$work/out" || exit 77
	if [ "$code" -ne 0 ]; then
		tail -n 80 "$work/out" >&2
		fail "exit code $code for: spin $*"
	fi
	python3 -c 'import json, sys; json.load(open(sys.argv[1]))' "$work/json"
	grep -q '^OK$' "$work/out" || fail "no verdict"
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
expect_usage job
"$stress" --help >/dev/null
"$stress" spin --help >/dev/null
"$stress" job --help >/dev/null

spin --connections 200 --threads 4 --hubs 1 --tls none
spin --connections 100 --threads 4 --hubs 2 --tls mutual
spin --connections 40 --threads 4 --hubs 1 --tls none --slots 16
echo "spin_test: OK"
