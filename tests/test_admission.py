"""An event enters the log once, in the order of its run's numbers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpipe.admission import MAX_DEPTH, MAX_ID_LENGTH, MAX_IDS, Admission
from agentpipe.event import encode, gap


def line(run: object = "r", sequence: object = None, **more: object) -> bytes:
    head = {"type": "agent_output", "run_id": run, "agent_id": "a"}
    return encode({**head, **({"sequence": sequence} if sequence is not None else {}), **more})


def declared(first: int, last: int) -> bytes:
    return gap([(first, last)], "throttle", run_id="r", agent_id="a", at="2026-11-20T07:00:00.000Z").line


def test_new_events_pass_with_their_bytes_and_repeats_are_known():
    door = Admission()
    lines = [line(sequence=number) for number in (1, 2, 3)]
    first = door.admit_lines(lines)
    assert [event.line for event in first.new] == lines
    assert (first.known, first.refused, first.lasts) == (0, [], {"r": 3})
    again = door.admit_lines([*lines[1:], line(sequence=4)])
    assert ([event.sequence for event in again.new], again.known) == ([4], 2)


def test_holes_in_the_numbers_are_taken_as_they_are():
    assert [e.sequence for e in Admission().admit_lines([line(sequence=n) for n in (2, 7, 5, 8)]).new] == [2, 7, 8]


def test_runs_are_counted_apart():
    door = Admission({"r": 5})
    assert [e.run_id for e in door.admit_lines([line("r", 5), line("s", 5), line("r", 6)]).new] == ["s", "r"]


def test_a_gap_is_told_apart_by_its_id_whatever_its_number():
    door = Admission({"r": 100})
    assert len(door.admit_lines([declared(3, 4), declared(5, 9), declared(3, 4)]).new) == 2
    assert door.admit_lines([declared(5, 9)]).known == 1
    assert door.last("r") == 100


def test_a_gap_without_an_id_is_told_apart_by_its_number():
    door = Admission()
    bare = encode({"type": "gap", "run_id": "r", "sequence": 4})
    assert len(door.admit_lines([bare, bare]).new) == 1


def test_an_event_without_a_number_gets_the_next_one_spliced_into_its_bytes():
    door = Admission({"r": 16})
    (event,) = door.admit_lines([b' {"run_id" : "r", "type":"hook", "big":123456789012345678901234567890}']).new
    assert event.line == (
        b'{"sequence":17,"event_id":"r:17","run_id" : "r", "type":"hook", "big":123456789012345678901234567890}'
    )
    assert (event.sequence, event.event_id, event.run_id) == (17, "r:17", "r")


def test_an_event_that_brings_its_id_and_no_number_is_taken_once():
    door = Admission()
    own = line(event_id="hook-1")
    first = door.admit_lines([own, own])
    assert (len(first.new), first.known) == (1, 1)
    assert json.loads(first.new[0].line)["event_id"] == "hook-1"
    assert door.admit_lines([own]).known == 1
    assert len(Admission({"r": 1}, ["hook-1"]).admit_lines([own]).new) == 0


def test_an_id_that_names_a_number_the_run_has_had_is_known():
    assert Admission({"r": 3}).admit_lines([line(event_id="r:3")]).known == 1
    assert len(Admission({"r": 3}).admit_lines([line(event_id="r:4")]).new) == 1


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
        (b'{"type":"x","run_id":"\\ud800","sequence":1,"agent_id":5}', "bad_event", "type and run_id"),
    ],
)
def test_a_bad_event_is_refused_alone(bad: bytes, code: str, problem: str):
    found = Admission().admit_lines([line("ok", 1), bad, line("ok", 2)])
    assert [event.sequence for event in found.new] == [1, 2]
    ((place, given_code, message),) = found.refused
    assert (place, given_code) == (1, code)
    assert problem in message


def test_a_number_inside_the_payload_is_not_taken_for_the_events_own():
    (event,) = Admission().admit_lines([line(payload={"sequence": 9, "event_id": "x"})]).new
    assert event.sequence == 1


def test_ids_are_kept_within_a_bound():
    door = Admission()
    for number in range(MAX_IDS + 10):
        door._remember(f"id-{number}")
    assert len(door._ids) == MAX_IDS
    assert "id-9" not in door._ids


numbers = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 12)), max_size=30)


@given(st.lists(numbers, max_size=6))
def test_whatever_is_sent_again_enters_once_and_in_order(batches: list[list[tuple[str, int]]]):
    door = Admission()
    taken: list[tuple[str, int | None]] = []
    sent = known = 0
    for batch in batches:
        found = door.admit_lines([line(run, number) for run, number in batch])
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
    admitted = Admission().admit_lines([*lines, flat])
    assert [event.sequence for event in admitted.new] == [1, 3, 5]
    assert [(refusal.place, refusal.code) for refusal in admitted.refused] == [(1, "bad_event"), (3, "bad_event")]


def test_the_next_events_of_a_known_run_are_new_but_for_the_odd_one_among_them():
    """The quick way for a batch that goes on without a hole is not taken by anything else."""
    door = Admission({"r": 5})
    went_on = door.admit_lines([line(sequence=n) for n in (6, 7, 8)])
    assert ([event.sequence for event in went_on.new], went_on.lasts) == ([6, 7, 8], {"r": 8})
    with_gap = door.admit_lines([line(sequence=9), declared(10, 10), line(sequence=10)])
    assert ([event.type for event in with_gap.new], door.last("r")) == (["agent_output", "gap", "agent_output"], 10)
    nameless = door.admit_lines([line(sequence=11), line(sequence=12, type="")])
    assert ([event.sequence for event in nameless.new], [r.place for r in nameless.refused]) == ([11], [1])
    unnumbered = door.admit_lines([line(sequence=12), line()])
    assert [event.sequence for event in unnumbered.new] == [12, 13]
    assert door.admit_lines([line(sequence=n) for n in (13, 14, 15)]).known == 1
    deep = line(sequence=16)[:-1] + b',"payload":{"a":' + b"[" * 600 + b"1" + b"]" * 600 + b"}}"
    too_deep = door.admit_lines([deep, line(sequence=17)])
    assert ([event.sequence for event in too_deep.new], [r.place for r in too_deep.refused]) == ([17], [0])
    assert Admission({"r": 2**53 - 1}).admit_lines([line(sequence=2**53 - 1)]).known == 1
