#!/bin/bash
# service_test.sh PEERHUB: the hub as a service: its configuration, the administrator's socket and "peerhub ctl",
# metrics, reload, what systemd hands over and hears. Every wait is bounded; everything started is ended by
# its process id. PEERHUB is the program, or a build directory that holds it.
set -u

program=${1:-${PEERHUB_BUILD_DIR:-}}
[ -d "$program" ] && program=$program/peerhub
[ -x "$program" ] || { echo "usage: service_test.sh PEERHUB" >&2; exit 2; }
program=$(realpath "$program")

unset PEERHUB_HOME PEERHUB_LISTEN PEERHUB_PASSWORD XDG_DATA_HOME RUNTIME_DIRECTORY PEERHUB_ADMIN
unset NOTIFY_SOCKET JOURNAL_STREAM
dir=$(mktemp -d "${TMPDIR:-/tmp}/peerhub-service-XXXXXX")
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
	for file in out err; do [ -s "$dir/$file" ] && sed "s/^/    $file: /" "$dir/$file" | head -20; done
}
# run CODE ARGUMENTS...: in the foreground; out and err are kept.
run() {
	local want=$1 got
	shift
	timeout -k 5 60 "$program" "$@" >"$dir/out" 2>"$dir/err" </dev/null
	got=$?
	[ "$got" = "$want" ] || fail "exit $got instead of $want: peerhub $*"
}
err_has() { grep -qF -- "$1" "$dir/err" || fail "stderr lacks \"$1\""; }
out_has() { grep -qF -- "$1" "$dir/out" || fail "stdout lacks \"$1\""; }
# until_true CONDITION...: it holds within a minute or two.
until_true() {
	for _ in $(seq 600); do
		"$@" && return 0
		sleep 0.1
	done
	fail "never: $*"
	return 1
}
ctl() { run "$1" ctl "$2" --socket "$dir/admin.sock" "${@:3}"; }

# The sanitizers' processes start slowly; what refuses io_uring refuses the hub.
run 0 doctor --json
if grep -q '"what": "engine", "text": "does not start' "$dir/out"; then
	echo "skipped: io_uring is refused here"
	exit 77
fi

echo "-- doctor"
run 0 doctor
out_has 'good  engine'
out_has 'a hub runs'

echo "-- configuration"
run 0 hub --print-config
cp "$dir/out" "$dir/all.ini"
run 0 hub --check-config --config "$dir/all.ini"
# The reference in docs/ is the program's own.
root=$(dirname "$0")/../..
sed -n '/^```ini$/,/^```$/p' "$root/docs/configuration.md" | sed '1d;$d' | cmp -s - "$dir/all.ini" ||
	fail "docs/configuration.md is not what --print-config prints"
# With every key set the file is good, too.
sed 's/^; \(listen\|neighbor\) = .*/\1 = [::1]:0/; s/^; \([a-z-]*\) = .*/\1 = x/' "$dir/all.ini" >"$dir/full.ini"
run 0 hub --check-config --config "$dir/full.ini"
run 2 hub --check-config
err_has 'needs --config'
run 1 hub --check-config --config "$dir/nothing.ini"
err_has 'cannot read'
wrong() {
	printf '%b' "$1" >"$dir/wrong.ini"
	run 2 hub --check-config --config "$dir/wrong.ini"
	err_has "$2"
	run 2 hub --config "$dir/wrong.ini"
	err_has "$2"
}
wrong '[hub]\n\nlissen = [::1]:0\n' 'wrong.ini:3: there is no key "lissen" in [hub]'
wrong '[hubb]\nlisten = [::1]:0\n' 'wrong.ini:2: there is no section [hubb]'
wrong 'listen = [::1]:0\n' 'wrong.ini:1: "listen" stands before the first [section]'
wrong '[hub]\nlisten = localhost\n' 'wrong.ini:2: listen = localhost: takes a numeric host:port'
wrong '[metrics]\nlisten = 0.0.0.0:9100\n' 'takes a numeric host:port of this machine alone'
wrong '[metrics]\nlisten = [::]:9100\n' 'takes a numeric host:port of this machine alone'
wrong '[hub]\nshards = 65\n' 'wrong.ini:2: shards = 65: takes a number from 0 to 64 (threads)'
wrong '[hub]\nshards = -1\n' 'takes a number from 0 to 64'
wrong '[hub]\nlines = maybe\n' 'wrong.ini:2: lines = maybe: takes yes or no'
wrong '[log]\nlevel = loud\n' 'takes one of error|warning|info|debug'
wrong '[hub]\nshards = 1\nshards = 2\n' 'wrong.ini:3: "shards" is given twice, first in line 2'
wrong '[hub]\nnonsense\n' 'wrong.ini:2: neither "[section]" nor "key = value"'
wrong '[hub]\nidentity = \xff\n' 'takes a text in UTF-8'
wrong "[hub]\nidentity = $(printf 'x%.0s' $(seq 300))\n" 'wrong.ini:2: the line is longer than 190 bytes'
wrong '[hub]\nidentity = a\0b\n' 'the line holds a zero byte'
wrong "[hub]\n$(printf 'group = g%s\\n' $(seq 65))" '"group" is given more than 64 times'

