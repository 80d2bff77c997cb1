"""The checker by hand-made histories: what it has to find, one kind at a time, and what it must not."""

from typing import Any

import pytest

from tests.faults.lab.checker import Finding, judge_history, judge_pair, judge_printed, judge_store, shown
from tests.faults.lab.journal import Confirmed, Declared, Entry, Fact, History, Printed, Told, entry, mark

EPOCH = "e"


def log(*numbers: int, run: str = "r", count: int | None = None) -> list[Entry]:
    """A run as it is stored: a start, a marked line an event, an end; *numbers* instead of 1 … say otherwise."""
    last = count or max(numbers)
    return [
        Entry(offset, run, number, kind(number, last), (number - 1,) if 1 < number < last else (), (), 1000 + offset)
        for offset, number in enumerate(numbers, 1)
    ]


def kind(number: int, last: int) -> str:
    return {1: "run_started", last: "run_completed"}.get(number, "agent_output")


def gap(offset: int, *ranges: tuple[int, int], number: int = 0) -> Entry:
    return Entry(offset, "r", number, "gap", (), ranges, 1000 + offset)


def kinds(findings: list[Finding]) -> set[str]:
    return {finding.kind for finding in findings}


WHOLE = log(1, 2, 3, 4, 5, 6)  # four marked lines


class TestStore:
    def test_a_whole_log_has_no_findings(self) -> None:
        assert judge_store({"r": 4}, WHOLE) == []

    def test_an_entry_is_read_from_its_line(self) -> None:
        line = (
            b'{"type":"agent_output","run_id":"r","agent_id":"a","sequence":7,"covers":[[5,6]],"payload":{"text":"%s"}}'
        )
        read = entry(9, line % (mark("r", 3) + mark("r", 4) + mark("other", 5)).encode())
        assert read[:6] == (9, "r", 7, "agent_output", (3, 4), ((5, 6),))

    def test_a_line_of_the_agent_that_is_not_stored_is_lost(self) -> None:
        found = judge_store({"r": 5}, WHOLE)
        assert kinds(found) == {"lost"}
        assert found[0].run == "r"
        assert "5" in found[0].what

    def test_a_run_without_anything_is_lost(self) -> None:
        assert kinds(judge_store({"r": 4, "s": 1}, WHOLE)) == {"lost"}

    def test_a_run_without_an_end_is_lost(self) -> None:
        assert kinds(judge_store({"r": 4}, log(1, 2, 3, 4, 5, count=99))) == {"lost"}

    def test_a_number_that_comes_again_is_a_repeat(self) -> None:
        found = judge_store({"r": 4}, log(1, 2, 3, 3, 4, 5, 6))
        assert kinds(found) == {"repeated"}
        assert (found[0].number, found[0].offset) == (3, 4)

    def test_a_line_that_comes_again_under_another_number_is_a_repeat(self) -> None:
        entries = log(1, 2, 3, 4, 5, 6)
        entries[3] = entries[3]._replace(marks=(2,))  # number 4 says what number 3 said
        assert kinds(judge_store({"r": 4}, entries)) == {"repeated", "lost"}

    def test_a_lower_number_after_a_higher_is_reordered(self) -> None:
        assert kinds(judge_store({"r": 4}, log(1, 2, 4, 3, 5, 6))) == {"reordered"}

    def test_something_after_the_end_is_reordered(self) -> None:
        assert "reordered" in kinds(judge_store({"r": 4}, log(1, 2, 3, 4, 6, 5)))

    def test_a_second_end_is_a_repeat(self) -> None:
        again = [*WHOLE, Entry(7, "r", 7, "run_failed", (), (), 1007)]
        assert "repeated" in kinds(judge_store({"r": 4}, again))

    def test_a_hole_that_nobody_declares_is_found(self) -> None:
        found = judge_store({"r": 4}, log(1, 2, 5, 6), whole=False)
        assert "undeclared" in kinds(found)
        assert found[0].number == 3

    def test_a_hole_that_a_gap_declares_is_none_where_holes_are_allowed(self) -> None:
        entries = [*log(1, 2, 5, count=6), gap(4, (3, 4)), Entry(5, "r", 6, "run_completed", (), (), 1005)]
        assert judge_store({"r": 4}, entries, whole=False) == []
        assert kinds(judge_store({"r": 4}, entries)) == {"lost"}

    def test_a_gap_that_declares_less_than_is_missing_is_found(self) -> None:
        entries = [*log(1, 2, 5, count=6), gap(4, (3, 3)), Entry(5, "r", 6, "run_completed", (), (), 1005)]
        assert kinds(judge_store({"r": 4}, entries, whole=False)) == {"undeclared", "lost"}

    def test_merged_events_cover_their_numbers(self) -> None:
        merged = Entry(2, "r", 5, "agent_output", (1, 2, 3, 4), ((2, 4),), 1002)
        end = Entry(3, "r", 6, "run_completed", (), (), 1003)
        assert judge_store({"r": 4}, [WHOLE[0], merged, end]) == []

    def test_an_offset_that_jumps_is_found(self) -> None:
        entries = [one._replace(offset=one.offset + (one.offset > 3)) for one in WHOLE]
        assert kinds(judge_store({"r": 4}, entries)) == {"position"}

    def test_two_readings_that_differ_are_found(self) -> None:
        assert judge_pair("the API", WHOLE, WHOLE) == []
        assert kinds(judge_pair("the API", WHOLE, WHOLE[:-1])) == {"differs"}
        assert kinds(judge_pair("the API", WHOLE[:-1], WHOLE)) == {"differs"}
        assert kinds(judge_pair("the API", WHOLE, [*WHOLE, WHOLE[2]])) == {"repeated"}


