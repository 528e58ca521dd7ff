#!/usr/bin/env python3
"""Ask a dashboard what a browser, a curious user and another site's page would; for dashboard_test.sh.

usage: dashboard_ask.py PORT TOKEN HOSTILE_ID HOSTILE_NAME PAGE_DIRECTORY
       dashboard_ask.py --closed PORT TOKEN     one that closes nothing, and shows nothing without the token
"""
import http.client
import json
import os
import re
import socket
import sys
import time


def request(method, path, body=None, headers=None, host=None):
    """(status, headers, body), with a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", "127.0.0.1:%d" % PORT if host is None else host)
    for name, value in (headers or {}).items():
        connection.putheader(name, value)
    if body is not None and "Content-Length" not in (headers or {}) and "Transfer-Encoding" not in (headers or {}):
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    if body is not None:
        try:
            connection.send(body)
        except OSError:
            pass  # refused by its head already
    response = connection.getresponse()
    answer = (response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    connection.close()
    return answer


def raw(data, shut=False):
    """Everything that comes back for these bytes."""
    with socket.create_connection(("127.0.0.1", PORT), timeout=60) as s:
        try:
            s.sendall(data)
            if shut:
                s.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has seen enough
        got = b""
        while True:
            try:
                more = s.recv(65536)
            except OSError:
                break
            if not more:
                break
            got += more
        return got


def get(path, headers=None):
    status, _, body = request("GET", path, headers=headers)
    assert status == 200, (path, status, body)
    answer = json.loads(body)
    assert answer["ok"], answer
    return answer["result"]


def close(body, **changes):
    headers = {"Content-Type": "application/json", "Origin": "http://127.0.0.1:%d" % PORT,
               "Authorization": "Bearer " + TOKEN, "Sec-Fetch-Site": "same-origin"}
    headers.update({name.replace("_", "-"): value for name, value in changes.items()})
    return request("POST", "/api/close", body if isinstance(body, bytes) else json.dumps(body).encode(),
                   {name: value for name, value in headers.items() if value is not None})


def until(condition):
    """What it gives, within a minute."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError("never: " + condition.__name__)


def check_page(directory):
    for path, name, kind in [("/", "dashboard.html", "text/html"), ("/dashboard.css", "dashboard.css", "text/css"),
                             ("/dashboard.js", "dashboard.js", "text/javascript"),
                             ("/dashboard.svg", "dashboard.svg", "image/svg+xml")]:
        status, headers, body = request("GET", path)
        assert status == 200 and headers["content-type"].startswith(kind), (path, status, headers)
        with open(os.path.join(directory, name), "rb") as file:
            assert body == file.read(), path
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
        assert headers["x-frame-options"] == "DENY" and headers["referrer-policy"] == "no-referrer"
        text = body.decode()
        # Nothing from elsewhere, nothing inline, and no way for a text to become markup.
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg[\"'])", text), path
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
        if name.endswith("html"):
            assert not re.search(r"\son\w+=|\sstyle=|<style|javascript:", text)
            assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text))
            ids = set(re.findall(r'\bid="([\w-]+)"', text))
        if name.endswith("js"):
            assert not set(re.findall(r'\$\("([\w-]+)"\)', text)) - ids, set(re.findall(r'\$\("([\w-]+)"\)', text)) - ids


