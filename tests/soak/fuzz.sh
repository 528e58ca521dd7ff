# shellcheck shell=bash
# usage: ci/soak fuzz [--merge] [SECONDS [TARGET...]]  every fuzz target for so long, two at a time (60 s each)
#
# New inputs stay in build/soak/fuzz/corpus/TARGET, so that the next run goes on where this one ended.
# A finding ends the soak with its path; kept in tests/fuzz/corpus/TARGET it is replayed by every build.
# --merge: afterwards the kept corpora are made anew from all there is, as few files as reach every
# line of it; what does not come from there (names without 40 hexadecimal digits) stays.
merge=no
if [ "${1-}" = --merge ]; then
	merge=yes
	shift
fi
seconds=${1:-60}
[[ $seconds =~ ^[1-9][0-9]{0,5}$ ]] || {
	echo "usage: ci/soak fuzz [--merge] [SECONDS [TARGET...]]" >&2
	exit 2
}
shift || true
names=("$@")
if [ ${#names[@]} -eq 0 ]; then
	for source in tests/fuzz/*_fuzz.c; do
		name=${source##*/}
		names+=("${name%_fuzz.c}")
	done
fi
for name in "${names[@]}"; do
	if [[ ! $name =~ ^[a-z]+$ ]] || [ ! -f "tests/fuzz/${name}_fuzz.c" ]; then
		echo "ci/soak fuzz: no target '$name'" >&2
		exit 2
	fi
done
build= # soak_build sets it
soak_build fuzz "${names[@]/#/fuzz_}"
seed=$((RANDOM * 32768 + RANDOM + 1))
begin=$SECONDS
echo "ci/soak fuzz: ${#names[@]} targets, $seconds s each, seed $seed, build $build"

# Leaks of what a target keeps across inputs are looked for at its end: as in tests/fuzz.cmake.
leaks_late=$(sed -n 's/^set(FUZZ_LEAKS_LATE \(.*\))$/\1/p' tests/fuzz.cmake)

fuzz_one() {
	local name=$1 found=$PEERHUB_SOAK_DIR/corpus/$1 leaks=1
	mkdir -p "$found"
	case " $leaks_late " in *" $name "*) leaks=0 ;; esac
	nice -n 5 "$build/fuzz_$name" -seed="$seed" -max_total_time="$seconds" -timeout=20 \
		-rss_limit_mb=2048 -detect_leaks=$leaks -print_final_stats=1 -len_control=20 \
		-artifact_prefix="$PEERHUB_SOAK_DIR/$name-" "$found" "tests/fuzz/corpus/$name" \
		>"$PEERHUB_SOAK_DIR/$name.log" 2>&1 </dev/null
}

merge_one() {
	local name=$1 fresh=$PEERHUB_SOAK_DIR/merged/$1 kept=tests/fuzz/corpus/$1 file named
	rm -rf "$fresh"
	mkdir -p "$fresh"
	"$build/fuzz_$name" -set_cover_merge=1 -use_counters=0 -detect_leaks=0 "$fresh" \
		"$PEERHUB_SOAK_DIR/corpus/$name" "$kept" >"$PEERHUB_SOAK_DIR/$name-merge.log" 2>&1 || {
		echo "ci/soak fuzz: merging $name failed; see $PEERHUB_SOAK_DIR/$name-merge.log" >&2
		return 1
	}
	for file in "$kept"/*; do
		[[ ${file##*/} =~ ^[0-9a-f]{40}$ ]] && rm "$file"
	done
	# libFuzzer names an input by its SHA-1; one that also has a name of its own is kept once.
	named=$(find "$kept" -type f -exec sha1sum {} + | cut -c1-40)
	for file in "$fresh"/*; do
		grep -qx "${file##*/}" <<<"$named" || cp "$file" "$kept/"
	done
	echo "  $name: $(find "$kept" -type f | wc -l) files, $(du -sb "$kept" | cut -f1) bytes kept"
}

status=0
running=()
for name in "${names[@]}"; do
	while [ "$(jobs -rp | wc -l)" -ge 2 ]; do
		wait -n || true
	done
	rm -f "$PEERHUB_SOAK_DIR/$name.failed"
	{ fuzz_one "$name" || echo "$?" >"$PEERHUB_SOAK_DIR/$name.failed"; } &
	running+=("$name")
done
wait
total=0 covered=0
for name in "${running[@]}"; do
	log=$PEERHUB_SOAK_DIR/$name.log
	executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
	before=$(sed -n 's/^#.*INITED cov: \([0-9]*\) .*/\1/p' "$log" | head -n 1)
	after=$(sed -n 's/^#.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
	gained=$((${after:-0} - ${before:-0}))
	total=$((total + ${executions:-0}))
	covered=$((covered + gained))
	printf '  %-12s %10s executions, %5s edges, %d of them new\n' "$name" "${executions:-?}" \
		"${after:-?}" "$gained"
	if [ -f "$PEERHUB_SOAK_DIR/$name.failed" ]; then
		status=1
		echo "ci/soak fuzz: $name FAILED; the end of $log:" >&2
		tail -n 40 "$log" | cut -c1-300 >&2
		sed -n 's/.*Test unit written to /ci\/soak fuzz: its input is /p' "$log" >&2
	fi
done
[ $status -eq 0 ] || exit 1
if [ $merge = yes ]; then
	for name in "${names[@]}"; do
		merge_one "$name" || exit 1
	done
fi
echo "soak fuzz: OK ${#names[@]} targets, $seconds s each, seed $seed, $total executions," \
	"$covered new edges, $((SECONDS - begin)) s"
