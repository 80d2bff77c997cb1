"""The page shows the whole of what an event shows in part, and the tellers of one session as one entry."""

import base64
import json
import struct
import subprocess
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.browser.chromium import Page
from tests.browser.hub import BrowsedHub, Story

IMAGE_PX = 40


def png() -> bytes:
    """A red square that no encoder of the browser made."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + b"\xff\0\0" * IMAGE_PX) * IMAGE_PX
    head = struct.pack(">IIBBBBB", IMAGE_PX, IMAGE_PX, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def session(contents: Mapping[str, Any]) -> bytes:
    """A Claude session: a call and what it gives back, for each name."""
    lines: list[dict[str, Any]] = [
        {"type": "system", "subtype": "init", "session_id": "whole-1", "tools": [], "model": "m", "cwd": "/"}
    ]
    for name, content in contents.items():
        use = {"type": "tool_use", "id": f"use-{name}", "name": "Read", "input": {"file_path": name}}
        back = {"type": "tool_result", "tool_use_id": f"use-{name}", "content": content}
        lines += [
            {
                "type": "assistant",
                "session_id": "whole-1",
                "message": {"id": name, "role": "assistant", "content": [use]},
            },
            {"type": "user", "session_id": "whole-1", "message": {"role": "user", "content": [back]}},
        ]
    lines.append(
        {
            "type": "result",
            "subtype": "success",
            "session_id": "whole-1",
            "is_error": False,
            "num_turns": 1,
            "result": "x",
        }
    )
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def published(hub: BrowsedHub, environment: Mapping[str, str], log: bytes) -> None:
    parsed = subprocess.run(
        ["agentpipe", "parse"], input=log, stdout=subprocess.PIPE, env=dict(environment), check=True
    )
    address = hub.url.replace("http", "ws")
    command = ["agentpipe", "publish", "--token-file", str(hub.token_file), address]
    subprocess.run(command, input=parsed.stdout, env=dict(environment), check=True, timeout=60)


def row(title: str) -> str:
    return f"[...document.querySelectorAll('article')].find((each) => each.textContent.includes({json.dumps(title)}))"


def test_the_whole_of_a_text_and_an_image_are_a_press_away(
    page: Page, hub: BrowsedHub, environment: Mapping[str, str], artifacts: Path
) -> None:
    middle = "".join(f"line {number} äöü <b>&amp;</b>\n" for number in range(9000)) + "THE END"
    image = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": base64.b64encode(png()).decode()},
    }
    contents = {"middle.txt": middle, "huge.txt": "y" * 3_000_000, "shot.png": [image]}
    published(hub, environment, session(contents))
    page.open(hub.page)
    page.wait("document.querySelectorAll('[data-testid=call]').length === 3")

    page.evaluate(f"{row('middle.txt')}.querySelector('button').click()")
    page.wait(f"{row('middle.txt')}.querySelector('[data-testid=show-all]')?.textContent.includes('KiB')")
    assert "THE END" not in page.evaluate(f"{row('middle.txt')}.textContent")
    page.evaluate(f"{row('middle.txt')}.querySelector('[data-testid=show-all]').click()")
    page.wait(f"{row('middle.txt')}.textContent.includes('THE END')")
    shown = page.evaluate(f"[...{row('middle.txt')}.querySelectorAll('pre')].at(-1).textContent")
    assert shown == middle
    page.evaluate(f"{row('middle.txt')}.querySelector('button').click()")

    page.evaluate(f"{row('huge.txt')}.querySelector('button').click()")
    page.wait(f"{row('huge.txt')}.querySelector('[data-testid=show-all]')")
    page.evaluate(f"{row('huge.txt')}.querySelector('[data-testid=show-all]').click()")
    page.wait(f"{row('huge.txt')}.querySelector('[data-testid=cut]')?.textContent === 'The first 1.0 MiB of 2.9 MiB'")
    assert page.evaluate(f"[...{row('huge.txt')}.querySelectorAll('pre')].at(-1).textContent.length") == 1 << 20
    link = page.evaluate(f"{row('huge.txt')}.querySelector('[data-testid=download]').href")
    assert hub.request(link.removeprefix(hub.url))[2] == b"y" * 3_000_000
    page.evaluate(f"{row('huge.txt')}.querySelector('button').click()")

    page.evaluate(f"{row('shot.png')}.querySelector('button').click()")
    page.wait(f"{row('shot.png')}.querySelector('[data-testid=show-all]')")
    page.evaluate(f"{row('shot.png')}.querySelector('[data-testid=show-all]').click()")
    page.wait(f"{row('shot.png')}.querySelector('img')?.naturalWidth === {IMAGE_PX}")
    page.screenshot(artifacts / "whole-contents.png")

    assert page.evaluate("agentpipe.rows().filter((row) => row.kind === 'gap').length") == 0
    kept = [event["event_id"] for event in hub.events("whole-1") if event["type"] != "content"]
    assert page.evaluate("agentpipe.eventIds()") == kept


def test_a_followed_run_has_no_hole_where_its_contents_are(
    page: Page, hub: BrowsedHub, environment: Mapping[str, str]
) -> None:
    story = Story("run-follow")
    hub.send([story.started(), story.call("t1", "Read", "a.txt", "read")])
    page.open(hub.page)
    page.wait("document.querySelectorAll('[data-testid=call]').length === 1")
    ref = "run-follow:3"
    part = {"ref": ref, "media_type": "text/plain", "bytes": 6, "parts": 3, "text": "ab"}
    parts = [story.event("content", {**part, "part": number}) for number in (1, 2, 3)]
    named = story.result("t1", "Read", "a", size=6, kind="read")
    named["payload"]["whole"] = [{"ref": ref, "media_type": "text/plain", "bytes": 6}]
    hub.send([*parts, named, story.completed()])  # its end would tell of holes at once
    page.wait("document.querySelector('[data-testid=end]')")
    assert page.evaluate("agentpipe.rows().map((row) => row.kind)") == ["start", "call", "end"]


def test_what_is_gone_is_said_to_be(page: Page, hub: BrowsedHub) -> None:
    page.expected = ("410",)
    story = Story("run-gone")
    named = story.result("t1", "Read", "a", size=90_000, kind="read")
    named["payload"]["whole"] = [
        {"ref": "run-gone:1", "media_type": "text/plain", "bytes": 90_000},
        {"ref": "run-gone:2", "media_type": "image/png", "bytes": 9},
        {"ref": "run-gone:3", "media_type": "image/svg+xml", "bytes": 9},
    ]
    named |= {"sequence": 7, "event_id": "run-gone:7"}
    hub.send([named])
    page.open(hub.page)
    page.wait("document.querySelector('[data-testid=call]')")
    page.evaluate("document.querySelector('[data-testid=call]').click()")
    page.wait("document.querySelectorAll('[data-testid=show-all]').length === 2")  # an SVG is only to be saved
    page.evaluate("document.querySelectorAll('[data-testid=show-all]').forEach((button) => button.click())")
    page.wait("document.querySelectorAll('[data-testid=gone]').length === 2")
    assert "no longer kept" in (page.text("[data-testid=gone]") or "")


def test_the_tellers_of_one_session_are_one_entry(page: Page, hub: BrowsedHub, artifacts: Path) -> None:
    stream, *others = [Story(run) for run in ("5f3a", "s-1/transcript", "s-1/hooks", "s-1/agent-7")]
    hub.send([Story("alone").started()])
    for story in (others[1], stream, others[0], others[2]):
        hub.send([story.started(session_id="s-1"), story.call("t1", "Bash", f"echo {story.run}")])
    page.open(hub.page)
    page.wait("document.querySelectorAll('nav li').length === 2")
    page.wait("document.querySelector('main [data-testid=tellers]')")
    names = "[...document.querySelectorAll('main [data-testid=tellers] button')].map((each) => each.textContent)"
    assert page.evaluate(names) == ["stream", "transcript", "hooks", "agent-7"]
    current = "document.querySelector('main [data-testid=tellers] [aria-current=true]')?.textContent"
    assert page.evaluate(current) == "stream"
    page.evaluate("document.querySelector('main [data-testid=tellers] [data-run=\"s-1/hooks\"]').click()")
    page.wait(f"{current} === 'hooks'")
    page.wait("document.querySelector('[data-testid=call]')?.textContent.includes('echo s-1/hooks')")
    page.screenshot(artifacts / "session-tellers.png")
    page.evaluate("document.querySelector('nav [data-run=\"5f3a\"]').click()")
    page.wait(f"{current} === 'stream'")
