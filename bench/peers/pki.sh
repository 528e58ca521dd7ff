#!/usr/bin/env bash
# peer-pki DIR: make the certificates with which the comparison servers, peerhub-echo and
# peerhub-load know each other. All keys are P-256; the names are ca, server and client.
#
#	ca.pem ca.key   server.pem server.key   client.pem client.key
#
# They are for one machine's measurements and good for 30 days.
set -euo pipefail

directory=${1:?usage: peer-pki DIR}
mkdir -p "$directory"
cd "$directory"

quiet() {
	local log
	log=$("$@" 2>&1) || {
		echo "$log" >&2
		echo "peer-pki: $1 $2 failed" >&2
		exit 1
	}
}
leaf() {
	quiet openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" \
		-keyout "$1.key" -out "$1.csr"
	quiet openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 \
		-sha256 -out "$1.pem"
	rm -f "$1.csr"
}
quiet openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
	-subj "/CN=ca" -keyout ca.key -out ca.pem
leaf server
leaf client
rm -f ca.srl
chmod 0600 ./*.key
