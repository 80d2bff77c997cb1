"""The log in Redis, shared by any number of hubs.

The rule this module keeps: **a commit is one atomic step in Redis**: it looks whether the runs are where the door
believed, gives out the offsets, and stores the lines, the runs' standing and the ids, or it changes nothing. A commit
whose outcome is unknown, because the connection broke, is tried again under its stamp and happens once.

The second rule: **who has seen an entry knows when it is gone.** Redis may come back with less than it had (it was
restarted without its file, a replica that lagged took over, somebody emptied it). Each new connection is proved: the
epoch and the stamp of the newest block that this hub has seen must still be there. If not, the epoch is replaced, once
for all hubs, and `ContinuityLost` says that everything held so far is worth nothing.

Entries are stored as *blocks*, the lines of what was committed together (see ``scripts.py`` for the keys). The ids of
the stream are the offsets, so that the entries after an offset are found without an index.
"""

import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from agentpipe.blocks import BLOCK_BYTES, aliases, divided
from agentpipe.errors import ContinuityLost, OutputError
from agentpipe.event import Event
from agentpipe.history import Page
from agentpipe.io.redis.health import look, server_id
from agentpipe.io.redis.link import COMMAND_S, DENIED, LOST, Address, Client, Session, evaluate
from agentpipe.io.redis.reader import RedisReader
from agentpipe.io.redis.retention import Keeper, Retention
from agentpipe.io.redis.scripts import APPEND, FOUND, PROVE, RENEW, SAVE_STATE
from agentpipe.store import Commit, Standing, StoreConflict

__all__ = ["RedisLog"]

#: How long a commit is tried again when Redis is away; then its senders are told. Long enough for a restart.
PATIENCE_S = 5.0

#: A Redis that just was away is left alone for so long.
LEAVE_ALONE_S = 0.5

#: How long a stamp is remembered: far longer than a commit is tried again.
STAMP_S = 600

#: Runs read at once at the start.
RUNS_READ = 5000

#: A connection that goes on for so long is proved again: its server may have been made the replica of another.
PROVE_EVERY_S = 1.0

T = TypeVar("T")


class _Known(NamedTuple):
    """The newest block that this hub has seen: the offset of its last entry, and its stamp."""

    offset: int
    stamp: str


