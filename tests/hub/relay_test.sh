#!/bin/bash
# relay_test.sh PEERHUB PROBE: a hub and a peer against members that do not keep to docs/relay.md.
# On [::1] and free ports; every wait is bounded; everything started is ended by its process id.
set -u

program=$(realpath "${1:?usage: relay_test.sh PEERHUB PROBE}")
probe=$(realpath "${2:?usage: relay_test.sh PEERHUB PROBE}")

unset PEERHUB_HOME PEERHUB_LISTEN PEERHUB_PASSWORD XDG_DATA_HOME
dir=$(mktemp -d "${TMPDIR:-/tmp}/peerhub-relay-XXXXXX")
pids=()
failures=0

cleanup() {
	for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
	for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null; done
	rm -rf "$dir"
}
trap cleanup EXIT

fail() {
	echo "FAILED: $*"
	failures=$((failures + 1))
	for file in "$dir/out" "$dir/err" "$dir/hub.err"; do
		[ -s "$file" ] && sed "s/^/    ${file##*/}: /" "$file" | cut -c1-200 | head -20
	done
}
must() { "$@" >"$dir/out" 2>"$dir/err" </dev/null || { fail "$*"; exit 1; }; }
home() { echo "$dir/home-$1"; }
id_of() { "$program" id show --quiet --home "$(home "$1")"; }
start() {
	local name=$1
	shift
	timeout -k 5 580 "$program" "$@" >"$dir/$name.out" 2>"$dir/$name.err" </dev/null &
	pids+=("$!")
	for _ in $(seq 1200); do
		grep -q '^ready ' "$dir/$name.out" && return
		sleep 0.05
	done
	fail "$name is not ready"
	exit 1
}
address_of() { sed -n 's/^ready \([^ ]*\) .*/\1/p' "$dir/$1.out" | head -1; }
# send_as MEMBER IDENTITY ADDRESS COUNT MESSAGE...: COUNT answers are waited for, or the end.
send_as() {
	local name=$1
	shift
	timeout -k 5 60 "$probe" "$(home "$name")" "$dir/$name.inv" "$@" >"$dir/out" 2>"$dir/err" </dev/null ||
		fail "the probe failed: $*"
}
expect() { grep -q -- "$1" "$dir/out" || fail "nothing like \"$1\" in what came back"; }
hub_said() {
	for _ in $(seq 1200); do grep -qF -- "$1" "$dir/$2.err" && return; sleep 0.05; done
	fail "$2 did not say \"$1\""
}
hex() { printf '%s' "$1" | od -An -v -tx1 | tr -d ' \n'; }
# message KIND NAME PAYLOAD-HEX: with inner type 10 11 … and tag 7.
message() {
	printf '%02x%04x%s101112131415161718191a1b1c1d1e1f0000000000000007%s' "$1" "${#2}" "$(hex "$2")" "$3"
}
# The bytes behind the name in such a message.
tail_of() { printf '101112131415161718191a1b1c1d1e1f0000000000000007%s' "$1"; }

must "$program" id create --home "$(home hub)" --name hub
must "$program" group create --home "$(home hub)" --classifier one
one=$(cut -d' ' -f2 "$dir/out")
must "$program" group create --home "$(home hub)" --classifier two
two=$(cut -d' ' -f2 "$dir/out")
painted=$(printf '\302\23331m') # a terminal takes it for "red from here"
for name in alice bob mallory stranger painter; do
	group=$one
	[ $name = stranger ] && group=$two
	classifier=
	[ $name = painter ] && classifier=$painted
	must "$program" id create --home "$(home $name)" --classifier "$classifier"
	must "$program" id show --home "$(home $name)" --xml "$dir/$name.xml"
	must "$program" group invite --home "$(home hub)" --group "$group" --for "$dir/$name.xml" \
		--out "$dir/$name.inv"
done
start hub hub --home "$(home hub)" --listen '[::1]:0'
hub=$(address_of hub)
hub_id=$(id_of hub)
bob_id=$(id_of bob)
mallory_id=$(id_of mallory)
for _ in $(seq 1200); do [ "$(grep -c '^ready ' "$dir/hub.out")" -lt 2 ] || break; sleep 0.05; done
start bob peer --home "$(home bob)" --invitation "$dir/bob.inv" --hub "$hub" --listen '[::1]:0' \
	--receive "$dir/in-bob"
bob=$(address_of bob)
start stranger peer --home "$(home stranger)" --invitation "$dir/stranger.inv" --hub "$hub" \
	--listen '[::1]:0' --receive "$dir/in-stranger"
stranger_id=$(id_of stranger)

nobody=$(message 1 0.nobody "") # answered with "absent" when everything before it was handled

