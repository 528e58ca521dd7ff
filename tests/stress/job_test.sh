#!/usr/bin/env bash
# The main job in small: hub, eight peers, files both ways, then direct connections between two
# processes, closed by every path. ci/run itself is what is tested, with the programs of this build.
set -euo pipefail

build=$(cd "${1:?build directory}" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
[ -x "$build/peerhub" ] && [ -x "$build/peerhub-stress" ] || exit 77

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Names that a shell or a protocol could stumble over, an empty file, one of several chunks.
: >"$work/empty"
echo "one line" >"$work/with space and %41"
head -c 300000 /dev/urandom >"$work/noise"

code=0
TMPDIR=$work PEERHUB_BUILD_DIR=$build PEERHUB_JOB_CONNECTIONS=${PEERHUB_JOB_CONNECTIONS:-200} \
	"$root/ci/run" "$work/empty" "$work/with space and %41" "$work/noise" >"$work/out" 2>&1 || code=$?
if [ "$code" -ne 0 ]; then
	# A machine that refuses io_uring cannot run this test.
	! grep -q 'io_uring' "$work/out" || exit 77
	tail -n 60 "$work/out" >&2
	exit 1
fi
grep -q '^ci/run: OK$' "$work/out"
[ -z "$(find "$work" -maxdepth 1 -name 'peerhub-run.*')" ] || {
	echo "job_test: the temporary directory was left behind" >&2
	exit 1
}
# A missing file is a usage error, before anything is started.
code=0
PEERHUB_BUILD_DIR=$build "$root/ci/run" "$work/none" >"$work/out" 2>&1 || code=$?
[ "$code" -eq 2 ]
echo "job_test: OK"
