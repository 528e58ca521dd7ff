#!/bin/sh
# reference.sh PROGRAM_DIRECTORY OUT: man pages in OUT/man1, man3, man5 and completions in OUT, from the project's root.
set -eu
programs=$1 out=$2
rm -rf "$out"
mkdir -p "$out/man1" "$out/man3" "$out/man5" "$out/scd"
python3 -B packaging/reference.py man "$programs" docs "$out/scd" >"$out/pages"
cp packaging/libpeerhub.3.scd "$out/scd/"
for page in "$out"/scd/*.scd; do
	name=$(basename "$page" .scd)
	# The date of a page is that of the sources, where they say one.
	scdoc <"$page" >"$out/man${name##*.}/$name"
done
python3 -B packaging/reference.py complete "$programs" "$out"
touch "$out/done"