echo "-- what is wrong ends the connection at the hub"
send_as mallory "$hub_id" "$hub" 1000 01
expect '^disconnected$'
hub_said "closed the connection of $mallory_id: relay: shorter than its fixed fields" hub
send_as mallory "$hub_id" "$hub" 1000 "$(message 9 "$bob_id" 00)"
expect '^disconnected$'
hub_said 'unknown kind' hub
send_as mallory "$hub_id" "$hub" 1000 "$(message 2 "$bob_id" 00)"
expect '^disconnected$'
hub_said 'relay: only send and broadcast go to a hub' hub
send_as mallory "$hub_id" "$hub" 1000 "$(message 3 "$bob_id" 00000001)"
expect '^disconnected$'

echo "-- absent, and in another group"
send_as mallory "$hub_id" "$hub" 2 "$(message 1 nobody.here 00)" "$nobody"
expect "^data 03$(printf %04x 11)$(hex nobody.here)$(tail_of 00000001)\$"
grep -q disconnected "$dir/out" && fail "an absent destination ended the connection"
send_as mallory "$hub_id" "$hub" 2 "$(message 1 "$stranger_id" 00)" "$nobody"
expect "^data 03$(printf %04x ${#stranger_id})$(hex "$stranger_id")$(tail_of 00000001)\$"

echo "-- the source is the hub's word"
send_as mallory "$hub_id" "$hub" 1 "$(message 1 "$mallory_id" abcd)"
expect "^data 02$(printf %04x ${#mallory_id})$(hex "$mallory_id")$(tail_of abcd)\$"

echo "-- a broadcast stays in its group"
note=8c0e5d7b3b644f19a2c751d90e6b8407 # the inner type of a line to everybody
send_as mallory "$hub_id" "$hub" 1 "040000${note}0000000000000000$(hex 'hi everybody')" "$nobody"
for _ in $(seq 1200); do grep -q 'hi everybody' "$dir/bob.out" && break; sleep 0.05; done
grep -qF "line $mallory_id hi everybody" "$dir/bob.out" || fail "bob did not get the broadcast"
grep -q 'hi everybody' "$dir/stranger.out" && fail "the broadcast left its group"

echo "-- a member's name does not reach a terminal as it is"
send_as painter "$hub_id" "$hub" 1 \
	"01$(printf %04x ${#bob_id})$(hex "$bob_id")8c0e5d7b3b644f19a2c751d90e6b84010000000000000007ff" "$nobody"
hub_said '.\u{9b}31m is ignored: message is too short' bob
grep -qF "$painted" "$dir/bob.err" "$dir/bob.out" && fail "a control character came through"

echo "-- a member is not a hub"
send_as mallory "$bob_id" "$bob" 1000 "$(message 2 "$(id_of alice)" "")"
expect '^disconnected$'
hub_said "closed the connection of $mallory_id: relay: only a hub that was dialled may deliver" bob
send_as mallory "$bob_id" "$bob" 1000 01
expect '^disconnected$'

echo "-- who does not read is slow, and nobody else suffers"
timeout -k 5 60 "$probe" "$(home mallory)" "$dir/mallory.inv" "$hub_id" "$hub" stall \
	>"$dir/stalled.out" 2>&1 </dev/null &
stalled=$!
pids+=("$stalled")
for _ in $(seq 1200); do grep -q '^connected' "$dir/stalled.out" && break; sleep 0.05; done
must "$program" group join --home "$(home alice)" "$dir/alice.inv"
# Lines to everybody are not confirmed, so that they fill the queue of the one who does not read.
yes "$(head -c 4000 /dev/zero | tr '\0' x)" | head -20000 >"$dir/lines"
timeout -k 5 60 "$program" peer --home "$(home alice)" --hub "$hub" --listen '[::1]:0' --broadcast \
	--timeout 50 <"$dir/lines" >"$dir/out" 2>"$dir/err"
hub_alive=$(printf 'still here\n' | timeout -k 5 60 "$program" peer --home "$(home alice)" --hub "$hub" \
	--listen '[::1]:0' --to "$bob_id" --lines --timeout 40 2>&1) || fail "the hub stopped relaying: $hub_alive"
grep -qF "line $(id_of alice) still here" "$dir/bob.out" || fail "bob was cut off"
kill "$stalled"
wait "$stalled"

kill -TERM "${pids[0]}"
wait "${pids[0]}" || fail "the hub ended with $?"
grep -q "absent 1 slow 0 .* group $two" "$dir/hub.out" && fail "the other group saw something"
slow=$(sed -n "s/^relayed .* slow \([0-9]*\) .* group $one\$/\1/p" "$dir/hub.out")
[ "${slow:-0}" -gt 0 ] || fail "nobody was slow"

if [ "$failures" -gt 0 ]; then
	echo "$failures failed"
	exit 1
fi
echo "all passed"
