"""The judge of a campaign whose hub drops what is old (``serve --retain``): what is kept, and what was told meanwhile.

The rule this module keeps: **what was there is known from those who saw it.** The log as it once was is put together
from what the subscribers were told at each offset and what is kept there, and whoever contradicts another is a finding.
The only entries that may stand where something else was are the store's own gaps, one a run, which declare exactly what
is gone. Pure.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tests.faults.lab.checker import Finding, Walk, judge_runs
from tests.faults.lab.journal import Confirmed, Declared, Entry, History, Printed, Told

__all__ = ["judge_retained"]


def judge_retained(
    sent: Mapping[str, int],
    epoch: str,
    log: Sequence[Entry],
    lines: Mapping[int, Entry],
    histories: Sequence[History],
    printed: Sequence[Printed],
) -> list[Finding]:
    """Hold what is kept (*log*) and what was told against each other. *sent* is how many marked lines each run's agent
    has printed; *lines* are all lines that anybody was told, by digest (their offsets mean nothing).
    """
    past = _Past(log, lines, histories)
    findings = past.findings
    findings += judge_runs(sent, log, whole=False)
    findings += judge_runs(sent, past.everything(), whole=False)
    findings += _gaps(log)
    findings += _kept_though_gone(log, [*lines.values(), *log])
    for history in histories:
        findings += RetainedWalk(history, epoch, log, past).findings()
    for one in printed:
        findings += _printed(one, past)
    return findings


class _Past:
    """The log as it was before anything went: ``at`` by offset, as far as anybody saw it."""

    def __init__(self, log: Sequence[Entry], lines: Mapping[int, Entry], histories: Sequence[History]) -> None:
        self.lines = lines
        self.at: dict[int, Entry] = {one.offset: one for one in log if not one.evicted}
        self.findings: list[Finding] = []
        self._gaps = [one for one in log if one.evicted]
        self.head = log[-1].offset if log else 0
        for history in histories:
            if history.types is None:
                for fact in history.facts:
                    if isinstance(fact, Told):
                        self._witnessed(history.name, fact)
        self.offsets = {one.digest: offset for offset, one in self.at.items()}
        for gap in self._gaps:
            was = self.at.get(gap.offset, gap)
            if was.run != gap.run or was.terminal:
                what = f"the gap of the run stands where {was.type} of {was.run} was"
                self.findings.append(Finding("differs", what, gap.run, gap.number, gap.offset))
        self.findings += self._early(log)

    def _early(self, log: Sequence[Entry]) -> Iterator[Finding]:
        """A gap stands in the place of the last entry of its run that has gone."""
        kept = {one.offset for one in log}
        lasts = {one.run: offset for offset, one in sorted(self.at.items()) if offset not in kept and not one.terminal}
        for gap in self._gaps:
            last = lasts.get(gap.run, 0)
            if last > gap.offset:
                what = f"the gap of the run stands before offset {last}, which it declares"
                yield Finding("reordered", what, gap.run, gap.number, gap.offset)

    def _witnessed(self, name: str, fact: Told) -> None:
        for offset, line in enumerate(fact.lines, fact.prev + 1):
            one = self.lines[line]
            if not one.evicted and self.at.setdefault(offset, one._replace(offset=offset)).digest != line:
                what = f"it was told {one.type} {one.number} of {one.run}, the log has another entry there"
                self.findings.append(Finding("differs", what, one.run, one.number, offset, name))

    def everything(self) -> list[Entry]:
        """All entries that anybody saw, and the gaps that stand for the others."""
        return sorted([*self.at.values(), *self._gaps])


def _gaps(log: Sequence[Entry]) -> Iterator[Finding]:
    """A run has one gap of the store's at most."""
    for run, count in Counter(one.run for one in log if one.evicted).items():
        if count > 1:
            yield Finding("repeated", f"the run has {count} gaps of what was evicted", run)