def check_reading(hostile, hostile_name):
    hub = get("/api/hub")
    assert hub["may_close"] is True and hub["needs_token"] is False and hub["version"]
    page = until(lambda: (lambda p: p if p["total"] >= 7 else None)(get("/api/connections")))
    assert page["matched"] == page["total"] == len(page["connections"])
    # The neighbor connections of three and their direct ones, by name.
    mine = [c for c in page["connections"] if c["identity"] == hostile]
    assert len(mine) == 2 and all(c["name"] == hostile_name for c in mine), mine
    assert all(c["group"] and c["address"].startswith("[::1]:") and c["shard"] in (0, 1) for c in mine)
    # Searched, sorted, in pages; each connection once.
    assert get("/api/connections?search=pLaIn%20peer")["matched"] == 2
    assert get("/api/connections?search=%3Cscript%3E")["matched"] == 2
    assert get("/api/connections?search=nobody")["connections"] == []
    for column in ["id", "identity", "name", "group", "address", "direction", "kind", "shard", "age_ms", "idle_ms",
                   "bytes_sent", "bytes_received", "queue_bytes", "bytes_per_second"]:
        up = get("/api/connections?sort=%s&order=asc" % column)["connections"]
        down = get("/api/connections?sort=%s&order=desc" % column)["connections"]
        assert sorted(c["id"] for c in up) == sorted(c["id"] for c in down), column
        if column in ("identity", "name", "group", "kind", "shard", "bytes_sent", "bytes_received"):
            values = [c[column] for c in up]
            if column == "kind":  # in the order of the numbers behind: neighbors first
                values = [value == "direct" for value in values]
            elif isinstance(values[0], str):
                values = [value.encode() for value in values]
            assert values == sorted(values), (column, values)
        ids = []
        for offset in range(0, page["total"], 2):
            ids += [c["id"] for c in get("/api/connections?sort=%s&limit=2&offset=%d" % (column, offset))["connections"]]
        assert len(ids) == len(set(ids)) == page["total"] or column in ("idle_ms", "bytes_per_second"), (column, ids)
    assert get("/api/connections?offset=1000000")["connections"] == []
    # Two samples make a rate.
    overview = until(lambda: (lambda o: o if o.get("samples", {}).get("rows") else None)(get("/api/overview")))
    assert overview["open"] == page["total"] and overview["slots"] > 0
    assert sum(part["connections"] for part in overview["shards"]) == page["total"]
    assert [part["connections"] for part in overview["groups"]] == [page["total"]]
    assert set(overview["rates"]) >= {"opened", "ended", "bytes_in", "bytes_out"}
    newest = overview["samples"]["newest"]
    assert get("/api/overview?since=%d" % (newest + 1000))["samples"]["rows"] == []
    assert len(overview["latencies"]["opening"]["counts"]) == len(overview["latencies"]["bounds_ms"]) + 1
    for path in ["/api/connections?sort=colour", "/api/connections?limit=0", "/api/connections?limit=501",
                 "/api/connections?offset=-1", "/api/connections?order=up", "/api/connections?search=" + "x" * 201,
                 "/api/connections?search=%ff", "/api/connections?limit=99999999999999999999",
                 "/api/overview?since=x", "/api/explain", "/api/explain?what=%ff", "/api/explain?what=" + "x" * 90]:
        status, headers, body = request("GET", path)
        assert status == 400 and json.loads(body)["ok"] is False, (path, status, body)
        assert "default-src 'none'" in headers["content-security-policy"]


