#!/usr/bin/env bash
# What the packages are made of: units, the configuration and the profile they bring, man pages and completions that
# name every command and option. Building the packages themselves is ci/package.
#
#   tests/hub/package_test.sh BUILD_DIRECTORY
set -u
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.." || exit 1
if grep -q '^PEERHUB_SANITIZE:[A-Z]*=.' "$build/CMakeCache.txt" 2>/dev/null; then
	echo "skipped: nothing of this depends on how the code was compiled"
	exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
fail() {
	echo "FAILED: $*"
	failures=$((failures + 1))
}

echo "-- units"
if command -v systemd-analyze >/dev/null; then
	for unit in peerhub.service peerhub@.service; do
		systemd-analyze security --offline=true "packaging/systemd/$unit" >"$work/security" 2>&1 ||
			fail "systemd-analyze security $unit"
		grep -i 'ignoring\|unknown' "$work/security" && fail "$unit: systemd does not know all of it"
		exposure=$(sed -n 's/.*Overall exposure level for [^:]*: \([0-9.]*\) .*/\1/p' "$work/security")
		echo "   $unit: exposure $exposure"
		awk -v e="$exposure" 'BEGIN { exit !(e != "" && e <= 2.0) }' || fail "$unit: exposure $exposure"
	done
else
	echo "   skipped: there is no systemd-analyze"
fi

echo "-- configuration"
timeout 60 "$build/peerhub" hub --check-config --config packaging/peerhub.conf >/dev/null 2>"$work/err" ||
	fail "packaging/peerhub.conf: $(cat "$work/err")"
python3 - packaging/seccomp.json hub/confine.c <<'END' || fail "packaging/seccomp.json"
import json, re, sys
profile = json.load(open(sys.argv[1]))
assert profile["defaultAction"] == "SCMP_ACT_ERRNO", profile["defaultAction"]
names = set()
for rule in profile["syscalls"]:
    assert rule["action"] == "SCMP_ACT_ALLOW", rule
    names |= set(rule["names"])
for name in ("io_uring_setup", "io_uring_enter", "io_uring_register", "seccomp", "landlock_create_ruleset",
             "landlock_add_rule", "landlock_restrict_self"):
    assert name in names, name
# All that a hub lets itself, the container lets it.
source = open(sys.argv[2]).read()
block = source[source.index("allowed[] ="):source.index("deadly[] =")]
own = set(re.findall(r'"([a-z0-9_]+)"', block))
assert len(own) > 100 and own <= names, sorted(own - names)
for name in ("ptrace", "mount", "bpf", "init_module", "kexec_load", "setns", "unshare"):
    assert name not in names, name
END
[ "$(grep -c . debian/libpeerhub0.symbols)" -ge 3 ] && grep -q '^libpeerhub.so.0 libpeerhub0 ' debian/libpeerhub0.symbols ||
	fail "the package of the library is not named after its SONAME"

echo "-- man pages and completions"
if command -v scdoc >/dev/null; then
	timeout 250 sh packaging/reference.sh "$build" "$work/reference" || fail "reference.sh"
else
	echo "   man pages skipped: there is no scdoc"
	mkdir "$work/reference"
	timeout 250 python3 -B packaging/reference.py complete "$build" "$work/reference" || fail "reference.py"
fi
bash -n "$work/reference/peerhub" || fail "the completion for bash is no bash"
command -v zsh >/dev/null && { zsh -n "$work/reference/_peerhub" || fail "the completion for zsh is no zsh"; }
command -v fish >/dev/null && { fish -n "$work/reference/peerhub.fish" || fail "the completion for fish is no fish"; }
cat >"$work/complete.sh" <<'END'
# complete.sh COMPLETION WORDS...: what bash would offer for the last word.
source "$1"
shift
compopt() { :; }
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_peerhub
printf '%s\n' "${COMPREPLY[@]}"
END
offers() { bash "$work/complete.sh" "$work/reference/peerhub" peerhub "$@" >"$work/offered"; }
# every COMMAND...: each command and option that --help of it names is offered, and stands in the page.
every() {
	local word page
	timeout 60 "$build/peerhub" "$@" --help >"$work/help" || fail "peerhub $* --help"
	offers "$@" ''
	for word in $(sed -n 's/^  \([a-z][a-z-]*\)  .*/\1/p; s/^  \(--[a-z-]*\).*/\1/p' "$work/help"); do
		grep -qx -e "$word" "$work/offered" || fail "peerhub $*: bash does not offer $word"
		if [ -d "$work/reference/man1" ] && [ $# -gt 0 ]; then
			page=$work/reference/man1/peerhub-$1.1
			sed 's/\\-/-/g; s/\\&//g' "$page" | grep -q -e "$word" || fail "$(basename "$page") lacks $word"
		fi
	done
	[ -s "$work/offered" ] || fail "peerhub $*: bash offers nothing"
}
every
for command in $(timeout 60 "$build/peerhub" --help | sed -n 's/^  \([a-z]*\)  .*/\1/p'); do
	every "$command"
done
every ctl close
every id create
offers ctl close --how ''
[ "$(sort "$work/offered" | tr '\n' ' ')" = 'abort graceful ' ] || fail "--how: bash offers $(cat "$work/offered")"
offers ctl cl
[ "$(sort "$work/offered" | tr '\n' ' ')" = 'close closed ' ] || fail "ctl cl: bash offers $(cat "$work/offered")"

[ "$failures" = 0 ] || { echo "$failures failures"; exit 1; }
echo "package_test: OK"
