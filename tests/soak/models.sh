# shellcheck shell=bash
# usage: ci/soak models [--quick]  the models searched with more threads and lives (minutes, up to 7 GB of memory)
#
# No seed: every state there is. --quick is what ci/test runs.
full=(--full)
if [ "${1-}" = --quick ]; then
	full=()
fi
bash tests/models.sh "${full[@]}" | tee "$PEERHUB_SOAK_DIR/log"
if ! grep -q '^models: all hold' "$PEERHUB_SOAK_DIR/log"; then
	echo "soak models: FAILED" >&2
	exit 1
fi
echo "soak models: OK $(sed -n 's/^models: all hold //p' "$PEERHUB_SOAK_DIR/log")"
