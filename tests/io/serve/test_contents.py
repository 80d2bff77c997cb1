"""The whole of what an event shows in part, from the hub: byte for byte, safe to look at, or said to be gone."""

import base64
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from agentpipe.event import encode
from agentpipe.parse.adapter import Whole
from agentpipe.parse.vocabulary.whole import content_payloads
from tests.io.serve.hubs import PATIENCE_S, Client, Hub, event

Connect = Callable[..., Client]
Start = Callable[..., Hub]

AGENTPIPE = str(Path(sys.executable).parent / "agentpipe")
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def parts_of(run: str, whole: Whole, first: int = 1) -> list[bytes]:
    payloads = content_payloads(whole, f"{run}:{first}")
    return [event(first + index, run, "content", payload=payload) for index, payload in enumerate(payloads)]


def image(run: str, media_type: str = "image/png") -> list[bytes]:
    return parts_of(run, Whole(media_type, base64.b64encode(PNG).decode(), base64=True))


def path_of(ref: str) -> str:
    return f"api/content/{quote(ref, safe='')}"


def result_of(text: str) -> bytes:
    """A Claude session in which a tool gives *text* back."""
    lines: list[dict[str, Any]] = [
        {"type": "system", "subtype": "init", "session_id": "big-1", "tools": ["Bash"], "model": "m", "cwd": "/"},
        {"type": "assistant", "session_id": "big-1", "message": {"id": "m1", "role": "assistant", "content": [
            {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "cat big"}}]}},
        {"type": "user", "session_id": "big-1", "message": {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": text}]}},
        {"type": "result", "subtype": "success", "session_id": "big-1", "is_error": False, "duration_ms": 5,
         "num_turns": 1, "result": "done"},
    ]  # fmt: skip
    return b"".join(encode(line) + b"\n" for line in lines)


def test_a_result_of_three_megabytes_through_parse_and_publish(hub: Hub):
    text = "".join(random.Random(3).choices('abc \n\tä水🐍"\\', k=2_100_000))
    url, token_file = hub.url.replace("http", "ws"), str(hub.token_file)
    environment = {**os.environ, "HOME": str(hub.folder)}
    parsed = subprocess.run(
        [AGENTPIPE, "parse"], input=result_of(text), stdout=subprocess.PIPE, check=True, env=environment
    )
    command = [AGENTPIPE, "publish", "--token-file", token_file, url]
    subprocess.run(command, input=parsed.stdout, check=True, timeout=PATIENCE_S, env=environment)
    (result,) = hub.json("api/runs/big-1/events?types=agent_tool_result")["events"]
    (whole,) = result["payload"]["whole"]
    status, headers, body = hub.request(path_of(whole["ref"]))
    assert (status, int(headers["Content-Length"])) == (200, whole["bytes"])
    assert whole["bytes"] == len(text.encode()) > 3_000_000
    assert hashlib.sha256(body).digest() == hashlib.sha256(text.encode()).digest()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("image/png", "image/png"),
        ("IMAGE/PNG; x=y", "image/png"),
        ("image/jpeg", "image/jpeg"),
        ("image/svg+xml", None),
        ("text/html", None),
        ("text/html\r\nX-Evil: 1", None),
        ("application/xhtml+xml", None),
        ("application/pdf", None),
        ("", None),
    ],
)
def test_only_what_cannot_run_anything_keeps_its_type(hub: Hub, name: str, shown: str | None):
    run = f"kind-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    hub.json("api/events", b"\n".join(image(run, name)))
    status, headers, body = hub.request(path_of(f"{run}:1"))
    assert (status, body) == (200, PNG)
    assert headers["Content-Type"] == (shown or "application/octet-stream")
    assert headers["Content-Disposition"].startswith("inline" if shown else "attachment")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "sandbox" in headers["Content-Security-Policy"]
    assert "X-Evil" not in headers


def test_a_text_is_utf8_and_a_download_on_request(hub: Hub):
    hub.json("api/events", b"\n".join(parts_of("text/way", Whole("text/plain", "äöü"))))
    status, headers, body = hub.request(path_of("text/way:1"))
    assert (status, headers["Content-Type"], body) == (200, "text/plain; charset=utf-8", "äöü".encode())
    _, headers, _ = hub.request(path_of("text/way:1") + "?download")
    assert headers["Content-Disposition"] == 'attachment; filename="content-1.txt"'


def test_what_has_not_changed_is_not_sent_again_and_a_head_has_no_body(hub: Hub):
    hub.json("api/events", b"\n".join(image("cached")))
    etag = hub.request(path_of("cached:1"))[1]["ETag"]
    assert hub.request(path_of("cached:1"), If_None_Match=etag)[::2] == (304, b"")
    status, headers, body = hub.request(path_of("cached:1"), method="HEAD")
    assert (status, body, int(headers["Content-Length"])) == (200, b"", len(PNG))


def test_it_needs_the_token(hub: Hub):
    hub.json("api/events", b"\n".join(image("secret")))
    assert hub.request(path_of("secret:1"), token=None)[0] == 401


