"""Tests of bench/report; run by report_test.sh."""

import copy
import json
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
import unittest
from html import escape

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "bench"))

from report import compare, driver, machine, process, result, scenarios  # noqa: E402
from report.page import page  # noqa: E402
from report.plots import _VARIABLES, bytes_text, nanoseconds_text, percentile_curve  # noqa: E402

SAMPLE = os.path.join(HERE, "report_sample.json")


def run(subject, value, number=0, pair=0, disturbed=False, p99=None):
    made = {"subject": subject, "value": value, "round": number, "pair": pair, "disturbed": disturbed,
            "foreign": {"foreign_percent": 1.0}}  # fmt: skip
    if p99 is not None:
        made["load"] = {"latency_ns": {"p50": p99 / 2, "p99": p99, "histogram": [[p99 / 2, 99], [p99, 1]]}}
    return made


def kept(name, *runs):
    return {"name": name, "runs": list(runs), "failures": {}}


def data_of(*kept_ones, micro=None):
    return {
        "format": 1, "kind": "short", "command": "ci/bench", "begun": "", "interrupted": False,
        "plan": {"rounds": 1, "seconds": 1, "warmup": 0, "foreign_percent_most": 8},
        "environment": {"kernel": "k", "cpu": "c", "cpus": 2, "mitigations": {}},
        "scenarios": list(kept_ones), "micro": micro,
    }  # fmt: skip


class Table(unittest.TestCase):
    def test_the_table_is_whole(self):
        names = [scenario.name for scenario in scenarios.SCENARIOS]
        self.assertEqual(len(names), len(set(names)))
        for scenario in scenarios.SCENARIOS:
            self.assertIn(scenario.row, scenarios.ROWS)
            self.assertEqual(scenario.subjects[0], scenarios.OURS)
            for subject in scenario.subjects:
                self.assertIn(subject, scenarios.SUBJECTS)
            for goal in scenario.goals:
                self.assertIn(goal.against, ["best", "limit", "p99", "value", *scenarios.SUBJECTS] + names)
            if scenario.kind == "open":
                self.assertIn(scenario.base, names)
        # Each row of the table has something behind it.
        rows = {scenario.row for scenario in scenarios.SCENARIOS}
        rows |= {goal.row for goal in scenarios.MICRO_GOALS}
        self.assertEqual(rows, set(scenarios.ROWS))

    def test_each_target_has_its_answers(self):
        goals = {(one.name, goal.against) for one in scenarios.SCENARIOS for goal in one.goals}
        goals |= {(goal.benchmark, goal.counter) for goal in scenarios.MICRO_GOALS}
        for target in scenarios.TARGETS:
            self.assertTrue(target.parts or target.away, target.what)
            for _, scenario, asked in target.parts:
                self.assertIn((scenario, asked), goals, target.what)
        asked = {(scenario, asked) for target in scenarios.TARGETS for _, scenario, asked in target.parts}
        self.assertEqual({goal for goal in goals if goal not in asked and not goal[0].endswith("/apart")}, set())


