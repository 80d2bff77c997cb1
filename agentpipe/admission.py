"""Which of the events that come in are new, and what number each has.

The rule this module keeps: **an event enters the log once.** Events of a run are accepted in order of ``sequence``;
what is at or below the last accepted is known already. A ``gap``, and any event without a number that brings an
``event_id``, is told apart by that id. An event without a number gets the run's next one, spliced into its bytes.

Exact with memory of one number a run and of the last ids, however long ago the repeat was sent.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from agentpipe.event import Event, decode, encode, peek, peek_lines

__all__ = ["Admission", "Admitted", "Refusal", "splice"]

#: Ids kept to recognise repeats of gaps and of unnumbered events: far more than any publisher holds in flight.
MAX_IDS = 100_000

#: Whole numbers that every JSON reader keeps exact.
MAX_SEQUENCE = 1 << 53

#: Ids are keys in memory and in the store.
MAX_ID_LENGTH = 512

#: What every reader can decode inside a message: decoders give up at about 1000, less what called them.
MAX_DEPTH = 500

_BRACKETS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[][{}]', re.DOTALL)

_IDS_IN_HEAD = re.compile(rb'"(?:sequence|event_id)"\s*:')


class Refusal(NamedTuple):
    """An event that was not taken: its place in the batch (from 0), the wire's error code and what is wrong with it."""

    place: int
    code: str
    message: str


class Admitted(NamedTuple):
    """What became of a batch: the events that are ``new`` (numbered), how many were ``known``, the ``refused``, and
    the last accepted sequence of each run in it.
    """

    new: list[Event]
    known: int
    refused: list[Refusal]
    lasts: dict[str, int]


class Admission:
    """The door of the hub. *lasts* maps a run to its last stored sequence, *ids* are those seen, oldest first."""

    def __init__(self, lasts: Mapping[str, int] | None = None, ids: Iterable[str] = ()) -> None:
        # changing
        self._lasts = dict(lasts or {})
        self._ids = dict.fromkeys(ids)

    def last(self, run_id: str) -> int:
        """The last accepted sequence of a run; 0 when there is none."""
        return self._lasts.get(run_id, 0)

    def admit_lines(self, lines: Sequence[bytes]) -> Admitted:
        """Look at the lines of one batch."""
        events, bad = peek_lines(lines)
        refused = [Refusal(index, "bad_json", problem) for index, _, problem in bad]
        if not bad:
            return self.admit(events, range(len(events)), refused)
        unread = {refusal.place for refusal in refused}
        return self.admit(events, [i for i in range(len(lines)) if i not in unread], refused)

    def admit(self, events: Sequence[Event], indexes: Sequence[int], refused: list[Refusal]) -> Admitted:
        """Look at the events of one batch; *indexes* are their places in what the publisher sent."""
        if any(_nests_deeply(event.line) for event in events if len(event.line) > 2 * MAX_DEPTH):
            events, indexes = _readable(events, indexes, refused)
        runs = {event.run_id for event in events}
        if self._is_next(events, runs):
            (run_id,) = runs
            self._lasts[run_id] += len(events)
            return Admitted(list(events), 0, refused, {run_id: self._lasts[run_id]})
        new: list[Event] = []
        known = 0
        lasts = self._lasts
        for event, index in zip(events, indexes, strict=True):
            sequence = event.sequence
            if sequence is not None and event.type != "gap" and event.type and event.run_id:
                last = lasts.get(event.run_id)
                if last is None:  # a run is looked at once, when it is new
                    problem = _problem(event)
                    if problem:
                        refused.append(Refusal(index, "bad_event", problem))
                        continue
                    last = 0
                if last < sequence <= MAX_SEQUENCE:
                    lasts[event.run_id] = sequence
                    new.append(event)
                elif 0 < sequence <= MAX_SEQUENCE:
                    known += 1
                else:
                    refused.append(Refusal(index, "bad_event", "sequence must be an integer from 1"))
                continue
            found = self._rare(event)
            if isinstance(found, str):
                refused.append(Refusal(index, "bad_event", found))
            elif found is None:
                known += 1
            else:
                new.append(found)
        return Admitted(new, known, refused, {run_id: self.last(run_id) for run_id in runs})

    def _is_next(self, events: Sequence[Event], runs: Collection[str]) -> bool:
        """Whether *events*, of these *runs*, are just the next ones of a run that is known: the normal case of a busy
        publisher, told without Python code for each event. A known run needs no second look at its id; numbers that
        go on without a hole are all new.
        """
        if len(runs) != 1:
            return False
        last = self._lasts.get(events[0].run_id)
        if last is None or last + len(events) > MAX_SEQUENCE:
            return False
        numbers = [event.sequence for event in events]
        if numbers != list(range(last + 1, last + 1 + len(events))):
            return False
        types = {event.type for event in events}
        return "gap" not in types and "" not in types

    def _rare(self, event: Event) -> Event | str | None:
        """Gaps, events without a number and bad ones: the event to store, None when known, or what is wrong."""
        problem = _problem(event)
        if problem:
            return problem
        own_id = event.event_id
        if own_id is None and event.sequence is not None:
            own_id = f"{event.run_id}:gap:{event.sequence}"  # a gap that forgot its id
        if own_id is not None:
            if own_id in self._ids or self._was_numbered(event, own_id):
                return None
            self._remember(own_id)
        if event.sequence is not None:
            return event
        return self._numbered(event)

    def _was_numbered(self, event: Event, own_id: str) -> bool:
        """An event without a number whose id is that of a number its run has had."""
        run_id, _, number = own_id.rpartition(":")
        if event.sequence is not None or run_id != event.run_id or not number.isdecimal():
            return False
        return len(number) < 17 and 0 < int(number) <= self.last(run_id)

    def _numbered(self, event: Event) -> Event:
        sequence = self._lasts[event.run_id] = self.last(event.run_id) + 1
        return splice(event, sequence)

    def _remember(self, event_id: str) -> None:
        self._ids[event_id] = None
        if len(self._ids) > MAX_IDS:
            del self._ids[next(iter(self._ids))]