def _kept_though_gone(log: Iterable[Entry], told: Iterable[Entry]) -> Iterator[Finding]:
    """What a gap of the store's declares, now or when it was told, does not come back."""
    kept: dict[str, set[int]] = {}
    for one in log:
        if one.type != "gap":
            kept.setdefault(one.run, set()).update([one.number], *(range(a, b + 1) for a, b in one.declares))
    for gap in {one.digest: one for one in told if one.evicted}.values():
        declared = {number for first, last in gap.declares for number in range(first, last + 1)}
        wrong = sorted(declared & kept.get(gap.run, set()))
        if wrong:
            what = f"{len(wrong)} numbers are declared as evicted but are kept"
            yield Finding("differs", what, gap.run, wrong[0], gap.offset or None)


class RetainedWalk(Walk):
    """One subscriber's way through a log of which entries go at any moment. It believes a gap that nothing kept
    contradicts.
    """

    def __init__(self, history: History, epoch: str, log: Sequence[Entry], past: _Past) -> None:
        super().__init__(history, epoch, log)
        self._past = past
        self._left_at: int | None = None  # where it stood, when it was placed elsewhere

    def _confirmed(self, fact: Confirmed) -> Iterator[Finding]:
        yield from super()._confirmed(fact)
        self._left_at = None if fact.recovered or fact.asked is None else fact.asked[1]

    def _is_start(self, offset: int) -> bool:
        """The beginning was there or before: what is kept now was kept then."""
        return offset <= self._oldest

    def _same(self, fact: Told) -> Iterator[Finding]:
        for offset, line in enumerate(fact.lines, fact.prev + 1):
            one, was = self._past.lines[line], self._past.at.get(offset)
            if one.evicted and was is not None and was.run != one.run:
                yield self._wrong("differs", f"a gap of {one.run} stands where {was.run} had an entry", offset)

    def _among(self, fact: Told, types: Iterable[str]) -> Iterator[Finding]:
        wanted = [
            one for one in map(self._past.at.get, range(fact.prev + 1, fact.pos + 1)) if one and one.type in types
        ]
        told = [self._past.lines[line] for line in fact.lines]
        gaps = Counter(one.run for one in told if one.evicted)
        there = set(fact.lines)
        for one in wanted:
            if one.digest in there:
                continue
            gaps[one.run] -= 1  # a gap of its run may be in its place
            if gaps[one.run] < 0:
                what = f"a message from {fact.prev} to {fact.pos} leaves out what the filter asks for"
                yield self._wrong("undeclared", what, one.offset)
        known = [self._past.offsets[one.digest] for one in told if one.digest in self._past.offsets]
        if known != sorted(set(known)) or any(not fact.prev < offset <= fact.pos for offset in known):
            yield self._wrong("differs", f"lines between {fact.prev} and {fact.pos} are not the log's, in its order")

    def _declared(self, fact: Declared) -> Iterator[Finding]:
        if self._left_at is not None and fact.last == self._own:
            self._own = self._left_at  # the hole of the confirmation, which is told behind it
        self._left_at = None
        if fact.count is not None and fact.count != fact.last - fact.first + 1:
            yield self._wrong("position", f"a gap from {fact.first} to {fact.last} counts {fact.count}", fact.first)
        yield from super()._declared(fact)


def _printed(printed: Printed, past: _Past) -> Iterator[Finding]:
    """Lines alone: each once, in order, and as many as are not there are said to be missing."""
    last = 0
    numbers: dict[str, int] = {}
    seen: set[int] = set()
    for line in printed.lines:
        one, offset = past.lines[line], past.offsets.get(line)
        if line in seen:
            yield Finding("repeated", "told again", one.run, one.number, offset, printed.name)
            continue
        seen.add(line)
        if one.type != "gap":
            if one.number <= numbers.get(one.run, 0) or (offset is not None and offset < last):
                yield Finding("reordered", f"told after offset {last}", one.run, one.number, offset, printed.name)
            numbers[one.run] = one.number
        last = max(last, offset or 0)
    gone = past.head - len(printed.lines)
    if gone != printed.missed:
        kind = "undeclared" if gone > printed.missed else "differs"
        yield Finding(kind, f"{gone} entries were not told, {printed.missed} are declared", subscriber=printed.name)
