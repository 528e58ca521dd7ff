"""The command line of ci/bench."""

import argparse
import json
import os
import signal
import sys

USAGE_ERROR, WORSE, FAILED = 2, 1, 3


def arguments(words):
    parser = argparse.ArgumentParser(
        prog="ci/bench",
        description="Measure peerhub beside its peers; the result goes to build/bench/result.json and "
        "build/bench/report.html (docs/benchmarks.md).",
    )
    parser.add_argument("--full", action="store_true", help="every scenario, longer and more often: hours")
    parser.add_argument("--only", metavar="PATTERNS",
                        help="scenarios whose names match or begin with one, e.g. 'tls,echo/*/64'")  # fmt: skip
    parser.add_argument("--micro", action="store_true", help="only the micro-benchmarks")
    parser.add_argument("--no-micro", action="store_true", help="leave the micro-benchmarks out")
    parser.add_argument("--list", action="store_true", help="name the scenarios and end")
    parser.add_argument("--compare", metavar="OLD", help="what became worse since this result; measures nothing")
    parser.add_argument("--with", dest="new", metavar="NEW", help="compare this result instead of the last one")
    parser.add_argument("--report", metavar="RESULT", help="draw the report of a result; measures nothing")
    parser.add_argument("--markdown", metavar="RESULT", help="print the targets and goals of a result as tables")
    parser.add_argument("--out", metavar="DIR", help="where to write (build/bench)")
    parser.add_argument("--build", metavar="DIR", help="build directory of the programs (build/release)")
    parser.add_argument("--no-build", action="store_true", help="take the programs as they are")
    parser.add_argument("--rounds", type=int, help="how often each scenario is measured (2; --full 9)")
    parser.add_argument("--seconds", type=float, help="length of a run")
    parser.add_argument("--foreign", type=float, default=8.0, metavar="PERCENT",
                        help="a run is repeated when others used more of a core (8)")  # fmt: skip
    chosen = parser.parse_args(words)
    if chosen.rounds is not None and chosen.rounds < 1:
        parser.error("--rounds is at least 1")
    if chosen.seconds is not None and not 0.05 <= chosen.seconds <= 3600:
        parser.error("--seconds is 0.05 to 3600")
    return chosen


def write(path, text):
    """Whole or not at all."""
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".new", path)


def draw(data, path):
    try:
        from .page import page
    except ImportError as error:
        print(f"ci/bench: no report without matplotlib ({error}): run ci/setup", file=sys.stderr)
        return False
    write(path, page(data))
    return True


def compare(options, last):
    from . import compare as comparing
    from . import result

    try:
        old, new = result.load(options.compare), result.load(options.new or last)
    except result.Bad as error:
        print(f"ci/bench: {error}", file=sys.stderr)
        return USAGE_ERROR
    return WORSE if comparing.compare(old, new, print) else 0


def summary(data):
    """The table of targets, on a terminal."""
    from . import result

    for answer in result.answers(data):
        print(f"{answer.text:18} {answer.target.what}: {', '.join(part_texts(answer)) or '-'}  "
              f"(goal {answer.target.goal}, {answer.target.against})"
              + (f"  [{answer.note}]" if answer.note else ""))  # fmt: skip


def part_texts(answer):
    """What was reached, part by part."""
    from .plots import unit_text

    texts = []
    for label, one, why in answer.parts:
        if why:
            continue
        text = f"{one.reached:.2f} ×" if one.is_ratio else unit_text(one.reached, one.unit)
        texts.append(f"{label}: {text}" if label else text)
    return texts


def markdown(data):
    """The tables of docs/benchmarks.md: the targets, then each goal."""
    from . import result
    from .plots import unit_text
    from .scenarios import ROWS

    print("| target | against | goal | reached | verdict |")
    print("|---|---|---|---|---|")
    for answer in result.answers(data):
        target, reached = answer.target, part_texts(answer)
        note = f"; {answer.note}" if answer.note else ""
        print(f"| {target.what} | {target.against} | {target.goal} | {' · '.join(reached) or '—'} | "
              f"{answer.text}{note} |")  # fmt: skip
    print()
    rows = list(ROWS)
    print("| what | scenario | ours | against | goal | reached | |")
    print("|---|---|---|---|---|---|---|")
    for one in sorted(result.judgements(data), key=lambda one: rows.index(one.row)):
        reached = unit_text(one.reached, one.unit)
        goal = "≤ " + unit_text(one.goal, one.unit)
        if one.is_ratio:
            reached = "—" if one.reached is None else f"{one.reached:.2f} × ({one.low:.2f} … {one.high:.2f})"
            goal = f"≤ {one.goal:g} ×"
        theirs = f" {unit_text(one.theirs, one.unit)}" if one.theirs is not None else ""
        title = one.title + (f", {one.figure}" if one.figure else "")
        print(f"| {title} | `{one.scenario}` | {unit_text(one.ours, one.unit)} | {one.against}{theirs} | {goal} | "
              f"{reached} | {one.verdict} |")  # fmt: skip


def measure(options, root, words, out):
    from . import driver
    from .process import Failed

    build = os.path.abspath(options.build or os.path.join(root, "build", "release"))
    plan = driver.Plan(options.full, options.rounds, options.seconds, options.foreign)
    chosen = [] if options.micro else driver.choose(options.only, options.full)
    if not chosen and not options.micro:
        print(f"ci/bench: no scenario is called {options.only}; --list names them", file=sys.stderr)
        return USAGE_ERROR
    try:
        if not options.no_build:
            driver.build_programs(root, build, print)
        work = driver.Driver(root, build, plan)
        data = driver.new_result(" ".join(["ci/bench"] + words), plan)
        work.everything(chosen, options.micro or not (options.no_micro or options.only), data)
    except Failed as failure:
        print(f"ci/bench: {failure}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("ci/bench: interrupted", file=sys.stderr)
        return 130
    write(os.path.join(out, "result.json"), json.dumps(data, separators=(",", ":")) + "\n")
    drawn = draw(data, os.path.join(out, "report.html"))
    if drawn:
        summary(data)
    print(f"ci/bench: {out}/result.json" + (f", {out}/report.html" if drawn else ""))
    if data["interrupted"]:
        return 130
    ours_lost = any("peerhub" in kept["failures"] for kept in data["scenarios"])
    return FAILED if ours_lost else 0


def main(root, words):
    options = arguments(words)
    sys.stdout.reconfigure(line_buffering=True)
    # Whoever starts this in the background has SIGINT ignored for it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    out = os.path.abspath(options.out or os.path.join(root, "build", "bench"))
    if options.list:
        from .scenarios import SCENARIOS

        for scenario in SCENARIOS:
            print(f"{scenario.name:24} {'short' if scenario.short else 'full ':5} {scenario.row}: {scenario.title}")
        return 0
    if options.markdown:
        from . import result

        try:
            markdown(result.load(options.markdown))
        except result.Bad as error:
            print(f"ci/bench: {error}", file=sys.stderr)
            return USAGE_ERROR
        return 0
    os.makedirs(out, exist_ok=True)
    if options.compare:
        return compare(options, os.path.join(out, "result.json"))
    if options.report:
        from . import result

        try:
            data = result.load(options.report)
        except result.Bad as error:
            print(f"ci/bench: {error}", file=sys.stderr)
            return USAGE_ERROR
        return 0 if draw(data, os.path.join(out, "report.html")) else FAILED
    return measure(options, root, words, out)
