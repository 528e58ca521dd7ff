# shellcheck shell=bash disable=SC2154
# usage: ci/soak nth [--every K] [--again] [SCENARIO...]  every allocation and every errno fails, at all points
#
# Each scenario of each program (nth: the engine on the scripted ring; nth-api: p2p.h and the store on the
# kernel) is a job; two run at a time. The reports of finished ones stay in build/soak/nth and are
# taken up where a run was broken off; --again begins anew. The points do not depend on a seed here,
# as all are taken; with --every K the seed of the first run is kept for the others.
set -euo pipefail

every=1
again=false
wanted=()
while [ $# -gt 0 ]; do
	case $1 in
	--every)
		every=${2:?--every needs a number}
		shift
		;;
	--again) again=true ;;
	-*)
		echo "ci/soak nth: no option '$1'" >&2
		exit 2
		;;
	*) wanted+=("$1") ;;
	esac
	shift
done
[[ $every =~ ^[1-9][0-9]*$ ]] || { echo "ci/soak nth: --every needs a number" >&2; exit 2; }

programs=(nth nth-api)
soak_build release "${programs[@]}"
# Of these very programs: a change of the code begins anew.
reports=$PEERHUB_SOAK_DIR/every-$every-$(cat "$build/tests/nth" "$build/tests/nth-api" | sha1sum | cut -c1-12)
if $again; then
	rm -rf -- "$reports"
fi
mkdir -p "$reports"
[ -f "$reports/seed" ] || echo "$((RANDOM * 32768 + RANDOM))" >"$reports/seed"
seed=$(cat "$reports/seed")
echo "soak nth: seed $seed, every $every, reports in $reports"

jobs=()
for program in "${programs[@]}"; do
	while read -r scenario _; do
		[ "$scenario" != "kinds:" ] || continue
		if [ ${#wanted[@]} -gt 0 ] && [[ " ${wanted[*]} " != *" $scenario "* ]]; then
			continue
		fi
		jobs+=("$program $scenario")
	done < <("$build/tests/$program" --list)
done
if [ ${#jobs[@]} -eq 0 ]; then
	echo "ci/soak nth: no such scenario: ${wanted[*]}" >&2
	exit 2
fi

# One job; its report is a file of its own, named .done when it is good.
one() {
	local report=$3/$4.$5 begin=$SECONDS
	if [ -f "$report.done" ]; then
		echo "$4 $5: done before"
		return 0
	fi
	if "$1/tests/$4" --scenario "$5" --every "$2" --seed "$6" >"$report.log" 2>&1 </dev/null; then
		mv "$report.log" "$report.done"
		echo "$4 $5: $(tail -n 1 "$report.done" | cut -d: -f3-), $((SECONDS - begin)) s"
	else
		echo "$4 $5: FAILED, see $report.log"
		tail -n 40 "$report.log" | cut -c1-400
		return 1
	fi
}
export -f one
status=0
# shellcheck disable=SC2016
printf '%s\n' "${jobs[@]}" |
	xargs -P "$(nproc)" -L 1 bash -c 'one "$0" "$1" "$2" "$4" "$5" "$3"' \
		"$build" "$every" "$reports" "$seed" || status=$?

totals=$(cat "$reports"/*.done 2>/dev/null | sed -n \
	's/^.*: OK: \([0-9]*\) points, \([0-9]*\) failures injected, \([0-9]*\) with.*$/\1 \2 \3/p' |
	awk '{ points += $1; failures += $2; known += $3 }
		END { printf "%d points, %d failures injected, %d with a listed leak of OpenSSL", points, failures, known }')
if [ "$status" -ne 0 ]; then
	echo "soak nth: FAILED; of the good ones: $totals"
	exit 1
fi
echo "soak nth: OK $totals, ${#jobs[@]} scenarios"
