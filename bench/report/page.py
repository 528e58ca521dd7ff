"""The report: one HTML file with everything in it, readable on a wide screen, a phone, light and dark."""

from html import escape

from . import plots
from .plots import bytes_text, nanoseconds_text, unit_text
from .result import (
    MISSED, NEAR, REACHED, UNKNOWN, answers, disturbances, figures, find, judgements, micro_rows,
)  # fmt: skip
from .machine import distance_word
from .scenarios import OURS, ROWS, SCENARIOS, SUBJECTS, by_name

STYLE = """
:root { color-scheme: light dark;
  --page:#f6f7f9; --surface:#ffffff; --ink:#1d2329; --muted:#667079; --line:#dfe3e8;
  --good:#1a7f37; --near:#9a6700; --bad:#c9222e; --none:#667079;
  --s-peerhub:#1f66d6; --s-uring:#8a939c; --s-epoll:#c08a00; --s-libuv:#8250df; --s-libevent:#c2378c;
  --s-asio:#2b8a3e; --s-nng:#d2691e; --s-zmq:#0a7d8c; --s-nats:#a8324a; --s-haproxy:#7a5c2e;
  --s-tickets:#5f6b3a; }
@media (prefers-color-scheme: dark) { :root {
  --page:#0f1318; --surface:#171c23; --ink:#e4e9ee; --muted:#97a1ab; --line:#2c343d;
  --good:#45b866; --near:#d9a22b; --bad:#f2656a; --none:#97a1ab;
  --s-peerhub:#5aa2ff; --s-uring:#828c96; --s-epoll:#e3b341; --s-libuv:#b490f5; --s-libevent:#f07ab8;
  --s-asio:#4fbf69; --s-nng:#f0935a; --s-zmq:#3cc3cf; --s-nats:#f58a97; --s-haproxy:#c8a26a;
  --s-tickets:#b9c47e; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1020px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 1.55rem; line-height: 1.25; margin: 0 0 4px; letter-spacing: -.01em; }
h2 { font-size: 1.15rem; margin: 38px 0 10px; }
h3 { font-size: .98rem; margin: 22px 0 8px; }
p { margin: 0 0 10px; max-width: 75ch; }
.sub, .note { color: var(--muted); }
.note { font-size: .88rem; }
nav { margin: 14px 0 0; font-size: .9rem; display: flex; flex-wrap: wrap; gap: 4px 16px; }
a { color: var(--s-peerhub); text-decoration: none; } a:hover { text-decoration: underline; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px;
  margin: 20px 0 6px; }
.tile { background: var(--surface); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; }
.tile b { display: block; font-size: 1.5rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tile span { color: var(--muted); font-size: .85rem; }
.card { background: var(--surface); border: 1px solid var(--line); border-radius: 8px;
  padding: 12px 14px; margin: 0 0 14px; overflow-x: auto; }
.card svg { display: block; width: 100%; min-width: 660px; height: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--muted); font-size: .8rem; }
th, td { padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
td.n, th.n { text-align: right; white-space: nowrap; }
tr.group td { padding-top: 16px; font-weight: 600; border-bottom-color: var(--muted); }
.v { white-space: nowrap; font-weight: 600; }
.v::before { content: ""; display: inline-block; width: 9px; height: 9px; border-radius: 50%;
  margin-right: 6px; background: currentColor; }
.good { color: var(--good); } .near { color: var(--near); } .bad { color: var(--bad); }
.none { color: var(--none); }
.ours { font-weight: 650; color: var(--s-peerhub); }
.warn { border-left: 3px solid var(--near); padding: 8px 12px; background: var(--surface);
  border-radius: 0 6px 6px 0; margin: 14px 0; max-width: 80ch; }
nav + .card { margin-top: 14px; } .on-phone { display: none; color: var(--muted); }
.targets th:nth-child(1) { width: 37%; } .targets th:nth-child(2) { width: 15%; }
.targets td { padding-top: 7px; padding-bottom: 7px; }
.targets .what { font-weight: 600; } .targets small { display: block; color: var(--muted); font-size: .84em; }
.chips { display: flex; flex-wrap: wrap; gap: 4px 6px; }
.chip { white-space: nowrap; border: 1px solid currentColor; border-radius: 999px; padding: 0 9px;
  font-weight: 600; line-height: 1.55; }
.chip i { font-style: normal; font-weight: 400; color: var(--muted); margin-right: 5px; }
code { font: .86em ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 18px; margin: 0; font-size: .9rem; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 620px) { main { padding: 16px 12px 40px; } dl { grid-template-columns: 1fr; }
  dd { margin-bottom: 6px; } table { min-width: 640px; font-size: .84rem; }
  th, td { padding-right: 9px; } }
@media (max-width: 620px) { table.targets { min-width: 0; } .targets thead { display: none; }
  .targets tr { display: block; padding: 9px 0; border-bottom: 1px solid var(--line); }
  .targets tr:last-child { border-bottom: 0; } .targets td { display: block; border: 0; padding: 2px 0; }
  .on-phone { display: inline; } }
@media print { body { background: #fff; } .card { break-inside: avoid; } }
"""

