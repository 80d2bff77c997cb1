"""Dropping what is over the limits from a log in Redis.

The rule this module keeps: **what leaves is declared in the same step.** Whole blocks leave, oldest first. Of a run of
which entries left two remain beside the stream, under the offsets that they had: its last terminal event, and one
``gap`` event with the numbers of all that are gone, in the place of the last of these. All else of the run lies behind
them, so that whoever reads the run meets them first, once and in order.
"""

from collections.abc import Sequence
from typing import NamedTuple

from agentpipe.event import TERMINAL_TYPES, Event, gap, peek, peek_lines, timestamp
from agentpipe.holes import CROWDED, Span, numbers, tidied
from agentpipe.io.redis.link import DENIED, NO_MEMORY, Address, Client, evaluate
from agentpipe.io.redis.scripts import TRIM
from agentpipe.missing import declared_by, without

__all__ = ["Keeper", "Kept", "Retention", "read_remains"]

#: How much is kept: age in seconds, bytes of lines, number of events; 0 means no limit.
Retention = tuple[float, int, int]

#: Blocks that one step drops: at most 4,000 events, a few milliseconds.
BLOCKS_DROPPED = 8

#: Who drops what is over the limits has the right to for this long; others leave it alone.
LEASE_S = 60


class Kept(NamedTuple):
    """An entry that remains beside the stream."""

    offset: int
    event: Event


def read_remains(value: bytes | None) -> list[Kept]:
    """What is kept of a run, in order, from how it is stored."""
    found = [line.partition(b" ") for line in (value or b"").split(b"\n") if line]
    return [Kept(int(offset), peek(line)) for offset, _, line in found]


class Keeper:
    """Drops blocks for the hub called *node*. Does nothing while another hub does so."""

    def __init__(self, address: Address, node: str, retention: Retention) -> None:
        # given
        self._node = node
        self._retention = retention
        key = address.key
        self._meta, self._log, self._ids, self._remains = key("meta"), key("log"), key("ids"), key("remains")
        self._lease = key("retaining")
        self._key = key

    def step(self, client: Client, epoch: str, now: float) -> bool:
        """Drop a few blocks that are over the limits; whether there may be more of them."""
        if not any(self._retention) or not self._is_ours(client):
            return False
        oldest, size, count = [int(value or 0) for value in client.hmget(self._meta, ["oldest", "size", "count"])]
        over = _Over(self._retention, _agreed(client, now) if self._retention[0] else now, size, count)
        found = client.xrange(self._log, count=BLOCKS_DROPPED)
        blocks: list[tuple[int, list[bytes]]] = []
        for entry, fields in found:
            if not over.drops(int(fields[b"count"]), len(fields[b"lines"]), float(fields[b"at"])):
                break
            blocks.append((int(entry.partition(b"-")[0]), fields[b"lines"].split(b"\n")))
        if blocks:
            self._drop(client, epoch, oldest, blocks, now)
        return len(blocks) == len(found) > 0

    def _is_ours(self, client: Client) -> bool:
        """Whether it is for us to drop entries. Two that do so at once do no harm: `TRIM` looks who was first."""
        try:
            if not client.set(self._lease, self._node, nx=True, ex=LEASE_S):
                if client.get(self._lease) != self._node.encode():
                    return False
                client.expire(self._lease, LEASE_S)
        except NO_MEMORY:
            return True  # then it is high time, whoever it is
        return True

    def _drop(
        self, client: Client, epoch: str, oldest: int, blocks: Sequence[tuple[int, list[bytes]]], now: float
    ) -> None:
        runs: dict[str, list[Kept]] = {}
        size = count = 0
        for first, lines in blocks:
            size += sum(map(len, lines)) + len(lines) - 1
            count += len(lines)
            for offset, event in enumerate(peek_lines(lines)[0], first):
                runs.setdefault(event.run_id, []).append(Kept(offset, event))
        before = client.hmget(self._remains, list(runs))
        first, lines = blocks[-1]
        values: list[str | int | bytes] = [epoch, oldest, first + len(lines) - 1, first, size, count, len(runs)]
        for (run_id, gone), value in zip(runs.items(), before, strict=True):
            left = _remains(run_id, [*read_remains(value), *gone], now)
            values += (run_id, b"\n".join([b"%d %b" % (offset, event.line) for offset, event in left]))
        keys = [self._meta, self._log, self._ids, self._remains, *[self._key(f"run:{run_id}") for run_id in runs]]
        evaluate(client, TRIM, keys, values)


def _agreed(client: Client, now: float) -> float:
    """The time, which is no later than Redis says: a hub whose clock is ahead must not drop what the others keep."""
    try:
        return min(now, client.time()[0] + 1.0)
    except DENIED:
        return now


def _remains(run_id: str, gone: Sequence[Kept], now: float) -> list[Kept]:
    """What is to be kept in the place of *gone*, entries of one run in order."""
    ends = [kept for kept in gone if kept.event.type in TERMINAL_TYPES][-1:]
    others = [kept for kept in gone if kept not in ends]
    spans = tidied([span for kept in others for span in _numbers(kept.event)])
    if ends and ends[0].event.sequence is not None:
        spans = without(spans, [(ends[0].event.sequence, ends[0].event.sequence)])
    if not spans:
        return ends
    if len(spans) > CROWDED:  # all of a run leaves from its beginning on: what lies between is accounted for as well
        spans = [(spans[0][0], spans[-1][1])]
    last = others[-1]
    made = gap(
        spans, "evicted", run_id=run_id, agent_id=last.event.agent_id, at=timestamp(now), work_id=last.event.work_id
    )
    return sorted([*ends, Kept(last.offset, made)])


def _numbers(event: Event) -> list[Span]:
    """What nobody accounts for once *event* is gone."""
    return declared_by(event) if event.type == "gap" else numbers(event)


class _Over:
    """What is over the limits, while the oldest blocks leave one by one."""

    def __init__(self, retention: Retention, now: float, size_bytes: int, count: int) -> None:
        most_s, most_bytes, most = retention
        # given
        self._before = now - most_s if most_s else 0.0
        # changing
        self._size = size_bytes - most_bytes if most_bytes else 0
        self._count = count - most if most else 0

    def drops(self, count: int, size_bytes: int, at: float) -> bool:
        """Whether the next block, stored at *at*, has to leave."""
        if self._size <= 0 and self._count <= 0 and at >= self._before:
            return False
        self._size -= size_bytes
        self._count -= count
        return True
