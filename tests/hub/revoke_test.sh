#!/bin/bash
# revoke_test.sh PEERHUB: throwing a member out of a running hub, what the other hub of the group makes of it, a
# hub that is killed and started again, and draining: by command, taken back, and by a signal or two.
# Every wait is for an event, and bounded; everything started is ended by its process id.
set -u

program=${1:-${PEERHUB_BUILD_DIR:-}}
[ -d "$program" ] && program=$program/peerhub
[ -x "$program" ] || { echo "usage: revoke_test.sh PEERHUB" >&2; exit 2; }
program=$(realpath "$program")

unset PEERHUB_HOME PEERHUB_LISTEN PEERHUB_PASSWORD XDG_DATA_HOME RUNTIME_DIRECTORY PEERHUB_ADMIN
unset NOTIFY_SOCKET JOURNAL_STREAM
dir=$(mktemp -d "${TMPDIR:-/tmp}/peerhub-revoke-XXXXXX")
pids=()
failures=0
cleanup() {
	for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null; done
	for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null; done
	rm -rf "$dir"
}
trap cleanup EXIT
fail() {
	echo "FAILED: $*"
	failures=$((failures + 1))
	for file in out err main.err other.err; do
		[ -s "$dir/$file" ] && tail -15 "$dir/$file" | sed "s/^/    $file: /"
	done
}
run() {
	local want=$1 got
	shift
	timeout -k 5 60 "$program" "$@" >"$dir/out" 2>"$dir/err" </dev/null
	got=$?
	[ "$got" = "$want" ] || fail "exit $got instead of $want: peerhub $*"
}
out_has() { grep -qF -- "$1" "$dir/out" || fail "stdout lacks \"$1\""; }
err_has() { grep -qF -- "$1" "$dir/err" || fail "stderr lacks \"$1\""; }
until_true() {
	for _ in $(seq 600); do
		"$@" && return 0
		sleep 0.1
	done
	fail "never: $*"
	exit 1 # what follows would only wait in vain
}
ended() { ! kill -0 "$1" 2>/dev/null; }
# ctl HUB CODE COMMAND...
ctl() { run "$2" ctl "$3" --socket "$dir/$1.sock" "${@:4}"; }
# field HUB NAME: of the status, as JSON.
field() {
	timeout 60 "$program" ctl status --json --socket "$dir/$1.sock" 2>/dev/null |
		python3 -c 'import json, sys
value = json.load(sys.stdin)
for name in sys.argv[1].split("."):
    value = value[name]
print(value)' "$2" 2>/dev/null
}
is() { [ "$(field "$1" "$2")" = "$3" ]; }
# connections HUB WHERE: how many match.
connections() {
	timeout 60 "$program" ctl connections --json --socket "$dir/$1.sock" --where "$2" 2>/dev/null |
		python3 -c 'import json, sys; print(json.load(sys.stdin)["matched"])' 2>/dev/null
}
has() { [ "$(connections "$1" "$2")" = "$3" ]; }
some() { [ "$(connections "$1" "$2")" -ge 1 ] 2>/dev/null; }

run 0 doctor --json
if grep -q '"what": "engine", "text": "does not start' "$dir/out"; then
	echo "skipped: io_uring is refused here"
	exit 77
fi

echo "-- a group with two hubs and a member"
run 0 id create --home "$dir/main" --name Main
run 0 group create --home "$dir/main" --name Group
group=$(cut -d' ' -f2 "$dir/out")
for name in other guest friend; do
	run 0 id create --home "$dir/$name" --name "$name"
	cp "$dir/out" "$dir/$name.id"
	run 0 id show --home "$dir/$name" --xml "$dir/$name.xml"
	run 0 group invite --home "$dir/main" --group "$group" --for "$dir/$name.xml" --out "$dir/$name.inv"
done
guest=$(cut -d' ' -f2 "$dir/guest.id")
run 0 group join --home "$dir/other" "$dir/other.inv"
# hub NAME ADDRESS [LINE]: start it and wait until it is ready.
hub() {
	cat >"$dir/$1.ini" <<END
[hub]
store = $dir/$1
listen = $2
shards = 1
receive = $dir/$1.in
${3:-}
[admin]
socket = $dir/$1.sock
[log]
format = logfmt
[drain]
grace = 0
over = 300
retry-after = 1000
END
	rm -f "$dir/$1.out"
	"$program" hub --config "$dir/$1.ini" --for 280 >"$dir/$1.out" 2>>"$dir/$1.err" </dev/null &
	pids+=($!)
	eval "$1_pid=$!"
	until_true grep -q '^ready ' "$dir/$1.out"
	until_true test -S "$dir/$1.sock"
}
hub main '[::1]:0'
main=$(sed -n 's/^ready \([^ ]*\) .*/\1/p' "$dir/main.out")
hub other '[::1]:0' "neighbor = $main"
other=$(sed -n 's/^ready \([^ ]*\) .*/\1/p' "$dir/other.out")
until_true test "$(field other open)" = 1
peer() {
	"$program" peer --home "$dir/$1" ${4:---invitation "$dir/$1.inv"} --hub "$2" --listen '[::1]:0' --for 250 --receive-lines \
		>"$dir/$1-$3.out" 2>"$dir/$1-$3.err" </dev/null &
	pids+=($!)
	eval "$1_pid=$!"
}
peer guest "$main" one
until_true some main "identity=$guest"
peer friend "$other" one
until_true grep -q '^ready ' "$dir/friend-one.out"
peer guest "$other" two "--group $group"
until_true some other "identity=$guest"

