#!/usr/bin/env bash
# usage: ci/soak attack [--full] [NAME...]  hostile peers; --full: real sizes, times and ratios judged
# The short form runs what ci/test runs. The full form takes some minutes and wants a quiet machine: it
# judges times and ratios. The table is also in build/soak/attack/report.json and table.txt.
set -euo pipefail

for argument in "$@"; do
	case $argument in
	--full | [a-z]*) ;;
	*)
		echo "usage: ci/soak attack [--full] [NAME...]" >&2
		exit 2
		;;
	esac
done
soak_build release peerhub-stress
code=0
"$build/peerhub-stress" attack "$@" --json "$PEERHUB_SOAK_DIR/report.json" |
	tee "$PEERHUB_SOAK_DIR/table.txt" || code=$?
if [ "$code" -ne 0 ]; then
	echo "soak attack: FAILED, exit code $code" >&2
	exit "$code"
fi
echo "soak attack: OK $(tail -n 2 "$PEERHUB_SOAK_DIR/table.txt" | head -n 1)"
