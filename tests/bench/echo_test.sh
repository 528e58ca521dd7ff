#!/usr/bin/env bash
# peerhub-echo from outside: raw echo under load with slow readers, mutual TLS with openssl s_client
# and with Python's ssl, refusal of strangers, the signals, the command line's errors.
set -euo pipefail

build=${1:?build directory}
echo_program=$build/peerhub-echo
here=$(cd "$(dirname "$0")" && pwd)
[ -x "$echo_program" ] || exit 77
command -v python3 >/dev/null && command -v openssl >/dev/null || exit 77

work=$(mktemp -d)
pid=
cleanup() {
	[ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT

fail() {
	echo "echo_test: $*" >&2
	[ ! -s "$work/err" ] || tail -n 20 "$work/err" >&2
	exit 1
}

# begin ARGS...: start the server, wait for its ready line, set $port.
begin() {
	"$echo_program" --port 0 "$@" >"$work/out" 2>"$work/err" &
	pid=$!
	for _ in $(seq 1200); do
		if grep -q '^ready ' "$work/out"; then
			port=$(awk '/^ready / {print $3; exit}' "$work/out")
			return
		fi
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.05
	done
	# A machine that refuses io_uring cannot run this test.
	! grep -q 'io_uring' "$work/err" || exit 77
	fail "no ready line from: $*"
}

finish() {
	local code=0
	kill -TERM "$pid"
	wait "$pid" || code=$?
	pid=
	[ "$code" -eq 0 ] || fail "ended with $code after SIGTERM"
	[ "$(wc -l <"$work/out")" -eq 1 ] || fail "more than the ready line on standard output"
}

# ---- the command line -----------------------------------------------------------------------

expect_usage() {
	local code=0
	"$echo_program" "$@" >"$work/out" 2>"$work/err" || code=$?
	[ "$code" -eq 2 ] && [ -s "$work/err" ] || fail "exit code $code for: $*"
}
expect_usage
expect_usage --port 0
expect_usage --port 65536 --threads 1
expect_usage --port 0 --threads 0
expect_usage --port 0 --threads 65
expect_usage --port 0 --threads 1 --framing letters
expect_usage --port 0 --threads 1 --address localhost
expect_usage --port 0 --threads 1 --tls
expect_usage --port 0 --threads 1 --cert x
expect_usage --port 0 --threads 1 extra
"$echo_program" --help | grep -q -- --framing || fail "--help"

# ---- raw, clear text ------------------------------------------------------------------------

begin --threads 2 --address 127.0.0.1
python3 "$here/echo_client.py" load "$port"
python3 "$here/echo_client.py" signals "$port" "$pid"
# A second server on the same port must not steal half of the connections.
code=0
"$echo_program" --port "$port" --threads 1 --address 127.0.0.1 >"$work/out2" 2>"$work/err2" || code=$?
[ "$code" -eq 1 ] && [ ! -s "$work/out2" ] || fail "two servers on one port ($code)"
finish

# ---- mutual TLS -----------------------------------------------------------------------------

openssl_quiet() {
	openssl "$@" 2>"$work/openssl.err" || {
		cat "$work/openssl.err" >&2
		fail "openssl $1"
	}
}
authority() {
	openssl_quiet req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
		-subj "/CN=$1" -keyout "$work/$1.key" -out "$work/$1.pem"
}
leaf() {
	openssl_quiet req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" \
		-keyout "$work/$1.key" -out "$work/$1.csr"
	openssl_quiet x509 -req -in "$work/$1.csr" -CA "$work/$2.pem" -CAkey "$work/$2.key" \
		-CAcreateserial -days 2 -out "$work/$1.pem"
}
authority ca
authority strangers
leaf server ca
leaf client ca
leaf stranger strangers

bad_files() {
	local code=0
	"$echo_program" --port 0 --threads 1 --tls "$@" >"$work/out" 2>"$work/err" || code=$?
	[ "$code" -eq 1 ] && [ -s "$work/err" ] || fail "exit code $code for files: $*"
}
bad_files --cert "$work/none.pem" --key "$work/server.key" --ca "$work/ca.pem"
bad_files --cert "$work/server.key" --key "$work/server.key" --ca "$work/ca.pem"
bad_files --cert "$work/server.pem" --key "$work/client.key" --ca "$work/ca.pem"
bad_files --cert "$work/server.pem" --key "$work/server.pem" --ca "$work/ca.pem"
bad_files --cert "$work/server.pem" --key "$work/server.key" --ca "$work/server.key"

begin --threads 2 --address 127.0.0.1 --tls --cert "$work/server.pem" --key "$work/server.key" \
	--ca "$work/ca.pem"

# A line through openssl s_client and back. It stays until the answer has come or the server has gone.
connect=(openssl s_client -connect "127.0.0.1:$port" -CAfile "$work/ca.pem" -verify_return_error
	-servername any.test.p2p -quiet)
say() {
	local line=$1 client
	shift
	"${connect[@]}" "$@" <<<"$line" >"$work/answer" 2>"$work/s_client.err" &
	client=$!
	for _ in $(seq 1200); do
		[ ! -s "$work/answer" ] && kill -0 "$client" 2>/dev/null || break
		sleep 0.05
	done
	kill "$client" 2>/dev/null || true
	wait "$client" || true
	answer=$(cat "$work/answer")
}
say "hello from openssl" -cert "$work/client.pem" -key "$work/client.key"
[ "$answer" = "hello from openssl" ] || {
	cat "$work/s_client.err" >&2
	fail "openssl s_client got: $answer"
}
refused() {
	say "let me in" "$@"
	[ -z "$answer" ] || fail "a stranger was served: $answer"
}
refused
refused -cert "$work/stranger.pem" -key "$work/stranger.key"
python3 "$here/echo_client.py" tls "$port" "$work/ca.pem" "$work/client.pem" "$work/client.key"
finish

# ---- the peer protocol ----------------------------------------------------------------------

spin_remote() {
	"$build/peerhub-stress" spin --connections 50 --threads 2 --seconds 2 --patience 60 \
		--remote "127.0.0.1:$port" "$@" --json "$work/json" >"$work/spin" 2>&1 || {
		tail -n 40 "$work/spin" >&2
		fail "peerhub-stress found something"
	}
	grep -q '"messages_received": [1-9]' "$work/json" || fail "no message came back"
}

if [ -x "$build/peerhub-stress" ]; then
	begin --threads 2 --address 127.0.0.1 --framing message
	spin_remote --tls none
	finish
	begin --threads 2 --address 127.0.0.1 --framing message --tls --cert "$work/server.pem" \
		--key "$work/server.key" --ca "$work/ca.pem"
	spin_remote --tls mutual --cert "$work/client.pem" --key "$work/client.key" \
		--ca "$work/ca.pem"
	finish
fi
echo "echo_test: OK"
