"""The HTTP API: the stored bytes, strict input, errors as JSON with the right status."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from agentpipe.io.serve.api import MAX_BODY
from tests.io.serve.hubs import Client, Hub, event, sequences

Connect = Callable[..., Client]


def test_posting_again_adds_nothing(hub: Hub):
    lines = [event(number, "post") for number in (1, 2)]
    body = b"\n".join([*lines, b"{bad", b"7", b'{"type":"x"}']) + b"\n"
    first = hub.json("api/events", body)
    assert (first["accepted"], first["known"]) == (2, 0)
    assert [(each["index"], each["code"]) for each in first["refused"]] == [
        (2, "bad_json"),
        (3, "bad_json"),
        (4, "bad_event"),
    ]
    again = hub.json("api/events", body)
    assert (again["accepted"], again["known"], len(again["refused"])) == (0, 2, 3)
    assert hub.json("api/runs/post")["events"] == 2


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("ndjson", event(1, "way-ndjson") + b"\r\n\n" + event(2, "way-ndjson")),
        ("array", b"[" + event(1, "way-array") + b",\n" + event(2, "way-array") + b"]"),
        ("objects", b'{\n "type": "x",\n "run_id": "way-objects"\n}'),
    ],
)
def test_bodies_are_taken_as_people_write_them(hub: Hub, name: str, body: bytes):
    assert hub.json("api/events", body)["refused"] == []
    assert hub.json(f"api/runs/way-{name}")["events"] == (1 if name == "objects" else 2)


@pytest.mark.parametrize("body", [b"", b" \n", b"{", b"[{]", b"\xff", b"7"])
def test_a_body_without_a_good_event_is_a_bad_request(hub: Hub, body: bytes):
    status, _, text = hub.request("api/events", body, method="POST")
    assert status == 400
    assert json.loads(text)


def test_a_body_over_the_limit_is_told_so(hub: Hub):
    status, _, text = hub.request("api/events", b"x" * (MAX_BODY + 1))
    assert (status, json.loads(text)["code"]) == (413, "too_large")


def test_what_is_posted_reaches_subscribers(hub: Hub, connect: Connect):
    reader = connect(hub)
    reader.subscribe(filter={"runs": ["live"]})
    hub.json("api/events", event(1, "live"))
    assert reader.read(1) == [event(1, "live")]


def test_an_event_is_looked_up_as_its_stored_bytes(hub: Hub):
    line = b'{ "type":"x", "run_id":"a/b c","sequence":7,"big":123456789012345678901234567890,"e":"\\u00e9" }'
    own = b'{"type":"x","run_id":"a/b c","sequence":8,"event_id":"own/id?#"}'
    hub.json("api/events", line + b"\n" + own)
    assert hub.request(f"api/events/{quote('a/b c:7', safe='')}")[2] == line
    assert hub.request(f"api/events/{quote('own/id?#', safe='')}")[2] == own
    assert hub.request("api/events/a:1000")[0] == 404
    assert hub.json(f"api/runs/{quote('a/b c', safe='')}")["run_id"] == "a/b c"
    assert len(hub.json(f"api/runs/{quote('a/b c', safe='')}/events")["events"]) == 2


@pytest.mark.parametrize("run", ["a\nb", "a\r\n/b", "..", "%2F", "?#", " "])
def test_a_run_of_any_name_is_found(hub: Hub, run: str):
    content = {"ref": f"{run}:1", "media_type": "text/plain", "bytes": 1, "part": 1, "parts": 1, "text": "x"}
    hub.json("api/events", event(1, run, "content", payload=content))
    name, number = quote(run, safe=""), quote(f"{run}:1", safe="")
    assert hub.json(f"api/runs/{name}")["run_id"] == run
    assert len(hub.json(f"api/runs/{name}/events")["events"]) == 1
    assert hub.json(f"api/events/{number}")["run_id"] == run
    assert hub.request(f"api/content/{number}")[2] == b"x"


def test_pages_of_a_run_continue_into_a_subscription(hub: Hub, connect: Connect):
    writer = connect(hub)
    for number in range(1, 51, 10):
        writer.publish(*[event(each, "page") for each in range(number, number + 10)])
        writer.publish(event(number, "between"))
    found: list[Any] = []
    after = 0
    while True:
        page = hub.json(f"api/runs/page/events?after={after}&limit=7")
        assert len(page["events"]) <= 7
        found += page["events"]
        after = page["next"]
        if not page["more"]:
            break
    reader = connect(hub)
    reader.subscribe(since={"epoch": page["position"]["epoch"], "offset": after}, filter={"runs": ["page"]})
    writer.publish(event(51, "page"))
    assert [each["sequence"] for each in found] + sequences(reader.read(1)) == list(range(1, 52))


def test_pages_are_chosen_by_type(hub: Hub):
    hub.json(
        "api/events", b"\n".join([event(1, "types"), event(2, "types", type_="error"), event(3, "types", type_="gap")])
    )
    page = hub.json("api/runs/types/events?types=error,gap")
    assert [each["type"] for each in page["events"]] == ["error", "gap"]
    assert page["next"] == page["position"]["offset"]


@pytest.mark.parametrize("query", ["after=x", "after=-1", "limit=1.5", "limit=", "after=99999999999999999999"])
def test_a_bad_parameter_is_named(hub: Hub, query: str):
    hub.json("api/events", event(1, "query"))
    status, _, text = hub.request(f"api/runs/query/events?{query}")
    assert (status, json.loads(text)["field"]) == (400, query.split("=", maxsplit=1)[0])


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("api/runs/none", None, 404, "not_found"),
        ("api/runs/none/events", None, 404, "not_found"),
        ("api/none", None, 404, "not_found"),
        ("none.js", None, 401, "auth_failed"),
        ("api/runs", b"x", 405, "method_not_allowed"),
        ("ws", None, 426, "upgrade_required"),
        ("..%2f..%2fetc/passwd", None, 404, "not_found"),
    ],
)
def test_errors_are_json(hub: Hub, path: str, body: bytes | None, status: int, code: str):
    token = None if status == 401 else ""
    found, headers, text = hub.request(path, body, token=token)
    assert (found, json.loads(text)["code"]) == (status, code)
    assert headers["Content-Type"].startswith("application/json")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


def test_runs_and_agents_have_a_position(hub: Hub):
    hub.json("api/events", event(1, "listed", type_="run_started"))
    runs, agents = hub.json("api/runs"), hub.json("api/agents")
    assert runs["runs"][0]["run_id"] == "listed"
    assert runs["position"] == agents["position"]
    (agent,) = [each for each in agents["agents"] if each["agent_id"] == "agent-listed"]
    assert (agent["runs"], agent["state"], agent["last_seen"]) == (1, "running", "2026-11-20T07:00:00.000Z")


def test_health(hub: Hub):
    assert hub.json("healthz", token=None) == hub.json("readyz", token=None) == {"status": "ok"}


def test_a_page_of_large_events_ends_early_and_says_how_to_go_on(hub: Hub):
    """Twelve of 1 MB are not one answer."""
    lines = [event(number, "large", size=1 << 20) for number in range(1, 13)]
    assert hub.json("api/events", b"\n".join(lines))["accepted"] == 12
    numbers: list[int] = []
    after, pages, more = 0, 0, True
    while more:
        found = hub.json(f"api/runs/large/events?after={after}")
        numbers += [each["sequence"] for each in found["events"]]
        after, more = found["next"], found["more"]
        pages += 1
    assert numbers == list(range(1, 13))
    assert pages > 1


@pytest.mark.parametrize("body", [b'{"\xde":1}\n' + event(1, "bytes"), b'["\xff", 1', b'[{"\xff":1}]', b"\xff\n\xff"])
def test_bytes_that_are_no_text_are_refused_event_by_event(hub: Hub, body: bytes):
    status, _, text = hub.request("api/events", body)
    assert status in {200, 400}
    assert json.loads(text)["refused"][0]["code"] == "bad_json"


def test_an_id_that_the_store_would_cut_short_is_refused_alone(hub: Hub):
    """Taken, it would be the id of another run, and the whole commit would fail, with everybody's events in it."""
    others = [event(1, "cut"), event(1, "cut\0a"), event(1, "whole"), event(None, "cut", event_id="cut:7\0a")]
    found = hub.json("api/events", b"\n".join(others))
    assert (found["accepted"], [(each["index"], each["code"]) for each in found["refused"]]) == (
        2, [(1, "bad_event"), (3, "bad_event")],
    )  # fmt: skip


def test_a_page_of_a_run_may_come_with_its_text_accumulated(hub: Hub):
    def text(number: int, words: str, *, final: bool = False) -> bytes:
        payload = {"message_id": "m", "index": 0, "text": words, "final": final}
        return event(number, "joined", payload=payload)

    lines = [
        text(1, "a"),
        text(2, "b"),
        event(3, "joined", "agent_tool_call"),
        text(4, "c"),
        text(5, "abc", final=True),
    ]
    hub.json("api/events", b"\n".join(lines))
    page = hub.json("api/runs/joined/events?accumulate=1")
    shown = [(found["sequence"], found["payload"]["text"], found.get("covers")) for found in page["events"]]
    assert shown == [(2, "ab", [[1, 1]]), (3, "", None), (5, "abc", [[4, 4]])]
    plain = hub.json("api/runs/joined/events?accumulate=0")
    assert [found["sequence"] for found in plain["events"]] == [1, 2, 3, 4, 5]
    assert (page["next"], page["more"]) == (plain["next"], plain["more"])
