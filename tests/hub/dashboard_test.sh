#!/bin/bash
# dashboard_test.sh PEERHUB MANY_PEERS: the dashboard as a browser and as an attacker's page would ask it, without a
# browser (that is ci/soak dashboard): who may, what is answered, bounds; and that the page uses only what there is.
set -u
here=$(realpath "$(dirname "$0")")
# shellcheck source=tests/hub/world.sh
. "$here/world.sh"

# Three members; one with a name that wants to be markup, and to turn the line around.
hub_begin "allow-close = yes
requests-per-second = 2000"
hostile=$'<script>document.title="taken"</script><img src=x onerror=alert(1)>"\'&\u202e\u2066]]>'
member hostile "$hostile"
hostile_id=$member_id
peers hostile 1
member plain 'Plain Peer'
peers plain 1
member third 'Third'
peers third 2
timeout -k 5 100 python3 "$here/dashboard_ask.py" "$port" "$token" "$hostile_id" "$hostile" "$here/../../hub/page" \
	2>"$dir/err" || fail "the dashboard"
# What alerts and the Grafana dashboard name is there.
python3 -c 'import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=60).read().decode(), end="")' \
	"http://127.0.0.1:$metrics_port/metrics" >"$dir/metrics" || fail "/metrics"
python3 "$here/monitoring_check.py" "$dir/metrics" "$here/../../hub/monitoring" >"$dir/out" 2>"$dir/err" ||
	fail "the files for monitoring name what no hub serves"
kill -0 "$hub" 2>/dev/null || fail "the hub has ended"
grep -q 'dashboard_refused' "$dir/hub.err" || fail "a wrong token is not in the log"
hub_end || fail "the hub ended with $?"

# By default nothing is closed, and a token that is none stops the start.
hub_begin "token-to-read = yes
requests-per-second = 5"
timeout -k 5 60 python3 "$here/dashboard_ask.py" --closed "$port" "$token" 2>"$dir/err" || fail "the dashboard, closed"
hub_end || fail "the hub ended with $?"
refused() {
	timeout -k 5 60 "$program" hub --config "$dir/hub.ini" --for 30 >"$dir/out" 2>"$dir/err" </dev/null
	[ $? = 1 ] || fail "a hub begins with $1"
	grep -qF "$2" "$dir/err" || fail "stderr lacks \"$2\""
}
chmod 644 "$dir/token"
refused "a token that others may read" 'others may read or write it'
echo short >"$dir/token"
chmod 600 "$dir/token"
refused "a short token" 'a token has 16 to 200 characters'
sed -i '/^token-file/d; s/^token-to-read.*/allow-close = yes/' "$dir/hub.ini"
refused "closing without a token" 'dashboard.allow-close needs dashboard.token-file'
sed -i 's/^allow-close.*//; s/^\(listen = 127.0.0.1:\).*/\1'"$metrics_port/" "$dir/hub.ini"
refused "two servers on one port" 'cannot serve'
sed -i 's/^\[dashboard\]/&\nlisten = 0.0.0.0:80/' "$dir/hub.ini"
timeout 60 "$program" hub --check-config --config "$dir/hub.ini" >"$dir/out" 2>"$dir/err" && fail "it may listen everywhere"

[ "$failures" = 0 ] || { echo "$failures failures"; exit 1; }
echo "dashboard_test: OK"
