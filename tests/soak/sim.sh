# shellcheck shell=bash
# usage: ci/soak sim [COUNT] [FROM]  the simulator over COUNT seeds (default 2,000), on both cores, resumable
#
# Runs in slices and notes after each how far it came; the same command with the same COUNT goes on from
# there until all are done. FROM names the first seed (default: chosen once, and kept while it resumes).
# The seeds that failed are in build/soak/sim/failed.txt.
count=${1:-2000}
slice=1000
state=$PEERHUB_SOAK_DIR/state
failed=$PEERHUB_SOAK_DIR/failed.txt
[[ $count =~ ^[0-9]+$ ]] && [ "$count" -gt 0 ] || { echo "ci/soak sim: COUNT is a number" >&2; exit 2; }
soak_build release peerhub-sim
from=${2:-$(($(date +%s) * 1000000))}
done=0
failures=0
spent=0
if [ -z "${2:-}" ] && [ -s "$state" ]; then
	read -r was_count was_from was_done was_failures was_spent <"$state"
	if [ "$was_count" = "$count" ] && [ "$was_done" -lt "$count" ]; then
		from=$was_from done=$was_done failures=$was_failures spent=$was_spent
		echo "soak sim: goes on after $done of $count seeds"
	fi
fi
[ "$done" -gt 0 ] || : >"$failed"
echo "soak sim: seeds $from to $((from + count - 1)), mode both"
while [ "$done" -lt "$count" ]; do
	this=$((count - done < slice ? count - done : slice))
	begin=$SECONDS
	log=$PEERHUB_SOAK_DIR/slice.log
	status=0
	"$build/tests/peerhub-sim" --seeds $((from + done)) "$this" --mode both --jobs "$(nproc)" \
		--failures 10 >"$log" 2>&1 || status=$?
	[ "$status" -le 1 ] || { tail -n 20 "$log" >&2; exit "$status"; }
	found=$(grep -c '^sim: FAILED' "$log" || true)
	if [ "$found" -gt 0 ]; then
		grep -E '^sim: (seed|FAILED)' "$log" | tee -a "$failed"
	fi
	done=$((done + this))
	failures=$((failures + found))
	spent=$((spent + SECONDS - begin))
	echo "$count $from $done $failures $spent" >"$state"
	echo "soak sim: $done of $count seeds, $failures failed, ${spent} s"
	[ "$failures" -lt 100 ] || break
done
sed -n '/^sim: seeds from/,$p' "$log" | grep -E '^  ' || true
rate=$((done / (spent > 0 ? spent : 1)))
if [ "$failures" -gt 0 ]; then
	echo "soak sim: FAILED: $failures of $done seeds from $from, see $failed"
	exit 1
fi
echo "soak sim: OK $done seeds from $from, $spent s, about $rate seeds/s"
