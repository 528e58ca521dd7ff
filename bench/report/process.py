"""Servers and load generators: their command lines, their lives, and an end for each of them.

Whatever is started here is ended here, by its own process id: at the end of a run, on an error, on
Ctrl-C, and by the kernel when the driver itself is killed.
"""

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import tempfile
import time

from . import machine
from .scenarios import OURS

PRODUCTS = ("nats", "haproxy")
READY_SECONDS = 60
END_SECONDS = 60
OUTPUT_BYTES_MAX = 4 << 20
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    """A run that gave no figure; the text says why."""


def _die_with_driver():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def pinned(cores, command):
    return ["taskset", "-c", ",".join(str(core) for core in cores)] + command


class Process:
    """A child in a session of its own, so that Ctrl-C reaches the driver alone."""

    def __init__(self, command, cores):
        self.command = pinned(cores, command)
        self.errors = tempfile.TemporaryFile()
        try:
            self.child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                start_new_session=True,
                preexec_fn=_die_with_driver,
            )
        except OSError as error:
            self.errors.close()
            raise Failed(f"{command[0]}: {error.strerror}") from error

    @property
    def pid(self):
        # taskset becomes the program: one process, one id.
        return self.child.pid

    def last_words(self):
        self.errors.seek(0)
        text = self.errors.read(OUTPUT_BYTES_MAX).decode(errors="replace").strip()
        return text.splitlines()[-1][:300] if text else "no word on standard error"

    def line(self, seconds):
        """The next line of standard output; Failed when none comes."""
        data = b""
        deadline = time.monotonic() + seconds
        stream = self.child.stdout.fileno()
        while not data.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([stream], [], [], left)[0]:
                raise Failed(f"{self.command[3]} says nothing for {seconds} s")
            byte = os.read(stream, 1)
            if not byte or len(data) > 4096:
                self.child.wait(END_SECONDS)
                raise Failed(f"{self.command[3]} ended: {self.last_words()}")
            data += byte
        return data.decode(errors="replace").strip()

    def end(self):
        """SIGTERM, then SIGKILL; True when it ended in order."""
        code = None
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        try:
            code = self.child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.child.stdout.close()
        self.errors.close()
        return code == 0


# ---- keys --------------------------------------------------------------------------------------


