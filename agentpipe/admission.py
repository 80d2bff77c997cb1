"""Which of the events that come in are new, and what number each has.

The rule this module keeps: **an event enters the log once.** Events of a run are accepted in order of ``sequence``;
what is at or below the last accepted is known already. A ``gap``, and any event without a number that brings an
``event_id``, is told apart by that id. An event without a number gets the run's next one, spliced into its bytes.
Numbers that were skipped are declared with a ``gap``, unless the publisher does it in time.

What was admitted since the last `take` is one `agentpipe.store.Commit`. When it does not get stored, `correct` or a new
door takes back what was believed.

Exact with memory of one number a run and of the last ids, however long ago the repeat was sent.
"""

import itertools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from agentpipe.event import TERMINAL_TYPES, Event, decode, encode, make, peek, peek_lines
from agentpipe.holes import numbers
from agentpipe.missing import DECLARE_AFTER_S, Missing, Watch, declared_by
from agentpipe.store import Commit, Sender, Standing

__all__ = ["Admission", "Admitted", "Refusal", "splice"]

#: Ids kept to recognise repeats of gaps and of unnumbered events: far more than any publisher holds in flight.
MAX_IDS = 100_000

#: The last whole number that every JSON reader keeps exact: an event beyond has no ``sequence`` (see `event.peek`).
MAX_SEQUENCE = (1 << 53) - 1

#: Ids are keys in memory and in the store.
MAX_ID_LENGTH = 512

#: What every reader can decode inside a message: decoders give up at about 1000, less what called them.
MAX_DEPTH = 500

#: Runs whose holes are declared in one commit: some milliseconds of work.
MAX_DECLARED = 500

_BRACKETS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[][{}]', re.DOTALL)

_IDS_IN_HEAD = re.compile(rb'"(?:sequence|event_id)"\s*:')


class Refusal(NamedTuple):
    """An event that was not taken: its place in the batch (from 0), the wire's error code and what is wrong with it."""

    place: int
    code: str
    message: str


class Admitted(NamedTuple):
    """What became of a batch: how many events were ``new`` and ``known``, the ``refused``, and the last accepted
    sequence of each run in it. Of a ``fenced`` sender nothing is taken, because a newer connection of the same
    publisher has written.
    """

    new: int
    known: int
    refused: list[Refusal]
    lasts: dict[str, int]
    fenced: bool = False


