"""Blocks: how what is stored together lies in a store.

The rule this module keeps: a block is consecutive entries of one commit, bounded, and every store divides alike.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from agentpipe.event import Event
from agentpipe.history import fitting

__all__ = ["BLOCK_BYTES", "BLOCK_EVENTS", "Block", "aliases", "divided"]

#: A block holds at most this much, so that reading one event does not read megabytes.
BLOCK_EVENTS = 500
BLOCK_BYTES = 256 * 1024


class Block(NamedTuple):
    """Consecutive entries of one transaction; ``first`` is the offset of the first one."""

    first: int
    events: Sequence[Event]


def divided(events: Sequence[Event], first: int) -> Iterator[Block]:
    """Divide what is committed together; an event larger than a block is one alone."""
    start = 0
    while start < len(events):
        lines = [event.line for event in events[start : start + BLOCK_EVENTS]]
        end = start + fitting(lines, BLOCK_BYTES)
        yield Block(first + start, events[start:end])
        start = end


def aliases(events: Iterable[Event]) -> list[str]:
    """The ids that do not say where their event is, and those of all gaps, which are told apart by nothing else."""
    return [
        event.identity
        for event in events
        if event.type == "gap" or (event.event_id is not None and event.event_id != f"{event.run_id}:{event.sequence}")
    ]
