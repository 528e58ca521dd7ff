# world.sh: for the tests of what shows a running hub: one hub with a configuration, and members that it knows. Sourced
# by bash with PROGRAM and MANY_PEERS as its arguments; sets dir, program, many, hub_id, group, address, port (of the
# dashboard), metrics_port and token. Everything started is ended by its process id at the end.
program=$(realpath "$1")
many=$(realpath "$2")
[ -x "$program" ] && [ -x "$many" ] || { echo "usage: $0 PEERHUB MANY_PEERS" >&2; exit 2; }
unset PEERHUB_HOME PEERHUB_LISTEN PEERHUB_PASSWORD XDG_DATA_HOME RUNTIME_DIRECTORY PEERHUB_ADMIN
unset NOTIFY_SOCKET JOURNAL_STREAM
dir=$(mktemp -d "${TMPDIR:-/tmp}/peerhub-world-XXXXXX")
pids=()
failures=0
token=correct-horse-battery-staple
world_end() {
	for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
	for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null; done
	rm -rf "$dir"
}
trap world_end EXIT
fail() {
	echo "FAILED: $*"
	failures=$((failures + 1))
	for file in out err hub.err; do
		[ -s "$dir/$file" ] && sed "s/^/    $file: /" "$dir/$file" | tail -20
	done
}
give_up() {
	fail "$@"
	exit 1
}
# run ARGUMENTS...: in the foreground; out and err are kept.
run() {
	timeout -k 5 60 "$program" "$@" >"$dir/out" 2>"$dir/err" </dev/null || give_up "peerhub $*"
}
# until_true CONDITION...: it holds within a minute or two.
until_true() {
	for _ in $(seq 600); do
		"$@" && return 0
		sleep 0.1
	done
	give_up "never: $*"
}

# hub_begin [LINES of [dashboard]]: what else that section says. Again after hub_end, it is the same hub.
hub_begin() {
	local listen=${address:-[::1]:0}
	if [ -z "${group:-}" ]; then
		run id create --home "$dir/home" --name Hub
		hub_id=$(cut -d' ' -f2 "$dir/out")
		run group create --home "$dir/home" --name First
		group=$(cut -d' ' -f2 "$dir/out")
		read -r port metrics_port < <(python3 -c 'import socket
s = [socket.socket() for _ in range(2)]
for one in s: one.bind(("127.0.0.1", 0))
print(*[one.getsockname()[1] for one in s])')
		(umask 077 && echo "$token" >"$dir/token")
	fi
	cat >"$dir/hub.ini" <<INI
[hub]
store = $dir/home
listen = $listen
shards = 2
[drain]
grace = 0
over = 0
[admin]
socket = $dir/admin.sock
[metrics]
listen = 127.0.0.1:$metrics_port
[dashboard]
listen = 127.0.0.1:$port
token-file = $dir/token
${1:-}
INI
	"$program" hub --config "$dir/hub.ini" --for 1800 >"$dir/hub.out" 2>"$dir/hub.err" </dev/null &
	hub=$!
	pids+=("$hub")
	until_true grep -q '^ready' "$dir/hub.out"
	address=$(sed -n 's/^ready \([^ ]*\) .*/\1/p' "$dir/hub.out" | head -1)
}
hub_end() {
	kill -TERM "$hub"
	wait "$hub"
}

# member NAME FRIENDLY: an identity with an invitation; sets member_id.
member() {
	run id create --home "$dir/$1" --name "$2"
	member_id=$(cut -d' ' -f2 "$dir/out")
	run id show --home "$dir/$1" --xml "$dir/$1.xml"
	run group invite --home "$dir/home" --group "$group" --for "$dir/$1.xml" --out "$dir/$1.inv"
}
# peers NAME COUNT [talk|churn]: it connects COUNT times, besides its connection as a neighbor; sets peer.
peers() {
	"$many" "$dir/$1" "$dir/$1.inv" "$hub_id" "$address" "${@:2}" >"$dir/$1.out" 2>"$dir/$1.err" </dev/null &
	peer=$!
	pids+=("$peer")
	until_true grep -q '^open' "$dir/$1.out"
}

timeout -k 5 60 "$program" doctor --json >"$dir/out" 2>"$dir/err" </dev/null
if grep -q '"what": "engine", "text": "does not start' "$dir/out"; then
	echo "skipped: io_uring is refused here"
	exit 77
fi
