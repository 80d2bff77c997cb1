"""Commits for tests of stores: what a door that believes what the store says would ask to be stored."""

from collections.abc import Sequence

from agentpipe.event import Event
from agentpipe.store import Commit, Standing, Store


def commit(store: Store, events: Sequence[Event], *, ids: Sequence[str] = (), stamp: str = "") -> Commit:
    """All of *events*, the numbers of whose runs rise."""
    before = {event.run_id: Standing() for event in events}
    before.update(store.standings(set(before)))
    after = dict(before)
    for event in events:
        if event.type != "gap":
            after[event.run_id] = Standing(event.sequence or 0)
    return Commit(events, before, after, ids, stamp)


def append(store: Store, events: Sequence[Event], at: float = 1.0) -> int:
    """Store *events*; the offset of the last one."""
    return store.append(commit(store, events), at)


def lasts(store: Store) -> dict[str, int]:
    """The last number of every run."""
    return {run_id: standing.last for run_id, standing in store.standings().items()}