class Figures(unittest.TestCase):
    def test_disturbed_runs_do_not_count(self):
        found = result.figures(kept("x", run("epoll", 10), run("epoll", 12), run("epoll", 900, disturbed=True)))
        self.assertEqual(found["epoll"].value, 11)
        self.assertEqual((found["epoll"].runs, found["epoll"].disturbed), (3, 1))

    def test_all_disturbed_is_better_than_nothing(self):
        found = result.figures(kept("x", run("epoll", 10, disturbed=True), run("epoll", 30, disturbed=True)))
        self.assertEqual(found["epoll"].value, 20)

    def test_ratios_are_formed_inside_pairs(self):
        # The machine became twice as slow between the rounds: no pair shows it.
        one = kept("x", run("peerhub", 9, 0, 0), run("epoll", 10, 0, 0), run("peerhub", 18, 1, 0),
                   run("epoll", 20, 1, 0), run("peerhub", 5, 0, 1), run("libuv", 10, 0, 1))  # fmt: skip
        self.assertAlmostEqual(result.ratio(one, "epoll").value, 0.9)
        self.assertEqual(result.ratio(one, "epoll").pairs, 2)
        self.assertAlmostEqual(result.ratio(one, "libuv").value, 0.5)
        self.assertIsNone(result.ratio(one, "asio"))

    def test_a_disturbed_half_spoils_its_pair(self):
        one = kept("x", run("peerhub", 9, 0), run("epoll", 10, 0), run("peerhub", 90, 1, disturbed=True),
                   run("epoll", 10, 1))  # fmt: skip
        self.assertAlmostEqual(result.ratio(one, "epoll").value, 0.9)

    def test_the_limit_program_is_no_peer(self):
        found = result.figures(kept("x", run("peerhub", 1), run("uring", 2), run("epoll", 4), run("asio", 3)))
        self.assertEqual(result.best_peer(found).subject, "asio")

    def test_percentiles_of_a_histogram(self):
        curve = percentile_curve([(100, 90), (200, 9), (300, 1)])
        self.assertEqual([ns for _, ns in curve], [100, 200, 300])
        self.assertAlmostEqual(curve[0][0], 10)  # one in ten is slower
        self.assertAlmostEqual(curve[1][0], 100)
        self.assertEqual(curve[2][0], 100.0)  # the slowest of all that there were

    def test_words(self):
        self.assertEqual(nanoseconds_text(1234), "1.23 µs")
        self.assertEqual(nanoseconds_text(None), "—")
        self.assertEqual(bytes_text(320), "320 B")
        self.assertEqual(machine.distance_word(41.0), "near")
        self.assertEqual(machine.distance_word(230.0), "far")
        self.assertEqual(machine.distance_word(None), "unknown")
        self.assertEqual(machine.distance_word(35000.0), "unknown")