def make_keys(directory):
    """A P-256 authority, a server and a client under it: ca, server and client, .pem and .key."""

    def openssl(*words):
        done = subprocess.run(
            ["openssl", *words], cwd=directory, capture_output=True, check=False, text=True
        )
        if done.returncode != 0:
            raise Failed(f"openssl {words[0]}: {done.stderr.strip()[-300:]}")

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-days", "2", "-subj", "/CN=bench", "-keyout", "ca.key", "-out", "ca.pem")
    for name in ("server", "client"):
        openssl("req", *key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        with open(os.path.join(directory, "names"), "w", encoding="utf-8") as file:
            file.write("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", f"{name}.pem",
        )


# ---- command lines -----------------------------------------------------------------------------


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def nats_settings(keys):
    """nats-server's options leave no choice of the time that a handshake may take; its file does."""
    path = f"{keys}/nats.conf"
    if os.path.isdir(keys):
        with open(path, "w", encoding="utf-8") as file:
            file.write(
                f'tls {{ cert_file: "{keys}/server.pem", key_file: "{keys}/server.key", '
                f'ca_file: "{keys}/ca.pem", verify: true, timeout: 30 }}\n'
            )
    return path


def haproxy_settings(keys, port, backend):
    path = f"{keys}/haproxy.cfg"
    with open(path, "w", encoding="utf-8") as file:
        file.write(
            "global\n\tnbthread 1\n\tmaxconn 1000\n"
            "defaults\n\tmode tcp\n\ttimeout connect 10s\n\ttimeout client 600s\n\ttimeout server 600s\n"
            f"listen relay\n\tbind 127.0.0.1:{port}\n\tserver echo 127.0.0.1:{backend}\n"
        )
    return path


def server_command(build, keys, subject, scenario):
    """How a subject is started for a scenario. Failed when it is not there."""
    if subject == OURS and scenario.row == "relay":
        command = [f"{build}/bench/peer-relay", "--port", "0", "--threads", "1", "--framing", "message"]
        if scenario.tls:
            command += ["--tls", "--pki", keys]
    elif subject == OURS:
        command = [
            f"{build}/peerhub-echo", "--port", "0", "--address", "127.0.0.1",
            "--threads", str(scenario.threads), "--framing", scenario.framing,
        ]
        if scenario.tls:
            command += ["--tls", "--cert", f"{keys}/server.pem", "--key", f"{keys}/server.key",
                        "--ca", f"{keys}/ca.pem"]  # fmt: skip
        if scenario.kind == "resume":
            command += ["--resume"]
    elif subject == "nats":
        command = ["nats-server", "-a", "127.0.0.1", "-p", str(free_port())]
        if scenario.tls:
            command += ["-c", nats_settings(keys)]
    elif subject == "haproxy":
        command = ["haproxy", "-db", "-q", "-f"]  # and its file, when it has a server to relay to
    else:
        # What is resumed is ours; the peers' handshakes are the same with any framing.
        program = "epoll" if subject == "tickets" else subject
        framing = "raw" if scenario.kind == "resume" else scenario.framing
        command = [f"{build}/bench/peer-{program}", "--port", "0", "--threads", "1",
                   "--framing", framing]  # fmt: skip
        if subject == "tickets":
            command += ["--tickets"]
        if scenario.kind == "close":
            command += ["--close-all-on", "SIGUSR1", "--close-how", scenario.load["how"]]
        if scenario.tls:
            command += ["--tls", "--pki", keys]
    if not is_there(command[0]):
        raise Missing(f"{os.path.basename(command[0])} is not installed" if subject in PRODUCTS
                      else f"{os.path.basename(command[0])} is not built")  # fmt: skip
    return command


class Missing(Failed):
    """A program that this machine or this build does not have."""


def is_there(program):
    if "/" in program:
        return os.access(program, os.X_OK)
    return any(
        os.access(os.path.join(folder, program), os.X_OK)
        for folder in os.environ.get("PATH", "").split(":") + ["/usr/sbin"]
    )


class Server(Process):
    """A server under test, ready on self.port."""

    def __init__(self, build, keys, subject, scenario, cores):
        command = server_command(build, keys, subject, scenario)
        self.backend = None
        self.port = 0
        if subject == "haproxy":
            self.backend = Backend(build, cores)
            self.port = free_port()
            command = command + [haproxy_settings(keys, self.port, self.backend.port)]
        try:
            super().__init__(command, cores)
        except BaseException:
            self._end_backend()
            raise
        try:
            self.port = self._port(subject, command)
        except BaseException:
            self.end()
            raise

    def _end_backend(self):
        if self.backend is not None:
            self.backend.end()
            self.backend = None

    def end(self):
        try:
            return super().end()
        finally:
            self._end_backend()

    def _port(self, subject, command):
        if subject == "nats":
            port = int(command[command.index("-p") + 1])
            self._await_port(port)
            return port
        if subject == "haproxy":
            self._await_port(self.port)
            return self.port
        words = self.line(READY_SECONDS).split()
        if len(words) < 2 or words[0] != "ready" or not words[-1].isdigit():
            raise Failed(f"{command[0]}: no ready line but {' '.join(words)[:100]}")
        return int(words[-1])

    def _await_port(self, port):
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self.child.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise Failed(f"{self.command[3]} does not listen: {self.last_words()}")


class Backend(Process):
    """What a relay of bytes relays to: the echo server written by hand."""

    def __init__(self, build, cores):
        super().__init__([f"{build}/bench/peer-epoll", "--port", "0", "--threads", "1"], cores)
        try:
            self.port = int(self.line(READY_SECONDS).split()[-1])
        except BaseException:
            self.end()
            raise


def load_command(build, keys, scenario, subject, options, server):
    command = [f"{build}/bench/peerhub-load", "--port", str(server.port),
               "--server-pid", str(server.pid)]  # fmt: skip
    for name, value in options.items():
        command += [f"--{name}"] if value is None else [f"--{name}", str(value)]
    framing = subject if subject in ("nng", "zmq", "nats") else scenario.framing
    if scenario.kind == "resume" or subject == "haproxy":
        framing = "raw"
    command += ["--framing", framing]
    if scenario.tls:
        command += ["--tls", "--pki", keys]
    if not is_there(command[0]):
        raise Missing("peerhub-load is not there")
    return command


def run_load(command, cores, seconds):
    """Run a load generator to its end: its JSON object, and the CPU seconds that it took."""
    load = Process(command, cores)
    try:
        text = read_all(load, seconds)
        # Before it is waited for, its own times can still be read.
        taken = machine.process_seconds(load.pid)
        code = load.child.wait(END_SECONDS)
        if code != 0:
            raise Failed(f"{command[0]} ended with {code}: {load.last_words()}")
        try:
            answer = json.loads(text)
        except ValueError as error:
            raise Failed(f"{command[0]} printed no JSON: {text[:100]!r}") from error
    finally:
        load.end()
    if not isinstance(answer, dict):
        raise Failed(f"{command[0]} printed no JSON object")
    return answer, taken


def number(answer, name):
    """A figure of a load generator's answer."""
    value = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(value, (int, float)):
        raise Failed(f"the load generator measured no {name}")
    return float(value)


def read_all(process, seconds):
    data = b""
    deadline = time.monotonic() + seconds
    stream = process.child.stdout.fileno()
    while len(data) < OUTPUT_BYTES_MAX:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([stream], [], [], left)[0]:
            raise Failed(f"{process.command[3]} does not end within {seconds:.0f} s")
        piece = os.read(stream, 65536)
        if not piece:
            return data.decode(errors="replace")
        data += piece
    raise Failed(f"{process.command[3]} prints without end")
