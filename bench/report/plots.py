"""The report's pictures: matplotlib draws SVG whose colours are names of the page's style sheet.

matplotlib knows no CSS variables, so everything is drawn in marker colours which are replaced in the
finished SVG. So one picture serves the light and the dark page, and its text is the page's own.
"""

import io
import math
import re

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter, NullFormatter

from .result import MISSED, NEAR, OURS, REACHED, figures, find
from .scenarios import SUBJECTS, by_name

# Marker colours -> names in the style sheet. No two alike, and none that matplotlib would make itself.
INK, MUTED, GRID, SURFACE = "#b00001", "#b00002", "#b00003", "#b00004"
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "line", SURFACE: "surface"}
COLOURS = {}
for _number, _name in enumerate(SUBJECTS):
    COLOURS[_name] = f"#a000{_number + 16:02x}"
    _VARIABLES[COLOURS[_name]] = f"s-{_name}"
VERDICT_COLOURS = {REACHED: "#a00101", NEAR: "#a00102", MISSED: "#a00103"}
for _verdict, _name in ((REACHED, "good"), (NEAR, "near"), (MISSED, "bad")):
    _VARIABLES[VERDICT_COLOURS[_verdict]] = _name

WIDTH = 9.6  # inches of every picture: so all have one size of letters on the page

MARKERS = {name: marker for name, marker in zip(SUBJECTS, "os^vDPX<>h*")}

matplotlib.rcParams.update(
    {
        "svg.fonttype": "none",
        "font.size": 10,
        "text.color": INK,
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": GRID,
        "grid.linewidth": 0.7,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "figure.facecolor": "none",
        "legend.frameon": False,
        "lines.linewidth": 1.6,
    }
)


