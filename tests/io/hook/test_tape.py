"""A spool as events: the bytes alone decide, whoever reads them and in which pieces."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from agentpipe.event import Event, peek
from agentpipe.io.hook import tape as tape_module
from agentpipe.io.hook.spool import Spool
from agentpipe.io.hook.tape import Tape
from agentpipe.parse import Parse, ParseOptions
from agentpipe.stage import Stage


def parser(run_id: str) -> Stage:
    return Parse(ParseOptions(format="claude-hooks", run_id=run_id))


def hook(event: str, **more: Any) -> bytes:
    return json.dumps({"session_id": "s", "hook_event_name": event, **more}, separators=(",", ":")).encode()


def call(number: int) -> bytes:
    return hook("PreToolUse", tool_name="Bash", tool_input={"command": f"echo {number}"}, tool_use_id=f"t{number}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.ndjson"


def add(path: Path, *payloads: bytes) -> None:
    for payload in payloads:
        with Spool(str(path), b"s", time.monotonic() + 20) as spool:
            spool.add(payload)


def read(tape: Tape) -> list[Event]:
    found: list[Event] = []
    while tape.behind:
        found += tape.read()
    return found


def whole(path: Path) -> list[bytes]:
    """What a tape that begins anew makes of the spool."""
    tape = Tape(str(path), parser)
    try:
        return [event.line for event in read(tape)]
    finally:
        tape.close()


def calls(events: list[Event]) -> list[tuple[str, int | None, str]]:
    return [
        (event.run_id, event.sequence, event.payload["tool_use_id"])
        for event in events
        if event.type == "agent_tool_call"
    ]


def test_who_begins_anew_makes_the_same_bytes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape_module, "READ_BYTES", 50)
    add(path, hook("SessionStart", source="startup"))
    tape = Tape(str(path), parser)
    found = read(tape)
    for number in range(20):
        add(path, call(number))
        found += read(tape)
    add(path, b"no JSON", b"{broken", b'{"session_id":"s"}')
    with path.open("ab") as file:
        file.write(b'{"received_at":"20')  # its hook was killed
    add(path, call(20), hook("SessionEnd", reason="other"))
    found += read(tape)
    assert tape.close_run("session_end")
    found += read(tape)
    monkeypatch.undo()
    assert whole(path) == [event.line for event in found]
    assert [event.sequence for event in found] == list(range(1, len(found) + 1))
    assert [name for _, _, name in calls(found)] == [f"t{number}" for number in range(21)]
    tape.close()


def test_the_times_are_those_of_receipt(path: Path) -> None:
    add(path, call(1))
    received = json.loads(path.read_bytes().splitlines()[1])["received_at"]
    assert {peek(line).timestamp for line in whole(path)} == {received}


def test_an_end_is_marked_only_where_everything_was_read(path: Path) -> None:
    add(path, call(1))
    tape = Tape(str(path), parser)
    read(tape)
    add(path, call(2))
    before = path.read_bytes()
    assert not tape.close_run("silence")
    assert path.read_bytes() == before
    read(tape)
    assert tape.close_run("silence")
    assert [event.type for event in read(tape)][-1] == "run_completed"
    assert tape.closed
    tape.close()


def test_what_comes_behind_an_end_is_a_run_of_its_own_also_when_the_ended_one_is_forgotten(path: Path) -> None:
    add(path, call(1), hook("SessionEnd"))
    tape = Tape(str(path), parser)
    first = read(tape)
    assert tape.ended
    assert tape.close_run("session_end")
    first += read(tape)
    add(path, call(2))
    second = read(tape)
    assert not tape.ended
    tape.forget()
    add(path, call(3))
    second += read(tape)
    assert {event.run_id for event in first} == {"s/hooks"}
    assert [(run, name) for run, _, name in calls(second)] == [("s/hooks/2", "t2"), ("s/hooks/2", "t3")]
    assert b"t1" not in path.read_bytes()
    assert whole(path) == [event.line for event in second]
    assert tape.close_run("silence")
    read(tape)
    tape.forget()
    add(path, call(4))
    assert calls(read(tape))[0][0] == "s/hooks/3"
    tape.close()


def test_a_late_hook_does_not_undo_the_end_but_a_new_start_does(path: Path) -> None:
    add(path, hook("SessionEnd"), call(1))
    tape = Tape(str(path), parser)
    read(tape)
    assert tape.ended
    add(path, hook("SessionStart", source="resume"))
    read(tape)
    assert not tape.ended
    tape.close()


@pytest.mark.parametrize("separators", [(", ", ": "), (" , ", "\t : ")])
def test_who_writes_json_with_spaces_ends_and_starts_a_session_too(path: Path, separators: tuple[str, str]) -> None:
    def spaced(event: str) -> bytes:
        return json.dumps({"session_id": "s", "hook_event_name": event}, separators=separators).encode()

    add(path, spaced("SessionStart"), spaced("SessionEnd"))
    tape = Tape(str(path), parser)
    read(tape)
    assert tape.ended
    add(path, spaced("SessionStart"))
    read(tape)
    assert not tape.ended
    tape.close()


def test_the_words_of_an_end_in_what_a_tool_was_given_are_none(path: Path) -> None:
    add(path, hook("PreToolUse", tool_name="X", tool_use_id="t", tool_input={"hook_event_name": "SessionEnd"}))
    tape = Tape(str(path), parser)
    read(tape)
    assert not tape.ended
    tape.close()


@pytest.mark.parametrize("torn", [b'{"agentpipe":"end","rea', b'{"agentpipe":"lost"}', b"\x00" * 40, b'{"lost":     '])
def test_what_its_writer_could_not_finish_stops_nothing(path: Path, torn: bytes) -> None:
    add(path, call(1))
    with path.open("ab") as file:
        file.write(torn)
    add(path, call(2))
    events = [peek(line) for line in whole(path)]
    assert calls(events) == [("s/hooks", events[1].sequence, "t1"), ("s/hooks", events[-1].sequence, "t2")]


def test_a_header_that_was_not_finished_is_that_of_a_new_spool(path: Path) -> None:
    path.write_bytes(b'{"lost":         0,"gener')
    add(path, call(1))
    assert calls([peek(line) for line in whole(path)])[0][0] == "s/hooks"


def test_the_lock_is_given_back_only_where_everything_was_read(path: Path) -> None:
    from agentpipe.io.hook.spool import lock_sender

    add(path, call(1))
    tape = Tape(str(path), parser)
    lock = lock_sender(str(path))
    assert lock is not None
    assert not tape.leave(lock)
    assert lock_sender(str(path)) is None
    read(tape)
    assert tape.leave(lock)
    again = lock_sender(str(path))
    assert again is not None
    tape.close()
    import os

    os.close(again)
