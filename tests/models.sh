#!/bin/bash
# Checks docs/models/*.pml exhaustively. Each variant must hold, each switch that breaks the protocol
# must be found out, and every C function that a model names in brackets must be in engine/.
#
# models.sh [--full]    --full: more threads per variant (minutes, up to 7 GB)
# Exit codes: 0 all as it should be, 1 not, 77 skipped (no spin).
set -u

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
model=$root/docs/models/slot.pml
seconds_max=120
full=()
if [ "${1-}" = --full ]; then
	full=(-DFULL)
	seconds_max=1800
fi
if ! command -v spin >/dev/null; then
	echo "models: skipped, spin is not installed (apt-get install spin)"
	exit 77
fi
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failed=0

# check NAME SPIN-SWITCHES...: prints one line; answers holds, broken or error.
check()
{
	local name=$1 out status states
	shift
	answer=error
	out=$work/out
	(cd "$work" && rm -f pan.* ./*.trail && spin "$@" -a "$model" &&
		"${CC:-cc}" -O2 -w -o pan pan.c) >"$out" 2>&1 || {
		echo "models: $name does not build:"
		cat "$out"
		return
	}
	(cd "$work" && timeout "$seconds_max" ./pan -m100000 -n -w22) >"$out" 2>&1
	status=$?
	states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$out")
	if grep -q 'errors: 0$' "$out" && ! grep -q 'max search depth too small\|out of memory' "$out"; then
		answer=holds
	elif grep -q 'errors: [1-9]' "$out"; then
		answer=broken
	else
		echo "models: $name did not finish (exit $status):"
		cat "$out"
		return
	fi
	printf 'models: %-28s %-6s %s states' "$name" "$answer" "$states"
	grep -m1 '^pan:1:' "$out" | sed 's/^pan:1: /, /' | tr -d '\n'
	echo
}

for name in $(grep -o '\[[a-z]*_[a-z_]*\]' "$model" | tr -d '[]' | sort -u); do
	if ! grep -qE "(^|[^a-z_])$name\(" "$root"/engine/*.c "$root"/engine/*.h; then
		echo "models: slot.pml names $name, which is not in engine/ any more"
		failed=1
	fi
done

for variant in 1 2 3 4 5; do
	check "variant $variant" -DVARIANT=$variant "${full[@]}"
	[ "$answer" = holds ] || failed=1
done
for switch in 1:LATE_MAIL 1:HASTY 2:EARLY_REASON 3:SILENT_PIN 5:BLIND_OPEN 1:SLEEPY; do
	check "with ${switch#*:}" "-DVARIANT=${switch%%:*}" "-D${switch#*:}"
	if [ "$answer" != broken ]; then
		echo "models: ${switch#*:} must be found out and was not"
		failed=1
	fi
done
exit $failed
