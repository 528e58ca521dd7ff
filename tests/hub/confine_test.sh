#!/usr/bin/env bash
# A hub confines itself: every thread of it, in full where the kernel can; it says so; it still reloads a
# configuration that was replaced; and it does as an unprivileged user with the memlock limit of every Linux.
#
#   tests/hub/confine_test.sh BUILD_DIRECTORY
set -u
program=$(cd "$1" && pwd)/peerhub
unset PEERHUB_HOME PEERHUB_LISTEN XDG_DATA_HOME RUNTIME_DIRECTORY NOTIFY_SOCKET LISTEN_FDS LISTEN_PID
dir=$(mktemp -d)
pids=()
failures=0
finish() {
	for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null; done
	rm -rf "$dir"
}
trap finish EXIT
fail() {
	echo "FAILED: $*"
	tail -n 5 "$dir"/*.err 2>/dev/null
	failures=$((failures + 1))
}
until_true() {
	local end=$((SECONDS + 60))
	until "$@"; do
		if [ $SECONDS -ge $end ]; then
			fail "never true: $*"
			return 1
		fi
		sleep 0.05
	done
}

if ! timeout 60 "$program" doctor >"$dir/doctor" 2>&1; then
	grep -q '^bad *engine' "$dir/doctor" && { echo "skipped: io_uring is refused here"; exit 77; }
fi

echo "-- trials"
timeout 100 "$program" doctor --confinement --json >"$dir/trials" 2>"$dir/trials.err"
code=$?
python3 - "$dir/trials" "$code" <<'END' || fail "the trials"
import json, sys
found = json.load(open(sys.argv[1]))
text = next(f["text"] for f in found if f["what"] == "confinement")
print("   ", text)
trials = [f for f in found if f["what"] in ("intruder", "hub")]
assert len(trials) == 14, trials
for f in trials:
    assert "could not be tried" not in f["text"], f
    print("   ", f["verdict"], f["text"])
# What a hub needs is let, whatever the kernel has.
assert all(f["verdict"] == "good" for f in trials if f["what"] == "hub")
ways = {f["text"].split(":")[0]: f["text"] for f in trials}
# A trial that is not let to anybody proves nothing.
for way in ("read a file outside its directories", "run a program", "start a process", "trace",
            "make memory that is written and run"):
    assert ways[way].endswith("(unconfined: let)"), ways[way]
whole = "landlock yes" in text and "seccomp yes" in text and "instrumented" not in text
if whole:
    assert "ends the hub" in ways["run a program"] and "ends the hub" in ways["trace"]
    if "ports" in text:
        assert all(f["verdict"] == "good" for f in trials) and sys.argv[2] == "0", sys.argv[2]
END

echo "-- a hub"
home=$dir/home
timeout 60 "$program" id create --home "$home" --name Hub >/dev/null || fail "id create"
timeout 60 "$program" group create --home "$home" --name First >/dev/null || fail "group create"
# Outside the range that the kernel gives others, so that nobody gets it meanwhile.
port=$(python3 -c 'import random, socket
while True:
    port = random.randrange(20000, 32000)
    try:
        socket.socket(socket.AF_INET6).bind(("::1", port))
    except OSError:
        continue
    print(port)
    break')
write_config() {
	cat >"$dir/new.ini" <<END
[hub]
store = $home
listen = [::1]:$port
shards = 2
[drain]
grace = 0
over = 0
[admin]
socket = $dir/admin.sock
[confinement]
mode = $1
[log]
format = logfmt
level = $2
END
	mv "$dir/new.ini" "$dir/hub.ini"
}
ctl() { timeout 60 "$program" ctl "$@" --socket "$dir/admin.sock"; }
hub_start() {
	rm -f "$dir/hub.out"
	"$@" "$program" hub --config "$dir/hub.ini" --for 200 >"$dir/hub.out" 2>"$dir/hub.err" </dev/null &
	hub=$!
	pids+=("$hub")
	until_true grep -q '^ready' "$dir/hub.out" && until_true test -S "$dir/admin.sock"
}
hub_end() {
	kill -TERM "$hub"
	wait "$hub" || fail "the hub ended with $?"
}
# of_threads FIELD: its values in all threads, each once.
of_threads() { cat "/proc/$hub/task"/*/status | sed -n "s/^$1:[[:space:]]*//p" | sort -u | tr '\n' ' '; }
write_config full info
hub_start
grep -q 'event=confined text="no_new_privs yes' "$dir/hub.err" || fail "the log does not tell of the confinement"
ctl status >"$dir/status" 2>"$dir/ctl.err" || fail "ctl status"
grep -q '^confinement  *no_new_privs yes; landlock ' "$dir/status" || fail "ctl status does not tell of it"
[ "$(of_threads NoNewPrivs)" = '1 ' ] || fail "a thread may gain privileges: $(of_threads NoNewPrivs)"
if grep -q 'seccomp yes' "$dir/status"; then
	[ "$(of_threads Seccomp)" = '2 ' ] || fail "a thread is without a filter: $(of_threads Seccomp)"
	grep -q 'no_new_rings yes' "$dir/status" || fail "new rings may be made"
fi
# An editor replaces the file.
write_config full debug
kill -HUP "$hub"
level_is() { ctl status 2>/dev/null | grep -q "^log_level  *$1\$"; }
until_true level_is debug
hub_end

echo "-- not confined"
write_config no info
hub_start
[ "$(of_threads Seccomp)" = "$(sed -n 's/^Seccomp:[[:space:]]*//p' /proc/self/status) " ] || fail "mode = no: a filter"
ctl status 2>/dev/null | grep -q '^confinement  *no$' || fail "mode = no: ctl status"
hub_end

if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	echo "-- unprivileged, 8 MiB of locked memory"
	chmod 711 "$dir"
	chown -R 65534:65534 "$home" "$dir/hub.ini"
	mkdir "$dir/run" && chown 65534:65534 "$dir/run"
	write_config full info
	sed -i "s|^socket = .*|socket = $dir/run/admin.sock|" "$dir/hub.ini"
	ln -sf run/admin.sock "$dir/admin.sock"
	chmod 644 "$dir/hub.ini"
	# The program itself may lie where only root can go.
	cp "$program" "$dir/peerhub" 2>/dev/null
	for library in "$(dirname "$program")"/libpeerhub.so*; do cp -P "$library" "$dir/"; done
	chmod 755 "$dir"/peerhub "$dir"/libpeerhub.so*
	program=$dir/peerhub
	hub_start prlimit --memlock=8388608:8388608 env LD_LIBRARY_PATH="$dir" \
		setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --bounding-set=-all
	[ "$(of_threads CapEff)" = '0000000000000000 ' ] || fail "it has capabilities"
	export LD_LIBRARY_PATH=$dir
	ctl status 2>"$dir/ctl.err" | grep -q '^confinement  *no_new_privs yes' || fail "unprivileged: ctl status"
	hub_end
fi

[ "$failures" = 0 ] || { echo "$failures failures"; exit 1; }
echo "confine_test: OK"