def told(first: int, last: int, connection: int = 1) -> Told:
    return Told(connection, first - 1, last, tuple(1000 + offset for offset in range(first, last + 1)))


def history(*facts: Fact, **more: Any) -> History:
    return History("s", list(facts), **more)


START = Confirmed(1, None, (EPOCH, 0), recovered=True)


def resumed(at: int, placed: int | None = None, *, recovered: bool = True) -> Confirmed:
    return Confirmed(2, (EPOCH, at), (EPOCH, at if placed is None else placed), recovered)


class TestSubscriber:
    def judged(self, *facts: Fact, entries: list[Entry] = WHOLE, **more: Any) -> set[str]:
        return kinds(judge_history(history(*facts, **more), EPOCH, entries))

    def test_all_of_it_over_two_connections_has_no_findings(self) -> None:
        assert self.judged(START, told(1, 2), told(3, 3), resumed(3), told(4, 6, 2)) == set()

    def test_a_message_at_or_below_the_own_position_is_a_repeat(self) -> None:
        assert self.judged(START, told(1, 3), told(3, 6)) == {"repeated"}

    def test_a_message_that_starts_later_leaves_an_undeclared_hole(self) -> None:
        found = judge_history(history(START, told(1, 2), told(4, 6)), EPOCH, WHOLE)
        assert kinds(found) == {"undeclared"}
        assert (found[0].offset, found[0].number) == (3, 3)
        assert "s, connection 1" in str(found[0])

    def test_a_message_with_fewer_lines_than_positions_leaves_an_undeclared_hole(self) -> None:
        assert self.judged(START, Told(1, 0, 6, (1001, 1002, 1004, 1005, 1006))) == {"undeclared"}

    def test_a_message_with_more_lines_than_positions_repeats(self) -> None:
        assert "repeated" in self.judged(START, Told(1, 0, 6, (1001, 1002, 1002, 1003, 1004, 1005, 1006)))

    def test_other_lines_than_the_stores_are_found(self) -> None:
        assert self.judged(START, Told(1, 0, 6, (1001, 1002, 1004, 1003, 1005, 1006))) == {"differs"}

    def test_recovered_at_another_place_is_an_undeclared_hole(self) -> None:
        assert self.judged(START, told(1, 2), resumed(2, 4), told(5, 6, 2)) == {"undeclared"}

    def test_not_recovered_though_it_is_kept_is_found(self) -> None:
        assert "position" in self.judged(START, told(1, 2), resumed(2, 0, recovered=False), told(1, 6, 2))

    def test_from_the_start_means_from_the_first_entry(self) -> None:
        assert "undeclared" in self.judged(Confirmed(1, None, (EPOCH, 2), recovered=True), told(3, 6))

    def test_another_epoch_is_found(self) -> None:
        assert "position" in self.judged(Confirmed(1, None, ("other", 0), recovered=True), told(1, 6))

    def test_who_asks_from_elsewhere_than_its_own_position_is_found(self) -> None:
        assert "position" in self.judged(START, told(1, 2), resumed(1), told(2, 6, 2))

    def test_events_before_the_confirmation_are_found(self) -> None:
        assert "position" in self.judged(START, told(1, 2), told(3, 6, 2))

    def test_what_was_not_told_at_the_end_is_an_undeclared_hole(self) -> None:
        assert self.judged(START, told(1, 5)) == {"undeclared"}
        assert self.judged(START, told(1, 5), complete=False) == set()

    def test_a_declared_hole_is_none(self) -> None:
        kept = [one for one in WHOLE if one.offset > 2]
        begun = Confirmed(1, (EPOCH, 1), (EPOCH, 1), recovered=True)
        assert self.judged(begun, Declared(1, 2, 2, 1, "evicted"), told(3, 6), entries=kept) == set()

    def test_a_hole_that_is_declared_but_kept_is_found(self) -> None:
        assert self.judged(START, told(1, 2), Declared(1, 3, 4, 2, "evicted"), told(5, 6)) == {"undeclared"}

    def test_a_gap_that_does_not_start_where_one_stands_is_found(self) -> None:
        kept = [one for one in WHOLE if one.offset not in (3, 4)]
        assert self.judged(START, told(1, 2), Declared(1, 4, 4, 1, "evicted"), told(5, 6), entries=kept) == {"position"}

    def test_a_filtered_one_gets_all_that_it_asked_for_in_the_stores_order(self) -> None:
        types = frozenset({"agent_output"})  # offsets 2 to 5
        whole = (Told(1, 0, 3, (1002, 1003)), Told(1, 3, 6, (1004, 1005)))
        assert self.judged(START, *whole, types=types) == set()
        assert self.judged(START, Told(1, 0, 6, (1003, 1002, 1004, 1005)), types=types) == {"differs"}
        assert self.judged(START, Told(1, 0, 6, (1002, 1002, 1003, 1004, 1005)), types=types) == {"differs"}
        assert self.judged(START, Told(1, 0, 6, (1001, 1002, 1003, 1004, 1005)), types=types) == {"differs"}
        assert self.judged(START, Told(1, 0, 6, (1002, 1003, 1005)), types=types) == {"undeclared"}

    def test_not_recovered_at_the_very_beginning_is_found_too(self) -> None:
        at_zero = Confirmed(2, (EPOCH, 0), (EPOCH, 0), recovered=False)
        assert "position" in self.judged(START, at_zero, told(1, 6, 2))