VERDICT_CLASS = {REACHED: "good", NEAR: "near", MISSED: "bad", UNKNOWN: "none"}


def _figure(svg, label):
    if svg is None:
        return ""
    return f'<div class="card" role="img" aria-label="{escape(label)}">{svg}</div>'


def _table(head, rows, numeric=()):
    cells = "".join(f'<th{" class=n" if at in numeric else ""}>{escape(word)}</th>'
                    for at, word in enumerate(head))  # fmt: skip
    body = "".join(rows)
    return f'<div class="card"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'


def _row(cells, numeric=(), classes=None):
    """Cells are text, or (html, True) when they are HTML already."""
    made = []
    for at, cell in enumerate(cells):
        html = cell[0] if isinstance(cell, tuple) else escape(str(cell))
        names = (["n"] if at in numeric else []) + ([classes[at]] if classes and at in classes else [])
        made.append(f'<td{" class=" + chr(34) + " ".join(names) + chr(34) if names else ""}>{html}</td>')
    return "<tr>" + "".join(made) + "</tr>"


# ---- parts -----------------------------------------------------------------------------------------


def _chip(label, one):
    text = f"{one.reached:.2f} ×" if one.is_ratio else unit_text(one.reached, one.unit)
    name = f"<i>{escape(label)}</i>" if label else ""
    return f'<span class="chip {VERDICT_CLASS[one.verdict]}">{name}{escape(text)}</span>'


def _targets(data):
    """The first thing on the page: what was asked for, what was reached."""
    rows, nbsp = [], "\u00a0"
    for answer in answers(data):
        target = answer.target
        chips = "".join(_chip(label, one) for label, one, why in answer.parts if not why)
        note = f"<small>{escape(answer.note)}</small>" if answer.note else ""
        against = escape(target.against if target.against.startswith("own") else f"against {target.against}")
        rows.append(
            f'<tr><td><span class="what">{escape(target.what)}</span>'
            f"<small>{against}</small></td>"
            f'<td><span class="on-phone">goal </span>{escape(target.goal).replace(" ×", nbsp + "×")}</td>'
            f'<td><div class="chips">{chips}</div>{note}</td>'
            f'<td><span class="v {VERDICT_CLASS[answer.verdict]}">{escape(answer.text)}</span></td></tr>'
        )
    head = "".join(f"<th>{word}</th>" for word in ("target", "goal", "reached", "verdict"))
    return (
        f'<div class="card"><table class="targets"><thead><tr>{head}</tr></thead>'
        f'<tbody>{"".join(rows)}</tbody></table></div>'
    )


def _tiles(data):
    found = answers(data)
    counts = {word: sum(one.verdict == word for one in found) for word in VERDICT_CLASS}
    runs, repeated, disturbed, _ = disturbances(data)
    tiles = [
        (f"{counts[REACHED]} of {len(found)}", "targets reached"),
        (str(counts[NEAR]), "missed by less than the noise (5 %)"),
        (str(counts[MISSED]), "missed"),
        (str(counts[UNKNOWN]), "not measured"),
        (f"{runs:,}", f"runs; {repeated} repeated, {disturbed} disturbed still"),
    ]
    return '<div class="tiles">' + "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(what)}</span></div>' for value, what in tiles
    ) + "</div>"  # fmt: skip


