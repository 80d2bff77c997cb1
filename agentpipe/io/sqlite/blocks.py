"""Blocks: how events lie in the SQLite file, and how they are read from it.

The rule this module keeps: **a block is read as it was written, or not at all.** It is the lines of what was committed
together, joined by newlines; an entry that was evicted is an empty line in its place. A checksum tells when something
else is there.
"""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

from agentpipe.errors import OutputError
from agentpipe.event import Event, peek_lines

__all__ = ["Take", "joined", "parts_of", "present", "read_lines"]


class Take(NamedTuple):
    """What a run has in a block: between which numbers, how many entries and bytes."""

    low: int
    high: int
    entries: int
    size_bytes: int


def joined(lines: Sequence[bytes]) -> tuple[int, bytes, int]:
    """The columns ``size`` (bytes of the lines themselves), ``lines`` and ``crc``."""
    data = b"\n".join(lines)
    return len(data) - len(lines) + 1, data, zlib.crc32(data)


def read_lines(path: str, first: int, count: int, crc: int | None, data: bytes) -> list[bytes]:
    """The lines of the block at *first*. Raises OutputError when they are not what was written."""
    lines = data.split(b"\n")
    if len(lines) != count or (crc is not None and zlib.crc32(data) != crc):
        raise OutputError(path, f"the file is damaged: entries {first} to {first + count - 1} cannot be read")
    return lines


def present(lines: Sequence[bytes]) -> tuple[Sequence[int], list[Event]]:
    """The entries among *lines* that were not evicted: their indexes, and the events."""
    if b"" not in lines:
        return range(len(lines)), peek_lines(lines)[0]
    indexes = [index for index, line in enumerate(lines) if line]
    return indexes, peek_lines([lines[index] for index in indexes])[0]


def parts_of(events: Sequence[Event]) -> dict[str, Take]:
    """What each run has among *events*.

    The numbers of gaps do not count: one may be of any number, is found by its id, and would hide that the others rise
    from block to block. Where there is nothing else, ``high`` is below ``low``: it holds no number. Events of a run
    mostly come together: the dictionary is touched only where the run changes.
    """
    takes: dict[str, Take] = {}
    gaps: dict[str, list[Event]] = {}
    if len({event.run_id for event in events}) == 1 and "gap" not in {event.type for event in events}:
        numbers = [event.sequence or 0 for event in events]  # of one run: told without Python code for each event
        size = sum([len(event.line) for event in events])
        return {events[0].run_id: Take(min(numbers), max(numbers), len(events), size)}
    run_id = None
    low = high = count = size = 0
    for event in events:
        if event.type == "gap":
            gaps.setdefault(event.run_id, []).append(event)
            continue
        number = event.sequence or 0
        if event.run_id != run_id:
            if run_id is not None:
                takes[run_id] = Take(low, high, count, size)
            run_id = event.run_id
            low, high, count, size = takes.get(run_id, (number, number, 0, 0))
        if number > high:
            high = number
        elif number < low:
            low = number
        count += 1
        size += len(event.line)
    if run_id is not None:
        takes[run_id] = Take(low, high, count, size)
    for run_id, found in gaps.items():
        number = found[0].sequence or 0
        take = takes.get(run_id, Take(number, number - 1, 0, 0))
        size = take.size_bytes + sum([len(event.line) for event in found])
        takes[run_id] = take._replace(entries=take.entries + len(found), size_bytes=size)
    return takes
