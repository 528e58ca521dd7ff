# shellcheck shell=bash
# usage: ci/soak mutations [--resume] [--script-tests] [--list] [NAME...]  deliberately broken engines: who catches which
#
# No seed of its own: the simulator's seeds begin at 1, the spinner's is 1. What it builds, and
# results.json, is in build/soak/mutations/. All options: ci/soak mutations --help.
python3 tests/mutations/run "$PEERHUB_SOAK_DIR" "$@"