def _warnings(data):
    made = []
    runs, _, disturbed, most = disturbances(data)
    if data.get("interrupted"):
        made.append("The run was interrupted; what had been measured by then is shown.")
    if runs and disturbed * 10 > runs:
        made.append(
            f"Other work used the machine: {disturbed} of {runs} runs stayed over the limit of "
            f"{data['plan']['foreign_percent_most']:g} % of a core after three repeats (the most in a "
            f"run that was kept: {most:g} %). Ratios inside pairs stand that better than absolute figures, "
            "and latencies worst of all."
        )
    elif disturbed:
        made.append(f"{disturbed} of {runs} runs were disturbed by other work in each of their attempts.")
    if data.get("repeats_ended"):
        made.append("The time for repeats of disturbed runs was used up before the end; later runs had one "
                    "attempt.")  # fmt: skip
    words = {distance_word(value) for value in data.get("core_distance_ns", [])}
    if len(words - {"unknown"}) > 1:
        made.append("The cores moved from near to far during the run: compare figures of two cores with care.")
    return "".join(f'<p class="warn">{escape(text)}</p>' for text in made)


def _judgement_cells(one):
    if one.is_ratio:
        reached = "—" if one.reached is None else f"{one.reached:.2f} ×"
        spread = "" if one.low is None else f"{one.low:.2f} … {one.high:.2f}"
        goal = f"≤ {one.goal:g} ×"
    else:
        reached, goal = unit_text(one.reached, one.unit), "≤ " + unit_text(one.goal, one.unit)
        spread = "" if one.low is None or one.low == one.high else (
            f"{unit_text(one.low, one.unit)} … {unit_text(one.high, one.unit)}")  # fmt: skip
    title = one.title + (f", {one.figure}" if one.figure else "")
    mark = f'<span class="v {VERDICT_CLASS[one.verdict]}">{escape(one.verdict)}</span>'
    return [
        title, (f"<b>{escape(reached)}</b>", True), goal, (mark, True), spread,
        unit_text(one.ours, one.unit),
        unit_text(one.theirs, one.unit) if one.theirs is not None else "", one.against,
    ]  # fmt: skip


def _ratios(judged):
    rows, group = [], None
    numeric = (1, 2, 4, 5, 6)
    for one in judged:
        if one.row != group:
            group = one.row
            rows.append(f'<tr class="group"><td colspan="8">{escape(ROWS[group])}</td></tr>')
        rows.append(_row(_judgement_cells(one), numeric))
    head = ["what", "reached", "goal", "verdict", "middle half", "ours", "theirs", "against"]
    return (
        '<h2 id="ratios">Each goal and what was reached</h2>'
        "<p>Server CPU time of one operation (user and system), ours over theirs, inside pairs of runs that "
        "followed each other. “Against” names the peer that did best.</p>"
        + _figure(plots.ratios(judged), "Ratios with their goals; the table below has the figures")
        + _table(head, rows, numeric)
    )


def _absolute(data):
    made = ['<h2 id="absolute">Absolute figures</h2>'
            "<p>Server CPU time of one operation; bars are medians, the thin stroke is the range of the "
            "runs.</p>"]  # fmt: skip
    for row in ("echo", "tls", "latency", "message", "relay", "connect", "handshake", "close", "goodbye"):
        names = [scenario.name for scenario in SCENARIOS if scenario.row == row]
        svg = plots.bars(data, names, "ns", f"absolute-{row}")
        if svg is None:
            continue
        made.append(f"<h3>{escape(ROWS[row])}</h3>" + _figure(svg, ROWS[row]))
        made.append(_figures_table(data, names))
    return "".join(made)


