"""The log in Redis: what happens to it there, and what those who share it notice."""

import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agentpipe.errors import ContinuityLost, OptionError, OutputError
from agentpipe.event import Event, encode, gap, peek
from agentpipe.history import OfRun
from agentpipe.store import Commit, Standing, StoreConflict
from tests.commits import append, commit, lasts
from tests.faults.lab.proxy import Proxy
from tests.hub_process import PATIENCE_S, until
from tests.redis_process import RedisProcess, unused_port

from agentpipe.io.redis import log as redis_log, retention as redis_retention  # isort: skip - when the package is missing, the line above skips the module
from agentpipe.io.redis.link import Address, evaluate  # isort: skip
from agentpipe.io.redis.reader import RedisReader  # isort: skip
from agentpipe.io.redis.scripts import RENEW  # isort: skip

Open = Callable[..., redis_log.RedisLog]


def made(run: str, number: int, size: int = 0, **more: object) -> Event:
    return peek(encode({"type": "x", "run_id": run, "sequence": number, "pad": "x" * size, **more}))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    with RedisProcess(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def server(shared: RedisProcess) -> RedisProcess:
    """A Redis that is empty; not to be killed."""
    shared.ask("FLUSHALL")
    return shared


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RedisProcess]:
    """A Redis that the test may kill."""
    with RedisProcess(tmp_path / "redis") as running:
        yield running


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens logs, and closes them."""
    logs: list[redis_log.RedisLog] = []

    def open_one(url: str, **more: object) -> redis_log.RedisLog:
        logs.append(redis_log.RedisLog(url, **more))  # type: ignore[arg-type]
        return logs[-1]

    yield open_one
    for log in logs:
        log.close()


def followed(log: redis_log.RedisLog, offset: int, count: int) -> list[bytes]:
    lines: list[bytes] = []
    while len(lines) < count:
        page = log.follow(offset + len(lines), 1 << 20, PATIENCE_S)
        assert page.start == offset + len(lines)
        lines += page.lines
    return lines


def test_what_each_of_two_hubs_stores_is_followed_by_both_in_the_same_order(server: RedisProcess, opened: Open):
    one, other = opened(server.url), opened(server.url)
    assert one.epoch == other.epoch
    for number in range(1, 21):
        append(one if number % 2 else other, [made("r", number)])
    assert followed(one, 0, 20) == followed(other, 0, 20) == [made("r", number).line for number in range(1, 21)]
    assert [peek(line).sequence for line in followed(one, 15, 5)] == [16, 17, 18, 19, 20]


def test_who_follows_hears_of_an_entry_at_once(server: RedisProcess, opened: Open):
    one, other = opened(server.url), opened(server.url)
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(one.follow, 0, 1 << 20, PATIENCE_S)
        append(other, [made("r", 1)])
        assert waiting.result(PATIENCE_S).lines == [made("r", 1).line]
    assert one.follow(1, 1 << 20, 0.01).lines == []


def test_of_two_that_believe_the_same_one_is_first(server: RedisProcess, opened: Open):
    one, other = opened(server.url), opened(server.url)
    first, second = commit(one, [made("r", 1)]), commit(other, [made("r", 1), made("r", 2)])
    assert one.append(first, 1.0) == 1
    with pytest.raises(StoreConflict) as raised:
        other.append(second, 1.0)
    assert raised.value.standings == {"r": Standing(1)}
    assert one.head == 1


def test_two_prefixes_of_one_redis_are_two_logs(server: RedisProcess, opened: Open):
    one, other = opened(f"{server.url}?prefix=one"), opened(f"{server.url}?prefix=other")
    append(one, [made("r", 1)])
    assert (one.head, other.head, lasts(other)) == (1, 0, {})
    assert one.epoch != other.epoch
    with server.client() as client:
        assert {key.split(b":")[0] for key in client.scan_iter()} == {b"{one}", b"{other}"}


# --- the connection


def test_a_commit_whose_answer_was_lost_is_stored_once(server: RedisProcess, opened: Open):
    with Proxy(server.port) as proxy, ThreadPoolExecutor() as threads:
        log = opened(f"redis://127.0.0.1:{proxy.port}/0")
        proxy.behave(silent=True, ways=("down",))
        storing = threads.submit(append_blindly, log, [made("r", 1), made("r", 2)])
        until(lambda: server.ask("XLEN", "{agentpipe}:log") == 1, "the commit")
        proxy.behave()
        proxy.cut()
        assert storing.result(PATIENCE_S) == 2
        assert server.ask("XLEN", "{agentpipe}:log") == 1
        assert append(log, [made("r", 3)]) == 3


def append_blindly(log: redis_log.RedisLog, events: list[Event]) -> int:
    return log.append(Commit(events, {"r": Standing()}, {"r": Standing(len(events))}, (), "stamp"), 1.0)


def test_a_stamp_is_no_right_to_be_stored_once_another_came_in_between(server: RedisProcess, opened: Open):
    log = opened(server.url)
    assert append_blindly(log, [made("r", 1)]) == 1
    assert append_blindly(log, [made("r", 1)]) == 1  # tried again
    append(log, [made("r", 2)])
    with pytest.raises(StoreConflict):
        append_blindly(log, [made("r", 1)])


def test_nothing_is_lost_when_redis_is_killed_and_started_again(own: RedisProcess, opened: Open):
    log, other = opened(own.url), opened(own.url)
    append(log, [made("r", 1)])
    assert followed(other, 0, 1) == [made("r", 1).line]
    own.kill()
    with pytest.raises(OutputError):
        other.follow(1, 1 << 20, 0.01)
    with ThreadPoolExecutor() as threads:
        storing = threads.submit(log.append, Commit([made("r", 2)], {"r": Standing(1)}, {"r": Standing(2)}, ()), 1.0)
        own.start()
        assert storing.result(PATIENCE_S) == 2
    assert until(lambda: caught(other, 1), "an answer") == [made("r", 2).line]
    assert log.epoch == opened(own.url).epoch


def caught(log: redis_log.RedisLog, offset: int) -> list[bytes]:
    try:
        return list(log.follow(offset, 1 << 20, 0.1).lines)
    except ContinuityLost:
        raise
    except OutputError:
        return []


def test_a_redis_that_stays_away_is_an_error_and_then_one_attempt(
    own: RedisProcess, opened: Open, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(redis_log, "PATIENCE_S", 0.3)
    monkeypatch.setattr(redis_log, "LEAVE_ALONE_S", 0.0)
    log = opened(own.url)
    reader = log.reader()
    own.kill()
    with pytest.raises(OutputError, match="refused"):
        append_blindly(log, [made("r", 1)])
    for ask in (log.standings, log.state, lambda: reader.since(0, 1, 1), lambda: reader.find("r:1")):
        with pytest.raises(OutputError, match="refused"):
            ask()
    own.start()
    assert log.standings() == {}
    assert append(log, [made("r", 1)]) == 1
    assert reader.find("r:1") == made("r", 1).line
    reader.close()


def test_a_redis_that_just_was_away_is_left_alone_for_a_moment(
    own: RedisProcess, opened: Open, monkeypatch: pytest.MonkeyPatch
):
    """Else everything that waits would wait for its own time-out, one after the other."""
    monkeypatch.setattr(redis_log, "PATIENCE_S", 0.1)
    monkeypatch.setattr(redis_log, "LEAVE_ALONE_S", 3600.0)
    log = opened(own.url)
    own.kill()
    with pytest.raises(OutputError, match="refused"):
        log.standings()
    own.start()
    with pytest.raises(OutputError, match="refused"):
        log.standings()
    log._ask_again_at = 0.0
    assert log.standings() == {}
    assert log.standings() == {}


def test_a_redis_that_does_not_answer_is_away(own: RedisProcess, opened: Open, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(redis_log, "PATIENCE_S", 0.3)
    monkeypatch.setattr(redis_log, "COMMAND_S", 0.3)
    log = opened(own.url)
    own.process.send_signal(signal.SIGSTOP)
    with pytest.raises(OutputError, match="Timeout"):
        append_blindly(log, [made("r", 1), made("r", 2)])
    own.process.send_signal(signal.SIGCONT)
    monkeypatch.setattr(redis_log, "PATIENCE_S", PATIENCE_S)
    monkeypatch.setattr(redis_log, "LEAVE_ALONE_S", 0.0)
    log._ask_again_at = 0.0
    until(lambda: len(lasts(log)) in (0, 1), "an answer")
    events = [made("r", number) for number in range(lasts(log).get("r", 0) + 1, 4)]
    try:
        append(log, events)
    except StoreConflict:  # what was still under way has come first
        append(log, [made("r", 3)])
    assert [peek(line).sequence for line in log.reader().since(0, 100, 10_000).lines] == [1, 2, 3]


# --- continuity


def test_who_has_seen_a_log_that_was_emptied_says_so(server: RedisProcess, opened: Open):
    one, other = opened(server.url), opened(server.url)
    append(one, [made("r", 1), made("r", 2)])
    followed(other, 0, 2)
    reader = other.reader()
    server.ask("FLUSHALL")
    with pytest.raises(ContinuityLost, match="gone"):
        other.follow(2, 1 << 20, 0.05)
    again = opened(server.url)
    assert (again.epoch != one.epoch, again.head) == (True, 0)
    append(again, [made("r", 1), made("r", 2), made("r", 3)])
    with pytest.raises(ContinuityLost, match="replaced"):
        one.append(Commit([made("r", 3)], {"r": Standing(2)}, {"r": Standing(3)}, ()), 1.0)
    with pytest.raises(ContinuityLost, match="replaced"):
        one.follow(2, 1 << 20, 0.05)
    with pytest.raises(OutputError, match="replaced"):
        reader.since(0, 10, 1000)
    reader.close()


def test_entries_that_redis_lost_change_the_epoch_for_all(own: RedisProcess, opened: Open, tmp_path: Path):
    """Its file is from before the last commit, as after a power cut, and others have written since."""
    one, other = opened(own.url), opened(own.url)
    append(one, [made("r", 1)])
    own.ask("BGREWRITEAOF")
    until(lambda: b"aof_rewrite_in_progress:0" in raw_info(own), "a whole file")
    shutil.copytree(own.folder / "appendonlydir", tmp_path / "before")
    append(one, [made("r", 2)])
    followed(other, 0, 2)
    own.kill()
    shutil.rmtree(own.folder / "appendonlydir")
    shutil.copytree(tmp_path / "before", own.folder / "appendonlydir")
    own.start()
    foreign = opened(own.url)  # has seen nothing, and cannot know
    append(foreign, [made("s", 1)])
    with pytest.raises(ContinuityLost, match="lost some"):
        until(lambda: caught(other, 2), "the loss")
    with pytest.raises(ContinuityLost):
        append_next(one, 2)
    again = opened(own.url)
    assert again.epoch != one.epoch
    assert again.epoch == opened(own.url).epoch
    assert lasts(again) == {"r": 1, "s": 1}


def raw_info(server: RedisProcess) -> bytes:
    with server.client() as client:
        found = client.info("persistence")
    return f"aof_rewrite_in_progress:{found['aof_rewrite_in_progress'] + found['aof_rewrite_scheduled']}".encode()


def append_next(log: redis_log.RedisLog, last: int) -> int:
    return log.append(Commit([made("r", last + 1)], {"r": Standing(last)}, {"r": Standing(last + 1)}, ()), 1.0)


@pytest.mark.parametrize("how", ["killed", "demoted", "lagged"])
def test_a_replica_takes_over(own: RedisProcess, opened: Open, tmp_path: Path, how: str):
    """Behind one address, as a proxy or a DNS name is. With all entries it goes on; with less, that is said. A primary
    that was demoted keeps our connection and refuses to write.
    """
    options = ("--replicaof", "127.0.0.1", str(own.port))
    with RedisProcess(tmp_path / "replica", *options) as replica, Proxy(own.port) as proxy:
        log, other = (opened(f"redis://127.0.0.1:{proxy.port}/0") for _ in range(2))
        append(log, [made("r", 1)])
        until(lambda: replica.ask("XLEN", "{agentpipe}:log") == 1, "replication")
        if how == "lagged":
            replica.ask("REPLICAOF", "NO", "ONE")
        append(log, [made("r", 2)])
        if how != "lagged":
            until(lambda: replica.ask("XLEN", "{agentpipe}:log") == 2, "replication")
            replica.ask("REPLICAOF", "NO", "ONE")
        followed(other, 0, 2)
        proxy.point(replica.port)
        if how == "demoted":
            own.ask("REPLICAOF", "127.0.0.1", str(replica.port))
        else:
            own.kill()
        if how == "lagged":
            with pytest.raises(ContinuityLost):
                until(lambda: caught(other, 2), "the loss")
            with pytest.raises(ContinuityLost):
                append_next(log, 2)
        else:
            assert append_next(log, 2) == 3
            assert until(lambda: caught(other, 2), "the next entry") == [made("r", 3).line]


def test_of_two_hubs_that_find_a_loss_at_once_one_gives_the_new_epoch(server: RedisProcess, opened: Open):
    log = opened(server.url)
    with server.client() as client:
        assert evaluate(client, RENEW, (log.address.key("meta"),), (log.epoch, "first")) == b"first"
        assert evaluate(client, RENEW, (log.address.key("meta"),), (log.epoch, "second")) == b"first"
    assert opened(server.url).epoch == "first"


def test_a_replica_that_was_not_promoted_is_no_place_to_write(
    own: RedisProcess, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(redis_log, "PATIENCE_S", 0.3)
    monkeypatch.setattr(redis_log, "LEAVE_ALONE_S", 0.0)
    options = ("--replicaof", "127.0.0.1", str(own.port))
    with RedisProcess(tmp_path / "replica", *options) as replica, Proxy(own.port) as proxy:
        log = opened(f"redis://127.0.0.1:{proxy.port}/0")
        append(log, [made("r", 1)])
        until(lambda: replica.ask("XLEN", "{agentpipe}:log") == 1, "replication")
        proxy.point(replica.port)
        proxy.cut()
        with pytest.raises(OutputError, match="read only replica"):
            append_next(log, 1)
        proxy.point(own.port)
        proxy.cut()
        assert append_next(log, 1) == 2


@pytest.mark.parametrize(("sync", "same"), [("always", True), ("everysec", False)])
def test_a_redis_that_was_restarted_while_nobody_looked_is_believed_if_it_loses_nothing(
    tmp_path: Path, opened: Open, sync: str, same: bool
):
    with RedisProcess(tmp_path / "redis", "--appendfsync", sync) as server:
        first = opened(server.url)
        append(first, [made("r", 1)])
        server.stop()
        server.start()
        again = opened(server.url)
        assert again.head == 1
        assert (again.epoch == first.epoch) is same
        assert opened(server.url).epoch == again.epoch


def test_a_hub_that_saw_the_restart_vouches_for_the_log(tmp_path: Path, opened: Open):
    with RedisProcess(tmp_path / "redis", "--appendfsync", "everysec") as server:
        first = opened(server.url)
        append(first, [made("r", 1)])
        server.stop()
        server.start()
        append(first, [made("r", 2)])
        assert opened(server.url).epoch == first.epoch


# --- keeping house


@pytest.mark.parametrize(
    ("retention", "oldest"),
    [
        ((0.0, 0, 0), 0),
        ((0.0, 0, 4), 6),
        ((0.0, 0, 100), 0),
        ((4.5, 0, 0), 5),
        ((0.0, 1, 0), 10),
        ((100.0, 0, 2), 8),
    ],
)
def test_what_is_over_the_limits_leaves_oldest_first(
    server: RedisProcess, opened: Open, retention: tuple[float, int, int], oldest: int
):
    log = opened(server.url, retention=retention)
    for number in range(1, 11):
        append(log, [made("a", number, event_id=f"own-{number}")], float(number))
    while log.retain(10.0):
        pass
    reader = log.reader()
    assert (log.oldest, log.head) == (oldest, 10)
    page = reader.since(0, 100, 10_000)
    assert page.start == oldest
    assert [peek(line).sequence for line in page.lines] == list(range(oldest + 1, 11))
    assert lasts(log) == {"a": 10}
    assert len(log.ids(100)) == 10 - oldest
    assert reader.of_run(OfRun("a"), 0, 100).offsets == list(range(max(1, oldest), 11))  # with the gap in its place
    again = opened(server.url)
    assert (again.head, again.oldest) == (10, oldest)
    assert append(again, [made("a", 11)], 11.0) == 11
    reader.close()


def test_of_what_has_left_the_end_of_the_run_stays_and_a_gap_declares_the_rest(server: RedisProcess, opened: Open):
    log = opened(server.url, retention=(0.0, 0, 1))
    end = made("a", 4, type="run_completed")
    append(log, [made("a", 1), made("b", 1), made("a", 3, covers=[[2, 2]]), end, made("b", 2)])
    reader = log.reader()
    append(log, [made("c", 1)])
    while log.retain(10.0):
        pass
    assert (log.oldest, reader.find("a:4"), reader.find("b:2")) == (5, end.line, None)
    assert told(reader, "a") == [(3, [[1, 3]]), (4, end.line)]
    assert told(reader, "b") == [(5, [[1, 2]])]
    assert told(reader, "a", 3) == [(4, end.line)]
    assert told(reader, "a", 4) == []
    declared = reader.find("a:gap:1-3")
    assert declared == reader.of_run(OfRun("a"), 0, 1).lines[0]
    assert peek(declared or b"{}").payload["reason"] == "evicted"

    late = gap([(9, 9)], "source", run_id="a", agent_id="x", at="2026-11-20T07:00:00.000Z")
    append(log, [made("b", 3), late, made("a", 10), made("a", 11, type="run_failed")])
    append(log, [made("c", 2)])
    while log.retain(10.0):
        pass
    assert told(reader, "a") == [(9, [[1, 4], [9, 10]]), (10, made("a", 11, type="run_failed").line)]
    assert told(reader, "b") == [(7, [[1, 3]])]
    assert told(reader, "c") == [(6, [[1, 1]]), (11, made("c", 2).line)]
    assert reader.find("a:gap:1-3") is None
    reader.close()


def told(reader: RedisReader, run: str, after: int = 0) -> list[tuple[int, object]]:
    """Offsets and lines of a run; of its gaps, the ranges."""
    found = reader.of_run(OfRun(run), after, 100)
    events = [peek(line) for line in found.lines]
    return [
        (offset, event.payload["ranges"] if event.type == "gap" else event.line)
        for offset, event in zip(found.offsets, events, strict=True)
    ]


def test_one_hub_keeps_house_for_all(server: RedisProcess, opened: Open):
    one, other = (opened(server.url, retention=(0.0, 0, 1)) for _ in range(2))
    for number in range(1, 30):
        append(one, [made("a", number)])
    assert one.retain(1.0) is True
    before = one.oldest
    assert (other.retain(1.0), other.oldest) == (False, before)
    server.ask("DEL", "{agentpipe}:retaining")  # the first is gone
    while other.retain(1.0):
        pass
    assert one.oldest == 28


def test_who_follows_from_what_has_left_gets_a_page_that_starts_later(server: RedisProcess, opened: Open):
    log = opened(server.url, retention=(0.0, 0, 1))
    for number in range(1, 6):
        append(log, [made("a", number)])
    while log.retain(1.0):
        pass
    assert log.follow(1, 1 << 20, 0.1).start == 4


def test_a_later_state_is_not_replaced_by_an_earlier_one(server: RedisProcess, opened: Open):
    one, other = opened(server.url), opened(server.url)
    one.save_state(9, b"later")
    other.save_state(7, b"earlier")
    assert other.state() == (9, b"later")
    other.save_state(9, b"as late")
    assert one.state() == (9, b"as late")


def test_the_clock_of_one_hub_makes_nothing_old_or_new(server: RedisProcess, opened: Open):
    """Redis is the judge: what a hub of yesterday or of next year stores is of now."""
    month, now = 30 * 86400.0, time.time()
    log = opened(server.url, retention=(month, 0, 0))
    append(log, [made("r", 1)], now + 365 * 86400)
    append(log, [made("r", 2)], 5.0)
    assert log.retain(now + month - 60) is False
    assert log.retain(now + 365 * 86400) is False
    assert log.oldest == 0
    with server.client() as client:
        times = [float(fields[b"at"]) for _, fields in client.xrange("{agentpipe}:log")]
    assert now <= times[0] + 1 <= times[1] + 1 < now + PATIENCE_S


def test_who_slept_while_another_dropped_the_same_drops_nothing_more(
    server: RedisProcess, opened: Open, monkeypatch: pytest.MonkeyPatch
):
    """It was stopped between its look at the oldest blocks and its word to drop them, for longer than its lease."""
    one, other = (opened(server.url, retention=(0.0, 0, 10)) for _ in range(2))
    for number in range(1, 31):
        append(one, [made("r", number)])
    drop = redis_retention.Keeper._drop

    def sleep(keeper: redis_retention.Keeper, *values: Any) -> None:
        monkeypatch.undo()
        server.ask("DEL", "{agentpipe}:retaining")
        while other.retain(1.0):
            pass
        drop(keeper, *values)

    monkeypatch.setattr(redis_retention.Keeper, "_drop", sleep)
    while one.retain(1.0):
        pass
    assert told(one.reader(), "r")[:2] == [(20, [[1, 20]]), (21, made("r", 21).line)]
    with server.client() as client:
        assert [int(value) for value in client.hmget("{agentpipe}:meta", ["oldest", "count"])] == [20, 10]


# --- what Redis refuses, and what it promises


@pytest.mark.parametrize("more", [(), ("+time",), ("+time", "+info", "+config|get")])
def test_a_user_with_few_rights_is_enough(own: RedisProcess, opened: Open, more: tuple[str, ...]):
    """Those that the manual names; without the right to ask for the time, the clocks of the hubs decide."""
    rights = ("~{mine}:*", "+@read", "+@write", "+@scripting", "+@connection", *more)
    own.ask("ACL", "SETUSER", "few", "on", ">se:cr@t/", *rights)
    log = opened(f"redis://few:se%3Acr%40t%2F@127.0.0.1:{own.port}/0?prefix=mine", retention=(60.0, 0, 0))
    append(log, [made("r", 1)], 5.0)
    append(log, [made("r", 2)], 100.0)
    assert followed(log, 0, 2) == [made("r", 1).line, made("r", 2).line]
    while log.retain(100.0):
        pass
    assert log.oldest == 1
    assert told(log.reader(), "r") == [(1, [[1, 1]]), (2, made("r", 2).line)]
    with pytest.raises(OutputError, match="permission"):
        opened(f"redis://few:se%3Acr%40t%2F@127.0.0.1:{own.port}/0?prefix=other")


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"ERROR\r\n", b"\x15\x03\x01\x00\x02\x02\x46\r\n"]
)
def test_what_is_no_redis_is_told_at_once_and_never_the_password(answer: bytes):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            with listener.accept()[0] as one:
                one.recv(4096)
                one.sendall(answer)
                one.recv(4096)

        thread = threading.Thread(target=speak)
        thread.start()
        with pytest.raises(OutputError, match="what answers there is no Redis") as raised:
            redis_log.RedisLog(f"redis://:hidden@127.0.0.1:{listener.getsockname()[1]}/0")
        assert "hidden" not in str(raised.value)
        thread.join()


def test_a_script_of_somebody_else_is_waited_for(own: RedisProcess, opened: Open):
    log = opened(own.url)
    own.ask("CONFIG", "SET", "busy-reply-threshold", "1")
    busy = "local last = redis.call('TIME')[1] + 2 while tonumber(redis.call('TIME')[1]) < last do end"
    with ThreadPoolExecutor() as threads:
        script = threads.submit(own.ask, "EVAL", busy, "0")
        until(lambda: is_busy(own), "the script")
        assert append_blindly(log, [made("r", 1)]) == 1
        script.result(PATIENCE_S)


def is_busy(server: RedisProcess) -> bool:
    try:
        return not server.ask("PING")
    except Exception as error:  # noqa: BLE001 - of redis-py, which may not be installed
        return "BUSY" in str(error)


def test_a_redis_whose_disk_fails_is_read_and_written_again_when_it_is_mended(tmp_path: Path, opened: Open):
    folder = tmp_path / "gone"
    folder.mkdir()
    with RedisProcess(tmp_path / "redis", "--enable-protected-configs", "yes") as server:
        log = opened(server.url)
        append(log, [made("r", 1)])
        server.ask("CONFIG", "SET", "save", "3600 1")
        server.ask("CONFIG", "SET", "dir", str(folder))
        folder.rmdir()
        server.ask("BGSAVE")
        until(lambda: saving(server) == "err", "a save that fails")
        with pytest.raises(OutputError, match="MISCONF"):
            append_next(log, 1)
        with server.client() as client:
            assert client.hget("{agentpipe}:meta", "head") == b"1"
        assert followed(log, 0, 1) == log.reader().since(0, 10, 1000).lines
        server.ask("CONFIG", "SET", "save", "")
        server.ask("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
        assert append_next(log, 1) == 2


def saving(server: RedisProcess) -> object:
    with server.client() as client:
        return client.info("persistence")["rdb_last_bgsave_status"]


def test_scripts_that_redis_forgot_are_sent_again(server: RedisProcess, opened: Open):
    log = opened(server.url)
    append(log, [made("r", 1)])
    server.ask("SCRIPT", "FLUSH")
    assert append(log, [made("r", 2)]) == 2
    assert log.reader().find("r:2") == made("r", 2).line


def test_an_entry_of_somebody_else_is_an_error_and_no_end(server: RedisProcess, opened: Open):
    log = opened(server.url)
    append(log, [made("r", 1)])
    server.ask("XADD", "{agentpipe}:log", "99-0", "foreign", "1")
    with pytest.raises(OutputError, match="somebody else writes"):
        log.follow(1, 1 << 20, 0.1)
    server.ask("XDEL", "{agentpipe}:log", "99-0")
    assert followed(log, 0, 1) == [made("r", 1).line]


ODD = [
    "a}b{c",
    "{x}",
    "new\nline",
    " sp ace",
    "tab\t",
    "\u00e9\u4e2d\U0001f600",
    "%00",
    "*?[a]",
    "a:1",
    "\x01\x7f",
    "'\"\\",
    "-0",
]


def test_a_run_may_be_called_anything(server: RedisProcess, opened: Open):
    log = opened(f"{server.url}?prefix=%0A%20%C3%A9:*", retention=(0.0, 0, 2))
    for run in ODD:
        append(log, [made(run, 1), made(run, 2)])
    reader = log.reader()
    for run in ODD:
        assert [reader.find(f"{run}:{number}") for number in (1, 2)] == [made(run, number).line for number in (1, 2)]
        assert len(reader.of_run(OfRun(run), 0, 10).lines) == 2
    assert lasts(log) == dict.fromkeys(ODD, 2)
    while log.retain(1.0):
        pass
    for place, run in enumerate(ODD[:-1], 1):
        assert told(reader, run) == [(2 * place, [[1, 2]])]
    left = {"meta", "log", "runs", "remains", "retaining", f"node:{log._node}", f"run:{ODD[-1]}"}
    assert {key.decode() for key in server.ask("KEYS", "*")} == {log.address.key(name) for name in left}


def test_ten_thousand_runs_and_eight_megabytes_are_one_commit(server: RedisProcess, opened: Open):
    """Nothing in the scripts grows with a commit but its loops: Lua unpacks at most some thousand values."""
    log = opened(server.url, retention=(0.0, 0, 1))
    many = [made(f"r{number}", 1, event_id=f"own-{number}") for number in range(10_000)]
    append(log, many)
    with pytest.raises(StoreConflict) as raised:
        log.append(Commit(many, all_at(many, 0), all_at(many, 1), [event.identity for event in many]), 1.0)
    assert (len(raised.value.standings), len(raised.value.known)) == (10_000, 10_000)
    append(log, [made("big", number, 1 << 20) for number in range(1, 9)])
    append(log, [made("last", 1)])
    while log.retain(1.0):
        pass
    assert (log.oldest, log.head) == (10_008, 10_009)
    assert told(log.reader(), "big") == [(10_008, [[1, 8]])]


def all_at(events: list[Event], last: int) -> dict[str, Standing]:
    return {event.run_id: Standing(last) for event in events}


def test_a_redis_without_memory_is_an_error_of_one_line_and_nothing_is_stored(own: RedisProcess, opened: Open):
    log = opened(own.url)
    append(log, [made("r", 1)])
    own.ask("CONFIG", "SET", "maxmemory", "1mb")
    with pytest.raises(OutputError, match="no memory left"):
        log.append(
            Commit(
                [made("r", 2), made("s", 1)],
                {"r": Standing(1), "s": Standing()},
                {"r": Standing(2), "s": Standing(1)},
                (),
            ),
            1.0,
        )
    with pytest.raises(OutputError, match="no memory left"):
        log.save_state(1, b"x")
    assert (log.head, lasts(log)) == (1, {"r": 1})
    own.ask("CONFIG", "SET", "maxmemory", "0")
    assert append(log, [made("r", 2)]) == 2


def test_old_entries_leave_also_when_there_is_no_memory(own: RedisProcess, opened: Open):
    log = opened(own.url, retention=(0.0, 0, 1))
    append(log, [made("r", 1), made("r", 2, type="run_failed")])
    append(log, [made("s", 1)])
    own.ask("CONFIG", "SET", "maxmemory", "1mb")
    while log.retain(1.0):
        pass
    assert (log.oldest, log.reader().find("r:2")) == (2, made("r", 2, type="run_failed").line)


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        (("--appendonly", "no"), "appendonly"),
        (("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"), "noeviction"),
        (("--client-output-buffer-limit", "normal 1mb 1mb 1"), "1048576 bytes behind"),
    ],
)
def test_what_may_cost_entries_is_warned_of(tmp_path: Path, opened: Open, options: tuple[str, ...], warning: str):
    with RedisProcess(tmp_path / "redis", *options) as server:
        (found,) = opened(server.url).health.warnings
        assert warning in found


def test_a_redis_that_does_not_tell_its_settings_is_not_warned_of(tmp_path: Path, opened: Open):
    with RedisProcess(tmp_path / "redis", "--rename-command", "CONFIG", "") as server:
        log = opened(server.url)
        assert (log.health.warnings, log.health.exact) == ([], False)
        assert append(log, [made("r", 1)]) == 1


def test_a_power_cut_is_guarded_against_on_request_or_refused(server: RedisProcess, tmp_path: Path, opened: Open):
    assert append(opened(server.url, sync="always"), [made("r", 1)]) == 1
    with RedisProcess(tmp_path / "redis", "--appendfsync", "everysec") as weak:
        if opened(weak.url).health.version < (7, 2):
            with pytest.raises(OutputError, match=r"appendfsync always or Redis 7\.2"):
                redis_log.RedisLog(weak.url, sync="always")
        else:
            assert append(opened(weak.url, sync="always"), [made("r", 1)]) == 1


def test_a_commit_that_the_replicas_do_not_have_is_not_acknowledged(
    own: RedisProcess, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("agentpipe.io.redis.health.CONFIRM_MS", 100)
    log = opened(f"{own.url}?replicas=1")
    with pytest.raises(OutputError, match="0 of 1 replicas"):
        append_blindly(log, [made("r", 1)])
    with pytest.raises(OutputError, match="0 of 1 replicas"):
        log.standings()  # else it would be acknowledged as known
    with RedisProcess(tmp_path / "replica", "--replicaof", "127.0.0.1", str(own.port)):
        monkeypatch.setattr("agentpipe.io.redis.health.CONFIRM_MS", 1000)
        until(lambda: is_confirmed(log), "the confirmation of a replica")
        assert lasts(log) == {"r": 1}
        assert append_next(log, 1) == 2


def is_confirmed(log: redis_log.RedisLog) -> bool:
    try:
        return bool(log.standings())
    except OutputError:
        return False


def test_a_wrong_password_is_told_at_once_and_not_shown(tmp_path: Path):
    with RedisProcess(tmp_path / "redis") as server:
        server.ask("CONFIG", "SET", "requirepass", "right")
        with pytest.raises(OutputError) as raised:
            redis_log.RedisLog(f"redis://:guess@127.0.0.1:{server.port}")
        assert "guess" not in str(raised.value)
        redis_log.RedisLog(f"redis://:right@127.0.0.1:{server.port}").close()


@pytest.mark.parametrize(
    "text",
    [
        "redis://", "redis:///0", "redis://host/name", "http://host", "redis://host?x=1", "redis://host?replicas=-1",
        "redis://host?replicas=many", "redis://host:port", "redis://host?ssl_ca_certs=/x", "redis://host?prefix={a}",
        "redis+sentinel://host:26379", "redis://user:12#34@host",
    ],
)  # fmt: skip
def test_what_is_no_address_is_an_error_of_the_option(text: str):
    with pytest.raises(OptionError, match="--store"):
        Address.of(text)


def test_an_address_is_shown_without_its_password():
    found = Address.of("rediss://user:secret@[::1]:7000/3?prefix=a%20b&replicas=2")
    assert (found.shown, found.prefix, found.replicas) == ("rediss://[::1]:7000/3", "a b", 2)
    assert found.url == "rediss://user:secret@[::1]:7000/3"
    assert found.key("log") == "{a b}:log"
    own_authority = Address.of("rediss://host?ssl_ca_certs=/etc/ca.pem&prefix=x")
    assert own_authority.url == "rediss://host?ssl_ca_certs=%2Fetc%2Fca.pem"
    many = Address.of("redis+sentinel://:secret@one:1,two/main?prefix=x")
    assert (many.sentinels, many.service) == ((("one", 1), ("two", 26379)), "main")
    assert "secret" not in many.shown
    assert "secret" not in f"{found}{many}"


def test_without_the_package_the_option_says_what_to_install():
    script = "import sys; sys.modules['redis'] = None\nimport agentpipe.io.redis.log"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert "--store: Redis needs one package more: pip install 'agentpipe[redis]'" in result.stderr


def test_the_primary_is_found_by_sentinels(own: RedisProcess, tmp_path: Path, opened: Open):
    settings = tmp_path / "sentinel.conf"
    with Sentinel(settings, own.port) as port:
        log = opened(f"redis+sentinel://127.0.0.1:{port}/main")
        assert append(log, [made("r", 1)]) == 1
        assert followed(log, 0, 1) == [made("r", 1).line]


class Sentinel:
    """A Sentinel that watches one primary called ``main``."""

    def __init__(self, settings: Path, primary: int) -> None:
        self.port = unused_port()
        settings.write_text(f"port {self.port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {primary} 1\n")
        self.process = subprocess.Popen(
            ["redis-server", str(settings), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def __enter__(self) -> int:
        import redis

        def answers() -> bool:
            try:
                with redis.Redis(port=self.port) as client:
                    return bool(client.ping())
            except redis.RedisError:
                return False

        until(answers, "the start of the Sentinel")
        return self.port

    def __exit__(self, *details: object) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)


def test_two_threads_may_append_and_follow_one_log(server: RedisProcess, opened: Open):
    log = opened(server.url)
    found: Future[list[bytes]] = Future()
    thread = threading.Thread(target=lambda: found.set_result(followed(log, 0, 200)))
    thread.start()
    for number in range(1, 201):
        append(log, [made("r", number)])
    assert [peek(line).sequence for line in found.result(PATIENCE_S)] == list(range(1, 201))
    thread.join()


def test_large_events_are_followed_and_read_a_few_at_once(server: RedisProcess, opened: Open):
    log = opened(server.url)
    for number in range(1, 13):
        append(log, [made("r", number, 3 << 20)])
    pages = [log.follow(0, 4 << 20, 0.1)]
    while pages[-1].lines:
        pages.append(log.follow(pages[-1].next, 4 << 20, 0.1))
    assert max(len(page.lines) for page in pages) == 2
    assert [peek(line).sequence for page in pages for line in page.lines] == list(range(1, 13))
    with server.client() as client:
        client.config_resetstat()
        assert len(log.reader().since(0, 1000, 10 << 20).lines) == 3
        assert client.info("commandstats")["cmdstat_xrange"]["calls"] == 3  # one block each
