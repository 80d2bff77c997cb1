"""An event enters the log once, in the order of its run's numbers."""

import json
import time
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpipe.admission import MAX_DECLARED, MAX_DEPTH, MAX_ID_LENGTH, MAX_IDS, Admission, Refusal
from agentpipe.event import Event, encode, gap
from agentpipe.holes import numbers as numbers_of
from agentpipe.holes import tidied
from agentpipe.missing import DECLARE_AFTER_S, Account, without
from agentpipe.store import Sender, Standing


class Looked(NamedTuple):
    """What became of a batch, and the events that are to be stored."""

    new: list[Event]
    known: int
    refused: list[Refusal]
    lasts: dict[str, int]


class Door(Admission):
    """A door whose events are taken from it after each batch."""

    def look(self, lines: Sequence[bytes], now: float = 0.0, sender: Sender | None = None) -> Looked:
        found = self.admit_lines(lines, now, sender)
        new = list(self.take().events)
        ours = [event for event in new if event.type == "gap" and event.payload.get("reason") == "source"]
        assert len(new) - len(ours) == found.new
        return Looked(new, found.known, found.refused, found.lasts)


def line(run: object = "r", sequence: object = None, **more: object) -> bytes:
    head = {"type": "agent_output", "run_id": run, "agent_id": "a"}
    return encode({**head, **({"sequence": sequence} if sequence is not None else {}), **more})


def declared(first: int, last: int) -> bytes:
    return gap([(first, last)], "throttle", run_id="r", agent_id="a", at="2026-11-20T07:00:00.000Z").line


def test_new_events_pass_with_their_bytes_and_repeats_are_known():
    door = Door()
    lines = [line(sequence=number) for number in (1, 2, 3)]
    first = door.look(lines)
    assert [event.line for event in first.new] == lines
    assert (first.known, first.refused, first.lasts) == (0, [], {"r": 3})
    again = door.look([*lines[1:], line(sequence=4)])
    assert ([event.sequence for event in again.new], again.known) == ([4], 2)


def test_holes_in_the_numbers_are_taken_as_they_are():
    assert [e.sequence for e in Door().look([line(sequence=n) for n in (2, 7, 5, 8)]).new] == [2, 7, 8]


def test_runs_are_counted_apart():
    door = Door({"r": Standing(5)})
    assert [e.run_id for e in door.look([line("r", 5), line("s", 5), line("r", 6)]).new] == ["s", "r"]


def test_a_gap_is_told_apart_by_its_id_whatever_its_number():
    door = Door({"r": Standing(100)})
    assert len(door.look([declared(3, 4), declared(5, 9), declared(3, 4)]).new) == 2
    assert door.look([declared(5, 9)]).known == 1
    assert door.last("r") == 100


def test_a_gap_without_an_id_is_told_apart_by_its_number():
    door = Door()
    bare = encode({"type": "gap", "run_id": "r", "sequence": 4})
    (taken,) = door.look([bare, bare]).new
    assert (taken.event_id, taken.sequence) == ("r:gap:4", 4), "else it would have the id of the run's event 4"


def test_an_event_without_a_number_gets_the_next_one_spliced_into_its_bytes():
    door = Door({"r": Standing(16)})
    (event,) = door.look([b' {"run_id" : "r", "type":"hook", "big":123456789012345678901234567890}']).new
    assert event.line == (
        b'{"sequence":17,"event_id":"r:17","run_id" : "r", "type":"hook", "big":123456789012345678901234567890}'
    )
    assert (event.sequence, event.event_id, event.run_id) == (17, "r:17", "r")


def test_an_event_that_brings_its_id_and_no_number_is_taken_once():
    door = Door()
    own = line(event_id="hook-1")
    first = door.look([own, own])
    assert (len(first.new), first.known) == (1, 1)
    assert json.loads(first.new[0].line)["event_id"] == "hook-1"
    assert door.look([own]).known == 1
    assert len(Door({"r": Standing(1)}, ["hook-1"]).look([own]).new) == 0


def test_an_id_that_names_a_number_the_run_has_had_is_known():
    assert Door({"r": Standing(3)}).look([line(event_id="r:3")]).known == 1
    assert len(Door({"r": Standing(3)}).look([line(event_id="r:4")]).new) == 1


