"""A result file of ci/bench: reading it, and what its runs come to.

A figure of a subject is the median of its undisturbed runs (of all its runs when all were disturbed).
A ratio is the median over the pairs (ours, peer directly after it) of ours over theirs; its spread is
the middle half of the pairs. The best peer is the one with the smallest figure.
"""

import json
import math
import re
from dataclasses import dataclass, field
from statistics import median

from .scenarios import (
    LIMIT, MICRO_GOALS, OURS, REFERENCES, ROWS, SCENARIOS, SUBJECTS, TARGETS, by_name,
)  # fmt: skip

FORMAT = 1
NOISE = 0.05  # differences below it say nothing on these machines

REACHED, NEAR, MISSED, UNKNOWN = "reached", "within noise", "missed", "not measured"


class Bad(Exception):
    """Not a result file of ours; the text says what is wrong with it."""


def _require(condition, text):
    if not condition:
        raise Bad(text)


def load(path):
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except OSError as error:
        raise Bad(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise Bad(f"{path}: not JSON: {error}") from error
    check(data, path)
    return data


def check(data, path="result"):
    """Refuse what the rest of this code could not read."""
    _require(isinstance(data, dict), f"{path}: not an object")
    _require(data.get("format") == FORMAT, f"{path}: format {data.get('format')!r}, not {FORMAT}")
    _require(isinstance(data.get("scenarios"), list), f"{path}: no list of scenarios")
    _require(isinstance(data.get("environment"), dict), f"{path}: no environment")
    for scenario in data["scenarios"]:
        _require(isinstance(scenario, dict) and isinstance(scenario.get("name"), str),
                 f"{path}: a scenario without a name")  # fmt: skip
        _require(isinstance(scenario.get("runs"), list), f"{path}: {scenario['name']}: no runs")
        for run in scenario["runs"]:
            value = run.get("value") if isinstance(run, dict) else None
            _require(isinstance(value, (int, float)) and math.isfinite(value),
                     f"{path}: {scenario['name']}: a run without a value")  # fmt: skip
            _require(isinstance(run.get("subject"), str), f"{path}: {scenario['name']}: no subject")
    micro = data.get("micro")
    _require(micro is None or isinstance(micro.get("benchmarks"), list), f"{path}: micro")


# ---- figures -------------------------------------------------------------------------------------


@dataclass
class Figure:
    """A subject in one scenario."""

    subject: str
    value: float
    low: float
    high: float
    runs: int
    disturbed: int
    p50: float = None
    p99: float = None
    p999: float = None
    rate: float = None
    histogram: list = field(default_factory=list)

    @property
    def spread(self):
        """Half of the range of the runs, as a part of the figure."""
        return (self.high - self.low) / 2 / self.value if self.value > 0 else 0.0


@dataclass
class Ratio:
    value: float
    low: float
    high: float
    subject: str
    pairs: int


@dataclass
class Judgement:
    row: str
    scenario: str  # its name, or the benchmark's
    title: str
    against: str  # in words
    ours: float
    theirs: float  # None: judged by itself
    unit: str
    reached: float  # what is compared with the goal
    low: float
    high: float
    goal: float
    verdict: str
    is_ratio: bool
    figure: str = ""  # which figure, when it is not CPU
    asked: str = ""  # Goal.against or MicroGoal.counter: what TARGETS finds it by
    disturbed: bool = False  # every run behind it was


def quantile(values, part):
    ordered = sorted(values)
    at = (len(ordered) - 1) * part
    below = int(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (at - below)


def _latency(runs, name):
    found = [run["load"]["latency_ns"][name] for run in runs
             if isinstance(run.get("load"), dict) and name in run["load"].get("latency_ns", {})]  # fmt: skip
    return median(found) if found else None


def _histogram(runs):
    """All runs' counts by latency."""
    counts = {}
    for run in runs:
        load_answer = run.get("load")
        if not isinstance(load_answer, dict):
            continue
        for nanoseconds, count in load_answer.get("latency_ns", {}).get("histogram", []):
            counts[nanoseconds] = counts.get(nanoseconds, 0) + count
    return sorted(counts.items())


def figures(kept):
    """subject -> Figure, in the order of the table of subjects."""
    found = {}
    for subject in sorted({run["subject"] for run in kept["runs"]}, key=_rank):
        runs = [run for run in kept["runs"] if run["subject"] == subject]
        good = [run for run in runs if not run.get("disturbed")] or runs
        values = [run["value"] for run in good]
        rates = [run["load"]["operations_per_second"] for run in good
                 if isinstance(run.get("load"), dict) and run["load"].get("operations_per_second")]  # fmt: skip
        found[subject] = Figure(
            subject, median(values), min(values), max(values), len(runs),
            sum(bool(run.get("disturbed")) for run in runs),
            p50=_latency(good, "p50"), p99=_latency(good, "p99"), p999=_latency(good, "p999"),
            rate=median(rates) if rates else None, histogram=_histogram(good),
        )  # fmt: skip
    return found


def _rank(subject):
    names = list(SUBJECTS)
    return names.index(subject) if subject in names else len(names)


def ratio(kept, subject, value=lambda run: run["value"]):
    """Ours over a subject's, inside the pairs; None without one pair."""
    pairs = {}
    for run in kept["runs"]:
        if run["subject"] in (OURS, subject):
            pairs.setdefault((run.get("round"), run.get("pair")), {})[run["subject"]] = run
    good, all_of_them = [], []
    for pair in pairs.values():
        if len(pair) < 2:
            continue
        ours, theirs = value(pair[OURS]), value(pair[subject])
        if not ours or not theirs or theirs <= 0:
            continue
        all_of_them.append(ours / theirs)
        if not pair[OURS].get("disturbed") and not pair[subject].get("disturbed"):
            good.append(ours / theirs)
    found = good or all_of_them
    if not found:
        return None
    return Ratio(median(found), quantile(found, 0.25), quantile(found, 0.75), subject, len(found))


def best_peer(found):
    """The smallest of the peers' figures; the limit program and other references are none of them."""
    peers = [figure for subject, figure in found.items() if subject != OURS and subject not in REFERENCES]
    return min(peers, key=lambda figure: figure.value) if peers else None


# ---- judging -------------------------------------------------------------------------------------


def verdict(reached, goal):
    if reached is None:
        return UNKNOWN
    if reached <= goal:
        return REACHED
    return NEAR if reached <= goal * (1 + NOISE) else MISSED


def _p99(run):
    load_answer = run.get("load")
    return load_answer.get("latency_ns", {}).get("p99") if isinstance(load_answer, dict) else None


def _judge(data, scenario, kept, goal):
    found = figures(kept)
    ours = found.get(OURS)
    made = Judgement(
        scenario.row, scenario.name, scenario.title, "", ours.value if ours else None, None,
        scenario.unit, None, None, None, goal.most, UNKNOWN, True, asked=goal.against,
        disturbed=bool(kept["runs"]) and all(run.get("disturbed") for run in kept["runs"]),
    )  # fmt: skip
    other, the_ratio = None, None
    if goal.against == "value":
        made.is_ratio, made.against = False, "own goal"
        if ours:
            made.reached, made.low, made.high = ours.value, ours.low, ours.high
    elif goal.against in ("best", "p99"):
        other = best_peer(found)
        if other and ours:
            value = _p99 if goal.against == "p99" else (lambda run: run["value"])
            the_ratio = ratio(kept, other.subject, value)
        made.against = SUBJECTS.get(other.subject, other.subject) if other else "best peer"
        if goal.against == "p99":
            made.figure = "p99 latency"
            made.ours = ours.p99 if ours else None
        elif scenario.kind == "open":
            made.figure = "p99 latency"
    elif goal.against == "limit" or goal.against in SUBJECTS:
        subject = LIMIT if goal.against == "limit" else goal.against
        other = found.get(subject)
        if other and ours:
            the_ratio = ratio(kept, subject)
        made.against = SUBJECTS[subject]
    else:
        before = find(data, goal.against)
        other = figures(before).get(OURS) if before else None
        made.against = by_name()[goal.against].title
        if other and ours and other.value > 0:
            the_ratio = Ratio(ours.value / other.value, ours.low / other.high,
                              ours.high / other.low if other.low > 0 else math.inf, OURS, 1)  # fmt: skip
    if other:
        made.theirs = other.p99 if goal.against == "p99" else other.value
    if the_ratio:
        made.reached, made.low, made.high = the_ratio.value, the_ratio.low, the_ratio.high
    made.verdict = verdict(made.reached, goal.most)
    return made


def find(data, name):
    for kept in data["scenarios"]:
        if kept["name"] == name:
            return kept
    return None


def micro_rows(data):
    """Google Benchmark's rows; of repeated ones the median alone."""
    micro = data.get("micro")
    if not micro:
        return []
    rows = [row for row in micro["benchmarks"] if isinstance(row, dict)]
    medians = [row for row in rows if row.get("aggregate_name") == "median"]
    return medians or [row for row in rows if row.get("run_type", "iteration") == "iteration"]


def _judge_micro(data, goal):
    rows = [row for row in micro_rows(data)
            if re.match(re.escape(goal.benchmark) + r"($|/)", row.get("name", ""))]  # fmt: skip
    values = [row[goal.counter] for row in rows
              if isinstance(row.get(goal.counter), (int, float)) and not row.get("error_occurred")]  # fmt: skip
    value = median(values) if values else None
    return Judgement(
        goal.row, goal.benchmark, goal.title, "own goal", value, None, goal.unit, value, value, value,
        goal.most, verdict(value, goal.most), False, asked=goal.counter,
    )  # fmt: skip


def judgements(data):
    """Every goal of every scenario that was to run, in the order of the rows."""
    made = []
    for scenario in SCENARIOS:
        kept = find(data, scenario.name)
        if kept is None:
            continue
        made += [_judge(data, scenario, kept, goal) for goal in scenario.goals]
    if data.get("micro"):
        made += [_judge_micro(data, goal) for goal in MICRO_GOALS]
    rows = list(ROWS)
    return sorted(made, key=lambda judgement: rows.index(judgement.row))


# ---- the table of targets ------------------------------------------------------------------------


@dataclass
class Answer:
    """A row of TARGETS with what this result says to it."""

    target: object
    parts: list  # (label, Judgement or None, why there is no figure)
    verdict: str
    note: str

    @property
    def text(self):
        """The verdict, and on how much of the row it rests."""
        measured = sum(not why for _, _, why in self.parts)
        if self.verdict == UNKNOWN or measured == len(self.parts):
            return self.verdict
        return f"{self.verdict} ({measured} of {len(self.parts)})"


WORST = (MISSED, NEAR, REACHED)  # of the parts that were measured the worst one is the row's


def _why_not(data, scenario, judgement):
    """Why a part has no figure."""
    if judgement is not None and judgement.reached is not None:
        return ""
    kept = find(data, scenario)
    if scenario not in by_name():
        if not data.get("micro"):
            return "the micro-benchmarks were not run"
        return f"peerhub-bench has no figure of {scenario}"
    if kept is None:
        if data.get("interrupted"):
            return "interrupted before it"
        return "not in this run" if by_name()[scenario].short else "only --full or --only runs it"
    failures = [f"{SUBJECTS.get(subject, subject)}: {why}" for subject, why in kept["failures"].items()]
    return "; ".join(failures) or "no pair of runs"


def answers(data):
    """Every row of the table of targets, measured or not."""
    found = {(one.scenario, one.asked): one for one in judgements(data)}
    made = []
    for target in TARGETS:
        parts = []
        for label, scenario, asked in target.parts:
            one = found.get((scenario, asked))
            parts.append((label, one, _why_not(data, scenario, one)))
        words = {one.verdict for _, one, why in parts if not why}
        notes = {}
        for label, _, why in parts:
            if why:
                notes.setdefault(why, []).append(label)
        note = "; ".join(why if len(labels) == len(parts) else f"{', '.join(labels)}: {why}"
                         for why, labels in notes.items())  # fmt: skip
        if any(one is not None and one.disturbed for _, one, _ in parts):
            note += ("; " if note else "") + "all runs disturbed by other work"
        made.append(Answer(target, parts, next((word for word in WORST if word in words), UNKNOWN),
                           note or target.away))  # fmt: skip
    return made


def disturbances(data):
    """(runs, repeated, disturbed still, the most foreign CPU seen in a kept run)."""
    runs = [run for kept in data["scenarios"] for run in kept["runs"]]
    return (
        len(runs),
        sum(run.get("attempts", 1) > 1 for run in runs),
        sum(bool(run.get("disturbed")) for run in runs),
        max((run.get("foreign", {}).get("foreign_percent", 0.0) for run in runs), default=0.0),
    )
