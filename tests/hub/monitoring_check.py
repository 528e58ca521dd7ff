#!/usr/bin/env python3
"""What the alert rules and the Grafana dashboard name is what a hub serves; for dashboard_test.sh and ci/soak metrics.

usage: monitoring_check.py METRICS_FILE DIRECTORY      METRICS_FILE as /metrics said it

Of a metric that is named, the hub must serve the very series name, and labels that are compared with a value must have
the label, and the value where it is not a pattern.
"""
import json
import os
import re
import sys

NAME = re.compile(r"\bpeerhub_[a-z_]+")
SELECTOR = re.compile(r"\b(peerhub_[a-z_]+)\{([^}]*)\}")
MATCHER = re.compile(r'([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
BY_PROMETHEUS = {"instance", "job", "le"}


def served(path):
    """{series name: {label: values}} of an OpenMetrics text, which is checked a little itself."""
    series, types, helped = {}, {}, set()
    with open(path, encoding="utf-8") as file:
        lines = file.read().split("\n")
    assert lines[-2:] == ["# EOF", ""], "it does not end as OpenMetrics must"
    for line in lines[:-2]:
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types, "twice: " + name
            types[name] = kind
        elif line.startswith("# HELP "):
            helped.add(line.split(" ")[2])
        else:
            name, labels, value = re.fullmatch(r'([a-z_]+)(?:\{(.*)\})? (\S+)', line).groups()
            float(value)
            family = next(f for f in (name, re.sub(r"_(total|bucket|sum|count|info)$", "", name)) if f in types)
            if types[family] == "counter":
                assert name == family + "_total", name
            for key, text in re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', labels or ""):
                series.setdefault(name, {}).setdefault(key, set()).add(text)
            series.setdefault(name, {})
    assert set(types) == helped, set(types) ^ helped
    return series


def expressions(directory):
    """(file, what, text) of everything that is asked of Prometheus."""
    path = os.path.join(directory, "peerhub-grafana.json")
    with open(path, encoding="utf-8") as file:
        dashboard = json.load(file)
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids)), "two panels of one id"
    for panel in dashboard["panels"]:
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            yield path, panel["title"], target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield path, variable["name"], variable["query"]["query"]
    path = os.path.join(directory, "peerhub-alerts.yml")
    with open(path, encoding="utf-8") as file:
        rules = re.split(r"^ *- alert: ", file.read(), flags=re.MULTILINE)[1:]
    assert len(rules) >= 10
    for rule in rules:
        expression = re.search(r"expr: (.*?)\n +(?:for|labels):", rule, re.DOTALL)
        yield path, rule.split("\n")[0], expression.group(1)


def main():
    series = served(sys.argv[1])
    wrong, count = [], 0
    for path, what, text in expressions(sys.argv[2]):
        where = "%s: %s: " % (os.path.basename(path), what)
        count += 1
        for name in NAME.findall(text):
            if name not in series:
                wrong.append(where + "no hub serves " + name)
        for name, labels in SELECTOR.findall(text):
            for label, sign, value in MATCHER.findall(labels):
                there = series.get(name, {}).get(label)
                if label in BY_PROMETHEUS:
                    continue
                if there is None or (sign in ("=", "!=") and value not in there):
                    wrong.append(where + '%s has no %s="%s"' % (name, label, value))
    assert count > 20, count
    for text in wrong:
        print(text)
    sys.exit(1 if wrong else 0)


main()
