#!/bin/bash
# Checks docs/models/*.pml exhaustively. Each variant must hold, each switch that breaks a protocol
# must be found out, and every C function that a model names in brackets must be in engine/.
#
# models.sh [--full]    --full: more threads, lives and data per variant (minutes, up to 7 GB)
# Exit codes: 0 all as it should be, 1 not, 77 skipped (no spin).
set -u

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
models=$root/docs/models
seconds_max=300
optimise=-O1 # of what is searched to the end: -O2 takes longer to compile than it saves; mistakes are found at once
table_bits=22 # of the hash table of states: how fast, never how exact
full=()
if [ "${1-}" = --full ]; then
	full=(-DFULL)
	seconds_max=3600
	table_bits=26
fi
if ! command -v spin >/dev/null; then
	echo "models: skipped, spin is not installed (apt-get install spin)"
	exit 77
fi
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failed=0
found=0
states_all=0

# names MODEL: every function in brackets is defined or declared in engine/. Prints what is not.
names()
{
	local name missing=0
	for name in $(grep -o '\[[a-z]*_[a-z_]*\]' "$1" | tr -d '[]' | sort -u); do
		if ! grep -qhE "^[a-z_][a-zA-Z_0-9 ]*[ *]$name\(" "$root"/engine/*.c "$root"/engine/*.h; then
			echo "models: $(basename "$1") names $name, which is not in engine/ any more"
			missing=1
		fi
	done
	return $missing
}

# check MODEL TEXT SPIN-SWITCHES...: prints one line; $answer is holds, broken or error.
check()
{
	local model=$models/$1 name="${1%.pml} $2" out=$work/out status states
	shift 2
	answer=error
	(cd "$work" && rm -f pan.* ./*.trail && spin "$@" -a "$model" &&
		"${CC:-cc}" "$optimise" -DSAFETY -w -o pan pan.c) >"$out" 2>&1 || {
		echo "models: $name does not build:"
		cat "$out"
		return
	}
	(cd "$work" && timeout "$seconds_max" ./pan -m1000000 -n -w$table_bits) >"$out" 2>&1
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
	printf 'models: %-30s %-6s %s states' "$name" "$answer" "$states"
	sed -n 's/^pan: elapsed time \([0-9.]*\) seconds.*/, \1 s/p' "$out" | tr -d '\n'
	grep -m1 '^pan:1:' "$out" | sed 's/^pan:1: /, /' | tr -d '\n'
	echo
}

# Every function by its name; and that the check of names can fail.
for model in "$models"/*.pml; do
	names "$model" || failed=1
done
printf '/* [slot_free] [conn_of_no_engine] */\n' >"$work/names.pml"
if [ "$(names "$work/names.pml")" != "models: names.pml names conn_of_no_engine, which is not in engine/ any more" ]; then
	echo "models: the check of names does not find a name that is gone"
	failed=1
fi

for variant in slot:1 slot:2 slot:3 slot:4 slot:5 slot:6 mailbox:1 mailbox:2 close:1; do
	check "${variant%:*}.pml" "variant ${variant#*:}" "-DVARIANT=${variant#*:}" "${full[@]}"
	[ "$answer" = holds ] || failed=1
	states_all=$(awk -v a="$states_all" -v b="$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$work/out")" \
		'BEGIN { printf "%.0f", a + b }')
done
optimise=-O0
for switch in slot:1:LATE_MAIL slot:1:HASTY slot:2:EARLY_REASON slot:3:SILENT_PIN slot:5:BLIND_OPEN \
	slot:1:SLEEPY slot:6:LOST_UPGRADE \
	mailbox:1:POSTER_NO_FENCE mailbox:1:OWNER_NO_FENCE mailbox:1:SLEEPY mailbox:2:ONE_POSTER \
	mailbox:1:FORGETFUL mailbox:2:NO_REARM mailbox:1:NO_WAKE \
	close:1:NO_CANCEL close:1:CANCEL_ENDS close:1:STRANGER close:1:EALREADY_ENDS close:1:RECV_ONLY \
	close:1:REFUSED close:1:DOUBLE_CLOSE close:1:KEEP_BUFFER; do
	IFS=: read -r model variant name <<<"$switch"
	check "$model.pml" "with $name" "-DVARIANT=$variant" "-D$name"
	if [ "$answer" != broken ]; then
		echo "models: $name of $model.pml must be found out and was not"
		failed=1
	fi
	found=$((found + 1))
done
[ $failed -ne 0 ] || echo "models: all hold ($states_all states), $found mistakes found out"
exit $failed