def test_missing_parts_are_said_with_410_and_unknown_names_with_404(hub: Hub):
    parts = parts_of("holes", Whole("text/plain", "x" * 300_000), 2)
    hub.json("api/events", b"\n".join([event(1, "holes"), parts[0], *parts[2:4], event(9, "holes")]))
    status, _, body = hub.request(path_of("holes:2"))
    found = json.loads(body)
    assert (status, found["code"], found["parts"], found["missing"]) == (410, "gone", 5, [[2, 2], [5, 5]])
    hub.json("api/events", b"\n".join([event(number, "none-left") for number in (1, 30)]))
    assert hub.request(path_of("none-left:7"))[0] == 410  # it may have been there: the run has gone beyond it
    for ref in ("none-left:31", "none-left:30", "holes:1", "holes:4", "nobody:1", "nonsense"):
        status, _, body = hub.request(path_of(ref))
        assert (status, json.loads(body)["code"]) == (404, "not_found"), ref


def test_what_is_still_coming_is_not_gone(hub: Hub):
    parts = parts_of("coming", Whole("text/plain", "x" * 200_000))
    hub.json("api/events", b"\n".join(parts[:2]))
    status, _, body = hub.request(path_of("coming:1"))
    assert (status, json.loads(body)["missing"]) == (404, [[3, 4]])
    hub.json("api/events", b"\n".join(parts[2:]))
    assert hub.request(path_of("coming:1"))[2] == b"x" * 200_000


def test_what_the_store_evicted_is_gone(start: Start):
    hub = start("--retain", "300KiB", "--window", "64KiB", store="hub.db")
    hub.json("api/events", b"\n".join(parts_of("old", Whole("text/plain", "x" * 200_000))))
    for number in range(6):
        hub.json("api/events", event(1, f"new-{number}", size=100_000))
    assert hub.request(path_of("old:1"))[0] == 200
    hub.stop()
    hub.start()  # retains at its start
    status, _, body = hub.request(path_of("old:1"))
    assert (status, json.loads(body)["code"]) == (410, "gone")


def test_a_reader_who_asks_for_no_content_gets_the_rest(hub: Hub, connect: Connect):
    lines = [event(1, "quiet"), *parts_of("quiet", Whole("text/plain", "x" * 100_000), 2), event(4, "quiet")]
    reader, writer = connect(hub), connect(hub)
    reader.subscribe(filter={"runs": ["quiet"]}, includeContent=False)
    writer.publish(*lines)
    assert reader.read(2) == [lines[0], lines[3]]
    found = hub.json("api/runs/quiet/events?content=0")
    assert [each["sequence"] for each in found["events"]] == [1, 4]
    assert found["next"] == found["position"]["offset"]
    assert len(hub.json("api/runs/quiet/events")["events"]) == 4
    (run,) = [each for each in hub.json("api/runs")["runs"] if each["run_id"] == "quiet"]
    assert (run["events"], run["last_type"]) == (4, "agent_output")


def test_readers_that_stop_in_the_middle_cost_little_and_end_nothing(start: Start):
    hub = start(store="hub.db")
    text = "x" * (16 << 20)
    lines = parts_of("large", Whole("text/plain", text))
    for begin in range(0, len(lines), 100):
        hub.json("api/events", b"\n".join(lines[begin : begin + 100]))
    assert hub.request(path_of("large:1"))[2] == text.encode()
    before = hub.rss
    place = urlsplit(hub.url)
    sockets = [socket.create_connection((place.hostname, place.port), PATIENCE_S) for _ in range(20)]
    asked = f"GET /{path_of('large:1')} HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: Bearer {hub.token}\r\n\r\n"
    for each in sockets:
        each.sendall(asked.encode())
    for each in sockets:
        assert each.recv(1000).startswith(b"HTTP/1.1 200")
    assert hub.json("healthz", token=None) == {"status": "ok"}
    assert hub.rss - before < 40 << 20  # 20 times the whole would be 320 MiB
    for each in sockets[1:]:
        each.close()
    assert hub.request(path_of("large:1"))[2] == text.encode()
    assert hub.stop() == -signal.SIGTERM  # the first one's answer is cut, and holds up nothing
    sockets[0].close()


def test_a_hub_takes_and_tells_large_content_in_bounded_memory(start: Start, connect: Connect):
    """150 MB of events of 64 KB and more, with a reader that follows and one that has stalled."""
    hub = start(store="hub.db")
    stalled, reader, writer = connect(hub), connect(hub), connect(hub)
    stalled.send({"type": "subscribe", "id": 1})
    reader.subscribe()
    writer.publish(event(1, "first"))
    before = hub.rss
    for number in range(1, 751):
        writer.publish(event(number, "bulk", "content", size=200_000))
        if number % 50 == 0:
            reader.read(number + 1)
            reader.lines = reader.lines[:1] * (number + 1)
    assert hub.rss - before < 70 << 20  # the window is 16 MiB