@pytest.mark.parametrize(
    ("bad", "code", "problem"),
    [
        (b"{", "bad_json", ""),
        (b"[]", "bad_json", "not a JSON object"),
        (b'"\xff"', "bad_json", ""),
        (b'{"type":"x","run_id":"r","sequence":1,"text":"\xff"}', "bad_json", ""),
        (encode({"run_id": "r"}), "bad_event", "type and run_id"),
        (encode({"type": "x"}), "bad_event", "type and run_id"),
        (encode({"type": "x", "run_id": ""}), "bad_event", "type and run_id"),
        (encode({"type": "x", "run_id": 7}), "bad_event", "type and run_id"),
        (line(sequence=0), "bad_event", "sequence"),
        (line(sequence=-1), "bad_event", "sequence"),
        (line(sequence=2**53 + 1), "bad_event", "sequence"),
        (line(sequence=1.5), "bad_event", "sequence"),
        (line(sequence="1"), "bad_event", "sequence"),
        (line(sequence=True), "bad_event", "sequence"),
        (b'{"type":"x","run_id":"r","sequence":null}', "bad_event", "sequence"),
        (line(event_id=5), "bad_event", "event_id"),
        (line("x" * (MAX_ID_LENGTH + 1), 1), "bad_event", "run_id and event_id"),
        (line("ok", 2, event_id="x" * (MAX_ID_LENGTH + 1)), "bad_event", "run_id and event_id"),
        (line("ok", 2, event_id="x\0y"), "bad_event", "NUL"),
        (b'{"type":"x","run_id":"\\ud800","sequence":1,"agent_id":5}', "bad_event", "type and run_id"),
    ],
)
def test_a_bad_event_is_refused_alone(bad: bytes, code: str, problem: str):
    found = Door().look([line("ok", 1), bad, line("ok", 2)])
    assert [event.sequence for event in found.new] == [1, 2]
    ((place, given_code, message),) = found.refused
    assert (place, given_code) == (1, code)
    assert problem in message


def test_a_number_inside_the_payload_is_not_taken_for_the_events_own():
    (event,) = Door().look([line(payload={"sequence": 9, "event_id": "x"})]).new
    assert event.sequence == 1


def test_ids_are_kept_within_a_bound():
    door = Door()
    for number in range(MAX_IDS + 10):
        door._remember(f"id-{number}")
    assert len(door._ids) == MAX_IDS
    assert "id-9" not in door._ids


numbers = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 12)), max_size=30)


@given(st.lists(numbers, max_size=6))
def test_whatever_is_sent_again_enters_once_and_in_order(batches: list[list[tuple[str, int]]]):
    door = Door()
    taken: list[tuple[str, int | None]] = []
    sent = known = 0
    for batch in batches:
        found = door.look([line(run, number) for run, number in batch])
        taken += [(event.run_id, event.sequence) for event in found.new]
        sent += len(batch)
        known += found.known
    assert len(taken) + known == sent
    for run in "ab":
        own = [number for name, number in taken if name == run]
        assert own == sorted(set(own))