def check_refusals(victim):
    here = "http://127.0.0.1:%d" % PORT
    # Who may ask: a name that is ours only. Another port is a tunnel's.
    for host in ["localhost", "LOCALHOST:80", "127.0.0.1", "127.8.9.1:7", "[::1]", "[::1]:8080"]:
        assert request("GET", "/api/hub", host=host)[0] == 200, host
    for host in ["evil.example", "evil.example:%d" % PORT, "127.0.0.1.evil.example", "localhost.evil.example",
                 "127.0.0.1:", "127.0.0.1:x", "[::1", "[::1]x", "128.0.0.1", "0.0.0.0", "", "localhost:80:80", "127.1"]:
        assert request("GET", "/api/connections", host=host)[0] in (400, 403), host
    assert raw(b"GET /api/hub HTTP/1.0\r\n\r\n").split()[1] in (b"400", b"403")
    assert request("GET", "/api/connections", headers={"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert request("GET", "/api/connections", headers={"Sec-Fetch-Site": "same-site"})[0] == 403
    # Paths and methods.
    for path in ["/nothing", "/api", "/api/", "/../dashboard.html", "/dashboard.html/", "/%2e%2e/etc/passwd", "//"]:
        assert request("GET", path)[0] == 404, path
    for method, path, allowed in [("POST", "/", "GET, HEAD"), ("DELETE", "/api/connections", "GET, HEAD"),
                                  ("GET", "/api/close", "POST"), ("PUT", "/api/close", "POST"),
                                  ("OPTIONS", "/api/close", "POST")]:
        status, headers, _ = request(method, path)
        assert status == 405 and headers["allow"] == allowed, (method, path, status)
        assert "access-control-allow-origin" not in headers
    status, _, body = request("HEAD", "/api/hub")
    assert status == 200 and body == b""
    # A close: token, origin, length, type, content.
    for token in [None, "Bearer", "Bearer ", "Bearer wrong", "Basic " + TOKEN, TOKEN, "Bearer " + TOKEN + "x",
                  "Bearer " + TOKEN[:-1], "Bearer " + "x" * 1000]:
        status, headers, _ = close({"id": victim}, Authorization=token)
        assert status == 401 and "Bearer" in headers["www-authenticate"], token
    for origin in [None, "null", "http://evil.example", "https://127.0.0.1:%d" % PORT, here + "/", "http://127.0.0.1",
                   "http://localhost:%d" % PORT, here + ".evil.example"]:
        assert close({"id": victim}, Origin=origin)[0] == 403, origin
    assert close({"id": victim}, Sec_Fetch_Site="cross-site")[0] == 403
    for kind in [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]:
        assert close({"id": victim}, Content_Type=kind)[0] == 415, kind
    assert close(b"x" * 5000)[0] == 413
    assert close(b"{", Content_Length="99999999999999999999")[0] == 413
    assert close(b"5\r\n{\"id\"\r\n0\r\n\r\n", Transfer_Encoding="chunked")[0] == 411
    for body in [b"", b"{", b"[]", b"7", b"null", b'{"id":7}', b'{"id":"x"}', b'{"id":""}', b'{"id":"1","id":"2"}',
                 b'{"id":"1","where":"x"}', b'{"id":"1","all":true}', b'{"id":"\xff"}', b"{" * 4000,
                 json.dumps({"id": victim, "how": "softly"}).encode(),
                 json.dumps({"id": victim, "text": "x" * 200}).encode()]:
        assert close(body)[0] == 400, body
    assert close({"id": "77"})[0] == 404
    # What is no HTTP.
    for data in [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET\r\n\r\n", b"\r\n" * 50, b"GET / HTTP/9.9\r\n\r\n",
                 b"GET /" + b"x" * 40000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
                 b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 8000 + b"\r\n"]:
        raw(data, shut=True)
    assert request("GET", "/api/hub")[0] == 200
    assert [c for c in get("/api/connections?search=" + victim)["connections"]], "it was closed by none of these"


def check_slow():
    """More who send half a request than there are places, and some who do not read, hold up nobody for long."""
    slow = []
    for i in range(40):
        s = socket.create_connection(("127.0.0.1", PORT), timeout=60)
        s.sendall(b"GET /api/connections HTTP/1.1\r\nHost: localhost\r\n" + (b"\r\n" if i % 2 else b""))
        slow.append(s)

    def answers():
        try:
            return request("GET", "/api/hub")[0] == 200
        except OSError:
            return False
    until(answers)
    for s in slow:
        s.close()


def check_close(victim):
    status, _, body = close({"id": victim, "how": "graceful", "text": "seen <b>enough</b>"})
    assert status == 200 and json.loads(body)["result"]["close"] == "begun", (status, body)

    def is_gone():
        return not get("/api/connections?search=" + victim)["connections"]
    until(is_gone)

    def is_told():
        return [e for e in get("/api/ended")["connections"] if e["id"] == victim]
    ended = until(is_told)[0]
    assert ended["text"] == "seen <b>enough</b>" and ended["side"] == "local", ended
    assert get("/api/explain?what=" + victim)["state"] == "ended"
    assert close({"id": victim})[0] == 404


def check_rate():
    """Beyond the rate: 429, soon over."""
    one = b"GET /api/hub HTTP/1.1\r\nHost: localhost\r\n\r\n"
    got = raw(59 * one + one[:-2] + b"Connection: close\r\n\r\n")  # one after the other, without a pause
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", got)]
    assert b"Retry-After: 1" in got
    assert set(statuses) == {200, 429}, set(statuses)

    def is_over():
        return request("GET", "/")[0] == 200
    until(is_over)


def main():
    if sys.argv[1] == "--closed":
        hub = until(lambda: get("/api/hub"))
        assert hub["may_close"] is False and hub["needs_token"] is True
        assert request("GET", "/")[0] == 200
        for path in ["/api/overview", "/api/connections", "/api/ended"]:
            time.sleep(0.5)  # five requests a second are allowed
            assert request("GET", path)[0] == 401
        time.sleep(1)
        get("/api/connections", {"Authorization": "Bearer " + TOKEN})
        assert close({"id": "1"})[0] == 403
        check_rate()
        return
    hostile, hostile_name, directory = sys.argv[3:]
    check_page(directory)
    check_reading(hostile, hostile_name)
    victim = get("/api/connections?search=" + hostile)["connections"][0]["id"]
    check_refusals(victim)
    check_slow()
    check_close(victim)


CLOSED = sys.argv[1] == "--closed"
PORT = int(sys.argv[2 if CLOSED else 1])
TOKEN = sys.argv[3 if CLOSED else 2]
main()