class TestPrinted:
    @pytest.mark.parametrize(
        ("offsets", "missed", "expected"),
        [
            ((1, 2, 3, 4, 5, 6), 0, set()),
            ((1, 2, 4, 5, 6), 1, set()),
            ((1, 2, 4, 5, 6), 0, {"undeclared"}),
            ((1, 2, 2, 3, 4, 5, 6), 0, {"repeated"}),
            ((1, 3, 2, 4, 5, 6), 0, {"reordered"}),
            ((1, 2, 3, 4, 5, 6, 7), 0, {"differs"}),
            ((1, 2, 3, 4, 5), 0, {"undeclared"}),
        ],
    )
    def test_it_is_the_log_line_by_line(self, offsets: tuple[int, ...], missed: int, expected: set[str]) -> None:
        assert kinds(judge_printed(Printed("p", [1000 + offset for offset in offsets], missed), WHOLE)) == expected


def test_findings_are_shown_with_a_count_and_their_evidence() -> None:
    text = shown([Finding("lost", f"line {n}", "r", n) for n in range(9)] + [Finding("repeated", "x", offset=3)])
    assert text.splitlines()[0] == "9 lost, 1 repeated"
    assert text.count("lost:") == 5
    assert "(run r, number 4)" in text
    assert "(offset 3)" in text