def _figures_table(data, names):
    numeric = (2, 3, 4, 5, 6, 7)
    rows = []
    for name in names:
        kept = find(data, name)
        if kept is None:
            continue
        scenario = by_name()[name]
        for subject, one in figures(kept).items():
            classes = {1: "ours"} if subject == OURS else {}
            rows.append(_row([
                scenario.title, SUBJECTS.get(subject, subject), unit_text(one.value, scenario.unit),
                f"± {one.spread:.0%}", f"{one.rate:,.0f}" if one.rate else "—",
                nanoseconds_text(one.p50), nanoseconds_text(one.p99), nanoseconds_text(one.p999),
            ], numeric, classes))  # fmt: skip
        for subject, why in kept.get("failures", {}).items():
            rows.append(_row([scenario.title, SUBJECTS.get(subject, subject), "—",
                              (f'<span class="note">{escape(why)}</span>', True), "", "", "", ""], (2,)))  # fmt: skip
    if not rows:
        return ""
    head = ["scenario", "server", "figure", "range", "per second", "p50", "p99", "p99.9"]
    return (
        "<details><summary class=note>All figures</summary>" + _table(head, rows, numeric) + "</details>"
    )


def _latency(data):
    chosen = ["echo/64B/1", "echo/64B/64", "echo/64B/1000", "echo/64B/10000", "tls/64B/64", "tls/64B/1000",
              "message/plain", "message/tls", "echo/64B/64/apart", "tls/64B/64/apart", "connect/plain",
              "handshake/full"]  # fmt: skip
    svg = plots.latencies(data, chosen, "latency")
    if svg is None:
        return ""
    return (
        '<h2 id="latency">Latency distributions</h2>'
        "<p>From the moment at which an operation was due to its last byte, all runs of a server together. "
        "With server and load generator on one core the latency is mostly the queue in front of it.</p>"
        + _figure(svg, "Latency by percentile")
    )


def _memory(data):
    names = [scenario.name for scenario in SCENARIOS if scenario.row == "memory"]
    goals = {scenario.name: scenario.goals[0].most for scenario in SCENARIOS if scenario.row == "memory"}
    svg = plots.bars(data, names, "B", "memory", goals, logarithmic=True)
    if svg is None:
        return ""
    return (
        '<h2 id="memory">Memory</h2><p>User memory of one idle connection: the slope of the server’s resident '
        "size between two counts of connections. Dashed: the goal.</p>"
        + _figure(svg, "Memory of an idle connection")
        + _figures_table(data, names)
    )


def _scaling(data):
    counts = (1, 64, 1000, 10000)
    panels = [
        ("raw echo, 64 B", [(count, f"echo/64B/{count}") for count in counts]),
        ("mutual-TLS echo, 64 B", [(count, f"tls/64B/{count}") for count in counts]),
        ("raw echo, 1 KiB", [(count, f"echo/1024B/{count}") for count in counts]),
        ("messages, 64 B", [(count, f"growth/{count}") for count in (64, 1000, 10000)]),
    ]
    svg = plots.lines(data, panels, "scaling")
    shards = plots.bars(data, [scenario.name for scenario in SCENARIOS if scenario.row == "shards"], "ns",
                        "shards")  # fmt: skip
    if svg is None and shards is None:
        return ""
    made = '<h2 id="scaling">Scaling</h2>'
    if svg:
        made += "<p>Server CPU time of one operation over the number of connections.</p>"
        made += _figure(svg, "CPU over connections")
    if shards:
        made += "<h3>Shards: CPU time of a message</h3>" + _figure(shards, "CPU of a message by shards")
    return made


def _micro(data):
    rows = []
    numeric = (1, 2)
    for row in micro_rows(data):
        if row.get("error_occurred"):
            rows.append(_row([row["name"], "—", "—", row.get("error_message", "error")], numeric))
            continue
        scale = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}.get(row.get("time_unit"), 1)
        extra = [f"{name} {row[name]:.4g}" for name in row if name not in _MICRO_OWN
                 and isinstance(row[name], (int, float))]  # fmt: skip
        rows.append(_row([row["name"], nanoseconds_text(row["cpu_time"] * scale),
                          nanoseconds_text(row["real_time"] * scale), ", ".join(extra)], numeric))  # fmt: skip
    if not rows:
        return ""
    return (
        '<h2 id="micro">Micro-benchmarks</h2><p>One primitive each, on one thread unless its name says '
        "otherwise; <code>docs/peerhub-bench.md</code> says what each one asks.</p>"
        + _table(["benchmark", "CPU", "wall", "also"], rows, numeric)
    )


