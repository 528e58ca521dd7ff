"""The machine under the measurement: what it is, who else runs on it, how far its cores are apart."""

import glob
import os
import platform
import re
import subprocess

TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


def read(path, default=""):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return default


def command_line(*words):
    """The first line of what a command says, "" when it cannot run."""
    try:
        done = subprocess.run(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20, check=False, text=True
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = done.stdout.strip().splitlines()
    return lines[0] if lines and done.returncode == 0 else ""


PACKAGES = (
    "liburing2", "libck0", "libssl3", "libjemalloc2", "libuv1", "libevent-2.1-7", "libboost1.74-dev",
    "libnng1", "libzmq5", "nats-server", "haproxy", "gcc-12", "libbenchmark1debian",
)


def packages():
    found = {}
    for name in PACKAGES:
        version = command_line("dpkg-query", "-W", "-f=${db:Status-Status} ${Version}\n", name)
        if version.startswith("installed "):
            found[name] = version.split(" ", 1)[1]
    return found


def fingerprint(root):
    """What figures depend on beside the code: two results are alike only when these are."""
    cpu = re.search(r"model name\s*:\s*(.*)", read("/proc/cpuinfo"))
    memory = re.search(r"MemTotal:\s*(\d+)", read("/proc/meminfo"))
    mitigations = {}
    for path in sorted(glob.glob("/sys/devices/system/cpu/vulnerabilities/*")):
        state = read(path)
        if state and state != "Not affected":
            mitigations[os.path.basename(path)] = state
    commit = command_line("git", "-C", root, "rev-parse", "--short=12", "HEAD")
    changed = command_line("git", "-C", root, "status", "--porcelain", "--untracked-files=no")
    return {
        "kernel": platform.release(),
        "cpu": cpu.group(1) if cpu else platform.machine(),
        "cpus": os.cpu_count(),
        "memory_mib": int(memory.group(1)) // 1024 if memory else 0,
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "none (virtual machine)"),
        "mitigations": mitigations,
        "packages": packages(),
        "commit": commit + (" with changes" if changed else ""),
        "compiler": command_line("cc", "--version"),
        "load_average": read("/proc/loadavg"),
    }


# ---- who else runs -----------------------------------------------------------------------------


def _busy_and_stolen():
    """Seconds of all cores since boot: at work, and taken away by the hypervisor."""
    fields = [int(word) for word in read("/proc/stat").splitlines()[0].split()[1:]]
    user, nice, system, _, _, irq, softirq, steal = fields[:8]
    return (user + nice + system + irq + softirq) * TICK_SECONDS, steal * TICK_SECONDS


def process_seconds(pid):
    """CPU seconds of a process, its ended children included; 0 when it is gone."""
    text = read(f"/proc/{pid}/stat")
    if not text:
        return 0.0
    fields = text.rsplit(")", 1)[1].split()
    return sum(int(word) for word in fields[11:15]) * TICK_SECONDS


def thread_nanoseconds(pid):
    """CPU ns of a process by the scheduler's own clock: the sum over its threads."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        words = read(path).split()
        total += int(words[0]) if words else 0
    return total


class Foreign:
    """What others used of the machine between begin and end, in per cent of one core.

    The kernel counts the machine's time in ticks, so a second is good to some two or three per cent.
    """

    def __init__(self, cores):
        self.cores = cores

    def begin(self, now, own_seconds):
        self.time = now
        self.own = own_seconds
        self.busy, self.stolen = _busy_and_stolen()
        self.load = read("/proc/loadavg").split()[:1]

    def end(self, now, own_seconds):
        busy, stolen = _busy_and_stolen()
        seconds = max(now - self.time, 0.01)
        foreign = busy - self.busy - (own_seconds - self.own)
        return {
            "foreign_percent": round(max(foreign, 0.0) / seconds * 100, 1),
            "steal_percent": round((stolen - self.stolen) / seconds * 100, 1),
            "load_before": float(self.load[0]) if self.load else 0.0,
            "load_after": float(read("/proc/loadavg", "0").split()[0]),
        }


# ---- how far apart -------------------------------------------------------------------------------


def core_distance_ns(program, cores):
    """One way of a cache line between the two cores, as peerhub-bench measures it; None if it cannot."""
    line = command_line(program, "--core-distance", str(cores[0]), str(cores[1]))
    try:
        return round(float(line), 1)
    except ValueError:
        return None


def distance_word(nanoseconds):
    """The two placements of these machines: about 40 ns is near, about 230 ns is far. On a machine that is
    too busy to tell, nobody knows."""
    if nanoseconds is None or nanoseconds > 1000:
        return "unknown"
    return "near" if nanoseconds < 110 else "far"
