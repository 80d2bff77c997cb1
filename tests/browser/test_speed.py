"""How long the page takes to show a burst in a long run; the figures go to ``tests/artifacts/page-speed.json``."""

import json
import statistics
from pathlib import Path

from tests.browser.chromium import Page
from tests.browser.hub import BrowsedHub, Story

ROWS = 10_000
BURSTS = 20
BURST = 100
DRAWN = 80  # articles in the page: what keeps a burst quick, and the same on any machine
# The goal is 8 ms (DESIGN §9), measured on a quiet machine; here the machine may be busy with every other test.
CEILING_MS = 500


def test_a_burst_into_ten_thousand_rows(page: Page, hub: BrowsedHub, artifacts: Path) -> None:
    story = Story("run-long")
    calls = [story.started()]
    calls += [story.call(f"t{number}", "Read", f"src/file{number}.py", "read") for number in range(ROWS)]
    for start in range(0, len(calls), 2000):
        hub.send(calls[start : start + 2000])
    page.open(hub.page)
    page.wait(f"agentpipe.rows().length === {ROWS + 1}", 60)
    page.wait("document.querySelector('[data-testid=feed]').getAttribute('aria-busy') === 'false'")
    bursts = []
    for burst in range(BURSTS):
        before = page.evaluate("agentpipe.frames().length")
        hub.send([story.call(f"b{burst}-{number}", "Bash", f"echo {number}") for number in range(BURST)])
        page.wait(f"agentpipe.rows().length === {ROWS + 1 + (burst + 1) * BURST}")
        page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)))")
        frames = page.evaluate(f"agentpipe.frames().slice({before})")
        bursts.append(sum(frame["ms"] for frame in frames if frame["events"] > 0))
    figures = {"rows": ROWS, "burst": BURST, "median_ms": statistics.median(bursts), "worst_ms": max(bursts)}
    artifacts.mkdir(parents=True, exist_ok=True)
    (artifacts / "page-speed.json").write_text(json.dumps(figures) + "\n")
    assert page.evaluate("document.querySelectorAll('[data-testid=feed] article').length") < DRAWN
    assert figures["median_ms"] < CEILING_MS, figures