class Admission:
    """The door of the hub. *standings* is how far each run has come, *ids* are those seen, oldest first."""

    def __init__(self, standings: Mapping[str, Standing] | None = None, ids: Iterable[str] = ()) -> None:
        # changing
        self._lasts: dict[str, int] = {}
        self._missing: dict[str, Missing] = {}
        self._watch = Watch()
        self._senders: dict[str, Sender] = {}
        self._ids = dict.fromkeys(ids)
        self._new: list[Event] = []  # since the last `take`, as are the next two
        self._new_ids: list[str] = []
        self._before: dict[str, Standing] = {}
        for run_id, standing in (standings or {}).items():
            self._believe(run_id, standing)

    def last(self, run_id: str) -> int:
        """The last accepted sequence of a run; 0 when there is none."""
        return self._lasts.get(run_id, 0)

    @property
    def waiting(self) -> bool:
        """Whether numbers are missing that may have to be declared; any thread may ask."""
        return bool(self._watch) and bool(self._missing)

    def admit_lines(self, lines: Sequence[bytes], now: float, sender: Sender | None = None) -> Admitted:
        """Look at the lines of one batch that came at *now* (Unix seconds)."""
        events, bad = peek_lines(lines)
        refused = [Refusal(index, "bad_json", problem) for index, _, problem in bad]
        if not bad:
            return self.admit(events, now, sender)
        unread = {refusal.place for refusal in refused}
        return self.admit(events, now, sender, [i for i in range(len(lines)) if i not in unread], refused)

    def admit(
        self,
        events: Sequence[Event],
        now: float,
        sender: Sender | None = None,
        indexes: Sequence[int] | None = None,
        refused: list[Refusal] | None = None,
    ) -> Admitted:
        """Look at the events of one batch; *indexes* are their places in what the publisher sent."""
        refused = [] if refused is None else refused
        indexes = range(len(events)) if indexes is None else indexes
        if _may_be_unfit(events):
            events, indexes = _fit(events, indexes, refused)
        runs = {event.run_id for event in events}
        if sender is not None and self._is_fenced(sender, runs):
            return Admitted(0, 0, [], {}, fenced=True)
        before, turned_away = len(self._new), len(refused)
        known = 0
        if self._is_next(events, runs):
            (run_id,) = runs
            last = self._lasts[run_id]
            if run_id not in self._before:
                self._before[run_id] = Standing(last, None, self._senders.get(run_id))
            self._lasts[run_id] = last + len(events)
            self._new += events
        else:
            known = self._admit_each(events, indexes, refused, now)
        if sender is not None and len(self._new) > before:
            self._senders.update(dict.fromkeys({event.run_id for event in self._new[before:]}, sender))
        new = len(events) - known - (len(refused) - turned_away)
        return Admitted(new, known, refused, {run_id: self.last(run_id) for run_id in runs})

    def declare(self, now: float) -> bool:
        """Declare what is missing and has waited long enough, of some runs; whether there may be more."""
        late = self._watch.late(now - DECLARE_AFTER_S, MAX_DECLARED)
        for run_id in late:
            if run_id in self._missing:
                self._declare(run_id, now, since=now - DECLARE_AFTER_S)
        return len(late) == MAX_DECLARED

    def take(self, stamp: str = "") -> Commit:
        """Everything that was admitted since the last call."""
        after = {run_id: self._standing(run_id) for run_id in self._before}
        commit = Commit(self._new, self._before, after, self._new_ids, stamp)
        self._new, self._before, self._new_ids = [], {}, []
        return commit

    def correct(self, commit: Commit, standings: Mapping[str, Standing], known: Collection[str]) -> None:
        """*commit* was not stored, because of its runs these *standings* are true, and these of its ids are *known*."""
        for event_id in commit.ids:
            if event_id not in known:
                self._ids.pop(event_id, None)
        for run_id in commit.before:
            self._believe(run_id, standings.get(run_id, Standing()))

    def _believe(self, run_id: str, standing: Standing) -> None:
        self._lasts.pop(run_id, None)
        self._missing.pop(run_id, None)
        self._senders.pop(run_id, None)
        if standing.last:
            self._lasts[run_id] = standing.last
        if standing.account is not None:
            self._keep(run_id, Missing(standing.account))
        if standing.sender is not None:
            self._senders[run_id] = standing.sender

    def _standing(self, run_id: str) -> Standing:
        missing = self._missing.get(run_id)
        account = missing.account if missing is not None else None
        return Standing(self._lasts.get(run_id, 0), account, self._senders.get(run_id))

    def _touch(self, run_id: str) -> None:
        """Note what was believed of a run, before it changes for the first time since the last `take`."""
        if run_id not in self._before:
            self._before[run_id] = self._standing(run_id)

    def _is_fenced(self, sender: Sender, runs: Iterable[str]) -> bool:
        """Whether a newer connection of the same publisher has written to one of *runs*."""
        for run_id in runs:
            found = self._senders.get(run_id)
            if found is not None and found.id == sender.id and found.generation > sender.generation:
                return True
        return False

    def _admit_each(self, events: Sequence[Event], indexes: Sequence[int], refused: list[Refusal], now: float) -> int:
        """One by one; how many were known."""
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
                    self._accept(event, last, sequence, now)
                elif 0 < sequence <= MAX_SEQUENCE:
                    known += 1
                else:
                    refused.append(Refusal(index, "bad_event", "sequence must be an integer from 1"))
                continue
            wrong = self._rare(event, now)
            if wrong:
                refused.append(Refusal(index, "bad_event", wrong))
            elif wrong is None:
                known += 1
        return known

    def _accept(self, event: Event, last: int, sequence: int, now: float) -> None:
        """*event* is new, and the number *sequence* of its run is the next one taken after *last*."""
        run_id = event.run_id
        if run_id not in self._before:
            self._touch(run_id)
        if sequence != last + 1 or run_id in self._missing:
            self._account_for(event, last, sequence, now)
        self._lasts[run_id] = sequence
        self._new.append(event)

    def _account_for(self, event: Event, last: int, sequence: int, now: float) -> None:
        """Note the numbers that were skipped, and those that *event* stands for; declare what is missing before the
        event that ends the run.
        """
        run_id = event.run_id
        missing = self._missing.get(run_id) or Missing()
        if sequence != last + 1:
            missing.skip(last + 1, sequence - 1, event, now)
        missing.declare(numbers(event), sequence)
        missing.reach(sequence)
        self._keep(run_id, missing)
        if event.type in TERMINAL_TYPES or missing.crowded:
            self._declare(run_id, now)

    def _keep(self, run_id: str, missing: Missing) -> None:
        """What is open of a run is now *missing*."""
        if missing:
            self._missing[run_id] = missing
        else:
            self._missing.pop(run_id, None)
        if missing.since is not None:
            self._watch.add(run_id, missing.since)

    def _declare(self, run_id: str, now: float, *, since: float | None = None) -> None:
        missing = self._missing.get(run_id) or Missing()
        before = self._standing(run_id)
        declared = missing.take(run_id, now, since=since)
        self._keep(run_id, missing)
        if declared is not None:
            declared = _unlike(declared, self._ids)
            self._before.setdefault(run_id, before)
            self._remember(declared.identity)
            self._new.append(declared)

    def _is_next(self, events: Sequence[Event], runs: Collection[str]) -> bool:
        """Whether *events*, of these *runs*, are just the next ones of a run that is known: the normal case of a busy
        publisher, told without Python code for each event. A known run needs no second look at its id; numbers that
        go on without a hole are all new.
        """
        if len(runs) != 1 or events[0].run_id in self._missing:
            return False
        last = self._lasts.get(events[0].run_id)
        if last is None or last + len(events) > MAX_SEQUENCE:
            return False
        found = [event.sequence for event in events]
        if found != list(range(last + 1, last + 1 + len(events))):
            return False
        types = {event.type for event in events}
        return "gap" not in types and "" not in types

    def _rare(self, event: Event, now: float) -> str | None:
        """Gaps, events without a number and bad ones: what is wrong (empty: it is new and taken), or None for one that
        is known.
        """
        problem = _problem(event)
        if problem:
            return problem
        last = self.last(event.run_id)
        if event.sequence is None and last >= MAX_SEQUENCE:
            return "its run has no numbers left"
        own_id = event.event_id
        if own_id is None and event.sequence is not None:
            own_id = f"{event.run_id}:gap:{event.sequence}"  # a gap that forgot its id
        if own_id is not None:
            if own_id in self._ids or self._was_numbered(event, own_id):
                return None
            self._remember(own_id)
        if event.sequence is None:
            numbered = splice(event, last + 1)
            self._accept(numbered, last, last + 1, now)
            if event.type == "gap":
                self._heed(event, last + 1)
            return ""
        self._touch(event.run_id)
        self._new.append(event if event.event_id is not None else _named(event, own_id or ""))
        self._heed(event, last)
        return ""

    def _heed(self, event: Event, last: int) -> None:
        """What a publisher's own gap declares need not be declared by us."""
        missing = self._missing.get(event.run_id) or Missing()
        missing.declare(declared_by(event), last)
        self._keep(event.run_id, missing)

    def _was_numbered(self, event: Event, own_id: str) -> bool:
        """An event without a number whose id is that of a number its run has had."""
        run_id, _, number = own_id.rpartition(":")
        if event.sequence is not None or run_id != event.run_id or not number.isdecimal():
            return False
        return len(number) < 17 and 0 < int(number) <= self.last(run_id)

    def _remember(self, event_id: str) -> None:
        self._ids[event_id] = None
        self._new_ids.append(event_id)
        if len(self._ids) > MAX_IDS:
            del self._ids[next(iter(self._ids))]


