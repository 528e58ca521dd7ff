#!/usr/bin/env bash
# usage: ci/soak metrics  what a hub serves, the alert rules and the Grafana dashboard, by promtool's judgement
#
# promtool is Debian's, out of the package prometheus, which is fetched and unpacked but not installed: no server of it
# shall run here.
set -euo pipefail

soak_build release peerhub-cli hub_many_peers
tool=$(command -v promtool || true)
if [ -z "$tool" ]; then
	tool=$(realpath "$PEERHUB_SOAK_DIR")/prometheus/usr/bin/promtool
	[ -x "$tool" ] || (cd "$PEERHUB_SOAK_DIR" && apt-get -q download prometheus &&
		dpkg-deb -x prometheus_*.deb prometheus && rm -f prometheus_*.deb)
fi
set +eu
. tests/hub/world.sh "$build/peerhub" "$build/tests/hub_many_peers"
hub_begin
member plain 'Plain Peer'
peers plain 5 churn
ended() {
	python3 -c 'import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=60).read().decode(), end="")' \
		"http://127.0.0.1:$metrics_port/metrics" >"$dir/metrics"
	grep -q '^peerhub_closing_seconds_count [1-9]' "$dir/metrics"
}
until_true ended
python3 tests/hub/monitoring_check.py "$dir/metrics" hub/monitoring || give_up "names"
# promtool reads the older text format: without the last line and the types and units that only OpenMetrics has, and a
# counter's family there is called as its series.
sed -e '/^# EOF$/d' -e 's/^\(# \(TYPE\|HELP\) [a-z_]*\)_build info/\1_build_info gauge/' \
	-e 's/^# HELP peerhub_build /# HELP peerhub_build_info /' "$dir/metrics" |
	awk '/^# TYPE .* counter$/ { counter[$3] = 1; $3 = $3 "_total" } /^# HELP / && ($3 in counter) { $3 = $3 "_total" } { print }' \
		>"$dir/text"
"$tool" check metrics <"$dir/text" || give_up "promtool check metrics"
"$tool" check rules hub/monitoring/peerhub-alerts.yml || give_up "promtool check rules"
# Every question of the dashboard is one that Prometheus understands: as a rule, with its variables filled in.
python3 - >"$dir/dashboard.yml" <<'PY'
import json
panels = json.load(open("hub/monitoring/peerhub-grafana.json", encoding="utf-8"))["panels"]
print("groups:\n- name: dashboard\n  rules:")
for panel in panels:
    for target in panel["targets"]:
        expression = target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
        print("  - record: dashboard:panel%d_%s\n    expr: %s" % (panel["id"], target["refId"], json.dumps(expression)))
PY
"$tool" check rules "$dir/dashboard.yml" || give_up "promtool check of the dashboard"
hub_end || give_up "the hub ended with $?"
[ "$failures" = 0 ] || exit 1
echo "soak metrics: OK"