class RedisLog:
    """The writing half, and what the other hubs wrote (`follow`). See `SharedStore`.

    `follow` belongs to one thread, everything else to another. Raises OutputError when Redis cannot be had, or with
    *sync* ``always`` cannot promise what that asks for.
    """

    def __init__(self, url: str, *, retention: Retention = (0.0, 0, 0), sync: str = "normal") -> None:
        # given
        self.address = Address.of(url)
        self._node = secrets.token_hex(8)
        self._keeper = Keeper(self.address, self._node, retention)
        key = self.address.key
        self._meta, self._log, self._runs, self._ids = key("meta"), key("log"), key("runs"), key("ids")
        # changing
        self._known = _Known(0, "")
        self._lock = threading.Lock()  # the two threads tell what they have seen
        self._away: OutputError | None = None
        self._ask_again_at = 0.0
        self._unconfirmed = False
        self._prove_at = 0.0
        self._blocks_ahead = 1  # asked for next by `follow`
        self._server = ""  # as the log has it
        self.epoch = ""
        self._session = Session(self.address, self._met, timeout_s=COMMAND_S)
        self._following = Session(self.address, self._met, timeout_s=COMMAND_S)
        self.health = self._call(look)
        self._confirm = self.health.confirmation(sync, self.address)
        self.epoch = self._call(self._found)
        self._call(self._met)
        self._reader = RedisReader(self.address, self.epoch)

    # --- the log

    @property
    def oldest(self) -> int:
        """The offset before the first entry kept."""
        return self._reader.oldest

    @property
    def head(self) -> int:
        """The offset of the newest entry."""
        return self._reader.head

    def standings(self, runs: Collection[str] | None = None) -> dict[str, Standing]:
        """The standing of *runs*, or of all; see `Store`."""
        if self._unconfirmed:
            self._call(self._confirmed)  # what is told to be stored is acknowledged
        if runs is None:
            return self._call(self._all_standings)
        if not runs:
            return {}
        wanted = list(runs)
        found = self._call(lambda client: client.hmget(self._runs, wanted))
        return {run_id: _standing(value) for run_id, value in zip(wanted, found, strict=True) if value is not None}

    def ids(self, limit: int) -> list[str]:
        """The newest ids that are not ``run_id:sequence``, oldest first."""
        found = self._call(lambda client: client.zrevrange(self._ids, 0, limit - 1))
        return [own_id.decode() for own_id in reversed(found)]

    def append(self, commit: Commit, at: float) -> int:
        """Store *commit* in one step; see `Store`. Raises ContinuityLost when the log is another one."""
        if not commit.events:
            return self.head
        stamp = commit.stamp or secrets.token_hex(8)
        keys, values = self._asked(commit, stamp, at)

        def work(client: Client) -> Any:
            answer = evaluate(client, APPEND, keys, values)
            self._confirmed(client)  # also of what others stored: it will be acknowledged here as known
            return answer

        answer = self._call(work)
        if answer[0] == b"stored":
            last = int(answer[1])
            self._saw(_Known(last, stamp))
            return last
        if answer[0] == b"epoch":
            raise self._lost("the log was replaced by another")
        standings = {run_id: _standing(value) for run_id, value in zip(commit.before, answer[1:], strict=False)}
        raise StoreConflict(standings, [own_id.decode() for own_id in answer[1 + len(commit.before) :]])

    def follow(self, offset: int, limit_bytes: int, timeout_s: float) -> Page:
        """The entries after *offset*, whoever wrote them; see `SharedStore`. Now and then, and after each new
        connection, the log is proved. Raises ContinuityLost; OutputError while Redis is away: call again.
        """
        count = max(1, min(self._blocks_ahead, limit_bytes // BLOCK_BYTES))

        def work(client: Client) -> Any:
            asked = client.pipeline(transaction=False)
            asked.xread({self._log: f"{offset}-0"}, count=count, block=max(1, int(timeout_s * 1000)))
            asked.hget(self._meta, "epoch")  # after the entries: epochs never come back
            found, epoch = asked.execute()
            if epoch != self.epoch.encode() or not found or time.monotonic() >= self._prove_at:
                self._prove(client)
            return found

        found = self._following.call(work, 0.0)
        if not found:
            return Page(offset, [])
        entries = found[0][1]
        try:
            lines = [line for _, fields in entries for line in fields[b"lines"].split(b"\n")]
            stamp = entries[-1][1][b"stamp"].decode()
        except KeyError:
            raise OutputError(self.address.shown, "somebody else writes to the stream of the log") from None
        large = sum(map(len, lines)) > limit_bytes  # events beyond a block: fewer at once, whatever comes
        self._blocks_ahead = 1 if large else 2 * count
        page = Page(int(entries[0][0].partition(b"-")[0]) - 1, lines)
        self._saw(_Known(page.next, stamp))
        return page

    # --- keeping house

    def retain(self, now: float) -> bool:
        """Drop the oldest blocks that are over the limits; see `Store`. One hub does so for all."""
        return self._call(lambda client: self._keeper.step(client, self.epoch, now))

    def save_state(self, offset: int, state: bytes) -> None:
        """Keep a state that the entries up to *offset* were reduced to, unless another hub kept a later one."""
        values = (self.epoch, offset, state)
        self._call(lambda client: evaluate(client, SAVE_STATE, (self._meta,), values))

    def state(self) -> tuple[int, bytes]:
        """What `save_state` kept; ``(0, b"")`` when there is nothing."""
        found = self._call(lambda client: client.hmget(self._meta, ["state_offset", "state"]))
        return (int(found[0]), found[1]) if found[1] is not None else (0, b"")

    def reader(self) -> RedisReader:
        """The reading half, on connections of its own."""
        return RedisReader(self.address, self.epoch)

    def close(self) -> None:
        """Let go of Redis."""
        self._session.close()
        self._following.close()
        self._reader.close()

    # --- continuity

    def _found(self, client: Client) -> str:
        """The epoch of the log, which begins now when there is none.

        When Redis was started anew since any hub has looked, and may have lost its last entries by that, nobody is left
        who could say that they are all there: the epoch is replaced.
        """
        epoch: str = evaluate(client, FOUND, (self._meta,), (secrets.token_hex(8),)).decode()
        server = evaluate(client, PROVE, (self._meta, self._log), (0,))[4].decode()
        if server and self.health.server and server != self.health.server and not self.health.exact:
            epoch = evaluate(client, RENEW, (self._meta,), (epoch, secrets.token_hex(8))).decode()
        return epoch

    def _met(self, client: Client) -> None:
        """A new connection: prove it, and vouch for the Redis behind it, so that who comes after us believes it."""
        if not self.epoch:
            return  # we know no log yet
        self._prove(client)
        running = server_id(client)
        if running != self._server:
            try:
                client.hset(self._meta, "server", running)
            except DENIED as error:
                if isinstance(error, LOST):
                    raise
                # no memory, a full disk: entries can be read all the same, and the next connection vouches for it

    def _prove(self, client: Client) -> None:
        """Whether this is the log that we know. Raises ContinuityLost."""
        known = self._known
        answer = evaluate(client, PROVE, (self._meta, self._log), (known.offset,))
        epoch, oldest, head, stamp, server = [part.decode() for part in answer]
        if epoch != self.epoch:
            raise self._lost("the log was replaced by another" if epoch else "the log is gone")
        kept = known.offset > int(oldest) or known.offset == int(head)
        if known.offset and (known.offset > int(head) or (kept and stamp != known.stamp)):
            evaluate(client, RENEW, (self._meta,), (self.epoch, secrets.token_hex(8)))
            raise self._lost(f"entries up to {known.offset} were stored, and Redis has lost some of them")
        self._server = server
        self._prove_at = time.monotonic() + PROVE_EVERY_S

    def _saw(self, known: _Known) -> None:
        with self._lock:
            if known.offset > self._known.offset:
                self._known = known

    def _lost(self, why: str) -> ContinuityLost:
        return ContinuityLost(self.address.shown, why)

    # --- inside

    def _call(self, work: Callable[[Client], T]) -> T:
        """What *work* returns, on the writer's connection. While Redis is known to be away one attempt is enough, and
        for a moment after it none: those who wait are better told at once.
        """
        away = self._away
        if away is not None and time.monotonic() < self._ask_again_at:
            raise OutputError(away.target, away.problem)
        self._away = None
        try:
            return self._session.call(work, 0.0 if away is not None else PATIENCE_S)
        except OutputError as error:
            if not self._session.reachable:
                self._away, self._ask_again_at = error, time.monotonic() + LEAVE_ALONE_S
            raise

    def _confirmed(self, client: Client) -> None:
        """Wait until what is stored is as safe as was asked for."""
        if self._confirm is not None:
            self._unconfirmed = True
            self._confirm(client)
            self._unconfirmed = False

    def _all_standings(self, client: Client) -> dict[str, Standing]:
        found = client.hscan_iter(self._runs, count=RUNS_READ)
        return {run_id.decode(): _standing(value) for run_id, value in found}

    def _asked(self, commit: Commit, stamp: str, at: float) -> tuple[list[str], list[Any]]:
        """The keys and values of `APPEND`."""
        blocks = [block.events for block in divided(commit.events, 1)]
        keys = [self._meta, self._log, self._runs, self._ids, self.address.key(f"node:{self._node}")]
        keys += [self.address.key(f"run:{run_id}") for run_id in commit.before]
        values: list[Any] = [
            self.epoch, stamp, STAMP_S, at, len(commit.before), len(commit.ids), len(blocks)
        ]  # fmt: skip
        for run_id, before in commit.before.items():
            values += (run_id, _kept(before), _kept(commit.after[run_id]))
        values += commit.ids
        places = {run_id: place for place, run_id in enumerate(commit.before, 1)}
        reached = {run_id: standing.last for run_id, standing in commit.before.items()}
        for events in blocks:
            lines = b"\n".join([event.line for event in events])
            values += (len(events), len(lines), lines)
            lows = _lows(events, reached)
            values.append(len(lows))
            for run_id, low in lows.items():
                values += (places[run_id], low)
            named = aliases(events)
            values += (len(named), *named)
        return keys, values


def _kept(standing: Standing) -> bytes:
    return b"%d %b" % (standing.last, standing.rest())


def _standing(value: bytes) -> Standing:
    last, _, rest = value.partition(b" ")
    return Standing.of(int(last or 0), rest)


def _lows(events: Iterable[Event], reached: dict[str, int]) -> Mapping[str, int]:
    """For each run among *events* a number that its numbers in this block and later are not below, and those before
    are; *reached* is how far they have come. So of a gap alone in its block, which may be of any number, it is the next
    one.
    """
    lows: dict[str, int] = {}
    for event in events:
        run_id = event.run_id
        if run_id not in lows:
            lows[run_id] = reached.get(run_id, 0) + 1
        if event.type != "gap" and (event.sequence or 0) > reached.get(run_id, 0):
            reached[run_id] = event.sequence or 0
    return lows
