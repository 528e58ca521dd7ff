"""What ci/bench measures: the rows of the target table and the scenarios behind each.

This table is the only place where a scenario, its subjects and its goals are named. A scenario is
one question put to several server programs in turn; its figure is better the smaller it is.

Kinds of scenario
    load     the load generator drives a server for some seconds; figure: server CPU ns an operation
    open     the same with an open loop at a part of the best peer's capacity; figure: p99 latency, ns
    dial     clients drive one server (peer-epoll) for some seconds; figure: client CPU ns a handshake
    resume   load, with our own dialler for us, which comes back by the secret of its last visit
    memory   idle connections at two counts; figure: bytes of RSS for each connection between them
    close    the server closes all its idle connections at once; figure: server CPU ns a close
    storm    peerhub-stress storm, ours alone; figure: ns from the close to its goodbye
"""

from dataclasses import dataclass, field

OURS = "peerhub"

# Name, label, whether it is the limit program instead of a peer.
SUBJECTS = {
    OURS: "peerhub",
    "uring": "bare io_uring",
    "epoll": "epoll",
    "libuv": "libuv",
    "libevent": "libevent",
    "asio": "Boost.Asio",
    "nng": "nng",
    "zmq": "libzmq",
    "nats": "nats-server",
    "haproxy": "haproxy",
    "tickets": "OpenSSL tickets",
}
LIMIT = "uring"
REFERENCES = (LIMIT, "tickets")  # shown beside the peers, never the best of them

PLAIN_PEERS = ("epoll", "libuv", "libevent", "asio")
TLS_PEERS = ("epoll", "libuv", "libevent")
MESSAGE_PEERS = ("nng", "zmq", "nats")
MESSAGE_TLS_PEERS = ("zmq", "nats")  # Debian's nng is built without TLS

# The machine's placements: server and load generator on one core, on one each, or both on both.
SAME, APART, BOTH = "same", "apart", "both"


@dataclass(frozen=True)
class Goal:
    """One judgement of a scenario.

    against  "best": our figure over the best peer's; "limit": over the limit program's;
             "p99": our p99 latency over that of the best peer; "value": our figure itself;
             a subject's name: over its figure; else another scenario's name: over ours there
    """

    against: str
    most: float


@dataclass(frozen=True)
class Scenario:
    name: str
    row: str
    title: str
    kind: str = "load"
    subjects: tuple = (OURS,)
    goals: tuple = ()
    load: dict = field(default_factory=dict)  # options of peerhub-load, by their names
    tls: bool = False
    framing: str = "raw"
    placement: str = SAME
    threads: int = 1
    short: bool = True
    unit: str = "ns"
    short_subjects: tuple = None  # who runs in the short form; None: all
    dear: bool = False  # in the short form one round, ours once before all others
    base: str = ""  # open: the scenario whose best peer's rate is the capacity
    share: float = 0.0  # open: which part of it


@dataclass(frozen=True)
class MicroGoal:
    """A row that a micro-benchmark answers: a counter of peerhub-bench, or its cpu_time."""

    row: str
    title: str
    benchmark: str
    counter: str
    most: float
    unit: str


ROWS = {
    "echo": "Raw echo against epoll, libuv, libevent, Boost.Asio and a bare io_uring program",
    "connect": "Connect, one echo, close; plain",
    "tls": "Mutual-TLS echo against epoll, libuv and libevent with OpenSSL",
    "message": "Messages of 64 bytes, 16 in flight, against nng, libzmq and nats-server",
    "latency": "p99 latency in an open loop at a part of the best peer's capacity, two cores",
    "relay": "Relay through the hub against nats-server (and haproxy, which relays bytes)",
    "handshake": "Mutual-TLS handshake: accepting, dialling, resumed",
    "memory": "User memory of an idle connection",
    "close": "Mass close by the server",
    "caller": "What a close costs its caller",
    "goodbye": "From the close to its last byte, from the abort to its reset",
    "shards": "One shard, two, eight on these cores: CPU of a message",
    "growth": "Cost growth from 64 to 10,000 connections",
}


def size_text(size):
    return f"{size // 1024} KiB" if size >= 1024 else f"{size} B"


def count_text(count):
    return f"{count:,}" + (" connection" if count == 1 else " connections")


