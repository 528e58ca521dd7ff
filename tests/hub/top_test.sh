#!/bin/bash
# top_test.sh PEERHUB MANY_PEERS: "peerhub top" in a terminal (tmux): what it shows, sorts, searches and closes; a hub that
# goes and comes; sizes; and as text for scripts. Every wait is for what is on the screen.
set -u
command -v tmux >/dev/null || { echo "skipped: there is no tmux here (ci/setup installs it)"; exit 77; }
here=$(realpath "$(dirname "$0")")
# shellcheck source=tests/hub/world.sh
. "$here/world.sh"
export TERM=screen-256color LC_ALL=C.UTF-8
tm() { tmux -S "$dir/tmux" -f /dev/null "$@"; }
picture() { tm capture-pane -p -t top >"$dir/picture" 2>/dev/null; }
shows() { picture && grep -qF -- "$1" "$dir/picture"; }
hides() { picture && ! grep -qF -- "$1" "$dir/picture"; }
keys() { tm send-keys -t top "$@"; }
# What it is shows on the first failure, too.
sees() { until_shown shows "$1"; }
lacks() { until_shown hides "$1"; }
until_shown() {
	for _ in $(seq 600); do
		"$@" && return 0
		sleep 0.1
	done
	sed 's/^/    screen: /' "$dir/picture"
	give_up "never on the screen: $*"
}
top_end() {
	tm kill-server 2>/dev/null
	world_end
}
trap top_end EXIT

hub_begin
hostile=$'\e[31mred\e]0;title\a\u202eturned\u9f8d\u9f8d<b>'
member hostile "$hostile"
peers hostile 1
member plain 'Plain Peer'
peers plain 3
plain_peer=$peer

# For scripts.
run top --socket "$dir/admin.sock" --once --sort name
grep -q '^peerhub 0.1.0 .* open 6 of ' "$dir/out" || fail "--once lacks its first line"
[ "$(grep -c 'Plain Peer ' "$dir/out")" = 4 ] || fail "--once lacks a connection"
grep -q $'[\e\a]' "$dir/out" && fail "--once lets a peer's escapes through"
grep -qF '\x1b[31mred' "$dir/out" || fail "--once does not show them escaped"
run top --socket "$dir/admin.sock" --batch 2 --interval 200 --search 'plain peer'
[ "$(grep -c '^peerhub 0.1.0' "$dir/out")" = 2 ] || fail "--batch 2 is not two"
grep -q 'red' "$dir/out" && fail "--search shows what does not match"
wrong() {
	local code=$1
	shift
	timeout -k 5 60 "$program" top "$@" >"$dir/out" 2>"$dir/err" </dev/null
	[ $? = "$code" ] || fail "top $* does not end with $code"
}
wrong 1 --once --socket "$dir/nobody.sock"
grep -q 'no hub answers' "$dir/err" || fail "it does not say that no hub answers"
wrong 2 --socket "$dir/admin.sock"
wrong 2 --once --sort colour
wrong 2 --once --search $'\xff'
wrong 2 --once --socket "$(printf 'x%.0s' $(seq 200))"

# In a terminal of 80 by 24.
tm new-session -d -s top -x 80 -y 24 "exec '$program' top --socket '$dir/admin.sock' --interval 300 --sort name 2>'$dir/err'" ||
	give_up "tmux does not start"
sees 'open 6 of'
sees 'Plain Peer'
sees 'NAME+'
sees '\x1b[31mred'
sees '1-6 of 6'
[ "$(awk '{ if (length($0) > 80) print }' "$dir/picture" | wc -l)" = 0 ] || fail "a line is wider than the screen"
# Help, and back.
keys '?'
sees 'any key goes back'
keys x
sees '1-6 of 6'
# Search, forget it.
keys /
sees 'search: _'
keys -l 'plain pex'
keys BSpace
keys -l 'er'
sees 'search: plain peer_'
keys Enter
sees '1-4 of 4'
lacks 'red'
keys Escape
sees '1-6 of 6'
# Sorted by another column, turned around.
keys '>'
sees 'ADDRESS+'
keys r
sees 'ADDRESS-'
keys '<'
sees 'NAME+'
# Close one: not without a yes; then exactly the chosen one goes.
keys G
keys c
sees 'close connection'
id=$(sed -n 's/.*close connection \([0-9]*\)?.*/\1/p' "$dir/picture")
keys n
lacks 'close connection'
[ "$("$program" ctl show "$id" --socket "$dir/admin.sock" | sed -n 's/^state *//p')" = open ] || fail "a no has closed it"
keys c
sees "close connection $id"
keys y
until_true grep -q '^left 2' "$dir/plain.out"
sees '1-5 of 5'
"$program" ctl show "$id" --socket "$dir/admin.sock" >"$dir/out"
grep -q 'closed by an administrator' "$dir/out" || fail "the wrong one was closed"
# Other sizes.
tm resize-window -t top -x 200 -y 50
sees 'GROUP'
sees 'QUEUE'
tm resize-window -t top -x 40 -y 8
lacks 'GROUP'
tm resize-window -t top -x 10 -y 2
tm resize-window -t top -x 80 -y 24
sees '1-5 of 5'
# The hub goes, and another one comes.
hub_end || fail "the hub ended with $?"
sees 'the hub does not answer'
kill "$plain_peer"
hub_begin
lacks 'the hub does not answer'
sees 'open '
keys q
gone() { ! tm has-session -t top 2>/dev/null; }
until_true gone
[ -s "$dir/err" ] && fail "it complained"

# Without colour, and where none can be.
colors() { tm capture-pane -e -p -t top 2>/dev/null >"$dir/colors" && grep -q 'rates/s' "$dir/colors" && grep -qE $'\e\\[([0-9]+;)*3[0-7]m' "$dir/colors"; }
tm new-session -d -s top -x 80 -y 24 "exec '$program' top --socket '$dir/admin.sock' --interval 300"
until_true colors
keys q
until_true gone
tm new-session -d -s top -x 80 -y 24 "NO_COLOR=1 exec '$program' top --socket '$dir/admin.sock' --interval 300"
sees 'rates/s'
colors && fail "NO_COLOR has colours"
keys q
until_true gone
tm new-session -d -s top -x 80 -y 24 "TERM=vt100 exec '$program' top --socket '$dir/admin.sock' --interval 300"
sees 'rates/s'
keys q
until_true gone
hub_end || fail "the hub ended with $?"
[ "$failures" = 0 ] || { echo "$failures failures"; exit 1; }
echo "top_test: OK"
