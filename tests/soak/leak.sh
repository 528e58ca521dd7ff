#!/usr/bin/env bash
# usage: ci/soak leak [CYCLES [SEED]]  open/close cycles, all kinds of ends; nothing may be left behind (50,000)
#
# Of the cycles 98 in 100 are native (raw and message framing, 2 in 10 over mutual TLS), the others are
# direct connections of p2p.h. One more in a hundred each: a group opened and closed, and the library
# started and stopped. The full form is `ci/soak leak 1000000`.
set -euo pipefail

cycles=${1:-50000}
seed=${2:-$((RANDOM * 32768 + RANDOM))}
[[ $cycles =~ ^[0-9]{2,9}$ && $seed =~ ^[0-9]+$ ]] || {
	echo "usage: ci/soak leak [CYCLES [SEED]], CYCLES from 10 up" >&2
	exit 2
}
p2p=$((cycles * 2 / 100))
log=$PEERHUB_SOAK_DIR/last.log
soak_build release leak_cycles
begin=$SECONDS
"$build/tests/leak_cycles" --cycles $((cycles - p2p)) --tls 200 --p2p "$p2p" \
	--groups $((cycles / 100)) --lives $((cycles / 100)) --seed "$seed" --memory --progress 2>&1 |
	tee "$log"
echo "soak leak: OK $cycles cycles, seed $seed, $((SECONDS - begin)) s"
