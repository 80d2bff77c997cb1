"""The judge of a campaign: from what went in, what is stored and what each subscriber was told to a list of findings.

The rule this module keeps: **it believes nobody.** Contents are compared (the agent's marks, the lines' bytes), not
only numbers; a number that is missing is a finding unless the log itself declares it; a subscriber is held against the
store line by line. Pure, and every finding carries its evidence: run, number, offset, who.
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from tests.faults.lab.journal import Confirmed, Declared, Entry, History, Printed, Span, Told

__all__ = ["Finding", "Walk", "judge_history", "judge_pair", "judge_printed", "judge_runs", "judge_store", "shown"]

#: Findings of one kind that are told one by one; one broken rule breaks every later line.
TOLD = 5


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that must not be. *kind* is ``lost``, ``repeated``, ``reordered``, ``undeclared`` (a hole that nobody
    declares), ``position`` (the protocol's positions contradict each other) or ``differs`` (two readings of one log).
    """

    kind: str
    what: str
    run: str = ""
    number: int | None = None
    offset: int | None = None
    subscriber: str = ""

    def __str__(self) -> str:
        named = (("run", self.run), ("number", self.number), ("offset", self.offset), ("seen by", self.subscriber))
        where = ", ".join(f"{name} {value}" for name, value in named if value not in ("", None))
        return f"{self.kind}: {self.what}" + (f" ({where})" if where else "")


def shown(findings: Sequence[Finding]) -> str:
    """The findings as people read them: a count of each kind, then the first few of each."""
    counts = Counter(finding.kind for finding in findings)
    lines = [", ".join(f"{count} {kind}" for kind, count in counts.items()) or "nothing found"]
    for kind in counts:
        lines += [f"  {finding}" for finding in [f for f in findings if f.kind == kind][:TOLD]]
    return "\n".join(lines)


# --- the store


def judge_store(sent: Mapping[str, int], log: Sequence[Entry], *, whole: bool = True) -> list[Finding]:
    """Hold the log against what the agents printed: *sent* is how many marked lines each run's agent has printed.
    *whole*: every one of them has to be there; else those may be missing that the log declares.
    """
    return [*_offsets(log), *judge_runs(sent, log, whole=whole)]


def judge_runs(sent: Mapping[str, int], log: Sequence[Entry], *, whole: bool) -> list[Finding]:
    """As `judge_store`, of a log that may have holes in its offsets."""
    findings: list[Finding] = []
    runs: dict[str, list[Entry]] = {}
    for one in log:
        runs.setdefault(one.run, []).append(one)
    findings += [Finding("lost", "nothing of the run is stored", run) for run in sent if run not in runs]
    for run, entries in runs.items():
        findings += _numbers(run, entries)
        findings += _marks(run, entries, sent.get(run, 0), whole=whole)
        findings += _end(run, entries)
    return findings


def _offsets(log: Sequence[Entry]) -> Iterator[Finding]:
    for before, one in itertools.pairwise(log):
        if one.offset != before.offset + 1:
            yield Finding("position", f"offset {before.offset} is followed by {one.offset}", one.run, offset=one.offset)


def _numbers(run: str, entries: Sequence[Entry]) -> Iterator[Finding]:
    """Numbers rise by one, but for what is declared; a ``gap``'s own number and place are free."""
    declared = _joined(span for one in entries for span in one.declares)
    seen: set[int] = set()
    last = 0
    for one in entries:
        if one.type == "gap":
            continue
        if one.number in seen:
            yield Finding("repeated", f"a second {one.type} has the number", run, one.number, one.offset)
            continue
        if one.number < last:
            yield Finding("reordered", f"the number comes after {last}", run, one.number, one.offset)
        seen.add(one.number)
        last = max(last, one.number)
    for first, end in _missing(last, seen, declared):
        yield Finding("undeclared", f"numbers {first} to {end} are missing and nobody says so", run, first)


def _marks(run: str, entries: Sequence[Entry], count: int, *, whole: bool) -> Iterator[Finding]:
    """The agent's lines, by their content: each once, in order, all of them."""
    places: dict[int, Entry] = {}
    highest = 0
    for one in entries:
        for number in one.marks:
            if number in places:
                what = f"line {number} of the agent is there as number {places[number].number} too"
                yield Finding("repeated", what, run, one.number, one.offset)
                continue
            if number < highest:
                what = f"line {number} of the agent comes after line {highest}"
                yield Finding("reordered", what, run, one.number, one.offset)
            places[number] = one
            highest = max(highest, number)
    gone = sorted(set(range(1, count + 1)) - places.keys())
    declared = sum(last - first + 1 for one in entries if one.type == "gap" for first, last in one.declares)
    if gone and (whole or len(gone) > declared):
        yield Finding("lost", f"lines {_few(gone)} of the agent are not stored, {declared} are declared", run, gone[0])
    beyond = sorted(number for number in places if number > count)
    if beyond:
        yield Finding("repeated", f"lines {_few(beyond)} were never printed by the agent", run)


