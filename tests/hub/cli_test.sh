#!/bin/bash
# cli_test.sh PEERHUB: the program itself, in processes of its own, each with a store of its own, on
# [::1] and free ports. Every wait is bounded; everything started is ended by its process id.
#
# PEERHUB is the program, or a build directory that holds it.
set -u

program=${1:-${PEERHUB_BUILD_DIR:-}}
[ -d "$program" ] && program=$program/peerhub
[ -x "$program" ] || { echo "usage: cli_test.sh PEERHUB" >&2; exit 2; }
program=$(realpath "$program")

unset PEERHUB_HOME PEERHUB_LISTEN PEERHUB_PASSWORD XDG_DATA_HOME
dir=$(mktemp -d "${TMPDIR:-/tmp}/peerhub-cli-XXXXXX")
pids=()
failures=0
LIMIT=60 # seconds that any one command may take
LIMIT_ALL=580 # and one that runs beside the others

cleanup() {
	for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
	for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null; done
	rm -rf "$dir"
}
trap cleanup EXIT

fail() {
	echo "FAILED: $*"
	failures=$((failures + 1))
	for file in "$dir/out" "$dir/err"; do [ -s "$file" ] && sed "s/^/    ${file##*/}: /" "$file" | head -20; done
}

# run CODE ARGUMENTS...: run in the foreground, compare the exit code; out and err are kept.
run() {
	local want=$1 got
	shift
	timeout -k 5 $LIMIT "$program" "$@" >"$dir/out" 2>"$dir/err" </dev/null
	got=$?
	[ "$got" = "$want" ] || fail "exit $got instead of $want: peerhub $*"
}
err_has() { grep -qF -- "$1" "$dir/err" || fail "stderr lacks \"$1\""; }
out_has() { grep -qF -- "$1" "$dir/out" || fail "stdout lacks \"$1\""; }

# start NAME ARGUMENTS...: run in the background with NAME.out and NAME.err; its pid is in $started.
start() {
	local name=$1
	shift
	timeout -k 5 $LIMIT_ALL "$program" "$@" >"$dir/$name.out" 2>"$dir/$name.err" </dev/null &
	started=$!
	pids+=("$started")
}
# await_line NAME PATTERN: the line appears within a minute.
await_line() {
	for _ in $(seq 1200); do
		grep -q -- "$2" "$dir/$1.out" 2>/dev/null && return 0
		sleep 0.05
	done
	cp "$dir/$1.out" "$dir/out"; cp "$dir/$1.err" "$dir/err"
	fail "$1 never said \"$2\""
	return 1
}
# ended NAME PID CODE: it ends by itself with this code.
ended() {
	wait "$2"
	local got=$?
	[ "$got" = "$3" ] && return
	cp "$dir/$1.out" "$dir/out"; cp "$dir/$1.err" "$dir/err"
	fail "$1 ended with $got instead of $3"
}
# stop NAME PID CODE: SIGTERM ends it with this code. timeout(1) passes the signal on.
stop() {
	kill -TERM "$2"
	ended "$1" "$2" "$3"
}
ready_address() { sed -n 's/^ready \([^ ]*\) .*/\1/p' "$dir/$1.out" | head -1; }
sum() { sha256sum "$1" | cut -d' ' -f1; }
home() { echo "$dir/home-$1"; }

# new_member NAME: a store, an identity, an invitation at $dir/NAME.inv; prints nothing.
new_member() {
	run 0 id create --home "$(home "$1")" --name "$1"
	run 0 id show --home "$(home "$1")" --xml "$dir/$1.xml"
	run 0 group invite --home "$(home hub)" --for "$dir/$1.xml" --out "$dir/$1.inv"
}
id_of() { "$program" id show --quiet --home "$(home "$1")"; }

echo "-- usage"
run 2
run 2 nothing
err_has 'unknown command "nothing"'
run 0 --help
run 0 --version
for words in "id" "id create" "id list" "id show" "id export" "id import" "id delete" "group" \
	"group create" "group list" "group invite" "group join" "group delete" "hub" "peer"; do
	# shellcheck disable=SC2086
	run 0 $words --help
	out_has "usage: peerhub $words"
done
run 2 id create --nonsense
err_has 'unknown option "--nonsense"'
run 2 id create --name
err_has '--name needs a value'
run 2 id create extra
err_has 'operand too many'
run 2 id import
err_has 'missing: FILE'
run 2 hub --timeout soon
err_has '--timeout must be a number'
run 2 group invite
err_has '--for FILE is missing'
run 2 peer --to somebody --send "$0"
err_has 'needs --hub'
run 2 peer --to nobody@nowhere --send "$0"
err_has 'is not an address'
run 2 peer --hub '[::1]:1' --to hub
err_has 'nothing to send'
run 2 peer --hub '[::1]:1' --lines --send -
err_has 'standard input can be sent once'
run 2 peer --listen nonsense
err_has 'listen "nonsense"'

