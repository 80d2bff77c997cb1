"""What every store promises, whichever it is: the contract of ``agentpipe/store.py``."""

import itertools
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentpipe.event import Event, encode, gap, peek
from agentpipe.history import EVERYTHING, Filter, Log, OfRun
from agentpipe.io.sqlite.log import SqliteLog
from agentpipe.missing import Account
from agentpipe.store import Commit, Sender, Standing, Store, StoreConflict
from tests.commits import append, commit, lasts
from tests.redis_process import RedisProcess

#: Opens the store of a name: the same name is the same store, at any time by one opener.
Open = Callable[[str], Store]


#: For stores that nobody has used before.
NUMBERS = itertools.count()


def made(run: str, number: int, size: int = 0, **more: object) -> Event:
    return peek(encode({"type": "x", "run_id": run, "sequence": number, "pad": "x" * size, **more}))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    with RedisProcess(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(params=["sqlite", "redis"])
def open_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Open:
    if request.param == "sqlite":
        folder = tmp_path_factory.mktemp("stores")
        return lambda name: SqliteLog(str(folder / f"{name}.db"))
    from agentpipe.io.redis.log import RedisLog

    running = request.getfixturevalue("server")
    running.ask("FLUSHALL")
    return lambda name: RedisLog(f"{running.url}?prefix={name}")


@pytest.fixture
def store(open_store: Open) -> Iterator[Store]:
    opened = open_store("hub")
    yield opened
    opened.close()


def everything(log: Log) -> list[bytes]:
    lines: list[bytes] = []
    offset = 0
    while (page := log.since(offset, 300, 100_000)).lines:
        assert page.start == offset
        lines += page.lines
        offset = page.next
    return lines


def test_what_was_appended_is_there_after_a_restart_under_the_same_epoch(open_store: Open):
    first = open_store("hub")
    events = [made("a", number) for number in range(1, 4)]
    assert append(first, events) == 3
    first.close()
    again = open_store("hub")
    assert (again.epoch, again.oldest, again.head) == (first.epoch, 0, 3)
    assert everything(again.reader()) == [event.line for event in events]
    assert append(again, [made("a", 4)], 2.0) == 4
    assert lasts(again) == {"a": 4}
    again.close()


def test_bytes_come_back_as_they_were(store: Store):
    line = b'{ "type" :"x","run_id":"r\\u00e9\xc3\xa9 1","sequence":1,"n":1.50,"e":"\\ud83d\\ude00"}'
    append(store, [peek(line)])
    assert store.reader().find("r\u00e9\u00e9 1:1") == line
    assert everything(store.reader()) == [line]


def test_who_believes_something_else_than_is_stored_changes_nothing_and_hears_the_truth(store: Store):
    append(store, [made("a", 5), made("b", 1)])
    append(store, [made("a", 0, event_id="mine")])
    head = store.head
    stale = Commit(
        [made("a", 4), made("c", 1)], {"a": Standing(3), "c": Standing()}, {"a": Standing(4), "c": Standing(1)}, ()
    )
    with pytest.raises(StoreConflict) as raised:
        store.append(stale, 1.0)
    assert raised.value.standings == {"a": store.standings(["a"])["a"], "c": Standing()}
    repeated = commit(store, [made("b", 2, event_id="mine")], ids=["mine", "new"])
    with pytest.raises(StoreConflict) as raised:
        store.append(repeated, 1.0)
    assert list(raised.value.known) == ["mine"]
    assert raised.value.standings == {"b": Standing(1)}
    with pytest.raises(StoreConflict):
        store.append(Commit([made("d", 8)], {"d": Standing(7)}, {"d": Standing(8)}, ()), 1.0)
    assert store.head == head
    assert append(store, [made("b", 2), made("c", 1)]) == head + 2


@pytest.mark.parametrize(
    ("account", "sender"),
    [
        (None, None),
        (Account(1.5, '\u00e4"\n', None, ((2, 4),), ()), None),
        (Account(0.1 + 0.2, "a", "w", ((2, 4), (6, 6)), ((9, 2**63),)), Sender("p" * 16, 1)),
        (None, Sender("q" * 16, 1)),
        (None, Sender("p" * 16, 2)),
    ],
)
def test_who_believes_the_right_number_but_not_what_is_open_or_who_wrote_changes_nothing(
    store: Store, account: Account | None, sender: Sender | None
):
    """A commit that holds only a gap changes these, and no number."""
    declared = gap([(1, 1)], "throttle", run_id="r", agent_id="", at="2026-11-20T07:00:00.000Z")
    stored, believed = Standing(5, account, sender), Standing(5, None, Sender("p" * 16, 1))
    store.append(Commit([made("r", 5)], {"r": Standing()}, {"r": believed}, ()), 1.0)
    store.append(Commit([declared], {"r": believed}, {"r": stored}, [declared.identity]), 1.0)
    stale = Commit([made("r", 6)], {"r": believed}, {"r": Standing(6, None, believed.sender)}, ())
    with pytest.raises(StoreConflict) as raised:
        store.append(stale, 1.0)
    assert raised.value.standings == {"r": stored}
    assert store.head == 2
    store.append(Commit([made("r", 6)], raised.value.standings, {"r": Standing(6)}, ()), 1.0)
    assert store.standings() == {"r": Standing(6)}


def test_a_run_of_which_only_a_gap_is_known_is_not_new(store: Store):
    declared = gap([(1, 1)], "throttle", run_id="r", agent_id="", at="2026-11-20T07:00:00.000Z")
    stored = Standing(0, None, Sender("p" * 16, 2))
    store.append(Commit([declared], {"r": Standing()}, {"r": stored}, [declared.identity]), 1.0)
    for believed in (Standing(), Standing(0, None, Sender("p" * 16, 1))):
        with pytest.raises(StoreConflict) as raised:
            store.append(Commit([made("r", 1)], {"r": believed}, {"r": Standing(1)}, ()), 1.0)
        assert raised.value.standings == {"r": stored}
    with pytest.raises(StoreConflict):
        store.append(Commit([made("s", 1)], {"s": stored}, {"s": Standing(1)}, ()), 1.0)


def test_a_standing_is_there_after_a_restart(open_store: Open):
    standing = Standing(9, Account(1.5, "\u00e4", "w", ((2, 4),), ()), Sender("p" * 16, 3))
    first = open_store("hub")
    first.append(Commit([made("r", 1), made("r", 9)], {"r": Standing()}, {"r": standing}, ()), 1.0)
    first.close()
    again = open_store("hub")
    assert again.standings() == again.standings({"r", "other"}) == {"r": standing}
    assert again.standings(()) == {}
    again.close()


def test_a_state_is_kept_with_its_offset(store: Store):
    assert store.state() == (0, b"")
    store.save_state(7, b"\x00state")
    store.save_state(9, b"later")
    assert store.state() == (9, b"later")


def test_events_with_ids_of_their_own_are_found_and_remembered(store: Store):
    declared = gap([(3, 4)], "throttle", run_id="a", agent_id="", at="2026-11-20T07:00:00.000Z")
    own = made("a", 7, event_id="hook:1")
    append(store, [made("a", 5), declared, own])
    log = store.reader()
    assert log.find("a:gap:3-4") == declared.line
    assert log.find("hook:1") == own.line
    assert log.find("a:7") is None
    assert log.find("nobody:7") is None
    assert log.find("nothing") is None
    assert lasts(store) == {"a": 7}  # the gap's number is not the run's
    assert set(store.ids(10)) == {"a:gap:3-4", "hook:1"}


def test_the_newest_ids_come_last(store: Store):
    for number in range(1, 6):
        append(store, [made("a", number, event_id=f"own-{number}")])
    assert store.ids(3) == ["own-3", "own-4", "own-5"]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3000)), max_size=8), max_size=6),
    st.integers(0, 30),
    st.integers(1, 10),
    st.integers(1, 5000),
)
def test_pages_are_those_of_the_list_of_all_lines(
    open_store: Open,
    batches: list[list[tuple[str, int]]],
    offset: int,
    limit: int,
    limit_bytes: int,
):
    store = open_store(f"hub{next(NUMBERS)}")
    lines: list[bytes] = []
    for batch in batches:
        events = [made(run, len(lines) + index + 1, size) for index, (run, size) in enumerate(batch)]
        lines += [event.line for event in events]
        assert append(store, events) == len(lines)
    reader = store.reader()
    page = reader.since(offset, limit, limit_bytes)
    if offset < len(lines):
        assert page.start == offset
        assert list(page.lines) == lines[offset : page.next]
        assert 1 <= len(page.lines) <= limit
        assert sum(map(len, page.lines)) <= limit_bytes or len(page.lines) == 1
    else:
        assert page.lines == []
    wanted = Filter(runs=frozenset({"a"}))
    places = [index + 1 for index, line in enumerate(lines) if peek(line).run_id == "a"]
    found = reader.of_run(OfRun("a"), offset, limit)
    assert found.offsets == [place for place in places if place > offset][:limit]
    assert list(found.lines) == [lines[place - 1] for place in found.offsets]
    assert reader.before_last(wanted, limit) == (places[-limit] - 1 if len(places) >= limit else 0)
    assert reader.before_last(EVERYTHING, limit) == max(0, len(lines) - limit)
    for line in lines[::3]:
        assert reader.find(f"{peek(line).run_id}:{peek(line).sequence}") == line
    store.close()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 30)), min_size=1, max_size=8), max_size=15),
    st.booleans(),
)
def test_a_number_is_found_whatever_gaps_stand_around(
    open_store: Open, batches: list[list[tuple[str, int]]], huge: bool
):
    """A gap may be of any number, alone in its commit or among others, and come after later ones."""
    store = open_store(f"hub{next(NUMBERS)}")
    numbers = {"a": 0, "b": 0}
    events: list[Event] = []
    for batch in batches:
        made_now: list[Event] = []
        for run, step in batch:
            if step < 10:
                own = {"event_id": f"{run}:gap:{len(events) + len(made_now)}"}
                number = 1 << 50 if huge and step == 2 else 1 + numbers[run] * step // 10
                made_now.append(made(run, number, type="gap", **own))
            if step > 5:
                numbers[run] += step
                made_now.append(made(run, numbers[run]))
        events += made_now
        append(store, made_now)
    log = store.reader()
    for offset, event in enumerate(events, 1):
        if event.type != "gap":
            assert log.find(event.identity) == event.line
            assert log.place(event.run_id, event.sequence or 0) < offset
        else:
            assert peek(log.find(event.identity) or b"{}").identity == event.identity
    store.close()


def test_big_batches_are_read_in_pages(store: Store):
    append(store, [made("a", number) for number in range(1, 1202)])
    append(store, [made("b", 1, 600_000), made("b", 2)])
    append(store, [made("a", 1202)])
    log = store.reader()
    assert store.head == len(everything(log)) == 1204
    assert log.since(1201, 100, 1000).lines == [made("b", 1, 600_000).line]
    assert log.of_run(OfRun("a"), 1199, 3).offsets == [1200, 1201, 1204]
    assert log.of_run(OfRun("b"), 0, 1, 100).next == 1202
    assert log.place("a", 1202) in range(1201, 1204)


def test_a_log_is_read_while_it_is_written(store: Store):
    """A reader on another thread sees whole commits, in order."""
    log = store.reader()
    seen: list[bytes] = []
    reading = threading.Thread(target=lambda: _follow(log, seen, 300))
    reading.start()
    for number in range(100):
        append(store, [made("a", 3 * number + part) for part in (1, 2, 3)])
    reading.join(60)
    assert [peek(line).sequence for line in seen] == list(range(1, 301))


def _follow(log: Log, seen: list[bytes], count: int) -> None:
    while len(seen) < count:
        seen += log.since(len(seen), 7, 10_000).lines