def to_svg(figure, name):
    """The finished SVG, ready for a page: no file header, the page's colours and font."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):  # its inner names are its own on the page
        figure.savefig(text, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font: ([0-9. a-z]*?)([0-9.]+)px [^;\"]*", r"font: \1\2px system-ui, sans-serif", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    # What mpl names (figure_1, axes_1 …) would be on the page once for each picture.
    svg = re.sub(r' id="(?:figure|axes|patch|text|line2d|matplotlib|xtick|ytick|legend|PathCollection|LineCollection|PolyCollection)[^"]*"', "", svg)  # fmt: skip
    return svg


def nanoseconds_text(value, _=None):
    if value is None:
        return "—"
    for size, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g} ns"


def bytes_text(value, _=None):
    if value is None:
        return "—"
    for size, unit in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if abs(value) >= 4 * size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"


def unit_text(value, unit):
    if unit == "ns":
        return nanoseconds_text(value)
    if unit == "B":
        return bytes_text(value)
    return "—" if value is None else f"{value:.3g} {unit}".strip()


# ---- ratios --------------------------------------------------------------------------------------


def ratios(judgements, name="ratios"):
    """A line for each ratio: the middle half of its pairs, its value, and the goal."""
    shown = [one for one in judgements if one.is_ratio and one.reached]
    if not shown:
        return None
    figure, axes = pyplot.subplots(figsize=(WIDTH, 0.27 * len(shown) + 0.9), layout="constrained")
    for at, one in enumerate(shown):
        colour = VERDICT_COLOURS[one.verdict]
        axes.plot([one.low, one.high], [at, at], color=colour, linewidth=4, alpha=0.35, solid_capstyle="round")
        axes.plot([one.reached], [at], "o", color=colour, markersize=6)
        axes.plot([one.goal, one.goal], [at - 0.38, at + 0.38], color=INK, linewidth=1.6)
    labels = []
    for one in shown:
        extra = f", {one.figure}" if one.figure else ""
        labels.append(f"{ROW_WORDS[one.row]}: {one.title}{extra} / {one.against}")
    axes.set_yticks(range(len(shown)), labels, fontsize=8.6)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xscale("log")
    ticks = [0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.5, 2, 4, 8, 16, 32]
    low = min(min(one.low, one.goal) for one in shown) / 1.15
    high = max(max(one.high, one.goal) for one in shown) * 1.15
    axes.set_xlim(low, high)
    ticks = [tick for tick in ticks if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}×" for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    axes.axvline(1, color=MUTED, linewidth=0.8)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("ours as a part of theirs; upright stroke: the goal; the farther left, the better", loc="right")
    return to_svg(figure, name)


ROW_WORDS = {
    "echo": "raw", "connect": "connect", "tls": "TLS", "message": "message", "relay": "relay",
    "handshake": "handshake", "latency": "open loop", "memory": "memory", "close": "mass close", "caller": "caller",
    "goodbye": "goodbye", "shards": "shards", "growth": "growth",
}  # fmt: skip


# ---- absolute figures ----------------------------------------------------------------------------


def bars(data, names, unit, name, goals=None, logarithmic=False):
    """Scenarios one under the other, a bar for each subject with the range of its runs."""
    shown = [(scenario, figures(kept)) for scenario in names
             if (kept := find(data, scenario)) is not None and kept["runs"]]  # fmt: skip
    if not shown:
        return None
    rows = sum(len(found) for _, found in shown)
    figure, axes = pyplot.subplots(figsize=(WIDTH, 0.25 * rows + 0.25 * len(shown) + 0.6), layout="constrained")
    at, labels, places = 0.0, [], []
    for scenario, found in shown:
        begin = at
        for subject, one in found.items():
            axes.barh(at, one.value, height=0.8, color=COLOURS.get(subject, MUTED))
            if one.high > one.low:
                axes.plot([one.low, one.high], [at, at], color=INK, linewidth=1)
            axes.annotate(
                f"{SUBJECTS.get(subject, subject)}  {unit_text(one.value, unit)}",
                (max(one.value, one.high), at), xytext=(5, 0), textcoords="offset points",
                va="center", fontsize=8.2, color=INK,
                fontweight="bold" if subject == OURS else "normal",
            )  # fmt: skip
            at += 1
        goal = (goals or {}).get(scenario)
        if goal is not None:
            axes.plot([goal, goal], [begin - 0.5, at - 0.5], color=INK, linewidth=1.6, linestyle=(0, (3, 2)))
        places.append((begin + at - 1) / 2)
        labels.append(by_name()[scenario].title)
        at += 0.9
    axes.set_yticks(places, labels)
    axes.set_ylim(at - 0.9, -0.9)
    axes.tick_params(axis="y", length=0)
    if logarithmic:
        axes.set_xscale("log")
    axes.set_xmargin(0.22)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: unit_text(value, unit)))
    axes.grid(axis="y", visible=False)
    if not logarithmic:
        axes.set_xlim(0, axes.get_xlim()[1] * 1.12)
    else:
        axes.set_xlim(axes.get_xlim()[0], axes.get_xlim()[1] * 3)
    return to_svg(figure, name)


# ---- scaling ---------------------------------------------------------------------------------------


def lines(data, panels, name):
    """CPU of an operation over the number of connections; panels: (title, [(x, scenario)…])."""
    drawn = []
    for title, points in panels:
        curves = {}
        for x, scenario in points:
            kept = find(data, scenario)
            for subject, one in (figures(kept) if kept else {}).items():
                curves.setdefault(subject, []).append((x, one.value))
        if any(len(curve) > 1 for curve in curves.values()):
            drawn.append((title, curves))
    if not drawn:
        return None
    columns = min(2, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    figure, grid = pyplot.subplots(rows, columns, figsize=(WIDTH, 3.1 * rows), squeeze=False, layout="constrained")
    for at, axes in enumerate(grid.flat):
        if at >= len(drawn):
            axes.set_visible(False)
            continue
        title, curves = drawn[at]
        ticks = sorted({x for curve in curves.values() for x, _ in curve})
        for subject, curve in curves.items():
            axes.plot(
                *zip(*curve), color=COLOURS.get(subject, MUTED), marker=MARKERS.get(subject, "o"),
                markersize=5, label=SUBJECTS.get(subject, subject),
                linewidth=2.4 if subject == OURS else 1.4, zorder=3 if subject == OURS else 2,
            )  # fmt: skip
        axes.set_title(title)
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(FuncFormatter(nanoseconds_text))
        axes.set_xlabel("connections")
        axes.legend(fontsize=8)
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.1)
    return to_svg(figure, name)


# ---- latency -------------------------------------------------------------------------------------


def percentile_curve(histogram):
    """[(1 / (1 - part), ns)…]: how slow the slowest one of so many is."""
    total = sum(count for _, count in histogram)
    curve, seen = [], 0
    for nanoseconds, count in histogram:
        seen += count
        above = total - seen
        curve.append((total / above if above > 0 else float(total), nanoseconds))
    return curve


def latencies(data, names, name):
    shown = []
    for scenario in names:
        kept = find(data, scenario)
        found = figures(kept) if kept else {}
        if any(one.histogram for one in found.values()):
            shown.append((scenario, found))
    if not shown:
        return None
    columns = min(2, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure, grid = pyplot.subplots(rows, columns, figsize=(WIDTH, 2.9 * rows), squeeze=False, layout="constrained")
    for at, axes in enumerate(grid.flat):
        if at >= len(shown):
            axes.set_visible(False)
            continue
        scenario, found = shown[at]
        for subject, one in found.items():
            if not one.histogram:
                continue
            axes.plot(
                *zip(*percentile_curve(one.histogram)), color=COLOURS.get(subject, MUTED),
                label=SUBJECTS.get(subject, subject), linewidth=2.4 if subject == OURS else 1.3,
                zorder=3 if subject == OURS else 2,
            )  # fmt: skip
        most = max(axes.get_xlim()[1], 1001)
        axes.set_xscale("log")
        axes.set_yscale("log")
        ticks = [tick for tick in (1, 2, 10, 100, 1000, 10000, 100000, 1000000) if tick <= most]
        words = {1: "0", 2: "50", 10: "90", 100: "99", 1000: "99.9", 10000: "99.99", 100000: "99.999",
                 1000000: "99.9999"}  # fmt: skip
        axes.set_xlim(1, most)
        axes.set_xticks(ticks, [words[tick] for tick in ticks], fontsize=8.5)
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(FuncFormatter(nanoseconds_text))
        row = ROW_WORDS[by_name()[scenario].row]
        axes.set_title(f"{row}: {by_name()[scenario].title}")
        axes.set_xlabel("percentile")
        axes.legend(fontsize=8)
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.1)
    return to_svg(figure, name)
