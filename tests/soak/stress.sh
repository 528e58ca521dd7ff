#!/usr/bin/env bash
# usage: ci/soak stress [MINUTES] [OPTIONS]  storm, churn, slow, spin, attack in turn (default 5 minutes)
# Sourced by ci/soak. OPTIONS go to `peerhub-stress soak`: --connections N, --seed S, --fault …
minutes=5
if [[ ${1:-} =~ ^[0-9]+$ ]]; then
	minutes=$1
	shift
fi
soak_build release peerhub-stress
code=0
"$build/peerhub-stress" soak --minutes "$minutes" --json "$PEERHUB_SOAK_DIR/report.json" "$@" || code=$?
if [ "$code" -ne 0 ]; then
	echo "soak stress: FAILED with exit code $code; the report is $PEERHUB_SOAK_DIR/report.json" >&2
	exit "$code"
fi
python3 - "$PEERHUB_SOAK_DIR/report.json" <<'PYTHON'
import json, sys
with open(sys.argv[1]) as f:
    j = json.load(f)
stages = " ".join(f"{name} {count}" for name, count in j["stages"].items())
base = j["baseline"]
print(f"soak stress: OK {j['seconds']:.0f} s, seed {j['seed']}, {base['rotations']} rotations, {stages}, "
      f"RSS {base['first_rss_kib']} -> {base['last_rss_kib']} KiB, "
      f"descriptors {base['first_descriptors']} -> {base['last_descriptors']}")
PYTHON
