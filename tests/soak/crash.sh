#!/usr/bin/env bash
# usage: ci/soak crash [KILLS [SEED]]  kill -9 a process that changes the store, and damage copies of it (1,000)
set -euo pipefail

kills=${1:-1000}
seed=${2:-$((RANDOM * 32768 + RANDOM))}
[[ $kills =~ ^[1-9][0-9]{0,6}$ && $seed =~ ^[0-9]+$ ]] || {
	echo "usage: ci/soak crash [KILLS [SEED]]" >&2
	exit 2
}
soak_build release store_crash
begin=$SECONDS
# What a failure leaves is kept: the store stays where the last lines say.
"$build/tests/store_crash" --kills "$kills" --damages $((kills / 4)) --seed "$seed" --progress 2>&1 |
	tee "$PEERHUB_SOAK_DIR/last.log"
echo "soak crash: OK $kills kills, seed $seed, $((SECONDS - begin)) s"