"$program" --help >/dev/full 2>/dev/null && fail "help to a full disk is no success"

echo "-- identities"
h=$(home id)
run 1 id show --home "$h"
err_has 'has no identity'
run 0 id create --home "$h" --classifier work --name "One Person"
out_has 'identity '
one=$(cut -d' ' -f2 "$dir/out")
[[ $one =~ ^[0-9a-f]{40}\.work$ ]] || fail "\"$one\" is not a peer name"
run 0 id create --home "$h" --quiet
two=$(cat "$dir/out")
run 0 id list --home "$h"
out_has "identity $one friendly One\\x20Person default"
out_has "identity $two friendly"
run 0 id list --home "$h" --quiet
[ "$(wc -l <"$dir/out")" = 2 ] || fail "the quiet list has not two lines"
run 0 id show --home "$h" "One Person"
out_has "$one"
run 0 id show --home "$h" "${two:0:12}"
out_has "$two"
run 1 id show --home "$h" nobody
err_has 'there is no identity "nobody"'
run 1 id delete --home "$h" nobody
printf 'secret\n' >"$dir/password"
printf 'wrong\n' >"$dir/password2"
run 0 id export --home "$h" --password-file "$dir/password" --out "$dir/one.export" "$one"
[ "$(stat -c %a "$dir/one.export")" = 600 ] || fail "the export is readable by others"
run 1 id import --home "$(home other)" --password-file "$dir/password2" "$dir/one.export"
err_has 'wrong password'
run 1 id import --home "$h" --password-file "$dir/password" "$dir/one.export"
err_has 'PEER_E_ALREADY_EXISTS'
run 0 id import --home "$(home other)" --password-file "$dir/password" "$dir/one.export"
out_has "identity $one"
head -c 300 "$dir/one.export" >"$dir/half.export"
run 1 id import --home "$(home third)" --password-file "$dir/password" "$dir/half.export"
run 1 id import --home "$h" --password-file "$dir/password" "$dir/nothing"
err_has "cannot open \"$dir/nothing\""
run 1 id import --home "$h" --password-file "$dir/nothing" "$dir/one.export"
run 0 id delete --home "$h" "$two"
run 1 id show --home "$h" "$two"

mkdir "$(home bad)"
echo nonsense >"$(home bad)/store.db"
run 1 id list --home "$(home bad)"
err_has 'is not a database'
run 1 id list --home /dev/null/x
err_has '/dev/null'
"$program" id list --home "$h" >/dev/full 2>"$dir/err" && fail "a list to a full disk is no success"
err_has 'cannot write to standard output'

echo "-- groups"
h=$(home hub)
run 1 group create --home "$h"
run 0 id create --home "$h" --name hub
run 0 group create --home "$h" --classifier club --name "The Club"
out_has 'group '
group=$(cut -d' ' -f2 "$dir/out")
run 0 group list --home "$h"
out_has "group $group friendly The\\x20Club identity $(id_of hub)"
run 1 id delete --home "$h" "$(id_of hub)"
err_has 'PEER_E_GROUPS_EXIST'
run 2 group invite --home "$h" --for x --role king
run 1 group invite --home "$h" --for "$dir/nothing"
err_has "cannot open \"$dir/nothing\""
run 1 group invite --home "$h" --for "$dir/password"
err_has 'E_INVALIDARG'
for name in alice bob carol dora; do new_member $name; done
run 1 group join --home "$(home bob)" "$dir/alice.inv"
err_has 'PEER_E_INVITATION_NOT_TRUSTED'
sed 's/[A-F]/G/' "$dir/alice.inv" | head -c 900 >"$dir/broken.inv"
run 1 group join --home "$(home alice)" "$dir/broken.inv"
run 1 group join --home "$(home alice)" "$dir/password"
run 0 group join --home "$(home carol)" "$dir/carol.inv"
out_has "group $group"
run 0 group list --home "$(home carol)" --quiet
out_has "$group"
run 0 group delete --home "$(home carol)" "$group"
run 1 group delete --home "$(home carol)" "$group"
err_has 'there is no group'

echo "-- files to send"
mkdir "$dir/files"
: >"$dir/files/empty"
printf 'x' >"$dir/files/one byte"
head -c 65536 /dev/urandom >"$dir/files/chunk"
head -c 5000000 /dev/urandom >"$dir/files/five"