_MICRO_OWN = {
    "family_index", "per_family_instance_index", "repetitions", "repetition_index", "threads",
    "iterations", "real_time", "cpu_time", "bytes_per_second", "items_per_second",
}  # fmt: skip


def _conditions(data):
    environment, plan = data["environment"], data["plan"]
    runs, repeated, disturbed, most = disturbances(data)
    distance = ", ".join("unknown" if value is None else f"{value:g} ns ({distance_word(value)})"
                         for value in data.get("core_distance_ns", []))  # fmt: skip
    facts = [
        ("command", data.get("command", "")), ("begun", data.get("begun", "")),
        ("took", f"{data.get('seconds', 0):,.0f} s"),
        ("runs", f"{runs} of {plan['seconds']:g} s after {plan['warmup']:g} s of warm-up; {plan['rounds']} "
                 f"rounds; {repeated} repeated, {disturbed} disturbed still; limit "
                 f"{plan['foreign_percent_most']:g} % of a core by others, the most kept {most:g} %"),
        ("cores apart", distance or "not measured"),
        ("commit", environment.get("commit")), ("cpu", f"{environment.get('cpu')}, {environment.get('cpus')} cores"),
        ("memory", f"{environment.get('memory_mib', 0):,} MiB"), ("kernel", environment.get("kernel")),
        ("governor", environment.get("governor")), ("compiler", environment.get("compiler")),
        ("load average", f"{environment.get('load_average')} → {environment.get('load_average_end', '?')}"),
        ("mitigations", "; ".join(f"{key}: {value}" for key, value in environment.get("mitigations", {}).items())
                        or "none"),
        ("packages", ", ".join(f"{key} {value}" for key, value in environment.get("packages", {}).items())),
    ]  # fmt: skip
    listed = "".join(f"<dt>{escape(key)}</dt><dd>{escape(str(value))}</dd>" for key, value in facts)
    commands = []
    for kept in data["scenarios"]:
        run = next((run for run in kept["runs"] if run["subject"] == OURS), None)
        if run:
            server = " ".join(run.get("server", []))
            load = " ".join(run.get("command", []))
            commands.append(f"<dt>{escape(kept['name'])}</dt><dd><code>{escape(server)}</code><br>"
                            f"<code>{escape(load)}</code></dd>")  # fmt: skip
    return (
        f'<h2 id="conditions">Conditions</h2><div class="card"><dl>{listed}</dl></div>'
        "<details><summary class=note>Commands of our runs</summary>"
        f'<div class="card"><dl>{"".join(commands)}</dl></div></details>'
    )


def page(data):
    judged = judgements(data)
    environment = data["environment"]
    parts = [_ratios(judged), _absolute(data), _latency(data), _memory(data), _scaling(data), _micro(data),
             _conditions(data)]  # fmt: skip
    named = (("ratios", "goals"), ("absolute", "absolute figures"), ("latency", "latency"),
             ("memory", "memory"), ("scaling", "scaling"), ("micro", "micro-benchmarks"),
             ("conditions", "conditions"))  # fmt: skip
    links = "".join(f'<a href="#{key}">{word}</a>' for (key, word), part in zip(named, parts) if part)
    subtitle = (f"{data['kind']} run of {data.get('begun', '')}, commit {environment.get('commit', '?')}, "
                f"{environment.get('cpu', '?')}, Linux {environment.get('kernel', '?')}")  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>peerhub, measured</title><style>{STYLE}</style></head><body><main>"
        "<h1>peerhub, measured beside its peers</h1>"
        f'<p class="sub">{escape(subtitle)}</p><nav>{links}</nav>'
        + _targets(data)
        + _warnings(data)
        + _tiles(data)
        + "".join(parts)
        + "</main></body></html>\n"
    )


__all__ = ["page", "bytes_text"]
