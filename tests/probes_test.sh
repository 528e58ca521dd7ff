#!/bin/bash
# probes_test.sh LIBRARY READELF: the library has the probes that docs and scripts name, each with its arguments.
set -u
notes=$(LC_ALL=C "$2" -n "$1") || exit 1
here=$(dirname "$0")
grep -A4 'Provider: peerhub' <<<"$notes" | grep -q 'Name: conn_state' || {
	echo "there is no probe peerhub:conn_state"
	exit 1
}
# Every place has five arguments, and the id is of 8 bytes.
count=0
while read -r arguments; do
	count=$((count + 1))
	sizes=$(grep -oE '(^| )-?[1248]@' <<<"$arguments" | tr -d ' \n')
	[[ $sizes =~ ^-?8@(-?[124]@){4}$ ]] || { echo "not an id of 8 bytes and four numbers: $arguments"; exit 1; }
done < <(grep -A4 'Provider: peerhub' <<<"$notes" | sed -n 's/.*Arguments: //p')
[ "$count" -ge 1 ] || { echo "no arguments"; exit 1; }
# The scripts look at probes that there are, with the states' numbers as the engine has them.
for script in "$here"/../hub/monitoring/bpftrace/*.bt; do
	while read -r name; do
		[ "$name" = conn_state ] || { echo "$script: there is no probe $name"; exit 1; }
	done < <(sed -n 's/.*:peerhub:\([a-z_]*\).*/\1/p' "$script")
done
want=$(sed -n '/^enum conn_state {/,/CONN_STATE_COUNT/s/^\tCONN_\([A-Z]*\),.*/\1/p' "$here/../engine/conn.h" |
	tr 'A-Z' 'a-z' | awk '{ print NR - 1, $1 }')
have=$(sed -n 's/.*@name\[\([0-9]*\)\] = "\([a-z]*\)".*/\1 \2/p' "$here/../hub/monitoring/bpftrace/states.bt")
[ "$want" = "$have" ] || { printf 'states.bt has\n%s\nand the engine\n%s\n' "$have" "$want"; exit 1; }
echo "probes_test: OK, $count places"