def _end(run: str, entries: Sequence[Entry]) -> Iterator[Finding]:
    ends = [index for index, one in enumerate(entries) if one.terminal]
    if not ends:
        yield Finding("lost", "the run has no end", run, entries[-1].number, entries[-1].offset)
    for index in ends[1:]:
        yield Finding("repeated", "the run ends again", run, entries[index].number, entries[index].offset)
    if ends and any(one.type != "gap" for one in entries[ends[0] + 1 :]):
        after = entries[ends[0] + 1]
        yield Finding("reordered", f"{after.type} comes after the run's end", run, after.number, after.offset)


def judge_pair(name: str, one: Sequence[Entry], other: Sequence[Entry]) -> list[Finding]:
    """Two readings of the same log: *one* is the file, *other* what *name* says of it (in any order of runs)."""
    there = {(entry.run, entry.number, entry.digest) for entry in other}
    here = {(entry.run, entry.number, entry.digest) for entry in one}
    findings = [Finding("differs", f"{name} does not tell it", run, number) for run, number, _ in sorted(here - there)]
    findings += [Finding("differs", f"only {name} tells it", run, number) for run, number, _ in sorted(there - here)]
    if len(other) != len(there):
        findings.append(Finding("repeated", f"{name} tells {len(other) - len(there)} entries twice"))
    return findings


# --- the subscribers


def judge_printed(printed: Printed, log: Sequence[Entry]) -> list[Finding]:
    """A subscriber from the start that tells lines alone must have told the log, line by line, but for as many as it
    says are missing.
    """
    wanted = [one.digest for one in log]
    if list(printed.lines) == wanted:
        return []
    offsets = {one.digest: one for one in log}
    findings = list(_sequence(printed.name, printed.lines, offsets))
    told = set(printed.lines)
    gone = [one for one in log if one.digest not in told]
    if len(gone) > printed.missed:
        what = f"{len(gone)} entries were not told, {printed.missed} are declared"
        findings.append(Finding("undeclared", what, gone[0].run, gone[0].number, gone[0].offset, printed.name))
    return findings


def _sequence(name: str, lines: Iterable[int], known: Mapping[int, Entry]) -> Iterator[Finding]:
    """Lines that are not of the log, come again, or out of order."""
    last = 0
    seen: set[int] = set()
    for index, line in enumerate(lines):
        one = known.get(line)
        if one is None:
            yield Finding("differs", f"its line {index + 1} is not in the store", subscriber=name)
        elif line in seen:
            yield Finding("repeated", "told again", one.run, one.number, one.offset, name)
        elif one.offset < last:
            yield Finding("reordered", f"told after offset {last}", one.run, one.number, one.offset, name)
        else:
            last = one.offset
        seen.add(line)


def judge_history(history: History, epoch: str, log: Sequence[Entry]) -> list[Finding]:
    """A subscriber that wrote down every message: the chain of positions, and each line against the store's."""
    return list(Walk(history, epoch, log).findings())


