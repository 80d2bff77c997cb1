"""The page in a real browser against the real hub: what streams in is seen while it streams, even if the hub dies."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.browser.chromium import Page
from tests.browser.hub import BrowsedHub, Story
from tests.faults.lab.proxy import Proxy


def holds(page: Page, hub: BrowsedHub, run: str) -> None:
    """The page holds exactly the events that the hub keeps, in its order, and every row is one of the store's."""
    kept = [event["event_id"] for event in hub.events(run)]
    page.wait(f"agentpipe.eventIds().length === {len(kept)}")
    assert page.evaluate("agentpipe.eventIds()") == kept


def test_a_run_is_seen_while_it_streams(page: Page, hub: BrowsedHub, artifacts: Path) -> None:
    story = Story("run-live")
    hub.send([story.started(model="claude-opus-4-5", cwd="project")])
    page.open(hub.page)
    page.wait("document.querySelector('[data-testid=start]')")
    assert "token" not in page.evaluate("location.href")
    page.wait("document.querySelector('[data-testid=badge]').textContent.includes('Connected')")

    hub.send([story.chunk("m0", "The failing test is in the parser. ", of="agent_thinking")])
    page.wait("document.querySelector('[data-testid=thinking][data-state=streaming]')")
    hub.send(
        [
            story.chunk(
                "m0",
                "The failing test is in the parser. It expects a trailing newline.",
                final=True,
                of="agent_thinking",
            )
        ]
    )
    page.wait("document.querySelector('[data-testid=thinking][data-state=final]')")

    said = "I will run the tests first, then look at the parser and fix its trailing newline."
    for start in range(0, len(said), 12):
        hub.send([story.chunk("m1", said[start : start + 12])])
        shown = json.dumps(said[: start + 12].strip())
        page.wait(f"document.querySelector('[data-testid=text]').textContent.includes({shown})")
    assert page.evaluate("document.querySelector('[data-testid=text]').dataset.state") == "streaming"
    assert "streaming" in (page.text("[data-testid=text]") or "")

    hub.send([story.call("t1", "Bash", "pytest -q tests/test_parse.py")])
    page.wait("document.querySelector('[data-testid=call][data-status=running]')")
    page.screenshot(artifacts / "live-streaming.png")

    hub.send(
        [
            story.chunk("m1", said, final=True),
            story.result("t1", "Bash", "F\nE  assert 'a' == 'a\\n'\n1 failed", ok=False, size=48_213),
        ]
    )
    page.wait("document.querySelector('[data-testid=text][data-state=final]')")
    page.wait("document.querySelector('[data-testid=call][data-status=failed]')")
    assert page.evaluate("document.querySelectorAll('[data-testid=text]').length") == 1
    page.evaluate("document.querySelector('[data-testid=call]').click()")
    page.wait("document.querySelector('[data-testid=size]')?.textContent.includes('of 47.1 KiB')")

    items = [{"text": "Run the tests", "status": "completed"}, {"text": "Fix the parser", "status": "in_progress"}]
    progress = {
        "percent": 50,
        "done": 1,
        "total": 2,
        "elapsed_s": 20,
        "basis": "plan",
        "current": "Fix the parser",
        "eta_range_s": [70, 190],
        "items": items,
    }
    change = {
        "path": "src/parse.py", "change": "modified", "added": 3, "removed": 1, "source": "tool",
        "tool_use_id": "t2", "patch": "@@ -1 +1,3 @@\n-a\n+b\n+c\n+d",
    }  # fmt: skip
    usage = {
        "input_tokens": 812, "output_tokens": 4210, "cache_read_tokens": 91_000, "cumulative": True, "cost_usd": 0.1234,
    }  # fmt: skip
    hub.send([
        story.event("progress_update", progress),
        story.call("t2", "Edit", "src/parse.py", "edit"),
        story.event("file_changed", change),
        story.result("t2", "Edit", "ok", kind="edit"),
        story.event("error", {"rank": "warning", "message": "429, trying again", "attempt": 1, "retry_in_ms": 1200}),
        story.event("usage_update", usage),
    ])  # fmt: skip
    page.wait("document.querySelector('[data-testid=eta]')?.textContent === 'about 1–3 min left'")
    page.wait("document.querySelector('[data-testid=file]')?.textContent.includes('+3')")
    page.wait("document.querySelector('[data-testid=error][data-rank=warning]')")
    page.wait("document.querySelector('[data-testid=cost]')?.textContent === '$0.12'")

    hub.send([story.completed(cost_usd=0.15, turns=3)])
    page.wait("document.querySelector('[data-testid=end]')")
    page.wait("document.querySelector('[data-testid=state]').textContent.includes('completed')")
    holds(page, hub, story.run)
    kept = hub.run(story.run)
    page.wait(f"document.querySelector('[data-testid=cost]').textContent === '${kept['cost_usd']:.2f}'")
    page.wait(f"document.querySelector('[data-testid=calls]').textContent.startsWith('{kept['tool_calls']}')")
    rows = page.evaluate("agentpipe.rows().map((row) => row.key)")
    assert (
        page.evaluate("[...document.querySelectorAll('[data-testid=feed] article')].map((row) => row.dataset.key)")
        == rows
    )
    page.screenshot(artifacts / "live-finished.png")

    page.call("Page.reload")
    page.wait("document.querySelector('[data-testid=end]')")
    holds(page, hub, story.run)
    assert page.evaluate("agentpipe.rows().map((row) => row.key)") == rows


