#!/usr/bin/env python3
"""The dashboard in a real browser, for ci/soak dashboard.

usage: dashboard_browser.py CHROMIUM PORT TOKEN HOSTILE_NAME DIRECTORY
       dashboard_browser.py --pictures CHROMIUM PORT DIRECTORY     only pictures: light, dark, phone
       dashboard_browser.py --large CHROMIUM PORT DIRECTORY COUNT  how the page does with very many
"""
import json
import os
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from browser import Browser  # noqa: E402

ROWS = "document.querySelectorAll('#body-open tr').length"
OPEN = "[...document.querySelectorAll('#body-open tr')].map(r => r.dataset.id)"


def person_of(name):
    """As the page must show it: what would turn the line around, by number."""
    hidden = {c for c in name if ord(c) < 32 or 0x200b <= ord(c) <= 0x200f or 0x2028 <= ord(c) <= 0x202e
              or 0x2060 <= ord(c) <= 0x206f}
    return "".join("\\u{%x}" % ord(c) if c in hidden else c for c in name)


def contrast(page):
    """Every text's contrast with the ground behind it is 4.5 at least (WCAG AA)."""
    bad = page.value("""(() => {
	const parse = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
	const light = (c) => { const f = c.slice(0, 3).map((v) => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
		return .2126 * f[0] + .7152 * f[1] + .0722 * f[2]; };
	const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] === 1) return c; } return [255, 255, 255, 1]; };
	const bad = [];
	for (const e of document.querySelectorAll("body *")) {
		const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
		const box = e.getBoundingClientRect();
		if (!own || !box.width || box.width < 2 || e.disabled || e instanceof SVGElement || e.closest("script, noscript"))
			continue;
		const a = light(parse(getComputedStyle(e).color)), b = light(ground(e));
		const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
		if (ratio < 4.5)
			bad.push(e.tagName + "." + e.className + " " + e.textContent.slice(0, 20) + " " + ratio.toFixed(2));
	}
	return bad;
})()""")
    assert not bad, bad


def labels(page):
    """Whatever takes input has a name that a screen reader can say."""
    bad = page.value("""[...document.querySelectorAll("button, input, select, [role=img], [role=region]")].filter((e) =>
	!(e.getAttribute("aria-label") || e.textContent.trim() || (e.labels && e.labels.length))).map((e) => e.outerHTML)""")
    assert not bad, bad


def check(browser, port, token, hostile, directory):
    url = "http://127.0.0.1:%d/" % port
    page = browser.page(url, 1280, 900)
    page.until(ROWS + " >= 7")
    # A hostile name is text: no element of its making, nothing that ran, nothing that turns around.
    shown = page.value("[...document.querySelectorAll('.person bdi')].map(e => e.textContent)")
    assert person_of(hostile) in shown, (person_of(hostile), shown)
    assert page.value("document.querySelectorAll('main script, main img').length") == 0
    assert page.value("document.title").startswith("peerhub")
    page.until("document.querySelector('#state').classList.contains('live')")
    labels(page)
    contrast(page)
    # Search, sort, back.
    page.click("#search")
    page.type("plain peer")
    page.until(ROWS + " === 2")
    page.value("document.querySelector('#search').value = ''")
    page.value("document.querySelector('#search').dispatchEvent(new Event('input'))")
    page.until(ROWS + " >= 7")
    page.click("#head-open th:nth-child(1) button")
    page.until("document.querySelector('#head-open th').getAttribute('aria-sort') === 'ascending'")
    # Close one: without the token it stays, with it it goes; its neighbors stay.
    page.until("[...document.querySelectorAll('.person')].length >= 7")
    victim = page.value("[...document.querySelectorAll('#body-open tr')].find(r => r.textContent.includes('Third')).dataset.id")
    before = set(page.value(OPEN))
    page.click("tr[data-id='%s'] button" % victim)
    page.until("document.querySelector('#close-dialog').open")
    contrast(page)
    page.click("#close-token")
    page.type("a wrong token indeed")
    page.click("#close-go")
    page.until("document.querySelector('#close-error').textContent.includes('not the hub')")
    assert victim in page.value(OPEN)
    page.value("document.querySelector('#close-token').value = ''")
    page.click("#close-token")
    page.type(token)
    page.click("#close-text")
    page.type("<i>enough</i>")
    page.click("#close-go")
    page.until("!document.querySelector('#close-dialog').open")
    page.until("!(%s).includes('%s')" % (OPEN, victim))
    assert set(page.value(OPEN)) == before - {victim}, (before, page.value(OPEN))
    # It is told among the ended, with the words, as text.
    page.click("#tab-ended")
    page.until("[...document.querySelectorAll('#body-ended .words')].some(e => e.textContent.includes('<i>enough</i>'))")
    page.click("#tab-open")
    page.until(ROWS + " >= 6")
    # By keys alone: to the first button of the table, Escape leaves the question.
    page.value("document.querySelector('#body-open button').focus()")
    page.key("Enter")
    page.until("document.querySelector('#close-dialog').open")
    page.key("Escape")
    page.until("!document.querySelector('#close-dialog').open")
    assert page.value("document.activeElement.closest('#body-open') !== null"), "the focus is lost"
    # Dark, and a phone: no line is wider than the screen.
    for dark, width, phone in [(True, 1280, False), (False, 360, True), (True, 360, True)]:
        other = browser.page(url, width, 800, dark, phone)
        other.until(ROWS + " >= 6")
        contrast(other)
        assert other.value("document.documentElement.scrollWidth") <= width, other.value("document.documentElement.scrollWidth")
        assert other.value("getComputedStyle(document.documentElement).backgroundColor") == (
            "rgb(18, 21, 24)" if dark else "rgb(244, 245, 243)")
        assert not other.complaints(), other.complaints()
    # Another origin's page gets nothing: not by a frame, not by fetch, not by a form.
    evil = browser.page("data:text/html,<title>evil</title>", 400, 300)
    evil.until("document.title === 'evil'")
    assert evil.value("fetch('%sapi/connections').then(() => 'read', () => 'refused')" % url) == "refused"
    close = "fetch('%sapi/close', {method: 'POST', mode: 'no-cors', body: %s}).then(() => 0, () => 0)" % (
        url, json.dumps(json.dumps({"id": page.value(OPEN)[0]})))
    alive = set(page.value(OPEN))
    evil.value(close)
    evil.value("document.body.innerHTML = '<iframe src=\"%s\"></iframe>'" % url)
    evil.until("document.querySelector('iframe') !== null")
    page.value("new Promise(done => setTimeout(done, 3000))")
    assert set(page.value(OPEN)) == alive
    # 401s of the wrong token are in the console; nothing else may be, and nothing from elsewhere was asked for.
    rest = [text for text in page.complaints() if "401" not in text]
    assert not rest, rest
    foreign = [address for address in page.addresses() if not address.startswith(url)]
    assert not foreign, foreign
    page.picture(os.path.join(directory, "dashboard-test.png"))
    print("browser: OK")