class Walk:
    """One subscriber's way through the log. ``own`` is its position, as the protocol says it is to be kept."""

    def __init__(self, history: History, epoch: str, log: Sequence[Entry]) -> None:
        # given
        self._history = history
        self._epoch = epoch
        self._at = {one.offset: one for one in log}
        self._oldest = log[0].offset - 1 if log else 0
        self._head = log[-1].offset if log else 0
        # changing
        self._own: int | None = None
        self._connection = -1

    def findings(self) -> Iterator[Finding]:
        for fact in self._history.facts:
            match fact:
                case Confirmed():
                    yield from self._confirmed(fact)
                case _ if fact.connection != self._connection or self._own is None:
                    yield self._wrong("position", "told something before the subscription was confirmed")
                case Told():
                    yield from self._told(fact)
                case Declared():
                    yield from self._declared(fact)
        if self._history.complete and (self._own or 0) < self._head:
            yield self._wrong("undeclared", f"it was told up to {self._own}, the log goes to {self._head}")

    def _confirmed(self, fact: Confirmed) -> Iterator[Finding]:
        epoch, offset = fact.placed
        self._connection = fact.connection
        if epoch != self._epoch:
            yield self._wrong("position", f"placed in epoch {epoch}, the log's is {self._epoch}")
        if fact.asked is None:
            if not self._is_start(offset):
                yield self._wrong("undeclared", f"asked from the start ({self._oldest}) and placed at {offset}")
        elif self._own is not None and fact.asked[1] != self._own:
            yield self._wrong("position", f"it asked from {fact.asked[1]} and stands at {self._own}")
        elif fact.recovered and fact.placed != fact.asked:
            yield self._wrong("undeclared", f"recovered is said, but placed at {offset} instead of {fact.asked[1]}")
        elif not fact.recovered and fact.asked[0] == epoch and self._oldest <= fact.asked[1] <= self._head:
            yield self._wrong("position", f"not recovered, but offset {fact.asked[1]} is kept")
        self._own = offset

    def _is_start(self, offset: int) -> bool:
        return offset == self._oldest

    def _told(self, fact: Told) -> Iterator[Finding]:
        assert self._own is not None
        if fact.prev < self._own:
            yield self._wrong("repeated", f"told from {fact.prev}, but it stands at {self._own}", fact.prev)
        elif fact.prev > self._own:
            yield self._wrong("undeclared", f"told from {fact.prev}, but it stands at {self._own}", self._own + 1)
        if fact.pos < fact.prev:
            yield self._wrong("position", f"a message goes from {fact.prev} back to {fact.pos}")
        self._own = fact.pos
        if self._history.types is not None:
            yield from self._among(fact, self._history.types)
        elif len(fact.lines) != fact.pos - fact.prev:
            what = f"a message from {fact.prev} to {fact.pos} has {len(fact.lines)} lines"
            yield self._wrong("undeclared" if len(fact.lines) < fact.pos - fact.prev else "repeated", what, fact.prev)
        else:
            yield from self._same(fact)

    def _same(self, fact: Told) -> Iterator[Finding]:
        for offset, line in enumerate(fact.lines, fact.prev + 1):
            one = self._at.get(offset)
            if one is None or one.digest != line:
                yield self._wrong("differs", "the line is not the store's", offset)

    def _among(self, fact: Told, types: Collection[str]) -> Iterator[Finding]:
        """A filtered message: its lines are those of its types between its positions, each, in order."""
        between = [self._at[offset] for offset in range(fact.prev + 1, fact.pos + 1) if offset in self._at]
        wanted = [one for one in between if one.type in types]
        told = set(fact.lines)
        for one in wanted:
            if one.digest not in told:
                what = f"a message from {fact.prev} to {fact.pos} leaves out what the filter asks for"
                yield self._wrong("undeclared", what, one.offset)
        if list(fact.lines) != [one.digest for one in wanted if one.digest in told]:
            yield self._wrong("differs", f"lines between {fact.prev} and {fact.pos} are not the store's, in its order")

    def _declared(self, fact: Declared) -> Iterator[Finding]:
        assert self._own is not None
        if fact.first != self._own + 1 and fact.count is not None:
            yield self._wrong("position", f"a gap from {fact.first} is told to one who stands at {self._own}")
        kept = [offset for offset in range(fact.first, fact.last + 1) if offset in self._at]
        if kept and fact.reason == "evicted":
            yield self._wrong("undeclared", f"{len(kept)} entries are declared as evicted but are kept", kept[0])
        self._own = fact.last

    def _wrong(self, kind: str, what: str, offset: int | None = None) -> Finding:
        one = self._at.get(offset) if offset is not None else None
        run, number = (one.run, one.number) if one is not None else ("", None)
        return Finding(kind, what, run, number, offset, f"{self._history.name}, connection {self._connection}")


# --- numbers


def _joined(spans: Iterable[Span]) -> list[Span]:
    joined: list[Span] = []
    for first, last in sorted(spans):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined


def _missing(last: int, seen: set[int], declared: Sequence[Span]) -> list[Span]:
    """The numbers from 1 to *last* that are neither seen nor declared."""
    found: list[Span] = []
    for number in range(1, last + 1):
        if number in seen or any(first <= number <= end for first, end in declared):
            continue
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def _few(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:TOLD])) + (f", … {len(numbers)} in all" if len(numbers) > TOLD else "")
