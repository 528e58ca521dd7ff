"""An echo server that does one wrong thing: it changes, drops or doubles one byte of what it gives
back, or gives one connection's bytes to another. The load generator must notice."""

import selectors
import signal
import socket
import sys

FAULT_AT = 5000  # the byte of a connection that it happens to


def wrong(fault, data, before, other):
    """What goes back instead of data, of which `before` bytes came earlier."""
    at = FAULT_AT - before
    if not 0 <= at < len(data):
        return data
    if fault == "change":
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    if fault == "drop":
        return data[:at] + data[at + 1 :]
    if fault == "double":
        return data[: at + 1] + data[at:]
    return other[: len(data)].ljust(len(data), b"?")


def main():
    fault = sys.argv[1]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    listener = socket.create_server(("127.0.0.1", 0))
    watch = selectors.DefaultSelector()
    watch.register(listener, selectors.EVENT_READ)
    print("ready", listener.getsockname()[1], flush=True)
    counts, last = {}, {}
    while True:
        for key, _ in watch.select():
            if key.fileobj is listener:
                connection, _ = listener.accept()
                counts[connection] = 0
                watch.register(connection, selectors.EVENT_READ)
                continue
            connection = key.fileobj
            try:
                data = connection.recv(65536)
                others = [last[one] for one in last if one is not connection]
                if data:
                    other = others[0] if others else b""
                    connection.sendall(wrong(fault, data, counts[connection], other))
                    counts[connection] += len(data)
                    last[connection] = data
            except OSError:
                data = b""
            if not data:
                watch.unregister(connection)
                connection.close()
                last.pop(connection, None)


main()
