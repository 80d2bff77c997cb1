"""The spool: whole lines, bounded, and what is lost is counted in it."""

import fcntl
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agentpipe.io.hook.spool import HEADS_BYTES, Late, Spool, header, lock_sender, spool_name, stamp
from tests.hub_process import until

END = b'{"session_id":"s","hook_event_name":"SessionEnd","reason":"other"}'


def opened(path: Path, **more: Any) -> Spool:
    return Spool(str(path), b"s", time.monotonic() + 20, **more)


def add(path: Path, *payloads: bytes, more: int = 0, **options: Any) -> None:
    for payload in payloads:
        with opened(path, **options) as spool:
            spool.add(payload, more)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines() if line]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "hooks" / "s.ndjson"


@pytest.mark.parametrize(
    ("session", "name"),
    [
        (b"4b786e32-f6c7", "4b786e32-f6c7"), (b"", "%"), (b"../../etc", "%2E./..%2Fetc".replace("/", "%2F")),
        (b"-rf", "%2Drf"), (b"a b\xc3\xa9", "a%20b%C3%A9"), (b"A_z.9", "A_z.9"),
    ],
)  # fmt: skip
def test_a_name_is_fit_for_a_file(session: bytes, name: str) -> None:
    assert spool_name(session) == name


def test_long_names_are_cut_and_stay_apart() -> None:
    one, other = spool_name(b"x" * 500 + b"1"), spool_name(b"x" * 500 + b"2")
    assert one != other
    assert len(one) < 150


def test_the_time_is_as_events_have_it() -> None:
    from agentpipe.event import seconds

    assert abs(seconds(stamp().decode()) - time.time()) < 20
    assert len(stamp()) == 24


def test_lines_come_one_behind_the_other(path: Path) -> None:
    add(path, b'{"a":1}', b"{}", b"{ }", b'"text"', b"\xff{")
    head, *rest = lines(path)
    assert head == {"lost": 0, "generation": 1, "run_id": "s/hooks"}
    assert all(line.pop("received_at") for line in rest)
    assert rest == [{"a": 1}, {}, {}, {"text": '"text"'}, {"text": "\ufffd{"}]


def test_a_session_without_an_id_gets_a_run_of_its_own(tmp_path: Path) -> None:
    ids = []
    for name in ("a", "b"):
        with Spool(str(tmp_path / name), b"", time.monotonic() + 20) as spool:
            spool.add(b"{}")
        ids.append(lines(tmp_path / name)[0]["run_id"])
    assert ids[0] != ids[1]
    assert all(len(each) == 38 and each.endswith("/hooks") for each in ids)


def test_a_line_that_its_hook_could_not_finish_is_closed_by_the_next(path: Path) -> None:
    add(path, b'{"a":1}')
    with path.open("ab") as file:
        file.write(b'{"received_at":"2026')
    add(path, b'{"a":2}')
    assert path.read_bytes().splitlines()[2] == b'{"received_at":"2026'
    assert json.loads(path.read_bytes().splitlines()[3])["a"] == 2


def test_beyond_the_limit_heads_are_kept_and_then_counts_and_the_end_always(path: Path) -> None:
    payload = b'{"session_id":"s","x":"' + b"y" * 2000 + b'"}'
    add(path, payload, limit=100)
    add(path, payload, limit=100)
    cut = lines(path)[-1]
    assert (cut["agentpipe"], cut["bytes"], cut["head"]) == ("cut", len(payload), payload[:512].decode())
    size = path.stat().st_size
    add(path, payload, payload, limit=-HEADS_BYTES)
    assert path.stat().st_size == size
    assert lines(path)[0]["lost"] == 2
    add(path, END, limit=-HEADS_BYTES)
    *_, lost, end = lines(path)
    assert (lost["agentpipe"], lost["count"]) == ("lost", 2)
    assert end["hook_event_name"] == "SessionEnd"
    assert lines(path)[0]["lost"] == 0


def test_what_was_left_away_counts_in_the_size(path: Path) -> None:
    add(path, b'{"a":1}', more=1000)
    assert lines(path)[1]["bytes"] == 1007


def test_the_wait_for_the_lock_is_bounded_and_changes_nothing(path: Path) -> None:
    add(path, b'{"a":1}')
    before = path.read_bytes()
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Late):
            Spool(str(path), b"s", time.monotonic())
    assert path.read_bytes() == before
    add(path, b'{"a":2}')


def test_who_waited_for_a_file_that_was_replaced_writes_into_the_new_one(path: Path) -> None:
    add(path, b'{"a":1}')
    with ThreadPoolExecutor() as pool:
        with opened(path) as spool:
            waiting = pool.submit(add, path, b'{"a":2}')
            until(lambda: _descriptors(path) == 2, "the other has opened the old file")
            spool.replace(header(2, b"s/hooks", 3))
        waiting.result()
    head, lost, line = lines(path)
    assert (head["generation"], lost["count"], line["a"]) == (2, 3, 2)


def _descriptors(path: Path) -> int:
    """How many descriptors this process has on the file."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{fd}") == str(path)
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
    return found


def test_one_sender_holds_the_lock(path: Path) -> None:
    add(path, b"{}")
    lock = lock_sender(str(path))
    assert lock is not None
    assert lock_sender(str(path)) is None
    os.close(lock)
    again = lock_sender(str(path))
    assert again is not None
    os.close(again)