def _echo(tls, size, connections, placement=SAME, short=True):
    if tls:
        most = 0.75 if connections >= 1000 else 0.80
        goals = (Goal("best", most),)
        subjects = (OURS, "uring") + TLS_PEERS
    else:
        goals = (
            Goal("best", 1.0 if connections >= 10000 else 0.95),
            Goal("limit", 1.05),
            Goal("p99", 1.0),
        )
        subjects = (OURS, "uring") + PLAIN_PEERS
    kind = "tls" if tls else "echo"
    apart = "" if placement == SAME else "/apart"
    return Scenario(
        name=f"{kind}/{size}B/{connections}{apart}",
        row=kind,
        title=f"{size_text(size)}, {count_text(connections)}" + (", two cores" if apart else ""),
        subjects=subjects,
        goals=goals,
        load={"connections": connections, "size": size, "in-flight": 1},
        tls=tls,
        placement=placement,
        short=short,
        short_subjects=(OURS,) + TLS_PEERS if tls else None,
        dear=connections >= 10000,
    )


def _echoes():
    for tls in (False, True):
        for size in (64, 1024):
            for connections in (1, 64, 1000, 10000):
                yield _echo(tls, size, connections)
        for size in (64, 1024):
            for connections in (1, 64, 1000, 10000):
                yield _echo(tls, size, connections, APART, (size, connections) == (64, 64))


def _opens():
    """Latency counts from the time that an operation was meant for, sent or not."""
    for tls in (False, True):
        for size in (64, 1024):
            for share in (0.5, 0.8):
                kind = "tls" if tls else "echo"
                yield Scenario(
                    name=f"open/{kind}/{size}B/{share * 100:.0f}",
                    row="latency",
                    title=f"{'mutual TLS' if tls else 'raw'}, {size_text(size)}, 64 connections, "
                    f"{share * 100:.0f} % of capacity",
                    kind="open",
                    subjects=(OURS, "uring") + (TLS_PEERS if tls else PLAIN_PEERS),
                    short_subjects=(OURS,) + (TLS_PEERS if tls else PLAIN_PEERS),
                    # What the issue asks of latency it asks of raw echo.
                    goals=() if tls else (Goal("best", 1.0),),
                    load={"connections": 64, "size": size, "in-flight": 1},
                    tls=tls,
                    placement=APART,
                    short=size == 64 and not tls,
                    base=f"{kind}/{size}B/64/apart",
                    share=share,
                )


def _messages():
    for tls in (False, True):
        for placement in (SAME, APART):
            word = "tls" if tls else "plain"
            apart = "" if placement == SAME else "/apart"
            yield Scenario(
                name=f"message/{word}{apart}",
                row="message",
                title=f"64 B x 16, 64 connections, {'mutual TLS' if tls else 'plain'}"
                + (", two cores" if apart else ""),
                subjects=(OURS,) + (MESSAGE_TLS_PEERS if tls else MESSAGE_PEERS),
                goals=(Goal("best", 0.2),),
                load={"connections": 64, "size": 64, "in-flight": 16},
                tls=tls,
                framing="message",
                placement=placement,
            )


def _relays():
    for fan, title in ((1, "one to one"), (1000, "one to 1,000")):
        yield Scenario(
            name=f"relay/{fan}",
            row="relay",
            title=title,
            subjects=(OURS, "nats"),
            goals=(Goal("best", 0.5),),
            load={"mode": "relay", "connections": fan + 1, "fan": fan, "size": 64, "in-flight": 16},
            tls=True,
            framing="message",
        )
    yield Scenario(
        name="relay/plain",
        row="relay",
        title="one to one, plain; haproxy: one way of an echo",
        subjects=(OURS, "nats", "haproxy"),
        load={"mode": "relay", "connections": 2, "fan": 1, "size": 64, "in-flight": 16},
        framing="message",
    )


def _handshakes():
    load = {"mode": "handshake", "connections": 16, "size": 64, "in-flight": 1}
    yield Scenario(
        name="handshake/full",
        row="handshake",
        title="accepting, full, P-256",
        subjects=(OURS, "uring") + TLS_PEERS,
        short_subjects=(OURS,) + TLS_PEERS,
        goals=(Goal("best", 0.6),),
        load=load,
        tls=True,
    )
    yield Scenario(
        name="handshake/dial",
        row="handshake",
        title="dialling, full, P-256",
        kind="dial",
        subjects=(OURS, "epoll"),
        goals=(Goal("best", 0.6),),
        load=load,
        tls=True,
    )
    yield Scenario(
        name="handshake/resumed",
        row="handshake",
        title="accepting, ours resumed by a secret, the peers' full",
        kind="resume",
        subjects=(OURS, "tickets") + TLS_PEERS,
        goals=(Goal("best", 0.25),),
        load=load,
        tls=True,
        framing="message",
    )