@pytest.mark.parametrize(("open_", "close"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_what_not_every_reader_can_decode_is_refused_alone(open_: bytes, close: bytes):
    def nested(number: int, depth: int) -> bytes:
        value = open_ * depth + b'"]["' + close * depth
        return b'{"type":"x","run_id":"r","sequence":%d,"payload":%b}' % (number, value)

    lines = [nested(1, MAX_DEPTH - 1), nested(2, MAX_DEPTH), nested(3, 0), nested(4, 900)]
    flat = b'{"type":"x","run_id":"r","sequence":5,"payload":[%b]}' % b",".join([b'["[[[{",{}]'] * 600)
    admitted = Door().look([*lines, flat])
    assert [event.sequence for event in admitted.new] == [1, 3, 5]
    assert [(refusal.place, refusal.code) for refusal in admitted.refused] == [(1, "bad_event"), (3, "bad_event")]


def test_the_next_events_of_a_known_run_are_new_but_for_the_odd_one_among_them():
    """The quick way for a batch that goes on without a hole is not taken by anything else."""
    door = Door({"r": Standing(5)})
    went_on = door.look([line(sequence=n) for n in (6, 7, 8)])
    assert ([event.sequence for event in went_on.new], went_on.lasts) == ([6, 7, 8], {"r": 8})
    with_gap = door.look([line(sequence=9), declared(10, 10), line(sequence=10)])
    assert ([event.type for event in with_gap.new], door.last("r")) == (["agent_output", "gap", "agent_output"], 10)
    nameless = door.look([line(sequence=11), line(sequence=12, type="")])
    assert ([event.sequence for event in nameless.new], [r.place for r in nameless.refused]) == ([11], [1])
    unnumbered = door.look([line(sequence=12), line()])
    assert [event.sequence for event in unnumbered.new] == [12, 13]
    assert door.look([line(sequence=n) for n in (13, 14, 15)]).known == 1
    deep = line(sequence=16)[:-1] + b',"payload":{"a":' + b"[" * 600 + b"1" + b"]" * 600 + b"}}"
    too_deep = door.look([deep, line(sequence=17)])
    assert ([event.sequence for event in too_deep.new], [r.place for r in too_deep.refused]) == ([17], [0])
    assert Door({"r": Standing(2**53 - 1)}).look([line(sequence=2**53 - 1)]).known == 1


# --- holes in a publisher's numbers


def ended(number: int) -> bytes:
    return line(sequence=number, type="run_completed")


def shown(events: Sequence[Event]) -> list[object]:
    return [event.payload["ranges"] if event.type == "gap" else event.sequence for event in events]


def test_numbers_that_were_skipped_are_declared_before_the_run_ends():
    door = Door()
    assert shown(door.look([line(sequence=n) for n in (3, 4, 9)]).new) == [3, 4, 9]
    found = door.look([ended(10)])
    assert shown(found.new) == [[[1, 2], [5, 8]], 10]
    gap_event = found.new[0]
    assert (gap_event.identity, gap_event.sequence) == ("r:gap:1-8", 8)
    assert gap_event.payload["reason"] == "source"
    assert (gap_event.payload["count"], gap_event.agent_id) == (6, "a")


def test_numbers_that_were_skipped_are_declared_after_a_while():
    door = Door()
    door.look([line(sequence=n) for n in (1, 5)], now=100.0)
    door.declare(100.0 + DECLARE_AFTER_S - 0.1)
    assert not door.take().events
    assert door.waiting
    door.declare(100.0 + DECLARE_AFTER_S)
    assert shown(door.take().events) == [[[2, 4]]]
    assert not door.waiting
    assert shown(door.look([ended(6)]).new) == [6]


def test_what_a_publisher_declares_itself_is_not_declared_again_whether_before_or_behind():
    door = Door()
    assert shown(door.look([line(sequence=1), declared(2, 4), line(sequence=5), line(sequence=9), declared(6, 8)]).new)
    assert not door.waiting
    assert shown(door.look([ended(10)]).new) == [10]


def test_what_a_merged_event_covers_is_not_missing():
    door = Door()
    door.look([line(sequence=1), line(sequence=5, covers=[[2, 2], [4, 4]])])
    assert shown(door.look([ended(6)]).new) == [[[3, 3]], 6]


def test_a_run_with_ever_more_holes_is_declared_piece_by_piece():
    door = Door()
    found = door.look([line(sequence=n) for n in range(2, 2004, 2)]).new
    gaps = [event for event in found if event.type == "gap"]
    assert gaps
    assert max(len(event.payload["ranges"]) for event in gaps) <= 500
    declared_numbers = {n for event in gaps for first, last in event.payload["ranges"] for n in range(first, last + 1)}
    left = shown(door.look([ended(2003)]).new)[0]
    assert isinstance(left, list)
    declared_numbers |= {n for first, last in left for n in range(first, last + 1)}
    assert declared_numbers == set(range(1, 2003, 2))


def test_a_gap_with_ranges_that_make_no_sense_declares_nothing():
    door = Door()
    bad = encode({"type": "gap", "run_id": "r", "sequence": 1, "payload": {"ranges": [[4], "x", [9, 2], [1.5, 2]]}})
    door.look([line(sequence=1), bad, line(sequence=3)])
    assert shown(door.look([ended(4)]).new) == [[[2, 2]], 4]


def test_a_gap_that_has_a_number_for_itself_is_no_hole():
    """As `parse` makes it for lines that were lost before they had numbers."""
    door = Door()
    own = encode({"type": "gap", "run_id": "r", "sequence": 2, "event_id": "r:2", "payload": {"ranges": []}})
    door.look([line(sequence=1), own, line(sequence=3)])
    assert shown(door.look([ended(4)]).new) == [4]


def test_what_a_merged_event_covers_behind_other_events_is_not_missing():
    """Two texts that come at the same time and are merged: 1 and 3 are in 5, which follows 4 without a hole."""
    door = Door()
    door.look([line(sequence=2), line(sequence=4), line(sequence=5, covers=[[1, 1], [3, 3]])], now=0.0)
    assert not door.waiting
    door.look([line(sequence=7), line(sequence=9, covers=[[6, 6]])], now=0.0)
    assert shown(door.look([ended(10)]).new) == [[[8, 8]], 10]


def test_a_gap_without_a_number_declares_as_well():
    door = Door()
    door.look([line(sequence=1), line(sequence=5)])
    bare = encode({"type": "gap", "run_id": "r", "payload": {"ranges": [[2, 4]]}})
    assert [event.sequence for event in door.look([bare]).new] == [6]
    assert shown(door.look([ended(7)]).new) == [7]


def test_each_hole_has_its_own_time():
    door = Door()
    door.look([line(sequence=2)], now=0.0)
    door.look([line(sequence=4)], now=4.0)
    assert not door.declare(5.0)
    assert shown(door.take().events) == [[[1, 1]]]
    door.look([declared(3, 3)], now=6.0)
    door.declare(60.0)
    assert not door.take().events, "the publisher was in time"


def test_a_gap_whose_id_a_publisher_has_used_is_declared_under_another():
    door = Door()
    door.look([line(sequence=1), line(event_id="r:gap:3-4"), line(sequence=5)])
    door.declare(60.0)
    (found,) = door.take().events
    assert (found.identity, found.payload["ranges"]) == ("r:gap:3-4:2", [[3, 4]])


def test_a_run_whose_numbers_are_used_up_takes_no_event_without_one():
    door = Door({"r": Standing(2**53 - 1)})
    (refusal,) = door.look([line()]).refused
    assert "numbers" in refusal.message


def test_an_older_connection_is_not_forgotten_for_another_publisher_that_brought_nothing_new():
    door = Door()
    old, new, other = Sender("p" * 16, 1), Sender("p" * 16, 2), Sender("q" * 16, 1)
    door.admit_lines([line(sequence=1)], 0.0, new)
    door.admit_lines([line(sequence=1), line("s", 1)], 0.0, other)
    assert door.admit_lines([line(sequence=2)], 0.0, old).fenced


def test_a_gap_of_thousands_of_ranges_costs_no_more_than_to_read_it():
    """500 open ranges against 20,000: ten million steps, were each compared with each."""
    door = Door()
    door.look([line(sequence=number) for number in range(2, 1000, 2)])
    ranges = [[number, number] for number in range(1001, 41_001, 2)]
    hostile = encode({"type": "gap", "run_id": "r", "sequence": 1, "payload": {"ranges": ranges}})
    started = time.process_time()
    for number in range(3, 11, 2):
        door.look([hostile.replace(b'"sequence":1', b'"sequence":%d' % number)])
    assert time.process_time() - started < 2.0


def test_a_publisher_that_sends_every_second_number_costs_little_more_than_another():
    door = Door()
    lines = [line(sequence=number) for number in range(2, 40_000, 2)]
    started = time.process_time()
    door.look(lines)
    assert time.process_time() - started < 1.5, "3 s when every event looks at all that is open"


def test_many_runs_with_holes_are_declared_some_at_a_time_and_cost_nothing_while_they_wait():
    door = Door()
    count = 3 * MAX_DECLARED // 2
    door.look([line(f"r{number}", 2) for number in range(count)], now=0.0)
    started = time.process_time()
    for _ in range(10_000):
        assert not door.declare(1.0)
    assert time.process_time() - started < 1.0
    assert door.declare(60.0)
    assert len(door.take().events) == MAX_DECLARED
    assert not door.declare(60.0)
    assert len(door.take().events) == count - MAX_DECLARED
    assert not door.waiting


spans = st.lists(st.tuples(st.integers(-3, 30), st.integers(0, 6)).map(lambda p: (p[0], p[0] + p[1])), max_size=8)


@given(spans, spans)
def test_a_set_of_numbers_less_another(some: list[tuple[int, int]], others: list[tuple[int, int]]):
    def held(found: Sequence[tuple[int, int]]) -> set[int]:
        return {n for first, last in found for n in range(first, last + 1)}

    left = without(tidied(some), others)
    assert held(left) == held(some) - held(others)
    assert left == sorted(left)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("event"), st.integers(1, 30), st.integers(0, 3)),
        st.tuples(st.just("gap"), st.integers(1, 30), st.integers(0, 6)),
        st.tuples(st.just("wait"), st.integers(0, 6), st.just(0)),
        st.tuples(st.just("restart"), st.just(0), st.just(0)),
    ),
    max_size=40,
)


