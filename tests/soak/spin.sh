# The spinner for a while, through all its modes and the plain, address and thread sanitizer builds.
# usage: ci/soak spin [MINUTES [SEED]]  random calls of both interfaces, audited (default 3 minutes)
#
# Slice after slice, each in another build and, by and by, each mode in each build. The seed of a slice is
# that of the run plus its number; a slice that finds something leaves its output in findings/, and the
# run goes on. It fails at the end when there was one.
minutes=${1:-3}
seed=${2:-$((RANDOM * 32768 + RANDOM))}
if [[ ! $minutes =~ ^[1-9][0-9]{0,4}$ || ! $seed =~ ^[0-9]{1,15}$ ]]; then
	echo "usage: ci/soak spin [MINUTES [SEED]]" >&2
	exit 2
fi
slice=20 # seconds
modes=(
	"--api native --tls mutual --hubs 2 --connections 200 --threads 4"
	"--api p2p --connections 100 --threads 4"
	"--api native --tls none --hubs 2 --connections 300 --threads 6"
	"--api both --tls mutual --hubs 2 --connections 60 --threads 6"
	"--api native --tls mutual --hubs 2 --connections 60 --threads 4 --fail-allocations 100"
	"--api p2p --connections 60 --threads 4 --fail-allocations 100"
	"--api native --tls none --hubs 1 --connections 40 --threads 4 --slots 16"
	"--api both --tls none --hubs 1 --connections 60 --threads 4 --fail-allocations 200"
)
presets=(release asan tsan)
programs=()
for preset in "${presets[@]}"; do
	soak_build "$preset" peerhub-stress
	programs+=("$build/peerhub-stress")
done
findings=$PEERHUB_SOAK_DIR/findings
mkdir -p "$findings"
json=$PEERHUB_SOAK_DIR/slice.json
output=$PEERHUB_SOAK_DIR/slice.txt
totals=$PEERHUB_SOAK_DIR/totals.txt
: >"$totals"
echo "soak spin: seed $seed, $minutes minutes, findings in $findings"

# What a slice did: connections, calls, events, violations, in one line.
slice_figures() {
	python3 - "$json" <<'PYTHON'
import json, sys
result = json.load(open(sys.argv[1]))
native = result.get("audit", {})
p2p = result.get("p2p", {})
get = lambda part, *names: sum(part.get(name, 0) for name in names)
print(get(native, "dialled") + get(p2p, "dials"),
      get(native, "dialled", "closes_won", "closes_lost", "upgrades", "messages_sent",
          "sends_would_block", "stale_calls") + get(p2p, "calls"),
      get(native, "opened", "finals", "messages_received", "writables") + get(p2p, "events"),
      get(native, "violations") + get(p2p, "violations"))
PYTHON
}

end=$((SECONDS + minutes * 60))
number=0
found=0
while [ "$SECONDS" -lt "$end" ]; do
	build_index=$((number % ${#presets[@]}))
	mode=${modes[number / ${#presets[@]} % ${#modes[@]}]}
	left=$((end - SECONDS))
	rm -f "$json"
	code=0
	# shellcheck disable=SC2086 # a mode is several words
	"${programs[build_index]}" spin $mode --seconds $((left < slice ? left : slice)) \
		--seed $((seed + number)) --json "$json" >"$output" 2>&1 || code=$?
	echo "soak spin: ${presets[build_index]} seed $((seed + number)) $mode: exit code $code"
	if [ "$code" -ne 0 ]; then
		found=$((found + 1))
		tail -n 60 "$output"
		# Bounded: the first of a kind tell the story.
		[ "$found" -gt 20 ] || head -c 4000000 "$output" >"$findings/$((seed + number)).txt"
	fi
	[ ! -f "$json" ] || slice_figures >>"$totals"
	number=$((number + 1))
done
read -r connections calls events violations < <(
	awk '{a += $1; b += $2; c += $3; d += $4} END {printf "%d %d %d %d\n", a, b, c, d}' "$totals")
figures="$number slices, $connections connections, $calls calls, $events events, $violations violations"
if [ "$found" -gt 0 ]; then
	echo "soak spin: FAILED: $found slices found something: $findings; $figures"
	exit 1
fi
echo "soak spin: OK $figures"
