#!/usr/bin/env bash
# Our TLS against other implementations as they come, in both roles and with both suites: openssl
# s_client and s_server, gnutls-cli and gnutls-serv. Text of some size goes there and back; both sides
# change keys on the way where the tool can; the close is graceful.
set -euo pipefail

build=${1:?build directory}
dial=$build/tests/tls_dial
echo_program=$build/peerhub-echo
[ -x "$echo_program" ] && [ -x "$dial" ] || exit 77
command -v openssl >/dev/null && command -v gnutls-cli >/dev/null &&
	command -v gnutls-serv >/dev/null || exit 77

work=$(mktemp -d)
pids=()
cleanup() {
	[ ${#pids[@]} -eq 0 ] || kill -KILL "${pids[@]}" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT

fail() {
	echo "interop_test: $*" >&2
	tail -n 20 "$work"/*.err >&2 || true
	exit 1
}

# ---- certificates and text -------------------------------------------------------------------

openssl_quiet() {
	openssl "$@" 2>"$work/openssl.err" || fail "openssl $1"
}
openssl_quiet req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
	-subj "/CN=ca" -keyout "$work/ca.key" -out "$work/ca.pem"
for name in server client; do
	openssl_quiet req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" \
		-keyout "$work/$name.key" -out "$work/$name.csr"
	openssl_quiet x509 -req -in "$work/$name.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" \
		-CAcreateserial -days 2 -out "$work/$name.pem"
done
# Lines that no tool takes for a command; 200 KB, so that records of full size and several come.
{ openssl rand -hex 100000 | fold -w 1000 | sed 's/^/x/'; } >"$work/text"
# talk OUT COMMAND...: the text, and again behind each command; on to the next step when all so far has
# come back in OUT. A tool takes a line for a command only when it reads nothing before it.
talk() {
	local out=$1 wanted=0 command
	shift
	for command in '' "$@"; do
		if [ -n "$command" ]; then
			echo "$command"
			sleep 2
		fi
		cat "$work/text"
		wanted=$((wanted + size))
		for _ in $(seq 1200); do
			[ "$(stat -c %s "$out")" -lt "$wanted" ] || break
			sleep 0.05
		done
	done
}
size=$(stat -c %s "$work/text")
declare -A openssl_suite=([aes]=TLS_AES_128_GCM_SHA256 [chacha]=TLS_CHACHA20_POLY1305_SHA256)
declare -A gnutls_suite=([aes]=AES-128-GCM [chacha]=CHACHA20-POLY1305)
gnutls_priority() {
	echo "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+${gnutls_suite[$1]}"
}

# ---- we are the server -----------------------------------------------------------------------

"$echo_program" --port 0 --threads 2 --address 127.0.0.1 --tls --cert "$work/server.pem" \
	--key "$work/server.key" --ca "$work/ca.pem" >"$work/echo.out" 2>"$work/echo.err" &
pids+=($!)
for _ in $(seq 1200); do
	! grep -q '^ready ' "$work/echo.out" || break
	sleep 0.05
done
! grep -q io_uring "$work/echo.err" || exit 77
port=$(awk '/^ready / {print $3; exit}' "$work/echo.out")
[ -n "$port" ] || fail "peerhub-echo does not start"

# s_client takes a line "K" as: change keys, and ask the other side to; "k": change keys.
for suite in aes chacha; do
	: >"$work/out"
	talk "$work/out" K k |
		timeout 240 openssl s_client -connect "127.0.0.1:$port" -brief -CAfile "$work/ca.pem" \
			-verify_return_error -servername any.test.p2p -alpn peerhub/1 \
			-ciphersuites "${openssl_suite[$suite]}" -cert "$work/client.pem" \
			-key "$work/client.key" >>"$work/out" 2>"$work/s_client.err" || true
	grep -v '^KEYUPDATE$' "$work/out" >"$work/back" || true
	cat "$work/text" "$work/text" "$work/text" | cmp - "$work/back" ||
		fail "openssl s_client, $suite: other text came back"
	[ "$(cat "$work/out" "$work/s_client.err" | grep -c '^KEYUPDATE$')" -eq 2 ] ||
		fail "openssl s_client, $suite: no key was changed"
	echo "openssl s_client, $suite: $((3 * size)) bytes, keys changed twice"
done

for suite in aes chacha; do
	: >"$work/out"
	talk "$work/out" '^rekey^' |
		timeout 240 gnutls-cli --logfile "$work/gnutls.err" --inline-commands --port "$port" \
			--x509cafile "$work/ca.pem" --x509certfile "$work/client.pem" \
			--x509keyfile "$work/client.key" --verify-hostname server \
			--sni-hostname any.test.p2p --alpn peerhub/1 \
			--priority "$(gnutls_priority $suite)" 127.0.0.1 >>"$work/out" \
			2>"$work/gnutls-cli.err" || true
	cat "$work/text" "$work/text" | cmp - "$work/out" ||
		fail "gnutls-cli, $suite: other text came back"
	echo "gnutls-cli, $suite: $((2 * size)) bytes"
done

# ---- we are the client -----------------------------------------------------------------------

# dial_and_compare NAME EXPECTED [openssl]
dial_and_compare() {
	local code=0
	timeout 120 "$dial" "127.0.0.1:$port" "$work/client.pem" "$work/client.key" "$work/ca.pem" \
		"$size" "${@:3}" <"$work/text" >"$work/out" 2>"$work/dial.err" || code=$?
	[ "$code" -ne 77 ] || exit 77
	[ "$code" -eq 0 ] || fail "$1: exit code $code"
	cmp "$2" "$work/out" || fail "$1: other text came back"
	echo "$1: $size bytes"
}

# The server turns each line around.
rev "$work/text" >"$work/reversed"
for suite in aes chacha; do
	openssl s_server -accept 127.0.0.1:0 -rev -Verify 1 -verify_return_error -tls1_3 \
		-CAfile "$work/ca.pem" -cert "$work/server.pem" -key "$work/server.key" \
		-alpn peerhub/1 -ciphersuites "${openssl_suite[$suite]}" -num_tickets 2 \
		</dev/null >"$work/s_server.out" 2>"$work/s_server.err" &
	pids+=($!)
	port=
	for _ in $(seq 1200); do
		port=$(sed -n 's/^ACCEPT .*:\([0-9]*\)$/\1/p' "$work/s_server.out" | head -n 1)
		[ -z "$port" ] || break
		sleep 0.05
	done
	[ -n "$port" ] || fail "openssl s_server does not start"
	dial_and_compare "openssl s_server, $suite" "$work/reversed"
	dial_and_compare "openssl s_server, $suite, OpenSSL here, too" "$work/reversed" openssl
done

for suite in aes chacha; do
	for _ in $(seq 20); do
		port=$((20000 + RANDOM % 10000))
		gnutls-serv --echo --port "$port" --require-client-cert --x509cafile "$work/ca.pem" \
			--x509certfile "$work/server.pem" --x509keyfile "$work/server.key" \
			--alpn peerhub/1 --priority "$(gnutls_priority $suite)" \
			</dev/null >"$work/gnutls-serv.out" 2>"$work/gnutls-serv.err" &
		pids+=($!)
		for _ in $(seq 1200); do
			! grep -q 'listening on' "$work/gnutls-serv.err" "$work/gnutls-serv.out" || break 2
			kill -0 "${pids[-1]}" 2>/dev/null || break
			sleep 0.05
		done
	done
	dial_and_compare "gnutls-serv, $suite" "$work/text"
	dial_and_compare "gnutls-serv, $suite, OpenSSL here" "$work/text" openssl
done
echo "interop_test: OK"
