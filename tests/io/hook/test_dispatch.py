"""What others left behind is found, sent and ended; what no hub took is given up in time, and counted."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agentpipe.errors import InputMissing
from agentpipe.io.address import Address, address
from agentpipe.io.hook import dispatch
from agentpipe.io.hook.sender import Ending
from agentpipe.io.hook.spool import Spool, lock_sender
from tests.hub_process import HubProcess

DAY_S = 86_400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "hooks"


@pytest.fixture
def hub(environment: Mapping[str, str], tmp_path: Path) -> Iterator[HubProcess]:
    running = HubProcess(tmp_path, environment, store="memory")
    running.start()
    yield running
    running.kill()


def at(hub: HubProcess) -> Address:
    return address(f"ws://127.0.0.1:{hub.port}", token_file=str(hub.token_file))


NOWHERE = Address("ws://127.0.0.1:9/ws", "127.0.0.1", 9)


def spool(folder: Path, name: str, *events: str, age_s: float = 0.0) -> Path:
    path = folder / f"{name}.ndjson"
    for number, event in enumerate(events):
        payload = {"session_id": name, "hook_event_name": event, "tool_name": "Bash", "tool_use_id": f"t{number}"}
        with Spool(str(path), name.encode(), time.monotonic() + 20) as opened:
            opened.add(json.dumps(payload, separators=(",", ":")).encode())
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def sweep(folder: Path, hub: Address | None, linger: float = 20.0) -> None:
    dispatch.sweep(str(folder), hub, linger=linger, warn=lambda text: None)


def runs(hub: HubProcess) -> dict[str, str]:
    return {run["run_id"]: run["state"] for run in hub.json("api/runs")["runs"]}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_sessions_that_are_over_are_sent_and_ended_and_others_are_left(folder: Path, hub: HubProcess) -> None:
    ended = spool(folder, "ended", "PreToolUse", "SessionEnd")
    silent = spool(folder, "silent", "PreToolUse", age_s=2 * DAY_S)
    alive = spool(folder, "alive", "PreToolUse")
    before = alive.read_bytes()
    sweep(folder, at(hub))
    assert runs(hub) == {"ended/hooks": "completed", "silent/hooks": "completed"}
    assert [len(lines(path)) for path in (ended, silent)] == [1, 1]
    assert alive.read_bytes() == before


def test_a_silent_session_that_speaks_again_is_another_run(folder: Path, hub: HubProcess) -> None:
    spool(folder, "s", "PreToolUse", age_s=2 * DAY_S)
    sweep(folder, at(hub))
    path = spool(folder, "s", "PreToolUse")
    assert dispatch.deliver(str(path), at(hub), linger=0.2, warn=print) is Ending.DELIVERED
    assert runs(hub) == {"s/hooks": "completed", "s/hooks/2": "running"}


def test_a_session_that_was_resumed_is_not_over(folder: Path, hub: HubProcess) -> None:
    path = spool(folder, "s", "PreToolUse", "SessionEnd", "SessionStart", "PreToolUse")
    before = path.read_bytes()
    sweep(folder, at(hub))
    assert runs(hub) == {}
    assert path.read_bytes() == before


def test_what_somebody_sends_is_left_to_him(folder: Path, hub: HubProcess) -> None:
    path = spool(folder, "s", "SessionEnd")
    lock = lock_sender(str(path))
    assert lock is not None
    sweep(folder, at(hub))
    assert dispatch.deliver(str(path), at(hub), linger=0.1, warn=print) is None
    assert runs(hub) == {}
    os.close(lock)


@pytest.mark.parametrize("where", [NOWHERE, None], ids=["no answer", "known to be away"])
def test_what_no_hub_took_in_a_week_is_given_up_and_counted(
    folder: Path, hub: HubProcess, where: Address | None
) -> None:
    old = spool(folder, "old", "PreToolUse", "PostToolUse", age_s=8 * DAY_S)
    young = spool(folder, "young", "PreToolUse", "SessionEnd", age_s=5 * DAY_S)
    sweep(folder, where, linger=0.2)
    (head,) = lines(old)
    assert (head["lost"], head["generation"]) == (2, 2), "two payloads, in one run"
    assert len(lines(young)) > 2
    sweep(folder, at(hub))
    assert runs(hub) == {"young/hooks": "completed"}
    spool(folder, "old", "SessionEnd")
    sweep(folder, at(hub))
    events = hub.events("old%2Fhooks%2F2")
    (gap,) = [event["payload"] for event in events if event["type"] == "gap"]
    assert (gap["count"], gap["reason"]) == (2, "source")


def test_a_loss_that_nobody_speaks_behind_is_declared_all_the_same(folder: Path, hub: HubProcess) -> None:
    path = spool(folder, "old", "PreToolUse", age_s=8 * DAY_S)
    sweep(folder, None, linger=0.2)
    os.utime(path, (time.time() - 2 * DAY_S,) * 2)
    sweep(folder, at(hub))
    (gap,) = [event["payload"] for event in hub.events("old%2Fhooks%2F2") if event["type"] == "gap"]
    assert gap["count"] == 1
    assert runs(hub) == {"old/hooks/2": "completed"}


def test_what_is_left_of_an_ended_session_goes_after_90_days(folder: Path, hub: HubProcess) -> None:
    path = spool(folder, "s", "SessionEnd")
    sweep(folder, at(hub))
    assert len(lines(path)) == 1
    os.utime(path, (time.time() - 89 * DAY_S,) * 2)
    sweep(folder, at(hub))
    assert path.exists()
    os.utime(path, (time.time() - 91 * DAY_S,) * 2)
    sweep(folder, at(hub))
    assert os.listdir(folder) == []


def test_a_long_session_goes_through_a_small_window(
    folder: Path, hub: HubProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "WINDOW_BYTES", 2000)
    path = spool(folder, "s", *["PreToolUse", "PostToolUse"] * 100, "SessionEnd")
    assert dispatch.deliver(str(path), at(hub), linger=20.0, warn=print) is Ending.DELIVERED
    events = hub.events("s%2Fhooks")
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert len(events) > 200


def test_a_hub_that_refuses_us_keeps_the_spool(folder: Path, hub: HubProcess) -> None:
    path = spool(folder, "s", "SessionEnd")
    said: list[str] = []
    stranger = address(f"ws://127.0.0.1:{hub.port}", token_file=_other_token(folder))
    assert dispatch.deliver(str(path), stranger, linger=0.2, warn=said.append) is Ending.AWAY
    assert any("nothing more is sent" in text for text in said)
    assert dispatch.deliver(str(path), at(hub), linger=20.0, warn=print) is Ending.DELIVERED
    assert runs(hub) == {"s/hooks": "completed"}


def _other_token(folder: Path) -> str:
    path = folder / "token"
    path.write_text("not-the-right-one")
    return str(path)


@pytest.mark.parametrize("name", ["nobody", "../s", "", "."])
def test_a_name_of_no_spool_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.raises(InputMissing):
        dispatch.send(name, NOWHERE, linger=0.1, warn=print)
