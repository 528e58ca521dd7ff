"""Clients for tests/bench/echo_test.sh: every byte that comes back is compared."""

import os
import random
import signal
import socket
import ssl
import sys
import threading

SECONDS = 60


def fail(text):
    print("echo_client:", text, file=sys.stderr)
    os._exit(1)


def receive_exactly(sock, wanted, expected):
    """Read `wanted` bytes in odd pieces; `expected(at, count)` is what they must be."""
    at = 0
    while at < wanted:
        piece = sock.recv(min(wanted - at, random.choice((1, 7, 4096, 65536))))
        if not piece:
            fail(f"the end of the stream after {at} of {wanted} bytes")
        if piece != expected(at, len(piece)):
            fail(f"wrong bytes at {at}")
        at += len(piece)


def exchange(sock, seed, total):
    """Send `total` bytes while reading them back, slowly at first."""
    noise = random.Random(seed).randbytes(65521)
    pattern = noise * (total // len(noise) + 1)

    def send():
        at = 0
        while at < total:
            count = min(total - at, random.choice((1, 100, 5000, 262144)))
            sock.sendall(pattern[at : at + count])
            at += count

    sender = threading.Thread(target=send)
    sender.start()
    receive_exactly(sock, total, lambda at, count: pattern[at : at + count])
    sender.join()


def connect(port):
    sock = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def load(port):
    """Many at once, small and large, then one that sends far more than any buffer unread."""
    threads = []
    for number in range(24):
        total = (1, 100, 70000, 1500000)[number % 4]

        def run(seed=number, bytes_total=total):
            with connect(port) as sock:
                exchange(sock, seed, bytes_total)

        threads.append(threading.Thread(target=run))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    # Nobody reads: the server must stop reading in turn, keep its memory, and lose nothing.
    with connect(port) as sock:
        noise = random.Random(99).randbytes(1 << 16)
        sock.settimeout(1.0)
        sent = 0
        try:
            while sent < 256 << 20:
                at = sent % len(noise)
                sent += sock.send(noise[at:])
            fail("the server takes everything although nobody reads")
        except socket.timeout:
            pass
        sock.settimeout(SECONDS)
        doubled = noise + noise

        def expected(at, count):
            at %= len(noise)
            return doubled[at : at + count]

        receive_exactly(sock, sent, expected)
        # And it goes on afterwards.
        exchange_at = sent % len(noise)
        sock.sendall(doubled[exchange_at : exchange_at + 1000])
        receive_exactly(sock, 1000, lambda at, count: expected(sent + at, count))

    # Half-closed: what was sent still comes back, then the end.
    with connect(port) as sock:
        sock.sendall(b"last words")
        receive_exactly(sock, 10, lambda at, count: b"last words"[at : at + count])
        sock.shutdown(socket.SHUT_WR)
        if sock.recv(1) != b"":
            fail("more than was sent")


def signals(port, pid):
    """SIGUSR1 closes all gracefully, SIGUSR2 resets all; new ones are served after each."""
    for number, is_graceful in ((signal.SIGUSR1, True), (signal.SIGUSR2, False)):
        socks = [connect(port) for _ in range(20)]
        for sock in socks:
            sock.sendall(b"x")
            receive_exactly(sock, 1, lambda at, count: b"x")
        os.kill(pid, number)
        for sock in socks:
            try:
                if sock.recv(1) != b"":
                    fail("data instead of an end")
                if not is_graceful:
                    fail("an orderly end instead of a reset")
            except ConnectionResetError:
                if is_graceful:
                    fail("a reset instead of an orderly end")
            sock.close()
    with connect(port) as sock:
        exchange(sock, 5, 1000)


def tls(port, ca, cert, key):
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.load_cert_chain(cert, key)
    for number in range(6):
        with connect(port) as plain:
            with context.wrap_socket(plain, server_hostname="any.test.p2p") as sock:
                # One thread: Python's ssl objects are not for two at once.
                for round_number in range(20):
                    data = random.Random(number * 100 + round_number).randbytes(
                        random.choice((1, 500, 16384, 40000))
                    )
                    sock.sendall(data)
                    receive_exactly(sock, len(data), lambda at, count: data[at : at + count])


def main():
    random.seed(4)
    command = sys.argv[1]
    port = int(sys.argv[2])
    if command == "load":
        load(port)
    elif command == "signals":
        signals(port, int(sys.argv[3]))
    elif command == "tls":
        tls(port, *sys.argv[3:6])


main()
