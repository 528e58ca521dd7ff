#!/usr/bin/env bash
# The comparison programs: every peer that is built echoes right, plain and with TLS, and ends with
# exit code 0 at SIGTERM; a mass close closes all; and the load generator sees each way in which a
# server can be wrong. No figure is judged.
set -euo pipefail

build=${1:?build directory}
here=$(cd "$(dirname "$0")" && pwd)
load=$build/bench/peerhub-load
[ -x "$load" ] || exit 77
command -v python3 >/dev/null && command -v openssl >/dev/null || exit 77

work=$(mktemp -d)
pid=
cleanup() {
	[ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT

fail() {
	echo "peers_test: $*" >&2
	[ ! -s "$work/err" ] || tail -n 20 "$work/err" >&2
	[ ! -s "$work/load.err" ] || tail -n 20 "$work/load.err" >&2
	exit 1
}

# begin PROGRAM ARGS...: start a server, wait for its ready line, set $port.
begin() {
	: >"$work/out"
	"$@" >"$work/out" 2>"$work/err" &
	pid=$!
	for _ in $(seq 3000); do
		if grep -q '^ready ' "$work/out"; then
			port=$(awk '/^ready / {print $NF; exit}' "$work/out")
			return
		fi
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.02
	done
	! grep -q 'io_uring' "$work/err" || exit 77
	fail "no ready line from: $*"
}

finish() {
	local code=0
	kill -TERM "$pid"
	wait "$pid" || code=$?
	pid=
	[ "$code" -eq 0 ] || fail "ended with $code after SIGTERM"
}

# json KEY: a whole number of the last load's result.
json() {
	grep -o "\"$1\":[0-9]*" "$work/json" | cut -d: -f2
}

# good LOAD ARGS...: all comes back right, and something does.
good() {
	"$load" --port "$port" --server-pid "$pid" --connections 8 --seconds 0.2 --warmup 0.05 "$@" \
		>"$work/json" 2>"$work/load.err" || fail "wrong: $*"
	[ "$(json errors)" = 0 ] && [ "$(json bytes_checked)" -gt 0 ] || fail "nothing checked: $*"
}

"$build/bench/peer-pki" "$work/pki"
tls=(--tls --pki "$work/pki")

# ---- raw echo -------------------------------------------------------------------------------

for name in epoll uring libuv libevent asio; do
	program=$build/bench/peer-$name
	[ -x "$program" ] || continue
	begin "$program" --port 0 --threads 1 --close-all-on SIGUSR1
	good --rate 2000
	good --size 20000 --in-flight 4
	good --mode connect
	finish
	[ "$name" = asio ] && continue
	begin "$program" --port 0 --threads 1 "${tls[@]}"
	good "${tls[@]}" --size 20000 --in-flight 4
	finish
done

# The server closes all that a holding client has; the client's loss of them is what is expected.
for name in epoll uring libuv libevent asio; do
	program=$build/bench/peer-$name
	[ -x "$program" ] || continue
	begin "$program" --port 0 --threads 1 --close-all-on SIGUSR1
	"$load" --port "$port" --server-pid "$pid" --connections 50 --mode idle --seconds 60 \
		>"$work/json" 2>"$work/load.err" &
	holder=$!
	for _ in $(seq 3000); do
		grep -q 'holding 50 connections' "$work/load.err" && break
		sleep 0.02
	done
	grep -q 'holding 50 connections' "$work/load.err" || fail "peer-$name: not all were opened"
	kill -USR1 "$pid"
	for _ in $(seq 3000); do
		grep -q '^closed ' "$work/out" && break
		sleep 0.02
	done
	grep -q '^closed 50 cpu_us ' "$work/out" || fail "peer-$name: $(cat "$work/out")"
	! wait "$holder" || fail "the load did not notice that its connections went"
	finish
done

# ---- messages -------------------------------------------------------------------------------

for name in nng zmq; do
	program=$build/bench/peer-$name
	[ -x "$program" ] || continue
	begin "$program" --port 0 --threads 1 --framing message
	good --framing "$name" --size 1000 --in-flight 16
	finish
done
if [ -x "$build/bench/peer-zmq" ]; then
	begin "$build/bench/peer-zmq" --port 0 --threads 1 --framing message "${tls[@]}"
	good --framing zmq --in-flight 16 "${tls[@]}"
	finish
fi
begin "$build/bench/peer-relay" --port 0 --threads 1 --framing message
good --framing message --mode relay --in-flight 4
finish
begin "$build/bench/peer-relay" --port 0 --threads 1 --framing message "${tls[@]}"
good --framing message --mode relay --in-flight 4 --fan 3 "${tls[@]}"
finish

# ---- coming back, and dialling ----------------------------------------------------------------

# Each handshake but the first of a connection by the ticket of the one before it.
begin "$build/bench/peer-epoll" --port 0 --threads 1 "${tls[@]}" --tickets
good "${tls[@]}" --mode handshake --resume --connections 2 --settle 0
[ "$(json resumed)" -gt 0 ] || fail "no ticket was taken"
good "${tls[@]}" --mode handshake --connections 2
[ "$(json resumed)" = 0 ] || fail "resumed without having been asked for"
finish

# dial ARGS...: the engine dials, all comes back right, and something does.
dial() {
	"$build/bench/peerhub-dial" --port "$port" --pki "$work/pki" --server-pid "$pid" --at-once 4 \
		--seconds 0.3 --warmup 0.05 "$@" >"$work/json" 2>"$work/load.err" || fail "wrong: dial $*"
	[ "$(json errors)" = 0 ] && [ "$(json operations)" -gt 0 ] || fail "nothing dialled: $*"
}
begin "$build/bench/peer-epoll" --port 0 --threads 1 "${tls[@]}"
dial
[ "$(json client_cpu_ns_per_operation)" -gt 0 ] || fail "no CPU time of the dialler"
finish
begin "$build/peerhub-echo" --port 0 --threads 1 --address 127.0.0.1 --framing message --resume --tls \
	--cert "$work/pki/server.pem" --key "$work/pki/server.key" --ca "$work/pki/ca.pem"
dial --framing message --resume
[ "$(json resumed)" -gt 0 ] || fail "no secret was taken"
dial --framing message
[ "$(json resumed)" = 0 ] || fail "resumed without having been asked for"
finish
# Nobody listens there any more.
code=0
"$build/bench/peerhub-dial" --port "$port" --pki "$work/pki" --seconds 0.1 --warmup 0 --at-once 1 \
	>"$work/json" 2>"$work/load.err" || code=$?
[ "$code" -eq 1 ] && [ -s "$work/load.err" ] || fail "dialling nobody: exit code $code"
for arguments in "" "--port 1" "--port 1 --pki x --resume" "--port 1 --pki x --at-once 0" "--port 1 --pki x more"; do
	code=0
	# shellcheck disable=SC2086 # several words each
	"$build/bench/peerhub-dial" $arguments >"$work/json" 2>"$work/load.err" || code=$?
	[ "$code" -eq 2 ] && [ -s "$work/load.err" ] || fail "dial: exit code $code for: $arguments"
done

# ---- the load generator's own eyes ----------------------------------------------------------

for fault in change drop double swap; do
	begin python3 "$here/faulty_server.py" "$fault"
	code=0
	"$load" --port "$port" --connections 2 --seconds 0.2 --warmup 0 --size 100 --in-flight 4 \
		>"$work/json" 2>"$work/load.err" || code=$?
	[ "$code" -eq 1 ] && [ "$(json errors)" -gt 0 ] || fail "a server's fault was not seen: $fault"
	finish
done
for arguments in "" "--port 0" "--port 1 --size 0" "--port 1 --mode handshake" "--port 1 --tls" \
	"--port 1 --mode relay" "--port 1 --framing smoke" "--port 1 more"; do
	code=0
	# shellcheck disable=SC2086 # several words each
	"$load" $arguments >"$work/json" 2>"$work/load.err" || code=$?
	[ "$code" -eq 2 ] && [ -s "$work/load.err" ] || fail "exit code $code for: $arguments"
done