class Publisher:
    """``agentpipe publish`` with its input in our hands."""

    def __init__(self, hub: BrowsedHub, environment: Mapping[str, str], token_file: Path) -> None:
        address = hub.url.replace("http", "ws")
        command = ["agentpipe", "publish", "--token-file", str(token_file), "--drain-timeout", "30s", address]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, env=dict(environment))

    def send(self, event: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(event).encode() + b"\n")
        self._process.stdin.flush()

    def end(self) -> int:
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(60)


WATCH_BADGE = """(() => {
  window.badges = [];
  const note = () => {
    const said = document.querySelector('[data-testid=badge]').textContent.trim();
    if (window.badges.at(-1) !== said) window.badges.push(said);
  };
  note();
  new MutationObserver(note).observe(document.body, { subtree: true, childList: true, characterData: true });
})()"""


def steps(story: Story, count: int) -> list[dict[str, Any]]:
    """Calls with results and a text in chunks, *count* events."""
    events: list[dict[str, Any]] = []
    for number in range(count):
        tool = f"t{number // 3}"
        if number % 3 == 0:
            events.append(story.call(tool, "Bash", f"step {number}"))
        elif number % 3 == 1:
            events.append(story.result(tool, "Bash", f"done {number}"))
        else:
            events.append(story.chunk("m", f"word{number} "))
    return events


@pytest.mark.parametrize("store", ["hub.db", "memory"])
def test_a_killed_hub_leaves_no_hole_and_no_repeat(
    store: str,
    page: Page,
    start_hub: Callable[..., BrowsedHub],
    environment: Mapping[str, str],
    artifacts: Path,
) -> None:
    hub = start_hub(store)
    publisher = Publisher(hub, environment, hub.token_file)
    story = Story("run-killed")
    sent = [story.started(model="m"), *steps(story, 30)]
    for event in sent:
        publisher.send(event)
    page.open(hub.page)
    page.wait(f"agentpipe.eventIds().length === {len(sent)}")
    page.evaluate(WATCH_BADGE)
    rows = page.evaluate("agentpipe.rows().length")

    hub.kill()
    page.wait("document.querySelector('[data-testid=badge]').textContent.includes('Reconnecting')")
    page.wait("document.querySelector('[data-testid=stale]')")
    page.screenshot(artifacts / "hub-gone.png")
    assert page.evaluate("agentpipe.rows().length") == rows, "what was known stays in view"
    for event in (more := steps(story, 30)):
        publisher.send(event)
        time.sleep(0.005)  # a stream, not a block: some of it comes while the hub is away, some while it starts
    hub.start()
    last = [*steps(story, 30), story.chunk("m", "all of it", final=True), story.completed()]
    for event in last:
        publisher.send(event)
    assert publisher.end() == 0

    sent += [*more, *last]
    page.wait("document.querySelector('[data-testid=end]')", 60)
    page.wait("document.querySelector('[data-testid=badge]').textContent.trim() === 'Connected'")
    page.wait("!document.querySelector('[data-testid=stale]')")
    shown = page.evaluate("agentpipe.eventIds()")
    if store == "memory":  # the new log lacks what the page knows already, and says so
        shown = [own_id for own_id in shown if not own_id.startswith(f"{story.run}:gap:1-")]
    assert shown == [event["event_id"] for event in sent]
    badges = page.evaluate("badges")
    assert badges[0] == badges[-1] == "Connected"
    assert badges[1] == "Reconnecting 1"
    gaps = page.evaluate("agentpipe.rows().filter((row) => row.kind === 'gap').map((row) => [row.reason, row.count])")
    assert gaps == ([] if store == "hub.db" else [["epoch", 0]]), (
        "a memory store begins a new log, and the page says so"
    )
    assert page.evaluate("agentpipe.rows().filter((row) => row.kind === 'text').length") == 1
    page.screenshot(artifacts / f"hub-back-{'file' if store == 'hub.db' else store}.png")
    if store == "hub.db":
        holds(page, hub, story.run)
    page.expected = ("net::ERR_",)  # the browser logs each try while nobody listens


