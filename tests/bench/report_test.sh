#!/usr/bin/env bash
# The code of ci/bench that reads, judges, compares and draws results, and its driver with small
# stand-ins for the programs. Debian's python3, as ci/bench itself.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
/usr/bin/python3 -c 'import matplotlib' 2>/dev/null || exit 77
export PYTHONDONTWRITEBYTECODE=1 MPLCONFIGDIR=${TMPDIR:-/tmp}
exec /usr/bin/python3 "$here/report_test.py"