class Judging(unittest.TestCase):
    def verdicts(self, *kept_ones, micro=None):
        return {(one.scenario, one.against, one.figure): one
                for one in result.judgements(data_of(*kept_ones, micro=micro))}  # fmt: skip

    def test_each_kind_of_goal(self):
        found = self.verdicts(
            kept("echo/64B/64", run("peerhub", 90, 0, 0, p99=50), run("epoll", 100, 0, 0, p99=40),
                 run("peerhub", 90, 0, 1), run("uring", 80, 0, 1)),
            kept("memory/tls", run("peerhub", 900)),
            kept("shards/1", run("peerhub", 100)), kept("shards/2", run("peerhub", 112)),
            micro={"benchmarks": [{"name": "close_warm/abort", "cpu_time": 1, "p50_ns": 80, "allocated": 0}]},
        )  # fmt: skip
        best = found["echo/64B/64", "epoll", ""]
        self.assertAlmostEqual(best.reached, 0.9)
        self.assertEqual(best.verdict, result.REACHED)
        limit = found["echo/64B/64", "bare io_uring", ""]
        self.assertAlmostEqual(limit.reached, 1.125)
        self.assertEqual(limit.verdict, result.MISSED)
        p99 = found["echo/64B/64", "epoll", "p99 latency"]
        self.assertAlmostEqual(p99.reached, 1.25)
        self.assertEqual(p99.verdict, result.MISSED)
        memory = found["memory/tls", "own goal", ""]
        self.assertEqual((memory.reached, memory.verdict, memory.is_ratio), (900, result.REACHED, False))
        shards = found["shards/2", "1 shard", ""]
        self.assertAlmostEqual(shards.reached, 1.12)
        self.assertEqual(shards.verdict, result.NEAR)
        self.assertEqual(found["close_warm", "own goal", ""].verdict, result.REACHED)
        self.assertEqual(found["close_busy", "own goal", ""].verdict, result.UNKNOWN)

    def test_the_table_of_targets_has_every_row_and_says_why_not(self):
        one = kept("echo/64B/64", run("peerhub", 90), run("epoll", 100))
        bare = kept("relay/1", run("peerhub", 90))
        bare["failures"] = {"nats": "nats-server is not installed"}
        found = {answer.target.what: answer for answer in result.answers(data_of(one, bare))}
        self.assertEqual(len(found), len(scenarios.TARGETS))
        echo = found["raw echo, 64 B, CPU; by connections"]
        self.assertEqual((echo.verdict, echo.text), (result.REACHED, "reached (1 of 4)"))
        self.assertEqual([not why for _, _, why in echo.parts], [False, True, False, False])
        self.assertIn("1, 1,000, 10,000: not in this run", echo.note)
        relay = found["relay through the hub"]
        self.assertEqual(relay.verdict, result.UNKNOWN)
        self.assertIn("one to one: nats-server: nats-server is not installed", relay.note)
        self.assertIn("micro-benchmarks were not run", found["ph_close: bytes allocated"].note)
        self.assertIn("--full", found["raw echo, 1 KiB, CPU, two cores"].note)
        flat = found["memory of a connection flat from 1,000 to 1,000,000"]
        self.assertEqual((flat.verdict, flat.parts), (result.UNKNOWN, []))
        self.assertIn("ci/million", flat.note)

    def test_the_worst_part_is_the_rows(self):
        found = result.answers(data_of(
            kept("relay/1", run("peerhub", 10), run("nats", 100)),
            kept("relay/1000", run("peerhub", 90), run("nats", 100, disturbed=True))))  # fmt: skip
        relay = next(answer for answer in found if answer.target.what == "relay through the hub")
        self.assertEqual(relay.verdict, result.MISSED)

    def test_references_are_no_peers(self):
        found = self.verdicts(kept("handshake/resumed", run("peerhub", 20), run("epoll", 100),
                                   run("tickets", 10)))  # fmt: skip
        self.assertAlmostEqual(found["handshake/resumed", "epoll", ""].reached, 0.2)

    def test_a_close_loop_is_named(self):
        found = self.verdicts(kept("close/plain/abort", run("peerhub", 12), run("epoll", 10), run("asio", 5)))
        self.assertAlmostEqual(found["close/plain/abort", "epoll", ""].reached, 1.2)

    def test_without_a_peer_nothing_is_reached(self):
        found = self.verdicts(kept("echo/64B/64", run("peerhub", 1)))
        self.assertTrue(found)
        self.assertEqual({one.verdict for one in found.values()}, {result.UNKNOWN})

    def test_limits_of_a_verdict(self):
        self.assertEqual(result.verdict(0.95, 0.95), result.REACHED)
        self.assertEqual(result.verdict(0.99, 0.95), result.NEAR)
        self.assertEqual(result.verdict(1.0, 0.95), result.MISSED)
        self.assertEqual(result.verdict(0, 0), result.REACHED)


class Comparing(unittest.TestCase):
    def setUp(self):
        self.old = result.load(SAMPLE)
        self.new = copy.deepcopy(self.old)
        self.said = []

    def worse(self):
        self.said.clear()
        return compare.compare(self.old, self.new, self.said.append)

    def slow_down(self, factor):
        for one in self.new["scenarios"]:
            for this in one["runs"]:
                if this["subject"] == "peerhub":
                    this["value"] *= factor

    def test_a_result_is_not_worse_than_itself(self):
        self.assertEqual(self.worse(), 0)

    def test_little_is_noise_much_is_not(self):
        self.slow_down(1.03)
        self.assertEqual(self.worse(), 0)
        self.slow_down(2)
        self.assertEqual(self.worse(), len(self.new["scenarios"]))
        self.assertTrue(any(line.startswith("worse") for line in self.said))

    def test_better_is_not_worse(self):
        self.slow_down(0.3)
        self.assertEqual(self.worse(), 0)
        self.assertTrue(any(line.startswith("better") for line in self.said))

    def test_a_slower_machine_is_not_a_slower_program(self):
        for one in self.new["scenarios"]:
            if len({this["subject"] for this in one["runs"]}) > 1:
                for this in one["runs"]:
                    this["value"] *= 1.5
        self.assertEqual(self.worse(), 0)

    def test_a_lost_figure_is_worse(self):
        one = self.new["scenarios"][0]
        one["runs"] = [this for this in one["runs"] if this["subject"] != "peerhub"]
        self.assertEqual(self.worse(), 1)

    def test_micro_benchmarks_count(self):
        self.old["micro"] = {"benchmarks": [{"name": "a", "cpu_time": 10.0, "time_unit": "ns"}]}
        self.new["micro"] = {"benchmarks": [{"name": "a", "cpu_time": 14.0, "time_unit": "ns"}]}
        self.assertEqual(self.worse(), 1)
        self.new["micro"]["benchmarks"][0]["cpu_time"] = 10.9  # under one nanosecond
        self.assertEqual(self.worse(), 0)

    def test_another_machine_is_said(self):
        self.new["environment"]["kernel"] = "another"
        self.worse()
        self.assertIn("kernel differs", self.said[0])