def _readable(events: Sequence[Event], indexes: Sequence[int], refused: list[Refusal]) -> tuple[list[Event], list[int]]:
    """The events that any reader can decode, and their places; the others are *refused*."""
    pairs = list(zip(events, indexes, strict=True))
    deep = {index for event, index in pairs if _nests_deeply(event.line)}
    refused += [Refusal(index, "bad_event", f"it nests more than {MAX_DEPTH} deep") for index in sorted(deep)]
    kept = [(event, index) for event, index in pairs if index not in deep]
    return [event for event, _ in kept], [index for _, index in kept]


def _nests_deeply(line: bytes) -> bool:
    """Whether the JSON value *line* nests deeper than `MAX_DEPTH`."""
    if line.count(b"[") + line.count(b"{") <= MAX_DEPTH:
        return False
    depth = 0
    for bracket in _BRACKETS.findall(line):
        depth += 1 if bracket in (b"[", b"{") else -1 if bracket in (b"]", b"}") else 0
        if depth > MAX_DEPTH:
            return True
    return False


def splice(event: Event, sequence: int) -> Event:
    """Put a number, and an ``event_id`` when there is none, in front of the event's other fields; the rest keeps its
    bytes.
    """
    added = b'"sequence":%d,' % sequence
    if event.event_id is None:
        added += b'"event_id":%b,' % encode(f"{event.run_id}:{sequence}")
    return peek(b"{" + added + event.line.lstrip()[1:].lstrip())


def _problem(event: Event) -> str:
    """What forbids to take an event that is not the common kind; empty when nothing does."""
    if not event.type or not event.run_id:
        return "type and run_id must be strings that are not empty"
    if len(event.run_id) > MAX_ID_LENGTH or len(event.event_id or "") > MAX_ID_LENGTH:
        return f"run_id and event_id have at most {MAX_ID_LENGTH} characters"
    if "\0" in event.run_id or "\0" in (event.event_id or ""):
        return "run_id and event_id hold no NUL: a key of the store would end there"
    if event.sequence is not None and not 0 < event.sequence <= MAX_SEQUENCE:
        return "sequence must be an integer from 1"
    if event.sequence is None and _IDS_IN_HEAD.search(event.line):
        envelope = decode(event.line)
        if "sequence" in envelope:
            return "sequence must be an integer from 1"
        if "event_id" in envelope and event.event_id is None:
            return "event_id must be a string"
    return ""