def test_hostile_text_stays_text(page: Page, hub: BrowsedHub, artifacts: Path) -> None:
    hostile = (
        "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
        "\x1b[31mred\x1b[0m \u202egnp.exe `<b>code</b>` **<i>bold</i>**"
    )
    story = Story("run-<script>", agent="<b>agent</b>")
    hub.send([
        story.started(model="<img src=x onerror=alert(1)>", cwd=hostile, title=hostile),
        story.chunk("m1", hostile, final=True),
        story.chunk("m2", hostile, final=True, of="agent_thinking"),
        story.call("t1", hostile, hostile),
        story.result("t1", hostile, hostile, ok=False),
        story.event("file_changed", {"path": hostile, "change": "created", "source": "tool", "patch": hostile}),
        story.event("error", {"rank": "agent", "message": hostile, "code": hostile}),
        story.event("progress_update", {"percent": 1, "done": 1, "total": 9, "elapsed_s": 1, "basis": "plan",
                                        "current": hostile, "items": [{"text": hostile, "status": "pending"}]}),
        story.event("brand<b>new", {"message": hostile}),
        story.event("permission_request", {"name": hostile, "input": {"x": hostile}}),
        story.completed(error=hostile, incomplete=hostile),
    ])  # fmt: skip
    page.open(hub.page)
    page.wait("document.querySelector('[data-testid=end]')")
    page.wait("document.querySelector('[data-testid=text]')")
    said = page.text("[data-testid=text]") or ""  # before opened rows push it out of the window that is drawn
    page.evaluate("document.querySelectorAll('[aria-expanded=false]').forEach((button) => button.click())")
    page.wait("document.querySelectorAll('[data-testid=size]').length > 0")
    assert page.evaluate("document.querySelectorAll('#app img, #app script, #app i:not(.streaming i)').length") == 0
    assert page.evaluate("document.title") != "owned"
    assert (
        page.evaluate("document.body.textContent.includes('\\u001b') || document.body.textContent.includes('\\u202e')")
        is False
    )
    assert "<img src=x onerror=\"document.title='owned'\">" in said
    assert "red ⟨U+202E⟩gnp.exe" in said
    page.screenshot(artifacts / "hostile.png")


#: The browser itself logs every refused request, and a link that the page gives up while it is being made.
REFUSED = ("401", "WebSocket is closed before the connection is established")


def test_a_wrong_token_is_said_plainly(page: Page, hub: BrowsedHub, artifacts: Path) -> None:
    page.expected = REFUSED
    page.open(f"{hub.url}#token=wrong")
    page.wait("document.querySelector('[data-testid=refused]')?.textContent.includes('Not signed in')")
    assert "wrong" not in page.evaluate("location.href")
    page.screenshot(artifacts / "refused.png")


def test_without_a_token_the_page_asks_for_one(page: Page, hub: BrowsedHub) -> None:
    page.expected = REFUSED
    page.open(hub.url)
    page.wait("document.querySelector('[data-testid=refused]')")


def test_filters_hide_rows_and_leave_the_stream_alone(page: Page, hub: BrowsedHub) -> None:
    story = Story("run-filter")
    hub.send([story.started(), story.chunk("m", "said", final=True), story.call("t1", "Bash", "ls")])
    page.open(hub.page)
    page.wait("document.querySelector('[data-testid=call]')")
    page.evaluate("document.querySelector('.chip.tools').click()")
    page.wait("!document.querySelector('[data-testid=call]')")
    hub.send(
        [
            story.call("t2", "Bash", "pwd"),
            story.chunk("m2", "more", final=True),
            story.result("t1", "Bash", "no", ok=False),
        ]
    )
    page.wait("document.querySelectorAll('[data-testid=text]').length === 2")
    page.wait("document.querySelectorAll('[data-testid=call]').length === 1")  # it failed: an error is shown as one
    page.evaluate("document.querySelector('.chip.tools').click()")
    page.wait("document.querySelectorAll('[data-testid=call]').length === 2")
    holds(page, hub, story.run)


def test_reading_above_is_not_disturbed_by_what_comes(page: Page, hub: BrowsedHub) -> None:
    story = Story("run-scroll")
    hub.send([story.started(), *steps(story, 600)])
    page.open(hub.page)
    feed = "document.querySelector('[data-testid=feed]')"
    page.wait(f"{feed}?.scrollTop > 1000")
    drawn = page.evaluate(f"{feed}.querySelectorAll('article').length")
    assert drawn < 80, "only what is in view is drawn"
    page.evaluate(f"{feed}.scrollTop -= 2000")
    page.wait("document.querySelector('[data-testid=new]')")
    key = f"""(() => {{ const top = {feed}.getBoundingClientRect().top;
        const row = [...{feed}.querySelectorAll('article')].find((row) => row.getBoundingClientRect().top >= top);
        return [row.dataset.key, Math.round(row.getBoundingClientRect().top)]; }})()"""
    settled = (
        f"(() => {{ const old = window.seen; window.seen = JSON.stringify({key}); return old === window.seen; }})()"
    )
    page.wait(settled)
    before = page.evaluate(key)
    hub.send([*steps(story, 90), story.completed()])
    page.wait("/\\d+ new/.test(document.querySelector('[data-testid=new]')?.textContent ?? '')")
    page.wait("document.querySelector('[data-testid=state]').textContent.includes('completed')")
    assert page.evaluate(key) == before
    page.evaluate("document.querySelector('[data-testid=new]').click()")
    page.wait("document.querySelector('[data-testid=end]')")
    page.wait("!document.querySelector('[data-testid=new]')")