echo "-- hub"
start hub hub --home "$(home hub)" --listen '[::1]:0' --receive "$dir/in-hub"
hub_pid=$started
await_line hub '^ready ' || { sed 's/^/    /' "$dir/hub.err"; exit 1; }
hub=$(ready_address hub)
[[ $hub =~ ^\[::1\]:[0-9]+$ ]] || fail "\"$hub\" is not the address of the hub"
grep -q "^ready \[::1\]:[0-9]* identity $(id_of hub) group $group\$" "$dir/hub.out" ||
	fail "the ready line is not as documented"
run 1 hub --home "$(home hub)" --listen "$hub" --timeout 55
err_has "PEER_E_UNABLE_TO_LISTEN: cannot listen on $hub"
alice=$(id_of alice)
bob=$(id_of bob)

echo "-- to the hub"
run 0 peer --home "$(home alice)" --invitation "$dir/alice.inv" --hub "$hub" --listen '[::1]:0' \
	--send "$dir/files/empty" --send "$dir/files/five" --timeout 40
out_has "sent five size 5000000 sha256 $(sum "$dir/files/five") to $(id_of hub) via direct"
cmp -s "$dir/files/five" "$dir/in-hub/five" || fail "five did not reach the hub"
[ -e "$dir/in-hub/empty" ] || fail "empty did not reach the hub"
run 0 peer --home "$(home alice)" --hub "$(id_of hub)@$hub" --listen '[::1]:0' --to hub \
	--send "$dir/files/five" --timeout 40
[ -e "$dir/in-hub/five.1" ] || fail "the second five has no name of its own"
grep -q "^received five size 5000000 sha256 $(sum "$dir/files/five") from $alice via direct" \
	"$dir/hub.out" || fail "the hub did not say what it received"

echo "-- through the hub"
start bob peer --home "$(home bob)" --invitation "$dir/bob.inv" --hub "$hub" --listen '[::1]:0' \
	--receive "$dir/in-bob" --count 4 --timeout 50
bob_pid=$started
await_line bob '^ready '
bob_address=$(ready_address bob)
run 0 peer --home "$(home alice)" --hub "$hub" --listen '[::1]:0' --to "$bob" --timeout 40 \
	--send "$dir/files/five" --send "$dir/files/one byte" --send "$dir/files/empty" \
	--send "$dir/files/chunk"
out_has "sent five size 5000000 sha256 $(sum "$dir/files/five") to $bob via hub"
ended bob "$bob_pid" 0
for name in empty "one byte" chunk five; do
	cmp -s "$dir/files/$name" "$dir/in-bob/$name" || fail "\"$name\" did not reach bob"
done
grep -q "^received one\\\\x20byte .* from $alice via hub" "$dir/bob.out" ||
	fail "bob did not say what he received"
[ -z "$(find "$dir/in-bob" "$dir/in-hub" -name '*.part')" ] || fail "partial files are left"

echo "-- straight"
start bob peer --home "$(home bob)" --hub "$hub" --listen '[::1]:0' --receive "$dir/in-bob2" \
	--count 2 --timeout 50
bob_pid=$started
await_line bob '^ready '
bob_address=$(ready_address bob)
run 0 peer --home "$(home alice)" --listen '[::1]:0' --to "$bob@$bob_address" --timeout 40 \
	--send "$dir/files/five" --send "$dir/files/chunk"
out_has "to $bob via direct"
ended bob "$bob_pid" 0
cmp -s "$dir/files/five" "$dir/in-bob2/five" || fail "five did not reach bob straight"

echo "-- standard input and output"
start bob peer --home "$(home bob)" --hub "$hub" --listen '[::1]:0' --receive - --count 1 --timeout 50
bob_pid=$started
for _ in $(seq 1200); do grep -q '^ready ' "$dir/bob.err" && break; sleep 0.05; done
timeout -k 5 $LIMIT "$program" peer --home "$(home alice)" --hub "$hub" --listen '[::1]:0' --to "$bob" \
	--send - --timeout 40 <"$dir/files/five" >"$dir/out" 2>"$dir/err" || fail "standard input was not sent"
ended bob "$bob_pid" 0
cmp -s "$dir/files/five" "$dir/bob.out" || fail "standard output is not what was sent"
start bob peer --home "$(home bob)" --hub "$hub" --listen '[::1]:0' --receive-lines --count 1 --timeout 50
bob_pid=$started
await_line bob '^ready '
printf 'first\nsecond \033[31m line\nlast without end' | timeout -k 5 $LIMIT "$program" peer \
	--home "$(home alice)" --hub "$hub" --listen '[::1]:0' --to "$bob" --lines --timeout 40 \
	>"$dir/out" 2>"$dir/err" || fail "lines were not sent"