class Reading(unittest.TestCase):
    def test_the_sample_is_good(self):
        result.check(result.load(SAMPLE))

    def test_what_is_damaged_is_refused(self):
        for break_it in (
            lambda data: data.pop("format"),
            lambda data: data.update(format=99),
            lambda data: data.update(scenarios={}),
            lambda data: data.pop("environment"),
            lambda data: data["scenarios"].append(3),
            lambda data: data["scenarios"][0].pop("runs"),
            lambda data: data["scenarios"][0]["runs"][0].pop("value"),
            lambda data: data["scenarios"][0]["runs"][0].update(value=float("nan")),
            lambda data: data["scenarios"][0]["runs"][0].update(value="1"),
            lambda data: data["scenarios"][0]["runs"][0].pop("subject"),
            lambda data: data.update(micro={}),
        ):
            data = result.load(SAMPLE)
            break_it(data)
            with self.assertRaises(result.Bad):
                result.check(data)

    def test_what_is_no_json_is_refused(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write("{")
            file.flush()
            with self.assertRaises(result.Bad):
                result.load(file.name)
        with self.assertRaises(result.Bad):
            result.load("/nowhere/at/all.json")


class Page(unittest.TestCase):
    def test_one_file_with_everything_in_it(self):
        html = page(result.load(SAMPLE))
        # Names of XML spaces inside SVG are no addresses that anything loads.
        text = re.sub(r'xmlns(:\w+)?="[^"]*"', "", html)
        self.assertNotIn("http", text)
        self.assertNotRegex(text, r"<(script|link|img|iframe)\b")
        self.assertEqual([target for target in re.findall(r' href="([^"]*)"', text) if target[0] != "#"], [])
        # Every colour of the pictures is the page's, light and dark.
        for marker, variable in _VARIABLES.items():
            self.assertNotIn(marker, html)
            self.assertEqual(html.count(f"--{variable}:"), 2)
        for one in result.load(SAMPLE)["scenarios"]:
            self.assertIn(scenarios.by_name()[one["name"]].title, html)
        for anchor in re.findall(r'href="#([a-z]+)"', html):
            self.assertIn(f'id="{anchor}"', html)

    def test_the_targets_come_first(self):
        html = page(result.load(SAMPLE))
        self.assertLess(html.index('<table class="targets">'), html.index('class="tiles"'))
        for target in scenarios.TARGETS:
            self.assertIn(escape(target.what), html)

    def one(self):
        """The sample's first scenario alone: quickly drawn."""
        data = result.load(SAMPLE)
        del data["scenarios"][1:]
        return data

    def test_nothing_in_it_is_markup(self):
        data = self.one()
        data["command"] = "<b>command"
        data["scenarios"][0]["failures"] = {"epoll": "<script>alert()</script>"}
        html = page(data)
        self.assertNotIn("<b>command", html)
        self.assertNotIn("<script>", html)
        self.assertIn("&lt;script&gt;", html)

    def test_a_result_with_nothing_in_it(self):
        data = data_of()
        data["interrupted"] = True
        html = page(data)
        self.assertIn("interrupted", html)
        self.assertNotIn("<svg", html)

    def test_the_disturbed_are_counted_aloud(self):
        data = self.one()
        for one in data["scenarios"]:
            for this in one["runs"]:
                this["disturbed"] = True
        self.assertIn("stayed over the limit", page(data))


# ---- the driver, with stand-ins ------------------------------------------------------------------

SERVER = """#!/bin/sh
echo ready PORT
exec sleep 60
"""
LOAD = """#!/bin/sh
SLEEP
cat <<'END'
{"operations": 5, "operations_per_second": 5, "server_cpu_ns_per_operation": 100, "errors": ERRORS,
 "latency_ns": {"p50": 1, "p99": 2, "p999": 3, "max": 3, "histogram": [[1, 4], [3, 1]]}}
END
"""


class Driving(unittest.TestCase):
    def setUp(self):
        self.place = tempfile.TemporaryDirectory()
        self.build = self.place.name
        os.mkdir(f"{self.build}/bench")
        for name in ("peerhub-echo", "bench/peer-uring", "bench/peer-epoll", "bench/peer-libuv"):
            self.program(name, SERVER.replace("PORT", "127.0.0.1 1" if "echo" in name else "1"))
        self.load()

    def tearDown(self):
        # What was told to end may need a moment for it.
        deadline = time.monotonic() + 60
        while self.left_over() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertEqual(self.left_over(), [])
        self.place.cleanup()

    def program(self, name, text):
        path = f"{self.build}/{name}"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)

    def load(self, errors=0, sleep=""):
        self.program("bench/peerhub-load", LOAD.replace("ERRORS", str(errors)).replace("SLEEP", sleep))

    def left_over(self):
        found = []
        for pid in os.listdir("/proc"):
            if pid.isdigit() and int(pid) >= os.getpid() and self.build in machine.read(f"/proc/{pid}/cmdline"):
                found.append(pid)
        return found

    def driver(self, foreign=1000.0, rounds=2, is_full=False):
        plan = driver.Plan(is_full, rounds=rounds, seconds=0.1, foreign_most=foreign)
        self.said = []
        return driver.Driver(ROOT, self.build, plan, self.said.append)

    def test_ours_runs_before_each_peer(self):
        one = self.driver(is_full=True).scenario(scenarios.by_name()["echo/64B/1"], "keys")
        turns = [(this["round"], this["subject"]) for this in one["runs"] if this["round"] == 0]
        self.assertEqual([subject for _, subject in turns],
                         ["peerhub", "uring", "peerhub", "epoll", "peerhub", "libuv"])  # fmt: skip
        self.assertEqual(set(one["failures"]), {"libevent", "asio"})
        self.assertEqual(result.figures(one)["epoll"].value, 100)

    def test_in_the_short_form_peers_share_a_run_of_ours(self):
        work = self.driver()
        echo = work.order(scenarios.by_name()["echo/64B/1"], {"asio": ""})
        self.assertEqual(echo, [(0, "peerhub"), (0, "uring"), (0, "epoll"), (1, "peerhub"), (1, "libuv"),
                                (1, "libevent")])  # fmt: skip
        dear = work.order(scenarios.by_name()["tls/64B/10000"], {})
        self.assertEqual(dear, [(0, "peerhub"), (0, "epoll"), (0, "libuv"), (0, "libevent")])

    def test_an_open_loop_has_its_rate_from_the_best_peer(self):
        one = self.driver(rounds=1).scenario(scenarios.by_name()["open/echo/64B/80"], "keys")
        self.assertEqual(one["capacity"], 5.0)
        self.assertEqual({this["rate"] for this in one["runs"]}, {4})
        self.assertEqual({this["value"] for this in one["runs"]}, {2.0})  # the p99
        self.assertIn("--rate", one["runs"][0]["command"])

    def test_repeats_have_an_end(self):
        work = self.driver(foreign=5.0, rounds=1)
        work.attempt = lambda *_: {"value": 1, "foreign": {"foreign_percent": 50.0, "steal_percent": 0}}
        work.repeat_seconds = 0
        self.assertEqual(work.once(scenarios.by_name()["echo/64B/1"], "peerhub", "keys")["attempts"], 1)

    def test_a_product_that_is_missing_is_said(self):
        is_there, process.is_there = process.is_there, lambda program: False
        try:
            with self.assertRaises(process.Missing) as why:
                process.server_command(self.build, "keys", "nats", scenarios.by_name()["relay/plain"])
        finally:
            process.is_there = is_there
        self.assertIn("nats-server is not installed", str(why.exception))

    def test_errors_are_no_figure(self):
        self.load(errors=3)
        one = self.driver().scenario(scenarios.by_name()["echo/64B/1"], "keys")
        self.assertEqual(one["runs"], [])
        self.assertIn("3 errors", one["failures"]["peerhub"])

    def test_disturbed_runs_are_repeated_and_the_quietest_is_kept(self):
        work = self.driver(foreign=5.0, rounds=1)
        noise = iter([50.0, 20.0, 30.0, 40.0])
        work.attempt = lambda *_: {"value": 1, "foreign": {"foreign_percent": next(noise), "steal_percent": 0}}
        kept_run = work.once(scenarios.by_name()["echo/64B/1"], "peerhub", "keys")
        self.assertEqual((kept_run["foreign"]["foreign_percent"], kept_run["attempts"]), (20.0, 4))
        self.assertTrue(kept_run["disturbed"])

    def test_cores_that_moved_disturb_a_run(self):
        work = self.driver()
        quiet = {"foreign_percent": 0, "steal_percent": 0}
        self.assertTrue(work.is_disturbed({"foreign": quiet, "distance_ns": [41, 229]}))
        self.assertFalse(work.is_disturbed({"foreign": quiet, "distance_ns": [41, 45]}))

    def cli(self, *words, **more):
        return subprocess.Popen([os.path.join(ROOT, "ci", "bench"), *words], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, **more)  # fmt: skip

    def test_interrupted_it_ends_all_and_writes_what_it_has(self):
        self.load(sleep="sleep 30")
        out = f"{self.build}/out"
        work = self.cli("--no-build", "--build", self.build, "--out", out, "--only", "echo/64B/1")
        deadline = time.monotonic() + 60
        while not any("peerhub-load" in machine.read(f"/proc/{pid}/cmdline") for pid in self.left_over()
                      if pid != str(work.pid)) and time.monotonic() < deadline:  # fmt: skip
            time.sleep(0.05)
        work.send_signal(signal.SIGINT)
        said, _ = work.communicate(timeout=120)
        self.assertEqual(work.returncode, 130, said)
        self.assertTrue(result.load(f"{out}/result.json")["interrupted"])

    def test_exit_codes(self):
        out = f"{self.build}/out"
        slow = result.load(SAMPLE)
        for one in slow["scenarios"]:
            for this in one["runs"]:
                if this["subject"] == "peerhub":
                    this["value"] *= 3
        with open(f"{self.build}/slow.json", "w", encoding="utf-8") as file:
            json.dump(slow, file)
        for code, words in (
            (0, ["--compare", SAMPLE, "--with", SAMPLE]),
            (1, ["--compare", SAMPLE, "--with", f"{self.build}/slow.json"]),
            (2, ["--compare", SAMPLE]),  # there is no last result in this place
            (2, ["--only", "nothing/like/it", "--no-build"]),
            (2, ["--rounds", "0"]),
        ):
            work = self.cli("--out", out, *words)
            said, _ = work.communicate(timeout=120)
            self.assertEqual(work.returncode, code, said)


if __name__ == "__main__":
    unittest.main()