echo "-- a hub"
home=$dir/home
run 0 id create --home "$home" --name Hub
run 0 group create --home "$home" --name First
first=$(cut -d' ' -f2 "$dir/out")
run 0 group create --home "$home" --name Second
second=$(cut -d' ' -f2 "$dir/out")
port=$(python3 -c 'import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
write_config() {
	cat >"$dir/hub.ini" <<END
[hub]
store = $home
listen = [::1]:0
shards = 1
receive = $dir/in
$1
[admin]
socket = $dir/admin.sock
[metrics]
listen = 127.0.0.1:$port
[limits]
connections-per-shard = ${2:-256}
[log]
format = ${3:-logfmt}
END
}
# Two groups, one of them named twice.
write_config "group = $first
group = $second
group = First"
python3 - "$dir/notify" >"$dir/notify.out" <<'END' &
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
s.settimeout(100)
while True:
    text = s.recv(4096).decode()
    print(text.replace("\n", " "), flush=True)
    if "STOPPING" in text:
        break
END
pids+=($!)
until_true test -S "$dir/notify"
# Not under timeout(1), which would take the SIGHUP: it ends by itself, however the test goes.
NOTIFY_SOCKET=$dir/notify "$program" hub --config "$dir/hub.ini" --for 280 >"$dir/hub.out" 2>"$dir/hub.err" </dev/null &
hub=$!
pids+=("$hub")
until_true grep -q '^READY=1' "$dir/notify.out"
grep -q '^READY=1 STATUS=serving 2 groups' "$dir/notify.out" || fail "it does not serve both groups"
[ "$(grep -c '^ready ' "$dir/hub.out")" = 2 ] || { cp "$dir/hub.out" "$dir/out"; fail "not one line for each group"; }
address=$(sed -n 's/^ready \([^ ]*\) .*/\1/p' "$dir/hub.out" | head -1)
[ "$(stat -c %a "$dir/admin.sock")" = 600 ] || fail "the administrator's socket is open to others"

ctl 0 status
out_has 'version            0.1.0'
ctl 0 status --json
python3 -c 'import json, sys
s = json.load(open(sys.argv[1]))
assert s["open"] == 0 and s["slots"] == 256 and s["shards"] == 1, s' "$dir/out" || fail "status is wrong"
ctl 0 limits
grep -q 'limits.connections-per-shard *256 ' "$dir/out" || fail "limits do not tell a key in force"
grep -q '^subnet *16384 .* limit_subnet$' "$dir/out" || fail "limits do not tell the limit of a subnet"
grep -q '^connections *100000 .* limit_connections$' "$dir/out" || fail "limits do not tell the limit of the hub"
grep -q 'limits.connections-per-shard .*hub.ini' "$dir/out" || fail "limits do not say where a key was set"
run 1 ctl status --socket "$dir/nobody.sock"
err_has 'no hub answers'
run 2 ctl nothing
run 2 ctl close --socket "$dir/admin.sock"
err_has 'which?'
ctl 2 close --all --where 'idle>5m'
err_has 'not both'
ctl 2 close --where $'identity=\xff'
err_has 'not a text in UTF-8'
ctl 2 close 7 --how $'\xff'
err_has 'not a text in UTF-8'
# What is quoted is cut inside the last character.
ctl 1 connections --where "$(printf 'a%.0s' $(seq 79))é"
err_has 'is none of group='
run 0 ctl --help
# A second hub may not take the socket.
run 1 hub --config "$dir/hub.ini"
err_has 'another hub does'

echo "-- a peer"
run 0 id create --home "$dir/guest" --name Guest
guest=$(cut -d' ' -f2 "$dir/out")
run 0 id show --home "$dir/guest" --xml "$dir/guest.xml"
run 0 group invite --home "$home" --group "$first" --for "$dir/guest.xml" --out "$dir/guest.inv"
timeout -k 5 200 "$program" peer --home "$dir/guest" --invitation "$dir/guest.inv" --hub "$address" --for 150 --receive-lines \
	--listen '[::1]:0' >"$dir/peer.out" 2>"$dir/peer.err" </dev/null &
peer=$!
pids+=("$peer")
is_connected() {
	timeout 60 "$program" ctl connections --socket "$dir/admin.sock" --json >"$dir/connections" 2>/dev/null &&
		[ "$(grep -c '"id"' "$dir/connections")" -ge "$1" ]
}
if ! until_true is_connected 1; then sed 's/^/    peer: /' "$dir/peer.err" | head; fi
id=$(sed -n 's/.*"id": "\([0-9]*\)".*/\1/p' "$dir/connections" | head -1)
ctl 0 connections --where "identity=${guest:0:12}"
out_has "$guest"
ctl 0 connections --sort age_ms
ctl 2 connections --sort colour
err_has 'cannot sort by "colour"'
ctl 1 connections --where 'colour=red'
err_has 'is none of group= identity= subnet= age> idle>'
ctl 0 connections --where 'subnet=192.0.2.0/24'
grep -q "$guest" "$dir/out" && fail "a foreign subnet matches"
ctl 0 connections --where 'subnet=::1/128 age>1ms'
out_has "$guest"
ctl 0 show "$id"
out_has 'state              open'
ctl 1 show 77
err_has 'no connection with this id'
ctl 0 explain "$guest"
out_has "$id"
ctl 0 close --where "identity=$guest" --dry-run
out_has 'would close'
ctl 1 close 77
err_has 'no open connection has this id'
curl -s "http://127.0.0.1:$port/metrics" >"$dir/metrics" 2>/dev/null ||
	python3 -c 'import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1]).read().decode(), end="")' "http://127.0.0.1:$port/metrics" >"$dir/metrics"
grep -q "^peerhub_group_connections{group=\"$first\"} [1-9]" "$dir/metrics" || fail "metrics lack the group"
grep -q '^peerhub_connections{state="open"} [1-9]' "$dir/metrics" || fail "metrics lack the open connections"
[ "$(tail -1 "$dir/metrics")" = '# EOF' ] || fail "metrics do not end with # EOF"

echo "-- close, and why"
ctl 0 close "$id" --reason 1234 --text 'go  away'
has_ended() { timeout 60 "$program" ctl show "$id" --socket "$dir/admin.sock" 2>/dev/null | grep -q '^state *ended'; }
until_true has_ended
ctl 0 show "$id"
out_has 'reason_number      1234'
ctl 0 explain "$id"
out_has 'go  away'
ctl 0 explain '::1'
out_has "$guest"
ctl 0 closed --last 5
out_has "$id"
grep -q "event=connection_end id=$id reason=application reason_number=1234" "$dir/hub.err" ||
	fail "the log lacks the line of the ended connection"
ctl 0 log-level error
ctl 2 log-level
ctl 1 log-level loud

echo "-- reload"
write_config "group = $first" 512 json
kill -HUP "$hub"
second_gone() { grep -q "^relayed .* group $second" "$dir/hub.out"; }
until_true second_gone
reload_said() { timeout 60 "$program" ctl status --socket "${2:-$dir/admin.sock}" 2>/dev/null | grep -qF "$1"; }
until_true reload_said 'counts from the next start: limits.connections-per-shard'
until_true grep -q '^READY=1 STATUS=serving 1 groups' "$dir/notify.out"
# What is in force is told, not what the file says; and so it is the next time.
ctl 0 limits
grep -q 'limits.connections-per-shard *256 ' "$dir/out" || fail "limits tell what is not in force"
write_config "group = $first
group = $second" 512 json
kill -HUP "$hub"
second_ready() { [ "$(grep -c "^ready .* group $second" "$dir/hub.out")" = 2 ]; }
until_true second_ready
until_true reload_said 'counts from the next start: limits.connections-per-shard'
# A file for the hub itself: its directory is the one of the start.
head -c 100000 /dev/urandom >"$dir/file"
run 0 id create --home "$dir/sender" --name Sender
run 0 id show --home "$dir/sender" --xml "$dir/sender.xml"
run 0 group invite --home "$home" --group "$first" --for "$dir/sender.xml" --out "$dir/sender.inv"
run 0 peer --home "$dir/sender" --invitation "$dir/sender.inv" --hub "$address" --listen '[::1]:0' \
	--send "$dir/file" --timeout 50
cmp -s "$dir/file" "$dir/in/file" || fail "the file did not reach the hub"
grep -q "^received file size 100000 .* file $dir/in/file\$" "$dir/hub.out" || fail "the hub did not say what it received"
write_config "group = $second" 512 json
ctl 0 reload
first_gone() { grep -q "^relayed .* group $first" "$dir/hub.out"; }
until_true first_gone
echo 'nonsense' >>"$dir/hub.ini"
ctl 0 reload
until_true reload_said 'the file is wrong: nothing was changed'
grep -q '"event":"reload_failed"' "$dir/hub.err" || fail "a failed reload is not in the log"

echo "-- requests that are none"
python3 - "$dir/admin.sock" <<'END' || fail "the administrator's socket"
import json, socket, sys
def ask(raw, lines=1):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(sys.argv[1])
    try:
        s.sendall(raw)
    except BrokenPipeError:
        pass
    f = s.makefile("rb")
    return [json.loads(f.readline() or b'{"ok":false,"error":"gone"}') for _ in range(lines)]
for raw in [b"\n", b"{\n", b"[]\n", b"7\n", b'{"call":7}\n', b'{"call":"status","arguments":[]}\n',
            b'\xff\xfe\n', b'{"call":"close","arguments":{"id":7}}\n', b'{"call":"nothing"}\n',
            b'{"call":"close","arguments":{"id":"1","how":"softly"}}\n',
            b'{"call":"close","arguments":{"id":"1","reason":7}}\n',
            b'{"call":"close","arguments":{"id":"1","text":"' + b"x" * 200 + b'"}}\n',
            b'{"call":"close_where","arguments":{}}\n', b'{"call":"connections","arguments":{"limit":0}}\n',
            b'{"call":"connections","arguments":{"where":7}}\n', b'{"call":"explain"}\n',
            b'{"call":"closed","arguments":{"last":-1}}\n', b"x" * 20000 + b"\n",
            b'{"a":' * 3000 + b"\n"]:
    assert ask(raw)[0]["ok"] is False, raw[:60]
# Several in one go are answered in order; a half one waits for its rest.
answers = ask(b'{"call":"log_level","arguments":{"level":"debug"}}\n{"call":"status"}\n{"call":"limits"}\n', 3)
assert [a["ok"] for a in answers] == [True] * 3
assert answers[1]["result"]["log_level"] == "debug"
# A whole second's requests at once are answered at once.
assert all(a["ok"] for a in ask(b'{"call":"status"}\n' * 150, 150))
# Who asks and does not listen holds up nobody.
deaf = []
for _ in range(14):
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    s.sendall(b'{"call":"status"}\n' * 500)
    deaf.append(s)
assert ask(b'{"call":"status"}\n')[0]["ok"]
more = [socket.socket(socket.AF_UNIX) for _ in range(4)]
for s in more:
    s.connect(sys.argv[1])
assert any(json.loads(s.makefile().readline())["error"] == "busy" for s in more[-1:])
END

echo "-- the end"
kill -0 "$hub" 2>/dev/null || fail "the hub has ended"
kill "$peer" 2>/dev/null
kill -TERM "$hub"
wait "$hub"
code=$?
[ "$code" = 0 ] || { cp "$dir/hub.err" "$dir/err"; fail "the hub ended with $code"; }
until_true grep -q STOPPING "$dir/notify.out"
grep -q RELOADING "$dir/notify.out" || fail "systemd did not hear of the reload"
[ -e "$dir/admin.sock" ] && fail "the socket is left behind"

echo "-- an inherited socket, a runtime directory, a log that nobody reads"
mkdir "$dir/run"
write_config "group = $second"
sed -i '/^socket/d; /^listen = \[/d' "$dir/hub.ini"
mkfifo "$dir/log"
sleep 280 <"$dir/log" &
pids+=($!)
cat >"$dir/inherit.py" <<'END'
import os, socket, sys
s = socket.socket(socket.AF_INET6)
s.bind(("::1", 0))
s.listen(64)
if s.fileno() == 3:
    s.set_inheritable(True)
else:
    os.dup2(s.fileno(), 3, inheritable=True)
print("port", s.getsockname()[1], flush=True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), RUNTIME_DIRECTORY=sys.argv[1])
os.execv(sys.argv[2], sys.argv[2:])
END
# --group wins over the file, at a reload, too.
python3 "$dir/inherit.py" "$dir/run" "$program" hub --config "$dir/hub.ini" --group "$first" >"$dir/hub.out" 2>"$dir/log" &
hub=$!
pids+=("$hub")
until_true grep -q '^ready' "$dir/hub.out"
want=$(sed -n 's/^port //p' "$dir/hub.out")
grep -q "^ready \[::1\]:$want " "$dir/hub.out" || { cp "$dir/hub.out" "$dir/out"; fail "it does not listen on $want"; }
run 0 ctl reload --socket "$dir/run/admin.sock"
until_true reload_said 'all is in force' "$dir/run/admin.sock"
grep -q "^relayed\|^ready .* group $second" "$dir/hub.out" && fail "a reload forgot --group"
run 0 ctl log-level debug --socket "$dir/run/admin.sock"
python3 - "$dir/run/admin.sock" "http://127.0.0.1:$port/metrics" <<'END' || fail "a log that nobody reads holds up the hub"
import socket, sys, urllib.request
def lost():
    for line in urllib.request.urlopen(sys.argv[2], timeout=60).read().decode().splitlines():
        if line.startswith("peerhub_log_lines_lost_total "):
            return int(line.split()[1])