def _memories():
    for tls in (False, True):
        yield Scenario(
            name="memory/tls" if tls else "memory/plain",
            row="memory",
            title="mutual TLS" if tls else "plain",
            kind="memory",
            subjects=(OURS, "uring") + (TLS_PEERS if tls else PLAIN_PEERS),
            short_subjects=(OURS,) + (TLS_PEERS if tls else PLAIN_PEERS),
            dear=True,
            goals=(Goal("value", 1024 if tls else 320),),
            load={"mode": "idle", "size": 64},
            tls=tls,
            unit="B",
        )


def _closes():
    for tls, how, most in ((False, "abort", 1.3), (False, "graceful", None), (True, "graceful", 0.4)):
        word = "tls" if tls else "plain"
        yield Scenario(
            name=f"close/{word}/{how}",
            row="close",
            title=f"{'mutual TLS' if tls else 'plain'}, {how}",
            kind="close",
            # A close(2) loop is what the epoll program does.
            subjects=(OURS, "uring") + (TLS_PEERS if tls else PLAIN_PEERS),
            short_subjects=(OURS,) + TLS_PEERS if tls else (OURS, "epoll") if how == "abort" else (OURS,),
            dear=tls,
            goals=(Goal("best" if tls else "epoll", most),) if most is not None else (),
            load={"mode": "idle", "size": 64, "how": how},
            tls=tls,
        )


def _storms():
    for flood in (False, True):
        for how in ("graceful", "abort"):
            yield Scenario(
                name=f"goodbye/{how}" + ("/flood" if flood else ""),
                row="goodbye",
                title=f"{how}, " + ("data flooding in, p99" if flood else "idle, p50"),
                kind="storm",
                goals=(Goal("value", 1000000 if flood else 15000),),
                load={"how": how, "flood": flood},
            )


def _shards():
    for threads, most in ((1, None), (2, 1.1), (8, 1.25)):
        yield Scenario(
            name=f"shards/{threads}",
            row="shards",
            title=f"{threads} shard" + ("s" if threads > 1 else ""),
            goals=(Goal("shards/1", most),) if most is not None else (),
            load={"connections": 64, "size": 64, "in-flight": 16},
            framing="message",
            placement=BOTH,
            threads=threads,
        )


def _growth():
    for connections, most in ((64, None), (1000, None), (10000, 2.0)):
        yield Scenario(
            name=f"growth/{connections}",
            row="growth",
            title=count_text(connections),
            goals=(Goal("growth/64", most),) if most is not None else (),
            load={"connections": connections, "size": 64, "in-flight": 1},
            framing="message",
        )


SCENARIOS = tuple(
    [
        *_echoes(),
        Scenario(
            name="connect/plain",
            row="connect",
            title="one at a time on each of 16",
            subjects=(OURS, "uring") + PLAIN_PEERS,
            goals=(Goal("best", 0.95),),
            load={"mode": "connect", "connections": 16, "size": 64, "in-flight": 1},
        ),
        *_opens(),
        *_messages(),
        *_relays(),
        *_handshakes(),
        *_memories(),
        *_closes(),
        *_storms(),
        *_shards(),
        *_growth(),
    ]
)

MICRO_GOALS = (
    MicroGoal("caller", "ph_close, cache lines warm, median", "close_warm", "p50_ns", 100, "ns"),
    MicroGoal(
        "caller", "PeerGroupCloseDirectConnection, warm, median", "p2p_close_warm", "p50_ns", 250, "ns"
    ),
    MicroGoal("caller", "ph_close: bytes allocated", "close_warm", "allocated", 0, "B"),
    MicroGoal("caller", "ph_close: system calls, shard busy", "close_busy", "wakes_per_call", 0.05, ""),
)