def pictures(browser, port, directory):
    for name, width, height, dark, phone in [("dashboard-light", 1280, 880, False, False),
                                             ("dashboard-dark", 1280, 880, True, False),
                                             ("dashboard-phone", 390, 844, True, True)]:
        page = browser.page("http://127.0.0.1:%d/" % port, width, height, dark, phone)
        page.until(ROWS + " >= 20")
        page.until("samples.length > 30")
        page.picture(os.path.join(directory, name + ".png"))
        assert not page.complaints(), page.complaints()


def large(browser, port, directory, count):
    page = browser.page("http://127.0.0.1:%d/" % port, 1280, 880)
    page.until("Number((document.querySelector('#now-open') || {textContent: ''}).textContent.replace(/,/g, '')) >= %d" % count)
    # The longest that the page did not answer while it was looked at, sorted and searched.
    page.value("""window.longest = 0; window.seen = performance.now();
setInterval(() => { const now = performance.now(); longest = Math.max(longest, now - seen - 50); seen = now; }, 50); 0""")
    for column in range(1, 12):
        page.click("#head-open th:nth-child(%d) button" % column)
        page.until("document.querySelector('#head-open th:nth-child(%d)').hasAttribute('aria-sort') && !isAsking" % column)
    for _ in range(5):
        page.click("#next")
        page.until("!isAsking")
    took = page.value("""(async () => { const all = []; for (let i = 0; i < 20; i++) { const t = performance.now();
	await ask("api/connections?limit=50&sort=bytes_received&order=desc&search=1"); all.push(performance.now() - t);
	await new Promise((r) => setTimeout(r, 300)); } return all.sort((a, b) => a - b); })()""")
    assert page.value(ROWS) == 50
    page.picture(os.path.join(directory, "dashboard-large.png"))
    print("browser: %d connections: an answer took %.0f ms (median of 20), %.0f ms at most; the page stood still %.0f ms "
          "at most" % (count, took[10], took[-1], page.value("longest")))


def main():
    mode = sys.argv.pop(1) if sys.argv[1].startswith("--") else ""
    with tempfile.TemporaryDirectory(prefix="peerhub-browser-", ignore_cleanup_errors=True) as profile:
        with Browser(sys.argv[1], profile) as browser:
            port = int(sys.argv[2])
            if mode == "--pictures":
                pictures(browser, port, sys.argv[3])
            elif mode == "--large":
                large(browser, port, sys.argv[3], int(sys.argv[4]))
            else:
                check(browser, port, sys.argv[3], sys.argv[4], sys.argv[5])


main()
