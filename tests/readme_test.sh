#!/usr/bin/env bash
# The programs that the README quotes are those that the install test builds and runs, line by line;
# every file that a page of ours links to exists, and every call that a guide names is in the headers.
set -euo pipefail
cd "$(dirname "$0")/.."
python3 - <<'PYTHON'
import os
import re
import sys

faults = []
readme = open("README.md", encoding="utf-8").read()
for name in ("native", "p2p"):
    path = "docs/examples/%s.c" % name
    if "```c\n" + open(path, encoding="utf-8").read() + "```" not in readme:
        faults.append("README.md does not quote %s as it is" % path)
pages = ["README.md", "CHANGELOG.md"] + sorted(
    os.path.join("docs", name) for name in os.listdir("docs") if name.endswith(".md"))
links = 0
for page in pages:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", open(page, encoding="utf-8").read()):
        links += 1
        if not os.path.exists(os.path.join(os.path.dirname(page), target)):
            faults.append("%s links to %s, which is not there" % (page, target))
headers = ""
for directory, _, names in os.walk("include"):
    for name in names:
        headers += open(os.path.join(directory, name), encoding="utf-8").read()
calls = 0
for page in ("native", "embedding", "porting", "p2p", "p2p-differences"):
    text = open("docs/%s.md" % page, encoding="utf-8").read()
    # What the page says of a family (PeerIdentity…) or of a wildcard is no call.
    for name in sorted(set(re.findall(r"\b(?:ph_[a-z][a-z_]+|PH_[A-Z][A-Z_]+|Peer(?:hub|Group|Identity)?[A-Z][A-Za-z]+)\b(?![*…_])", text))):
        calls += 1
        if not re.search(r"\b%s\b" % name, headers):
            faults.append("docs/%s.md names %s, which is in no header" % (page, name))
for fault in faults:
    print("readme_test:", fault, file=sys.stderr)
print("%d links of %d pages, %d names of calls" % (links, len(pages), calls))
sys.exit(1 if faults else 0)
PYTHON