def test_what_the_hub_no_longer_keeps_is_a_row(page: Page, start_hub: Callable[..., BrowsedHub]) -> None:
    hub = start_hub("memory", "--window", "64KiB")
    story = Story("run-evicted")
    for _ in range(20):
        hub.send(steps(story, 90))
    kept = hub.events(story.run)
    gone = kept[0]["sequence"] - 1
    assert gone > 0
    page.open(hub.page)
    page.wait("document.querySelector('[data-testid=feed]')?.getAttribute('aria-busy') === 'false'")
    page.evaluate("document.querySelector('[data-testid=feed]').scrollTop = 0")
    page.wait(f"document.querySelector('[data-testid=gap]')?.textContent.includes('{gone} events not received')")
    assert "no longer kept by the hub" in (page.text("[data-testid=gap]") or "")
    holds(page, hub, story.run)


def test_what_was_dropped_while_the_link_was_cut_is_a_row_in_its_place(
    page: Page, start_hub: Callable[..., BrowsedHub]
) -> None:
    """A page that is away for longer than the hub remembers says what it missed, between what it has and what comes."""
    page.expected = ("net::ERR_", "WebSocket")  # the browser itself logs what was cut and refused
    hub = start_hub("memory", "--window", "64KiB")
    story = Story("run-middle")
    before = [story.started(), *steps(story, 30)]
    hub.send(before)
    with Proxy(hub.port) as proxy:
        page.open(hub.page.replace(f":{hub.port}/", f":{proxy.port}/"))
        page.wait(f"agentpipe.eventIds().length === {len(before)}")
        proxy.refuse()
        proxy.cut()
        page.wait("document.querySelector('[data-testid=badge]').textContent.includes('Reconnecting')")
        for _ in range(20):
            hub.send(steps(story, 90))
        proxy.accept()
        page.wait("document.querySelector('[data-testid=badge]').textContent.trim() === 'Connected'")
        hub.send([story.completed()])
        page.wait("document.querySelector('[data-testid=end]')")
        kept = [event["event_id"] for event in hub.events(story.run)]
        first_kept = int(kept[0].rpartition(":")[2])
        assert page.evaluate("agentpipe.eventIds()") == [event["event_id"] for event in before] + kept
        rows = page.evaluate("agentpipe.rows().filter((row) => row.kind === 'gap')")
        assert [(row["reason"], row["count"], row["ranges"]) for row in rows] == [
            ("evicted", first_kept - len(before) - 1, [[len(before) + 1, first_kept - 1]])
        ]


def test_the_work_of_sub_agents_lies_under_their_call(page: Page, hub: BrowsedHub) -> None:
    story = Story("run-nested")
    hub.send([
        story.started(),
        story.call("a", "Task", "first", "other"),
        story.call("b", "Task", "second", "other"),
        story.call("a1", "Bash", "ls", parent_id="a"),
        story.call("b1", "Bash", "pwd", parent_id="b"),
        story.chunk("m", "deep", final=True, parent_id="b"),
    ])  # fmt: skip
    page.open(hub.page)
    page.wait("document.querySelectorAll('.nested').length === 3")
    said = page.evaluate("[...document.querySelectorAll('[data-testid=under]')].map((label) => label.textContent)")
    assert said == ["Task: first", "Task: second"], "named where the row above belongs to another"


def test_the_feed_can_be_read_by_keyboard(page: Page, hub: BrowsedHub) -> None:
    story = Story("run-keys")
    hub.send([story.started(), *steps(story, 30)])
    page.open(hub.page)
    page.wait("document.querySelectorAll('[data-testid=call]').length === 10")
    page.evaluate("document.querySelector('[data-testid=feed]').focus()")
    focused = "document.activeElement.closest('article')?.dataset.key"
    page.key("j")
    last = page.evaluate(focused)
    page.key("k")
    assert page.evaluate(focused) != last
    page.wait("document.querySelector('.follow').textContent.includes('Paused')")
    page.key("Enter")
    page.wait("document.activeElement.getAttribute('aria-expanded') === 'true'")
    page.key("G")
    page.wait("document.querySelector('.follow').textContent.includes('Following')")