ended bob "$bob_pid" 0
grep -qF "line $alice second \\x1b[31m line" "$dir/bob.out" || fail "a line is not escaped"
grep -qF "line $alice last without end" "$dir/bob.out" || fail "the last line is missing"
start bob peer --home "$(home bob)" --hub "$hub" --listen '[::1]:0' --receive-lines --timeout 50
bob_pid=$started
await_line bob '^ready '
echo 'hello all' | timeout -k 5 $LIMIT "$program" peer --home "$(home alice)" --hub "$hub" \
	--listen '[::1]:0' --broadcast --timeout 40 >"$dir/out" 2>"$dir/err" || fail "no broadcast"
await_line bob "^line $alice hello all\$"

stop bob "$bob_pid" 0

echo "-- a member serves as a hub"
start second hub --home "$(home alice)" --listen '[::1]:0' --neighbor "$hub" --receive-lines
second_pid=$started
await_line second '^ready '
second=$(ready_address second)
start bob peer --home "$(home bob)" --group "${group:0:8}" --hub "$second" --listen '[::1]:0' \
	--receive "$dir/in-bob4" --count 1 --timeout 50
bob_pid=$started
await_line bob '^ready '
run 0 peer --home "$(home dora)" --invitation "$dir/dora.inv" --hub "$alice@$second" --listen '[::1]:0' --via-hub --to "$bob" \
	--send "$dir/files/chunk" --timeout 40
ended bob "$bob_pid" 0
cmp -s "$dir/files/chunk" "$dir/in-bob4/chunk" || fail "chunk did not come through the second hub"
stop second "$second_pid" 0

echo "-- failures"
start bob peer --home "$(home bob)" --hub "$hub" --listen '[::1]:0' --receive-lines --timeout 50
bob_pid=$started
await_line bob '^ready '
run 1 peer --home "$(home alice)" --hub "$hub" --listen '[::1]:0' --to "$bob" \
	--send "$dir/files/chunk" --wait 1 --timeout 55
err_has 'takes nothing of this kind'
stop bob "$bob_pid" 0
run 1 peer --home "$(home alice)" --hub "$hub" --listen '[::1]:0' --to "$bob" \
	--send "$dir/files/chunk" --wait 1 --timeout 55
err_has 'not connected to the hub'
run 1 peer --home "$(home alice)" --hub "$hub" --listen '[::1]:0' --send "$dir/nothing" --timeout 55
err_has "cannot open \"$dir/nothing\""
run 1 peer --home "$(home alice)" --hub '[::1]:1' --listen '[::1]:0' --wait 1 --timeout 55 \
	--send "$dir/files/chunk"
err_has 'cannot reach [::1]:1: PEER_E_CONNECTION_FAILED'
run 1 peer --home "$(home alice)" --hub "$bob@$hub" --listen '[::1]:0' --wait 1 --timeout 55 \
	--send "$dir/files/chunk"
err_has 'PEER_E_CONNECTION_NOT_AUTHENTICATED'
run 1 peer --home "$(home alice)" --listen '[::1]:0' --to "$alice@$hub" --wait 1 --timeout 55 \
	--send "$dir/files/chunk"
err_has 'this peer itself'
run 3 peer --home "$(home alice)" --hub "$hub" --listen '[::1]:0' --receive "$dir/in-alice" --count 1 \
	--timeout 2
err_has 'timed out after 2 seconds'
run 0 peer --home "$(home alice)" --hub "$hub" --listen '[::1]:0' --receive "$dir/in-alice" --for 1
run 1 peer --home "$(home carol)" --hub "$hub" --listen '[::1]:0' --timeout 55
err_has 'in no group'
run 1 peer --home "$(home carol)" --invitation "$dir/alice.inv" --hub "$hub" --timeout 55
err_has 'cannot join'

echo "-- a group of its own is not entered"
run 0 group create --home "$(home carol)"
run 1 peer --home "$(home carol)" --hub "$hub" --listen '[::1]:0' --wait 1 --timeout 55 \
	--send "$dir/files/chunk"
err_has "cannot reach $hub: PEER_E_CONNECTION_NOT_AUTHENTICATED"

echo "-- the end"
start bob peer --home "$(home bob)" --hub "$hub" --listen '[::1]:0' --receive "$dir/in-bob3"
bob_pid=$started
await_line bob '^ready '
run 1 peer --home "$(home bob)" --hub "$hub" --listen '[::1]:0' --wait 0 --timeout 55 \
	--send "$dir/files/chunk"
err_has 'is another process with this identity connected there?'
stop hub "$hub_pid" 0
grep -q "^relayed [0-9]* bytes [0-9]* absent [0-9]* slow [0-9]* errors 0 group $group\$" "$dir/hub.out" ||
	fail "the hub did not say what it relayed"
stop bob "$bob_pid" 0

if [ "$failures" -gt 0 ]; then
	echo "$failures failed"
	exit 1
fi
echo "all passed"
