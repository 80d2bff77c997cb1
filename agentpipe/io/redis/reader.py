"""Reading the log that lies in Redis, next to all who write it.

The rule this module keeps: **a reader answers for one epoch.** When the log has another one, because Redis lost what
we have seen, it raises instead of giving other entries under the same offsets. It reads whole blocks (see
``redis/log.py``) and asks for a bounded number of bytes.

Any thread may ask: each call takes a connection from a pool.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from agentpipe.errors import OutputError
from agentpipe.event import Event, peek_lines
from agentpipe.history import SLICE_BYTES, Filter, OfRun, Page, Slice, fitting
from agentpipe.io.redis.link import FAILED, LOST, Address, Client, evaluate, failure
from agentpipe.io.redis.retention import Kept, read_remains
from agentpipe.io.redis.scripts import PAGE, PLACE

__all__ = ["RedisReader"]

#: Blocks in one answer of Redis: 2 MB, unless events are larger than a block.
BLOCKS_READ = 8

T = TypeVar("T")


class RedisReader:
    """The reading half: `Log`'s questions about the log with this *epoch*."""

    def __init__(self, address: Address, epoch: str) -> None:
        # given
        self.address = address
        self.epoch = epoch
        self._client = address.client()
        self._meta, self._log = address.key("meta"), address.key("log")

    @property
    def oldest(self) -> int:
        """The offset before the first entry kept."""
        return self._ends()[0]

    @property
    def head(self) -> int:
        """The offset of the newest entry."""
        return self._ends()[1]

    def since(self, offset: int, limit: int, limit_bytes: int) -> Page:
        """The entries after *offset*; see `Log`."""
        answer = self._ask(lambda client: evaluate(client, PAGE, (self._meta, self._log), (offset, limit, limit_bytes)))
        head = self._checked(answer)[1]
        lines: list[bytes] = []
        start = offset
        for place in range(3, len(answer), 2):
            first, found = int(answer[place]), answer[place + 1].split(b"\n")
            skipped = max(0, offset + 1 - first)
            if not lines:
                start = first + skipped - 1
            lines += found[skipped:] if skipped else found
        if not lines:
            return Page(max(offset, head), [])
        lines = lines[:limit]
        return Page(start, lines[: fitting(lines, limit_bytes)])

    def find(self, event_id: str) -> bytes | None:
        """The line of the event with this id, or None."""
        for first in self._candidates(event_id):
            for event in self._heads(first):
                if event.identity == event_id:
                    return event.line
        run_id = event_id.rpartition(":")[0].removesuffix(":gap")
        return next((event.line for _, event in self._remains(run_id) if event.identity == event_id), None)

    def of_run(self, wanted: OfRun, after: int, limit: int, limit_bytes: int = SLICE_BYTES) -> Slice:
        """The entries of one run; see `Log`. What remains of a run whose blocks have left stands where it stood, before
        all that is in the stream.
        """
        pick = wanted.filter.pick
        head = self.head
        lines: list[bytes] = []
        offsets: list[int] = []
        room = limit_bytes
        for first, events in self._parts(wanted.run_id, after):
            for index in pick(events):
                if first + index <= after:
                    continue
                lines.append(events[index].line)
                offsets.append(first + index)
                room -= len(lines[-1])
                if len(lines) == limit or room <= 0:
                    return Slice(lines, offsets, offsets[-1])
        return Slice(lines, offsets, max(head, after))

    def place(self, run_id: str, sequence: int) -> int:
        """Where the numbers of a run from *sequence* on are; see `Log`."""
        first = self._block_of(run_id, sequence)
        return first - 1 if first is not None else self.head

    def before_last(self, filter: Filter, count: int) -> int:  # noqa: A002 - the protocol's word
        """The offset after which the last *count* matching entries lie; see `Log`."""
        oldest, head = self._ends()
        if filter.everything or not count:
            return max(oldest, head - count)
        for first, lines in self._blocks_backward():
            found = filter.pick(peek_lines(lines)[0])
            if len(found) >= count:
                return first + found[len(found) - count] - 1
            count -= len(found)
        return oldest

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()
        self._client.connection_pool.disconnect()

    def _ends(self) -> tuple[int, int]:
        return self._checked(self._ask(lambda client: client.hmget(self._meta, ["epoch", "oldest", "head"])))

    def _checked(self, answer: list[Any]) -> tuple[int, int]:
        """The oldest and the head of an answer that begins with the epoch and these."""
        if answer[0] != self.epoch.encode():
            raise OutputError(self.address.shown, "the log was replaced by another")
        return int(answer[1] or 0), int(answer[2] or 0)

    def _candidates(self, event_id: str) -> Iterator[int]:
        """The blocks in which an event may be, by its id alone."""
        first = self._ask(lambda client: client.zscore(self.address.key("ids"), event_id))
        if first is not None:
            yield int(first)
        run_id, _, number = event_id.rpartition(":")
        if number.isdecimal() and len(number) < 17:
            found = self._block_of(run_id, int(number))
            if found is not None:
                yield found

    def _block_of(self, run_id: str, sequence: int) -> int | None:
        key = self.address.key(f"run:{run_id}")
        found = self._ask(lambda client: evaluate(client, PLACE, (key,), (sequence,)))
        return int(found) if found is not None else None

    def _heads(self, first: int) -> list[Event]:
        """The events of the block that begins at the offset *first*; none when it has left."""
        entry = f"{first}-0"
        found = self._ask(lambda client: client.xrange(self._log, entry, entry))
        return peek_lines(found[0][1][b"lines"].split(b"\n"))[0] if found else []

    def _remains(self, run_id: str) -> list[Kept]:
        """What is kept of a run of which blocks have left."""
        return read_remains(self._ask(lambda client: client.hget(self.address.key("remains"), run_id)))

    def _parts(self, run_id: str, after: int) -> Iterator[tuple[int, list[Event]]]:
        """What holds entries of a run after the offset *after*: the offset of the first entry, and the events."""
        for offset, event in self._remains(run_id):
            yield offset, [event]
        key = self.address.key(f"run:{run_id}")
        before = self._ask(lambda client: client.zrevrangebyscore(key, after + 1, "-inf", start=0, num=1))
        place = int(before[0].partition(b":")[0]) if before else 0
        while parts := self._ask(
            lambda client, place=place: client.zrangebyscore(key, place, "+inf", start=0, num=BLOCKS_READ)  # type: ignore[misc]
        ):
            for part in parts:
                place = int(part.partition(b":")[0])
                yield place, self._heads(place)
            place += 1

    def _blocks_backward(self) -> Iterator[tuple[int, list[bytes]]]:
        """The offset of each block's first entry, and its lines; the newest first."""
        place = "+"
        while found := self._ask(
            lambda client, place=place: client.xrevrange(self._log, place, "-", count=BLOCKS_READ)  # type: ignore[misc]
        ):
            for entry, fields in found:
                yield int(entry.partition(b"-")[0]), fields[b"lines"].split(b"\n")
            place = f"({found[-1][0].decode()}"

    def _ask(self, question: Callable[[Client], T]) -> Any:
        """What Redis answers; a connection that was cut while it lay idle is replaced once."""
        try:
            return question(self._client)
        except LOST:
            try:
                return question(self._client)
            except FAILED as error:
                raise failure(self.address, error) from error
        except FAILED as error:
            raise failure(self.address, error) from error
