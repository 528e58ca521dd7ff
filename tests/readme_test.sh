#!/usr/bin/env bash
# The programs that the README quotes are those that the install test builds and runs, line by line;
# and every file that a page of ours links to exists.
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
for fault in faults:
    print("readme_test:", fault, file=sys.stderr)
print("%d links of %d pages" % (links, len(pages)))
sys.exit(1 if faults else 0)
PYTHON