# ---- the table of targets ------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """A row of the table of targets: what was asked for, and which judgements answer it.

    parts  (label, scenario, against) of a Goal, or (label, benchmark, counter) of a MicroGoal
    away   where the answer is, when ci/bench does not measure it
    """

    what: str
    against: str
    goal: str
    parts: tuple = ()
    away: str = ""


_COUNTS = (1, 64, 1000, 10000)
_PLAIN = "best of epoll, libuv, libevent, Boost.Asio"
_TLS = "best of epoll, libuv, libevent with OpenSSL"


def _per_count(kind, size, against, apart=""):
    return tuple((f"{count:,}", f"{kind}/{size}B/{count}{apart}", against) for count in _COUNTS)


TARGETS = (
    *(
        Target(f"raw echo, {size_text(size)}, CPU; by connections", _PLAIN, "≤ 0.95 × (10,000: ≤ 1.0 ×)",
               _per_count("echo", size, "best"))
        for size in (64, 1024)
    ),
    *(
        Target(f"raw echo, {size_text(size)}, CPU, two cores", _PLAIN, "≤ 0.95 × (10,000: ≤ 1.0 ×)",
               _per_count("echo", size, "best", "/apart"))
        for size in (64, 1024)
    ),
    Target("raw echo, p99 no worse: open loop at 50 % and 80 % of the best peer's capacity",
           "best p99 of epoll, libuv, libevent, Boost.Asio", "≤ 1.0 ×",
           tuple((f"{size_text(size)} {share} %", f"open/echo/{size}B/{share}", "best")
                 for size in (64, 1024) for share in (50, 80))),
    *(
        Target(f"raw echo, {size_text(size)}, p99 no worse: closed loop", _PLAIN, "≤ 1.0 ×",
               _per_count("echo", size, "p99"))
        for size in (64, 1024)
    ),
    *(
        Target(f"raw echo, {size_text(size)}, CPU", "bare io_uring echo", "≤ 1.05 ×",
               _per_count("echo", size, "limit"))
        for size in (64, 1024)
    ),
    Target("connect + one echo + close, plain", _PLAIN, "≤ 0.95 ×", (("", "connect/plain", "best"),)),
    *(
        Target(f"mutual-TLS echo, {size_text(size)}, CPU; by connections", _TLS,
               "≤ 0.80 × (from 1,000: ≤ 0.75 ×)", _per_count("tls", size, "best"))
        for size in (64, 1024)
    ),
    *(
        Target(f"mutual-TLS echo, {size_text(size)}, CPU, two cores", _TLS,
               "≤ 0.80 × (from 1,000: ≤ 0.75 ×)", _per_count("tls", size, "best", "/apart"))
        for size in (64, 1024)
    ),
    Target("messages, 64 B, 16 in flight, plain", "nng, libzmq, nats-server", "≤ 0.2 ×",
           (("one core", "message/plain", "best"), ("two cores", "message/plain/apart", "best"))),
    Target("messages, 64 B, 16 in flight, TLS", "libzmq with CURVE, nats-server", "≤ 0.2 ×",
           (("one core", "message/tls", "best"), ("two cores", "message/tls/apart", "best"))),
    Target("relay through the hub", "nats-server", "≤ 0.5 ×",
           (("one to one", "relay/1", "best"), ("one to 1,000", "relay/1000", "best"))),
    Target("mutual-TLS handshake, full", _TLS + " (dialling: epoll)", "≤ 0.6 ×",
           (("accepting", "handshake/full", "best"), ("dialling", "handshake/dial", "best"))),
    Target("mutual-TLS handshake of a peer that comes back", "best peer's full one", "≤ 0.25 ×",
           (("", "handshake/resumed", "best"),)),
    Target("idle mutual-TLS connection, user memory", "own goal (best peer: about 24 KB)", "≤ 1 KiB",
           (("", "memory/tls", "value"),)),
    Target("idle plain connection, user memory", "own goal", "≤ 320 B", (("", "memory/plain", "value"),)),
    Target("mass close of all, plain, abort", "a close(2) loop", "≤ 1.3 ×",
           (("", "close/plain/abort", "epoll"),)),
    Target("mass close of all, TLS, graceful", _TLS, "≤ 0.4 ×", (("", "close/tls/graceful", "best"),)),
    Target("ph_close, caller's side, cache warm, median", "own goal", "≤ 100 ns",
           (("", "close_warm", "p50_ns"),)),
    Target("PeerGroupCloseDirectConnection, the same", "own goal", "≤ 250 ns",
           (("", "p2p_close_warm", "p50_ns"),)),
    Target("ph_close: bytes allocated", "own goal", "0", (("", "close_warm", "allocated"),)),
    Target("ph_close: wake-ups a call under load, its only system call", "own goal", "≤ 0.05",
           (("", "close_busy", "wakes_per_call"),)),
    Target("close → last goodbye byte; abort → reset; idle, p50", "own goal", "≤ 15 µs",
           (("goodbye", "goodbye/graceful", "value"), ("reset", "goodbye/abort", "value"))),
    Target("the same with data flooding in, p99", "own goal", "≤ 1 ms",
           (("goodbye", "goodbye/graceful/flood", "value"), ("reset", "goodbye/abort/flood", "value"))),
    Target("CPU of a message at two shards", "one shard", "≤ 1.1 ×", (("", "shards/2", "shards/1"),)),
    Target("CPU of a message at eight shards", "one shard", "≤ 1.25 ×", (("", "shards/8", "shards/1"),)),
    Target("CPU of a message at 10,000 connections", "at 64", "≤ 2 ×", (("", "growth/10000", "growth/64"),)),
    Target("memory of a connection flat from 1,000 to 1,000,000", "own goal", "flat",
           away="ci/million measures it: docs/scale.md"),
)  # fmt: skip


def by_name():
    return {scenario.name: scenario for scenario in SCENARIOS}