@given(steps)
def test_seen_covered_and_declared_numbers_have_no_hole_at_the_end(script: list[tuple[str, int, int]]):
    """Across restarts too: what is open is kept with the run."""
    door = Door()
    stored: list[Event] = []
    standing = Standing()
    now = 0.0

    def keep() -> None:
        nonlocal standing
        commit = door.take()
        stored.extend(commit.events)
        standing = commit.after.get("r", standing)

    for kind, first, more in [*script, ("end", 100, 0)]:
        if kind == "event":
            covers = {"covers": [[max(1, first - more), first - 1]]} if more else {}
            door.admit_lines([line(sequence=first, **covers)], now)
        elif kind == "gap":
            door.admit_lines([declared(first, first + more)], now)
        elif kind == "end":
            door.admit_lines([ended(first)], now)
        elif kind == "wait":
            now += first
        door.declare(now)
        keep()
        if kind == "restart":
            door = Door({"r": Standing.of(standing.last, standing.rest())}, [event.identity for event in stored])
    told: set[int] = set()
    for event in stored:
        spans = event.payload["ranges"] if event.type == "gap" else [*numbers_of(event)]
        told |= {n for low, high in spans for n in range(low, high + 1)}
    assert set(range(1, 101)) <= told
    ids = [event.identity for event in stored]
    assert len(ids) == len(set(ids))