def _may_be_unfit(events: Sequence[Event]) -> bool:
    """A quick look, for most batches hold nothing of the kind, and short lines have no room for most of it."""
    ids = [event.event_id or "" for event in events]
    longest = max([len(event.line) for event in events], default=0)
    long_id = longest > MAX_ID_LENGTH and max(map(len, ids)) > MAX_ID_LENGTH
    return longest > 2 * MAX_DEPTH or long_id or "\0" in "".join(ids)


def _fit(events: Sequence[Event], indexes: Sequence[int], refused: list[Refusal]) -> tuple[list[Event], list[int]]:
    """The events that any reader can decode and any store can keep, and their places; the others are *refused*."""
    kept: list[Event] = []
    places: list[int] = []
    for event, index in zip(events, indexes, strict=True):
        deep = len(event.line) > 2 * MAX_DEPTH and _nests_deeply(event.line)
        problem = f"it nests more than {MAX_DEPTH} deep" if deep else _bad_id(event.event_id or "")
        if problem:
            refused.append(Refusal(index, "bad_event", problem))
        else:
            kept.append(event)
            places.append(index)
    return kept, places


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


def _unlike(declared: Event, ids: Collection[str]) -> Event:
    """A gap of ours, under another id when a publisher has used its own for something else."""
    own_id = declared.identity
    if own_id not in ids:
        return declared
    other = next(name for n in itertools.count(2) if (name := f"{own_id}:{n}") not in ids)
    return make(
        "gap", declared.payload, run_id=declared.run_id, agent_id=declared.agent_id, sequence=declared.sequence,
        at=declared.timestamp or "", work_id=declared.work_id, event_id=other,
    )  # fmt: skip


def _named(event: Event, event_id: str) -> Event:
    """The event with an id in front of its other fields."""
    return peek(b'{"event_id":%b,' % encode(event_id) + event.line.lstrip()[1:].lstrip())


def _problem(event: Event) -> str:
    """What forbids to take an event that is not the common kind; empty when nothing does."""
    if not event.type or not event.run_id:
        return "type and run_id must be strings that are not empty"
    if wrong := _bad_id(event.run_id) or _bad_id(event.event_id or ""):
        return wrong
    if event.sequence is not None and not 0 < event.sequence <= MAX_SEQUENCE:
        return "sequence must be an integer from 1"
    if event.sequence is None and _IDS_IN_HEAD.search(event.line):
        envelope = decode(event.line)
        if "sequence" in envelope:
            return "sequence must be an integer from 1"
        if "event_id" in envelope and event.event_id is None:
            return "event_id must be a string"
    return ""


def _bad_id(text: str) -> str:
    """Why *text* cannot be a key; empty when it can."""
    if len(text) > MAX_ID_LENGTH:
        return f"run_id and event_id have at most {MAX_ID_LENGTH} characters"
    return "run_id and event_id hold no NUL: a key of the store would end there" if "\0" in text else ""
