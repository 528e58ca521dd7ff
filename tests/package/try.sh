#!/usr/bin/env bash
# Inside a root that is thrown away (ci/package): the packages in /packages are installed, used as an operator would,
# installed again over themselves, removed and purged.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
fail() {
	echo "try: $*" >&2
	exit 1
}
cd /packages
apt-get -q -y --no-download install ./libpeerhub0_*.deb ./libpeerhub-dev_*.deb ./peerhub_*.deb ./peerhub-tools_*.deb \
	>install.log 2>&1 || dpkg -i ./libpeerhub0_*.deb ./libpeerhub-dev_*.deb ./peerhub_*.deb ./peerhub-tools_*.deb \
	>install.log 2>&1 || { cat install.log; fail "install"; }
getent passwd peerhub >/dev/null || fail "there is no user"
[ "$(stat -c '%U %a' /var/lib/peerhub)" = "peerhub 700" ] || fail "/var/lib/peerhub"
for program in peerhub peerhub-stress peerhub-bench peerhub-echo; do
	timeout 60 "$program" --help >/dev/null || fail "$program --help"
done
peerhub hub --check-config --config /etc/peerhub/peerhub.conf || fail "the configuration of the package"
as_peerhub() { setpriv --reuid peerhub --regid peerhub --clear-groups env PEERHUB_HOME=/var/lib/peerhub "$@"; }
as_peerhub peerhub id create --name Hub
as_peerhub peerhub group create --name Meeting
run_hub() {
	as_peerhub timeout 100 peerhub hub --listen '[::1]:0' >hub.out 2>hub.err &
	local pid=$!
	for _ in $(seq 300); do
		grep -q '^ready' hub.out && break
		sleep 0.1
	done
	kill -TERM "$pid"
	wait "$pid" || { cat hub.err; fail "the hub ended with $?"; }
	grep -q '^ready' hub.out || { cat hub.err; fail "the hub was not ready"; }
}
run_hub
gcc -x c - -o embed $(pkg-config --cflags --libs peerhub) <<'END'
#include <peerhub.h>
int main(void)
{
	ph_address address;

	return ph_address_parse("[::1]:3587", &address) != 0;
}
END
./embed || fail "a program built with libpeerhub-dev"

echo "# kept" >>/etc/peerhub/peerhub.conf
dpkg --force-confold -i ./*.deb >upgrade.log 2>&1 || { cat upgrade.log; fail "upgrade"; }
grep -q '^# kept' /etc/peerhub/peerhub.conf || fail "an upgrade lost the configuration"
run_hub

dpkg -r peerhub peerhub-tools libpeerhub-dev libpeerhub0 >remove.log 2>&1 || { cat remove.log; fail "remove"; }
[ -e /usr/bin/peerhub ] && fail "a program is left behind"
[ -e /etc/peerhub/peerhub.conf ] || fail "removing took the configuration"
dpkg -P peerhub >purge.log 2>&1 || { cat purge.log; fail "purge"; }
[ -e /etc/peerhub/peerhub.conf ] && fail "purging left the configuration"
[ -d /var/lib/peerhub ] || fail "the store, which holds keys, is gone"
echo "try: all good"
