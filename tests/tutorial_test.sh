#!/usr/bin/env bash
# tutorial_test.sh BUILD: every command of docs/tutorial.md, in its order, in one shell, in an empty
# directory; each must succeed. Its waits are for lines, and all of it ends within ten minutes.
set -euo pipefail
build=$(cd "${1:?build directory}" && pwd)
page=$(cd "$(dirname "$0")/.." && pwd)/docs/tutorial.md
[ -x "$build/peerhub" ] || exit 77
work=$(mktemp -d "${TMPDIR:-/tmp}/peerhub-tutorial-XXXXXX")
trap 'kill -- $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
unset PEERHUB_HOME PEERHUB_LISTEN PEERHUB_PASSWORD PEERHUB_ADMIN RUNTIME_DIRECTORY NOTIFY_SOCKET JOURNAL_STREAM
awk '/^```sh$/ { in_code = 1; next } /^```$/ { in_code = 0 } in_code' "$page" >commands
[ "$(wc -l <commands)" -gt 40 ] || { echo "tutorial_test: no commands in the page" >&2; exit 1; }
# What a reader would have running still is ended by its process id, also when a command failed.
{
	echo 'exec 9>trace; BASH_XTRACEFD=9; set -euxo pipefail'
	echo "trap 'code=\$?; kill \$(jobs -p) 2>/dev/null || true; wait; exit \$code' EXIT"
	echo "trap 'exit 124' TERM"
	cat commands
} >script
code=0
PATH=$build:$PATH timeout -k 30 600 bash script >out 2>&1 </dev/null || code=$?
if grep -q 'cannot start: .*io_uring' tutorial/hub.log 2>/dev/null; then
	exit 77
fi
if [ "$code" -ne 0 ]; then
	tail -n 20 out >&2
	tail -n 5 trace >&2
	tail -n 5 tutorial/*.log tutorial/*.err >&2 2>/dev/null || true
	echo "tutorial_test: exit code $code" >&2
	exit 1
fi
# It shows what it says that it shows.
for shown in '^peerhub [0-9]' '^identity ' 'ended: .* by us'; do
	grep -q "$shown" out || { cat out >&2; echo "tutorial_test: the page shows no $shown" >&2; exit 1; }
done
echo "tutorial_test: $(wc -l <commands) lines of commands"
