"""The driver of ci/bench: which runs, in which order, how often, and what is kept of them.

Ours and the peers run in turn (--full: ours, peer, ours, peer …; the short form: ours, peer, peer, ours …);
ratios are formed inside these groups. Each run has processes of its own.
"""

import fnmatch
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from statistics import median

from . import machine, process
from .process import Failed, Missing
from .scenarios import APART, BOTH, OURS, REFERENCES, SAME, SCENARIOS, by_name

FORMAT = 1
STILL_SECONDS = 0.25  # a server that used no CPU for so long has done what it was told


class Plan:
    """How much of everything: the short form takes about ten minutes, the full one hours."""

    def __init__(self, is_full, rounds=None, seconds=None, foreign_most=8.0):
        self.is_full = is_full
        self.rounds = rounds or (9 if is_full else 2)
        self.seconds = seconds or (3.0 if is_full else 0.5)
        self.warmup = 1.0 if is_full else 0.2
        self.attempts = 4  # a disturbed run is repeated three times …
        # … while there is time for repeats: a short run on a busy machine shall end, too.
        self.repeat_seconds = 3600.0 if is_full else 240.0
        self.peers_a_turn = 1 if is_full else 2  # that share the run of ours before them
        self.foreign_most = foreign_most
        self.micro_seconds = 0.5 if is_full else 0.1
        # In the short form only what the table of targets asks for.
        self.micro_filter = "." if is_full else "^(p2p_)?close_"
        self.idle = {False: (1000, 10000), True: (1000, 10000) if is_full else (500, 4500)}
        self.close_count = {False: 10000, True: 10000 if is_full else 2000}

    def subjects(self, scenario):
        if self.is_full or scenario.short_subjects is None:
            return scenario.subjects
        return scenario.short_subjects

    def rounds_of(self, scenario):
        if self.is_full:
            return self.rounds
        return 1 if scenario.dear else min(self.rounds, 2) if scenario.kind != "load" else self.rounds

    def estimate(self, scenario):
        """Seconds that a scenario takes on a quiet machine, about."""
        others = len(self.subjects(scenario)) - 1
        ours = 1 if scenario.dear and not self.is_full else max(-(-others // self.peers_a_turn), 1)
        opening = scenario.load.get("connections", 0) * (0.8e-3 if scenario.tls else 0.12e-3)
        one = max(self.seconds, scenario.load.get("connections", 0) * 1e-4) + self.warmup + 0.5 + opening
        if scenario.kind == "memory":
            one = 2 + sum(self.idle[scenario.tls]) * (0.8e-3 if scenario.tls else 0.15e-3)
        elif scenario.kind == "close":
            one = 2 + self.close_count[scenario.tls] * (0.9e-3 if scenario.tls else 0.2e-3)
        elif scenario.kind == "storm":
            one = 3
        return (others + ours) * one * self.rounds_of(scenario)


def cores_of(scenario, cores):
    """Which cores the server and the load generator get."""
    if scenario.placement == SAME:
        return cores[:1], cores[:1]
    if scenario.placement == BOTH:
        return cores, cores
    return cores[:1], cores[1:] or cores[:1]


class Driver:
    def __init__(self, root, build, plan, say=print):
        self.root, self.build, self.plan, self.say = root, build, plan, say
        self.cores = sorted(os.sched_getaffinity(0))[:2]
        self.bench = f"{build}/peerhub-bench"
        self.capacities = {}  # of open loops: operations a second, by the closed loop's scenario
        self.repeat_seconds = plan.repeat_seconds

    # ---- one run ----

    def once(self, scenario, subject, keys):
        """One undisturbed run, or the least disturbed of several."""
        best = None
        for attempt in range(1, max(self.plan.attempts, 2) + 1):
            begun = time.monotonic()
            try:
                run = self.attempt(scenario, subject, keys)
            except Missing:
                raise
            except Failed:
                if attempt > 1:
                    raise
                continue  # once more: a busy machine may starve a run
            if attempt > 1:
                self.repeat_seconds -= time.monotonic() - begun
            if best is None or run["foreign"]["foreign_percent"] < best["foreign"]["foreign_percent"]:
                best = run
            best["attempts"] = attempt
            if not self.is_disturbed(run) or self.repeat_seconds <= 0:
                break
        best["disturbed"] = self.is_disturbed(best)
        return best

    def is_disturbed(self, run):
        foreign = run["foreign"]
        if foreign["foreign_percent"] + foreign["steal_percent"] > self.plan.foreign_most:
            return True
        words = {machine.distance_word(value) for value in run.get("distance_ns", [])}
        return len(words) > 1

    def attempt(self, scenario, subject, keys):
        server_cores, load_cores = cores_of(scenario, self.cores)
        distance = []
        if scenario.placement != SAME and len(self.cores) > 1:
            distance.append(machine.core_distance_ns(self.bench, self.cores))
        foreign = machine.Foreign(self.cores)
        own = own_seconds()
        foreign.begin(time.monotonic(), own)
        taken, run = getattr(self, "run_" + scenario.kind)(
            scenario, subject, keys, server_cores, load_cores
        )
        run["foreign"] = foreign.end(time.monotonic(), own_seconds() if taken is None else own + taken)
        if distance:
            distance.append(machine.core_distance_ns(self.bench, self.cores))
            run["distance_ns"] = distance
        run["subject"] = subject
        return run

    def drive(self, scenario, subject, keys, server_cores, load_cores, more=()):
        """A server, and a load generator for some seconds: its answer, and both commands."""
        plan = self.plan
        server = process.Server(self.build, keys, subject, scenario, server_cores)
        try:
            # Each of many connections shall have its turn several times.
            seconds = max(plan.seconds, scenario.load.get("connections", 0) * 1e-4)
            options = {"seconds": seconds, "warmup": plan.warmup, **scenario.load, **dict(more)}
            if subject == "haproxy":  # it relays bytes: an echo through it is one way there and one back
                options.update(mode="echo", connections=1)
                del options["fan"]
            connections = options.get("connections", 1)
            if scenario.tls and connections >= 1000:
                options["settle"] = load_cores[0]  # handshakes are not what is measured
                load_cores = self.cores
            command = process.load_command(self.build, keys, scenario, subject, options, server)
            patience = options["seconds"] + plan.warmup + 60 + connections * 0.02
            answer, _ = process.run_load(command, load_cores, patience)
        finally:
            server.end()
        if not answer.get("operations"):
            raise Failed("the load generator did nothing")
        if answer.get("errors"):
            raise Failed(f"{answer['errors']} errors at the load generator")
        return answer, {"load": answer, "command": command, "server": server.command}

    def run_load(self, scenario, subject, keys, server_cores, load_cores):
        answer, run = self.drive(scenario, subject, keys, server_cores, load_cores)
        run["value"] = process.number(answer, "server_cpu_ns_per_operation")
        if subject == "haproxy":
            run["value"] /= 2
        return None, run

    # An open loop's rate: a part of what the best peer does in a closed loop in the same place.

    def capacity(self, scenario, keys):
        if scenario.base not in self.capacities:
            base, rates = by_name()[scenario.base], []
            for subject in self.plan.subjects(base):
                if subject == OURS or subject in REFERENCES or subject in self.missing(base, keys):
                    continue
                answer, _ = self.drive(base, subject, keys, *cores_of(base, self.cores))
                rates.append(process.number(answer, "operations_per_second"))
            if not rates:
                raise Failed("no peer to take the rate from")
            self.capacities[scenario.base] = max(rates)
        return self.capacities[scenario.base]

    def run_open(self, scenario, subject, keys, server_cores, load_cores):
        rate = round(scenario.share * self.capacity(scenario, keys))
        # Latencies want more of them than CPU time does.
        more = {"rate": rate, "seconds": 2 * self.plan.seconds}
        answer, run = self.drive(scenario, subject, keys, server_cores, load_cores, more)
        run["value"] = process.number(answer.get("latency_ns", {}), "p99")
        run["rate"] = rate
        return None, run

    def run_dial(self, scenario, subject, keys, server_cores, load_cores):
        """The server is the same for all; who dials is the subject."""
        if subject != OURS:
            answer, run = self.drive(scenario, "epoll", keys, server_cores, load_cores)
        else:
            answer, run = self.dial(scenario, "epoll", keys, server_cores, load_cores, [])
        run["value"] = process.number(answer, "client_cpu_ns_per_operation")
        return None, run

    def dial(self, scenario, subject, keys, server_cores, load_cores, words):
        plan = self.plan
        server = process.Server(self.build, keys, subject, scenario, server_cores)
        try:
            command = [f"{self.build}/bench/peerhub-dial", "--port", str(server.port), "--pki", keys,
                       "--server-pid", str(server.pid), "--at-once", str(scenario.load["connections"]),
                       "--seconds", str(plan.seconds), "--warmup", str(plan.warmup), *words]  # fmt: skip
            if not process.is_there(command[0]):
                raise Missing("peerhub-dial is not there")
            answer, _ = process.run_load(command, load_cores, plan.seconds + plan.warmup + 60)
        finally:
            server.end()
        if not answer.get("operations"):
            raise Failed("peerhub-dial did nothing")
        return answer, {"load": answer, "command": command, "server": server.command}

    def run_resume(self, scenario, subject, keys, server_cores, load_cores):
        if subject == OURS:
            answer, run = self.dial(scenario, OURS, keys, server_cores, load_cores,
                                    ["--framing", "message", "--resume"])  # fmt: skip
        else:
            more = {"resume": None} if subject == "tickets" else {}
            answer, run = self.drive(scenario, subject, keys, server_cores, load_cores, more)
        if subject in (OURS, "tickets") and answer.get("resumed", 0) < 0.9 * answer["operations"]:
            raise Failed(f"only {answer.get('resumed', 0)} of {answer['operations']} were resumed")
        run["value"] = process.number(answer, "server_cpu_ns_per_operation")
        return None, run

    def hold_idle(self, scenario, subject, keys, count, server_cores, load_cores, act):
        """Call act(server) while `count` idle connections are there and the server is still."""
        server = process.Server(self.build, keys, subject, scenario, server_cores)
        load = None
        try:
            hold = 60 + count * 0.01
            options = {"mode": "idle", "connections": count, "size": scenario.load["size"],
                       "seconds": hold, "warmup": 0}  # fmt: skip
            if scenario.tls:
                options["settle"] = load_cores[0]
                load_cores = self.cores
            command = process.load_command(self.build, keys, scenario, subject, options, server)
            load = process.Process(command, load_cores)
            wait_for(lambda: established(server.port) >= count, 60 + count * 0.02, load,
                     f"{count} connections")  # fmt: skip
            wait_still(server.pid)
            wait_still(load.pid)
            return act(server), command, server.command
        finally:
            if load is not None:
                load.end()
            server.end()

    def run_memory(self, scenario, subject, keys, server_cores, load_cores):
        few, many = self.plan.idle[scenario.tls]
        sizes = []
        for count in (few, many):
            size, command, server = self.hold_idle(
                scenario, subject, keys, count, server_cores, load_cores,
                lambda server: resident_bytes(server.pid),
            )
            sizes.append(size)
        value = (sizes[1] - sizes[0]) / (many - few)
        return None, {"value": value, "resident_bytes": sizes, "connections": [few, many],
                      "command": command, "server": server}  # fmt: skip

    def run_close(self, scenario, subject, keys, server_cores, load_cores):
        count = self.plan.close_count[scenario.tls]

        def close_all(server):
            number = signal.SIGUSR1
            if subject == OURS and scenario.load["how"] == "abort":
                number = signal.SIGUSR2
            used = machine.thread_nanoseconds(server.pid)
            os.kill(server.pid, number)
            wait_for(lambda: established(server.port) == 0, 60, server, "the close of all")
            wait_still(server.pid)
            return (machine.thread_nanoseconds(server.pid) - used) / count

        value, command, server = self.hold_idle(
            scenario, subject, keys, count, server_cores, load_cores, close_all
        )
        return None, {"value": value, "connections": count, "command": command, "server": server}

    def run_storm(self, scenario, subject, keys, server_cores, load_cores):
        program = f"{self.build}/peerhub-stress"
        if not process.is_there(program):
            raise Missing("peerhub-stress is not there")
        how, flood = scenario.load["how"], scenario.load["flood"]
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            command = [program, "storm", "--connections", "1000" if flood else "100", "--tls", "none",
                       "--close", "100", "--rounds", "5", "--window", "1", "--how", how,
                       "--json", out.name] + (["--flood"] if flood else [])  # fmt: skip
            storm = process.Process(command, self.cores)
            try:
                process.read_all(storm, 180)
                code = storm.child.wait(process.END_SECONDS)
                if code != 0:
                    raise Failed(f"peerhub-stress storm ended with {code}: {storm.last_words()}")
                figures = read_json(out.name).get(how, {})
            finally:
                storm.end()
        what = figures.get("goodbye_sent" if how == "graceful" else "reset_seen", {})
        value = what.get("p99_ns" if flood else "p50_ns")
        if value is None:
            raise Failed("peerhub-stress storm measured nothing")
        return None, {"value": float(value), "storm": figures, "command": command, "server": []}

    # ---- one scenario ----

    def missing(self, scenario, keys):
        """Subjects whose program is not there, and why."""
        gone = {}
        for subject in self.plan.subjects(scenario) if scenario.kind != "storm" else ():
            try:
                server = "epoll" if scenario.kind == "dial" else subject
                process.server_command(self.build, keys, server, scenario)
            except Missing as why:
                gone[subject] = str(why)
        return gone

    def order(self, scenario, gone):
        """Who runs in one round: ours before each other one, or before each few."""
        others = [name for name in self.plan.subjects(scenario) if name != OURS and name not in gone]
        if not others:
            return [(0, OURS)]
        few = self.plan.peers_a_turn
        if scenario.dear and not self.plan.is_full:
            few = len(others)
        return [(at // few, name) for at in range(0, len(others), few)
                for name in [OURS, *others[at : at + few]]]  # fmt: skip

    def scenario(self, scenario, keys):
        kept = {"name": scenario.name, "runs": [], "failures": {}}
        gone = self.missing(scenario, keys)
        for number in range(self.plan.rounds_of(scenario)):
            for pair, subject in self.order(scenario, gone):
                if subject in gone:
                    continue
                try:
                    run = self.once(scenario, subject, keys)
                except Failed as failure:
                    gone[subject] = str(failure)
                    self.say(f"  {subject}: {failure}")
                    continue
                run.update(round=number, pair=pair)
                kept["runs"].append(run)
            if OURS in gone:
                break
        kept["failures"] = gone
        if scenario.base in self.capacities:
            kept["capacity"] = self.capacities[scenario.base]
        return kept

    def line(self, scenario, kept):
        words = []
        for subject in self.plan.subjects(scenario):
            values = [run["value"] for run in kept["runs"] if run["subject"] == subject]
            if values:
                words.append(f"{subject} {median(values):,.0f}")
        disturbed = sum(run["disturbed"] for run in kept["runs"])
        note = f"  ({disturbed} of {len(kept['runs'])} disturbed)" if disturbed else ""
        return f"{scenario.name:24} {scenario.unit:3} " + "  ".join(words) + note

    # ---- everything ----

    def micro(self):
        """Google Benchmark's own JSON."""
        if not process.is_there(self.bench):
            raise Failed("peerhub-bench is not built")
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            command = [self.bench, f"--benchmark_min_time={self.plan.micro_seconds}",
                       f"--benchmark_filter={self.plan.micro_filter}",
                       "--benchmark_out_format=json", f"--benchmark_out={out.name}"]  # fmt: skip
            bench = process.Process(command, self.cores)
            try:
                process.read_all(bench, 1800)
                code = bench.child.wait(process.END_SECONDS)
                if code != 0:
                    raise Failed(f"peerhub-bench ended with {code}: {bench.last_words()}")
                return read_json(out.name)
            finally:
                bench.end()

    def everything(self, chosen, with_micro, result):
        """Fill `result`; what was measured before an interruption stays in it."""
        result["environment"] = machine.fingerprint(self.root)
        result["core_distance_ns"] = [machine.core_distance_ns(self.bench, self.cores)]
        begun = time.monotonic()
        quiet = sum(self.plan.estimate(scenario) for scenario in chosen) + (60 if with_micro else 0)
        self.say(f"{len(chosen)} scenarios, on a quiet machine about {quiet / 60:.0f} minutes; repeats of "
                 f"disturbed runs take at most {self.plan.repeat_seconds / 60:.0f} more")  # fmt: skip
        try:
            with tempfile.TemporaryDirectory(prefix="peerhub-bench-") as keys:
                process.make_keys(keys)
                for scenario in chosen:
                    kept = self.scenario(scenario, keys)
                    result["scenarios"].append(kept)
                    self.say(f"{time.monotonic() - begun:5.0f} s  " + self.line(scenario, kept))
            if with_micro:
                self.say("micro-benchmarks …")
                result["micro"] = self.micro()
        except KeyboardInterrupt:
            result["interrupted"] = True
        result["core_distance_ns"].append(machine.core_distance_ns(self.bench, self.cores))
        result["repeats_ended"] = self.repeat_seconds <= 0
        result["environment"]["core_distance_ns"] = result["core_distance_ns"]
        result["environment"]["load_average_end"] = machine.read("/proc/loadavg")
        result["seconds"] = round(time.monotonic() - begun, 1)


def new_result(command, plan):
    return {
        "format": FORMAT,
        "command": command,
        "kind": "full" if plan.is_full else "short",
        "begun": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "plan": {
            "rounds": plan.rounds,
            "seconds": plan.seconds,
            "warmup": plan.warmup,
            "foreign_percent_most": plan.foreign_most,
        },
        "interrupted": False,
        "scenarios": [],
        "micro": None,
    }


# ---- what is read from the kernel ----------------------------------------------------------------


def own_seconds():
    """CPU of this driver and of all its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def established(port):
    """How many connections a server on this port has, in whatever process they are."""
    local = f":{port:04X}"
    count = 0
    for line in machine.read("/proc/net/tcp").splitlines()[1:]:
        words = line.split(None, 4)
        if len(words) > 3 and words[3] == "01" and words[1].endswith(local):
            count += 1
    return count


def resident_bytes(pid):
    return int(machine.read(f"/proc/{pid}/statm", "0 0").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def wait_for(is_there, seconds, child, what):
    deadline = time.monotonic() + seconds
    while not is_there():
        if child.child.poll() is not None:
            raise Failed(f"{child.command[3]} ended before {what}: {child.last_words()}")
        if time.monotonic() > deadline:
            raise Failed(f"{what} not there after {seconds:.0f} s")
        time.sleep(0.05)


def wait_still(pid):
    """Until the process has used next to no CPU for a while; at most 60 seconds."""
    deadline = time.monotonic() + 60
    used = machine.thread_nanoseconds(pid)
    while time.monotonic() < deadline:
        time.sleep(STILL_SECONDS)
        now = machine.thread_nanoseconds(pid)
        if now - used < 500_000:
            return
        used = now


def read_json(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise Failed(f"{path}: {error}") from error


def targets(build):
    """What of this build is measured: peers that this machine lacks the libraries for are not there."""
    done = subprocess.run(["cmake", "--build", build, "--target", "help"], capture_output=True, check=False,
                          text=True)  # fmt: skip
    names = {line.split(":")[0].strip(". ") for line in done.stdout.splitlines()}
    ours = ["peerhub-bench", "peerhub-echo", "peerhub-stress", "peerhub-load", "peerhub-dial"]
    return ours + sorted(name for name in names if name.startswith("peer-"))


def build_programs(root, build, say):
    """Configure the build, the release preset's when it is new, and build what is measured."""
    os.makedirs(build, exist_ok=True)
    log = f"{build}/bench-build.log"
    configure = ["cmake", "--preset", "release", "-B", build, "-DPEERHUB_BENCH_PEERS=ON"]
    if os.path.exists(f"{build}/CMakeCache.txt"):
        configure = ["cmake", "-DPEERHUB_BENCH_PEERS=ON", build]
    with open(log, "w", encoding="utf-8") as file:

        def run(command):
            say("  " + " ".join(command))
            file.flush()
            if subprocess.run(command, cwd=root, stdout=file, stderr=file, check=False).returncode != 0:
                sys.stderr.write("".join(open(log, encoding="utf-8").readlines()[-40:]))
                raise Failed(f"the build failed: {log}")

        run(configure)
        run(["cmake", "--build", build, "--target", *targets(build)])


def choose(patterns, is_full):
    """The scenarios whose names match one of the patterns, separated by commas, or begin with one."""
    if patterns is None:
        return [scenario for scenario in SCENARIOS if is_full or scenario.short]
    return [
        scenario
        for scenario in SCENARIOS
        if any(
            fnmatch.fnmatchcase(scenario.name, whole)
            for pattern in patterns.split(",")
            for whole in (pattern, pattern + "/*")
        )
    ]
