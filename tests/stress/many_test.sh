#!/usr/bin/env bash
# More connection ends alive in one process than it may have descriptors: 21,000 under a limit of
# 20,000. They are direct descriptors of the rings, which do not count.
set -euo pipefail

build=${1:?build directory}
stress=$build/peerhub-stress
[ -x "$stress" ] || exit 77
limit=20000
ulimit -n "$limit" 2>/dev/null || exit 77

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

code=0
"$stress" spin --fill --connections 10500 --threads 2 --seconds 2 --tls none --patience 90 \
	--json "$work/json" >"$work/out" 2>&1 || code=$?
! grep -q 'cannot start: .*io_uring' "$work/out" || exit 77
if [ "$code" -ne 0 ]; then
	tail -n 60 "$work/out" >&2
	exit 1
fi
live=$(sed -n 's/.*"peak_live": \([0-9]*\).*/\1/p' "$work/json")
echo "many_test: $live connection ends alive in one process, limit of descriptors $limit"
[ "$live" -gt "$limit" ]
