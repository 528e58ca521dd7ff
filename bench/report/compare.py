"""Two results of ci/bench: what became worse, beyond what these machines' noise can do.

Where a scenario has a peer, our ratio to the same peer is compared: it does not move with the machine.
Elsewhere our figure itself is. A change counts when it exceeds the noise: 5 %, or more where the runs
themselves were further apart.
"""

from dataclasses import dataclass

from .result import NOISE, best_peer, figures, find, micro_rows, ratio
from .scenarios import OURS, SUBJECTS

MICRO_NOISE = 0.15  # nanoseconds of one call, on cores that move
MICRO_FLOOR_NS = 1.0  # below it a change is the clock's
ALIKE = ("kernel", "cpu", "cpus", "mitigations")


@dataclass
class Change:
    what: str
    figure: str
    before: float
    after: float
    noise: float

    @property
    def factor(self):
        return self.after / self.before if self.before > 0 else 1.0

    @property
    def is_worse(self):
        return self.factor > 1 + self.noise

    @property
    def is_better(self):
        return self.factor < 1 - self.noise


def _spread(found):
    return (found.high - found.low) / 2 / found.value if found.value > 0 else 0.0


def scenario_changes(old, new):
    for kept in new["scenarios"]:
        before = find(old, kept["name"])
        if before is None:
            continue
        old_figures, new_figures = figures(before), figures(kept)
        if OURS not in old_figures or OURS not in new_figures:
            continue
        peer = best_peer({name: one for name, one in new_figures.items() if name in old_figures})
        if peer is not None:
            was, now = ratio(before, peer.subject), ratio(kept, peer.subject)
            if was is None or now is None:
                continue
            label = f"CPU over {SUBJECTS.get(peer.subject, peer.subject)}"
            yield Change(kept["name"], label, was.value, now.value,
                         max(NOISE, _spread(was) + _spread(now)))  # fmt: skip
        else:
            was, now = old_figures[OURS], new_figures[OURS]
            yield Change(kept["name"], "our figure", was.value, now.value,
                         max(NOISE, was.spread + now.spread))  # fmt: skip


def micro_changes(old, new):
    before = {row.get("name"): row for row in micro_rows(old)}
    for row in micro_rows(new):
        was = before.get(row.get("name"))
        if was is None or was.get("time_unit") != row.get("time_unit"):
            continue
        if not isinstance(was.get("cpu_time"), (int, float)) or not isinstance(
            row.get("cpu_time"), (int, float)
        ):
            continue
        if row.get("time_unit") == "ns" and abs(row["cpu_time"] - was["cpu_time"]) < MICRO_FLOOR_NS:
            continue
        yield Change(row["name"], "micro, " + row.get("time_unit", ""), was["cpu_time"],
                     row["cpu_time"], MICRO_NOISE)  # fmt: skip


def unlike(old, new):
    """What differs between the two machines, so that absolute figures say less."""
    return [key for key in ALIKE if old["environment"].get(key) != new["environment"].get(key)]


def lost(old, new):
    """Scenarios in which we had a figure and have none now although they were run."""
    for kept in new["scenarios"]:
        before = find(old, kept["name"])
        if before and OURS in figures(before) and OURS not in figures(kept):
            yield kept["name"]


def compare(old, new, say):
    """Print what changed. Returns how many became worse."""
    changes = list(scenario_changes(old, new)) + list(micro_changes(old, new))
    for key in unlike(old, new):
        say(f"note: {key} differs: {old['environment'].get(key)} -> {new['environment'].get(key)}")
    gone = list(lost(old, new))
    for name in gone:
        say(f"worse   {name:32} has no figure any more")
    worse = [change for change in changes if change.is_worse]
    for word, chosen in (("worse", worse), ("better", [c for c in changes if c.is_better])):
        for change in sorted(chosen, key=lambda change: abs(change.factor - 1), reverse=True):
            say(f"{word:7} {change.what:32} {change.figure:22} {change.before:10.3f} -> "
                f"{change.after:10.3f}  {change.factor - 1:+.1%} (noise {change.noise:.0%})")  # fmt: skip
    say(f"{len(changes)} compared, {len(worse) + len(gone)} worse, "
        f"{sum(change.is_better for change in changes)} better")  # fmt: skip
    return len(worse) + len(gone)
