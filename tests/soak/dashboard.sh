#!/usr/bin/env bash
# usage: ci/soak dashboard [pictures|large [COUNT]]  the hub's page in a headless Chromium; pictures of it; with 10,000
#
# Without an argument: three members, one with a hostile name; search, sort, keyboard, contrast, a phone; a close that is
# clicked and goes. "pictures" draws docs/dashboard-*.png anew with a few hundred connections. Chromium is Debian's
# package, installed by "ci/setup browser".
set -euo pipefail

mode=${1:-check}
count=${2:-10000}
[[ $mode =~ ^(check|pictures|large)$ && $count =~ ^[0-9]{1,5}$ ]] || {
	echo "usage: ci/soak dashboard [pictures|large [COUNT]]" >&2
	exit 2
}
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
[ -n "$browser" ] || {
	echo "soak dashboard: there is no Chromium here: run \"ci/setup browser\"" >&2
	exit 1
}
soak_build release peerhub-cli hub_many_peers
output=$(realpath "$PEERHUB_SOAK_DIR")
begin=$SECONDS
set +eu
. tests/hub/world.sh "$build/peerhub" "$build/tests/hub_many_peers"
hub_begin "allow-close = yes
requests-per-second = 200"
case $mode in
check)
	hostile=$'<script>document.title="taken"</script><img src=x onerror=alert(1)>"\'&\u202e\u2066]]>'
	while [ ${#hostile} -lt 240 ]; do hostile+='"><svg onload=alert(2)>'; done
	hostile=${hostile:0:250}
	member hostile "$hostile"
	peers hostile 1
	member plain 'Plain Peer'
	peers plain 1
	member third 'Third'
	peers third 2
	timeout -k 5 1500 python3 tests/hub/dashboard_browser.py "$browser" "$port" "$token" "$hostile" "$output" ||
		give_up "the page"
	;;
pictures)
	for name in 'Ada in Vienna' 'warehouse-3 <b>east</b>' 'مرحبا by the river' 'Kiosk 14'; do
		n=$((${n:-0} + 1))
		member "m$n" "$name"
		peers "m$n" 70 churn
	done
	member hostile $'<script>alert(1)</script> \u202e turned'
	peers hostile 3 talk
	timeout -k 5 1500 python3 tests/hub/dashboard_browser.py --pictures "$browser" "$port" "$output" || give_up "pictures"
	echo "soak dashboard: pictures are in $output"
	;;
large)
	member crowd 'The Crowd'
	peers crowd "$count" talk
	timeout -k 5 1500 python3 tests/hub/dashboard_browser.py --large "$browser" "$port" "$output" "$count" ||
		give_up "many"
	;;
esac
hub_end || give_up "the hub ended with $?"
[ "$failures" = 0 ] || exit 1
echo "soak dashboard: OK $mode, $((SECONDS - begin)) s"