echo "-- revoke"
ctl main 2 revoke
err_has 'either an IDENTITY or --list'
ctl main 2 revoke "$guest" --until yesterday
err_has '--until takes a time to come'
ctl main 1 revoke nobody
err_has 'neither a secure peer name'
ctl main 1 unrevoke "$guest"
err_has 'has not revoked'
# A hub that neither made the group nor administers it has no say.
ctl other 1 revoke "$guest"
err_has 'only the creator of a group'
ctl main 0 revoke "$guest" --until 30d
out_has "$group"
until_true has main "identity=$guest" 0
# The other hub has heard of it from the first, and has closed what it had.
until_true has other "identity=$guest" 0
some other "identity=$(cut -d' ' -f2 "$dir/friend.id")" || fail "the other hub closed a friend, too"
ctl other 0 closed --json
grep -q '"reason": "revoked"' "$dir/out" || fail "the other hub does not say why"
ctl other 0 revoke --list
out_has "${guest%%.*}"
out_has 'group'
ctl main 0 explain "$guest"
out_has 'revoked'

echo "-- killed and started again"
kill -KILL "$main_pid"
wait "$main_pid" 2>/dev/null
hub main "$main"
ctl main 0 revoke --list
out_has "${guest%%.*}"
# The guest tries again by itself, and is refused by name.
refused() { timeout 60 "$program" ctl closed --json --socket "$dir/main.sock" | grep -q 'vouched for it is revoked'; }
until_true refused
has main "identity=$guest" 0 || fail "a revoked member is connected"
ctl main 0 unrevoke "$guest"
ctl main 0 revoke --list --json
grep -q '"revoked":' "$dir/out" && fail "an unrevoked one is listed"
# Who is believed again may send again.
run 0 peer --home "$dir/guest" --group "$group" --hub "$main" --listen '[::1]:0' --send "$0" --wait 60

echo "-- drain, and back"
kill "$guest_pid" 2>/dev/null
peer friend "$main" zero "--group $group"
until_true some main ""
ctl main 0 drain --grace 1h --over 1h --text "gone for lunch"
until_true is main drain.state notice
told=$(field main drain.told)
[ "$told" -ge 1 ] || fail "nobody was told"
ctl main 0 undrain
until_true is main drain.state serving
run 0 peer --home "$dir/guest" --group "$group" --hub "$main" --listen '[::1]:0' --send "$program" --wait 60
some main "" || fail "nobody stayed"

echo "-- drain to the end"
ctl main 0 drain --grace 0 --over 300ms
until_true is main drain.state empty
[ "$(field main drain.total)" = "$(($(field main drain.closed) + $(field main drain.left)))" ] || fail "some were neither closed nor gone"
[ "$(field main drain.reset)" = 0 ] || fail "some had to be reset"
is main live 0 || fail "something lives in an empty hub"
ctl main 0 closed --json
grep -q '"reason": "draining"' "$dir/out" || fail "a drained connection does not say so"
ctl main 0 undrain
until_true is main drain.state serving
# The friend comes back by itself, not before it was allowed to.
until_true some main ""

echo "-- a signal drains, a second one ends at once"
kill -TERM "$main_pid"
until_true ended "$main_pid"
wait "$main_pid"
[ $? = 0 ] || fail "a drained hub ended with an error"
grep -q 'event=drain state=empty' "$dir/main.err" || fail "SIGTERM did not drain"
sed -i 's/^over = .*/over = 3600000/; s/^grace = .*/grace = 3600000/' "$dir/other.ini"
kill -HUP "$other_pid"
until_true grep -q 'event=reloaded' "$dir/other.err"
kill -TERM "$other_pid"
until_true is other drain.state notice
is other drain.stop True || fail "it would not end"
kill -TERM "$other_pid"
until_true ended "$other_pid"
wait "$other_pid"
[ $? = 0 ] || fail "the second signal ended it with an error"

[ "$failures" = 0 ] || { echo "$failures failures"; exit 1; }
echo "all good"
