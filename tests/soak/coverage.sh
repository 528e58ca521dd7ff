# shellcheck shell=bash
# usage: ci/soak coverage  lines overall, branches of the close path, lines of the parsers; each with its bar
#
# No seed: every test once and every kept fuzz input once, instrumented.
bash ci/coverage | tee "$PEERHUB_SOAK_DIR/log"
bash ci/coverage --parsers | tee -a "$PEERHUB_SOAK_DIR/log"
echo "soak coverage: OK $(sed -n 's/^ci\/coverage: OK //p' "$PEERHUB_SOAK_DIR/log" | paste -sd ';' -)"