for _ in range(100):
    for _ in range(100):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(60)
        s.connect(sys.argv[1])
        s.sendall(b'{"call":"log_level","arguments":{"level":"debug"}}\n')
        assert b'"ok":true' in s.makefile("rb").readline()
        s.close()
    if lost() > 0:
        sys.exit(0)
sys.exit("the pipe never was full")
END
# Another hub's socket in the place of ours is not removed.
mv "$dir/run/admin.sock" "$dir/run/moved.sock"
touch "$dir/run/admin.sock"
run 0 ctl stop --socket "$dir/run/moved.sock"
wait "$hub"
code=$?
[ "$code" = 0 ] || fail "ctl stop: the hub ended with $code"
[ -e "$dir/run/admin.sock" ] || fail "it removed what is not its own"

echo "-- an inherited socket without a configuration"
python3 "$dir/inherit.py" "$dir/run" "$program" hub --home "$home" --group "$first" >"$dir/hub.out" 2>"$dir/hub.err" &
hub=$!
pids+=("$hub")
until_true grep -q '^ready' "$dir/hub.out"
want=$(sed -n 's/^port //p' "$dir/hub.out")
grep -q "^ready \[::1\]:$want " "$dir/hub.out" || { cp "$dir/hub.out" "$dir/out"; fail "it does not listen on $want"; }
kill -TERM "$hub"
wait "$hub"
code=$?
[ "$code" = 0 ] || { cp "$dir/hub.err" "$dir/err"; fail "the hub ended with $code"; }

[ "$failures" = 0 ] || { echo "$failures failures"; exit 1; }
echo "service_test: OK"
