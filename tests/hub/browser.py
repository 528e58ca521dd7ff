"""A headless Chromium, spoken to over its debugging pipe: no driver program, no network of its own.

    with Browser("chromium", directory) as browser:
        page = browser.page("http://127.0.0.1:8080/", width=1280, height=900, dark=True)
        page.until("document.title === 'x'")
        page.click("#button")
        page.picture("x.png")
"""
import base64
import fcntl
import json
import os
import select
import subprocess
import time

WAIT_S = 240  # of a machine with much else to do


class Browser:
    def __init__(self, program, directory):
        self.program, self.directory = program, directory
        self.number, self.rest, self.events = 0, b"", []

    def __enter__(self):
        ours, theirs = os.pipe(), os.pipe()
        ends = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (ours[0], theirs[1])]
        self.log = open(os.path.join(self.directory, "chromium.log"), "wb")
        options = ["--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--hide-scrollbars",
                   "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
                   "--disable-extensions", "--disable-sync", "--metrics-recording-only", "--mute-audio",
                   "--user-data-dir=" + os.path.join(self.directory, "profile"), "about:blank"]
        if os.geteuid() == 0:
            options.insert(0, "--no-sandbox")  # its own sandbox refuses root
        self.process = subprocess.Popen(
            ["bash", "-c", 'exec "$@" 3<&%d 4>&%d %d<&- %d>&-' % (*ends, *ends), "browser", self.program] + options,
            pass_fds=ends, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            env={**os.environ, "HOME": self.directory})
        for fd in (ours[0], theirs[1], *ends):
            os.close(fd)
        self.out, self.into = ours[1], theirs[0]
        return self

    def __exit__(self, *_):
        try:
            self.call("Browser.close")
        except (OSError, RuntimeError):
            pass
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        os.close(self.out)
        os.close(self.into)

    def read(self, end):
        """The next message, or an error at the time `end`."""
        while b"\0" not in self.rest:
            if not select.select([self.into], [], [], max(0, end - time.monotonic()))[0]:
                raise RuntimeError("the browser does not answer")
            data = os.read(self.into, 1 << 20)
            if not data:
                raise RuntimeError("the browser has ended: see chromium.log")
            self.rest += data
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def call(self, method, session=None, **parameters):
        self.number += 1
        request = {"id": self.number, "method": method, "params": parameters}
        if session:
            request["sessionId"] = session
        os.write(self.out, json.dumps(request).encode() + b"\0")
        end = time.monotonic() + WAIT_S
        while True:
            message = self.read(end)
            if message.get("id") != self.number:
                self.events.append(message)
                continue
            if "error" in message:
                raise RuntimeError("%s: %s" % (method, message["error"]))
            return message["result"]

    def page(self, url, width, height, dark=False, phone=False):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Page(self, target, session, url, width, height, dark, phone)


class Page:
    def __init__(self, browser, target, session, url, width, height, dark, phone):
        self.browser, self.target, self.session = browser, target, session
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.call("Page.navigate", url=url)

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def value(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError("%s: %s" % (expression, answer["exceptionDetails"].get("exception", {}).get("description")))
        return answer["result"].get("value")

    def until(self, expression):
        """Its value, as soon as that is true in JavaScript's sense, within a minute."""
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            found = self.value(expression)
            if found:
                return found
            time.sleep(0.05)
        raise RuntimeError("never: %s; the page says: %s" % (expression, self.value("document.body.innerText")[:600]))

    def click(self, selector):
        """As a hand would: the middle of what is there, wherever the page has it."""
        box = self.until("(() => { const e = document.querySelector(%s); if (!e) return null; "
                         "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect(); "
                         "return r.width ? [r.x + r.width / 2, r.y + r.height / 2] : null; })()" % json.dumps(selector))
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def key(self, key, code=None):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=code or key,
                      windowsVirtualKeyCode={"Tab": 9, "Enter": 13, "Escape": 27}.get(key, 0),
                      **({"text": "\r"} if key == "Enter" and kind == "keyDown" else {}))

    def picture(self, path, whole=False):
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def complaints(self):
        """What the page's console, scripts and policy have complained of so far."""
        self.value("0")
        found = []
        for event in self.browser.events:
            if event.get("sessionId") != self.session:
                continue
            what, how = event.get("method"), event.get("params", {})
            if what == "Runtime.exceptionThrown":
                found.append(json.dumps(how["exceptionDetails"])[:400])
            elif what == "Log.entryAdded" and how["entry"]["level"] in ("error", "warning"):
                found.append(how["entry"]["text"] + " " + how["entry"].get("url", ""))
            elif what == "Page.javascriptDialogOpening":
                found.append("a dialog: " + how["message"])
        return found

    def addresses(self):
        """Every address that was asked for."""
        self.value("0")
        return [e["params"]["request"]["url"] for e in self.browser.events
                if e.get("sessionId") == self.session and e.get("method") == "Network.requestWillBeSent"]
