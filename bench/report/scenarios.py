"""What ci/bench measures: the rows of the target table and the scenarios behind each.

This table is the only place where a scenario, its subjects and its goals are named. A scenario is
one question put to several server programs in turn; its figure is better the smaller it is.

Kinds of scenario
    load     the load generator drives a server for some seconds; figure: server CPU ns an operation
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
}
LIMIT = "uring"

PLAIN_PEERS = ("epoll", "libuv", "libevent", "asio")
TLS_PEERS = ("epoll", "libuv", "libevent")
MESSAGE_PEERS = ("nng", "zmq", "nats")

# The machine's two placements: server and load generator on one core, or on one each.
SAME, APART = "same", "apart"


@dataclass(frozen=True)
class Goal:
    """One judgement of a scenario.

    against  "best": our figure over the best peer's; "limit": over the limit program's;
             "p99": our p99 latency over that of the best peer; "value": our figure itself;
             else the name of another scenario: our figure over ours there
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
    "relay": "Relay through the hub against nats-server",
    "handshake": "Mutual-TLS handshake, accepting side",
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
    )


def _echoes():
    short = {
        (False, 64, 1), (False, 64, 64), (False, 64, 1000), (False, 64, 10000),
        (False, 1024, 64), (True, 64, 1), (True, 64, 64), (True, 64, 1000), (True, 1024, 64),
    }
    for tls in (False, True):
        for size in (64, 1024):
            for connections in (1, 64, 1000, 10000):
                yield _echo(tls, size, connections, SAME, (tls, size, connections) in short)
        for size in (64, 1024):
            for connections in (1, 64, 1000, 10000):
                yield _echo(tls, size, connections, APART, (size, connections) == (64, 64))


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
                subjects=(OURS,) + MESSAGE_PEERS,
                goals=(Goal("best", 0.2),),
                load={"connections": 64, "size": 64, "in-flight": 16},
                tls=tls,
                framing="message",
                placement=placement,
                short=placement == SAME,
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


def _memories():
    for tls in (False, True):
        yield Scenario(
            name="memory/tls" if tls else "memory/plain",
            row="memory",
            title="mutual TLS" if tls else "plain",
            kind="memory",
            subjects=(OURS, "uring") + (TLS_PEERS if tls else PLAIN_PEERS),
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
            goals=(Goal("best", most),) if most is not None else (),
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
            placement=APART,
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
        *_messages(),
        *_relays(),
        Scenario(
            name="handshake/full",
            row="handshake",
            title="full handshake, P-256",
            subjects=(OURS, "uring") + TLS_PEERS,
            goals=(Goal("best", 0.6),),
            load={"mode": "handshake", "connections": 16, "size": 64, "in-flight": 1},
            tls=True,
        ),
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


def by_name():
    return {scenario.name: scenario for scenario in SCENARIOS}