# --- publishers, and others who write


def test_an_older_connection_of_the_same_publisher_is_fenced_and_another_publisher_is_not():
    door = Door()
    old, new, other = Sender("p" * 16, 1), Sender("p" * 16, 2), Sender("q" * 16, 1)
    assert len(door.look([line(sequence=1)], sender=old).new) == 1
    assert len(door.look([line(sequence=2)], sender=new).new) == 1
    fenced = door.admit_lines([line(sequence=3)], 0.0, old)
    assert (fenced.fenced, fenced.new) == (True, 0)
    assert not door.take().events
    assert door.look([line(sequence=2)], sender=other).known == 1
    assert len(door.look([line(sequence=3)], sender=other).new) == 1
    assert len(door.look([line("other run", 1)], sender=old).new) == 1


def test_a_commit_that_was_not_stored_is_taken_back():
    door = Door({"r": Standing(5)}, ["known"])
    door.admit_lines([line(sequence=9), line("s", 1), line(event_id="mine")], 0.0)
    commit = door.take()
    assert commit.before == {"r": Standing(5), "s": Standing()}
    assert [*commit.ids] == ["mine"]
    door.correct(commit, {"r": Standing(7), "s": Standing()}, [])
    assert (door.last("r"), door.last("s"), door.waiting) == (7, 0, False)
    again = door.look([line(sequence=7), line(sequence=9), line("s", 1), line(event_id="mine")])
    assert [event.sequence for event in again.new] == [9, 1, 10]
    assert again.known == 1


def test_a_standing_survives_its_way_through_the_store():
    account = Account(12.5, "a", None, ((2, 4), (6, 6)), ((9, 9),))
    for standing in (Standing(7), Standing(7, account), Standing(7, None, Sender("x" * 16, 3)), Standing(0, account)):
        assert Standing.of(standing.last, standing.rest()) == standing
