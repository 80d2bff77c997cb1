"""Several hubs on one Redis: what one stores all tell, and any of them, or Redis, may go at any moment.

With real processes throughout: redis-server, `serve`, `publish` and `subscribe`.
"""

import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from agentpipe.event import peek
from tests.faults.lab.proxy import Proxy
from tests.io.serve.hubs import PATIENCE_S, Client, Hub, event, sequences, until
from tests.redis_process import RedisProcess

TOKEN = "the-token-of-all-hubs"

Start = Callable[..., Hub]
Connect = Callable[[Hub], Client]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisProcess]:
    with RedisProcess(tmp_path / "redis") as running:
        yield running


@pytest.fixture
def start(tmp_path: Path, redis: RedisProcess) -> Iterator[Start]:
    """Start a hub on the Redis, or on another address of it: ``start("a")``."""
    hubs: list[Hub] = []

    def begin(name: str, *options: str, port: int = 0) -> Hub:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "token").write_text(TOKEN)
        url = f"redis://127.0.0.1:{port or redis.port}/0?prefix=test"
        hubs.append(Hub(folder, *options, store=url))
        return hubs[-1]

    yield begin
    for hub in hubs:
        hub.process.send_signal(signal.SIGCONT)
        hub.stop()
        assert "Traceback" not in hub.stderr


@pytest.fixture
def connect() -> Iterator[Connect]:
    clients: list[Client] = []

    def begin(hub: Hub) -> Client:
        clients.append(Client(hub))
        clients[-1].next("welcome")
        return clients[-1]

    yield begin
    for client in clients:
        client.close()


@pytest.fixture
def spawn(environment: Mapping[str, str], tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Start an agentpipe command whose output goes to a file: ``spawn("out", "subscribe", …)``."""
    started: list[subprocess.Popen[bytes]] = []
    token = tmp_path / "token"
    token.write_text(TOKEN)

    def begin(output: str, command: str, *words: str, stdin: int = subprocess.DEVNULL) -> "subprocess.Popen[bytes]":
        with (tmp_path / output).open("wb") as out, (tmp_path / f"{output}.err").open("wb") as err:
            full = ["agentpipe", command, "--token-file", str(token), *words]
            started.append(subprocess.Popen(full, env=environment, stdin=stdin, stdout=out, stderr=err))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE_S)
        if process.stdin is not None:
            process.stdin.close()


def events(first: int, last: int, run: str = "r") -> list[bytes]:
    return [event(number, run) for number in range(first, last + 1)]


def feed(process: "subprocess.Popen[bytes]", lines: list[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.write(b"".join(line + b"\n" for line in lines))
    process.stdin.flush()


def stored(hub: Hub) -> list[int]:
    """The numbers of the run that the log holds; the hub may be between two lives."""
    try:
        return [found["sequence"] for found in hub.events("r") if found["type"] != "gap"]
    except (AssertionError, OSError):
        return []


# --- one log


def test_what_one_hub_takes_every_hub_tells_in_the_same_order(start: Start, connect: Connect):
    a, b = start("a"), start("b")
    told = [connect(hub) for hub in (a, b, b)]
    for client in told:
        client.subscribe(since="start")
    publisher, other = connect(a), connect(b)
    for number in range(1, 201, 10):
        publisher.publish(*events(number, number + 9), wait=False)
        other.publish(*events(number, number + 9, "s"), wait=False)
    for client in told:
        client.read(400)
    assert told[0].lines == told[1].lines == told[2].lines
    for run in "rs":
        assert sequences([line for line in told[0].lines if peek(line).run_id == run]) == list(range(1, 201))
    assert len({client.epoch for client in told}) == 1


def test_one_run_that_is_published_at_all_hubs_is_stored_once(start: Start, connect: Connect):
    hubs = [start("a"), start("b")]
    watching = connect(hubs[0])
    watching.subscribe(since="start")
    publishers = [connect(hub) for hub in hubs]
    for number in range(1, 101):  # to one after the other, each time with what the other has had
        publishers[number % 2].publish(*events(max(1, number - 3), number))
    for publisher in publishers:
        publisher.publish(*events(1, 100))
    watching.read(100)
    assert sequences(watching.lines) == list(range(1, 101))
    assert all(hub.events("r") == hubs[0].events("r") for hub in hubs)
    assert len(hubs[1].events("r")) == 100


def test_a_position_of_one_hub_is_good_at_another(start: Start, connect: Connect):
    a, b = start("a"), start("b", "--window", "64KiB")
    publisher, reader = connect(a), connect(a)
    reader.subscribe(since="start")
    publisher.publish(*events(1, 50))
    reader.read(50)
    position = {"epoch": reader.epoch, "offset": reader.position}
    for first in range(51, 3051, 500):
        publisher.publish(*events(first, first + 499))
    elsewhere = connect(b)
    confirmed = elsewhere.subscribe(since=position)
    elsewhere.read(3000)
    assert confirmed.recovered
    assert sequences(elsewhere.lines) == list(range(51, 3051))


def test_an_old_connection_of_a_publisher_is_fenced_at_another_hub(start: Start, connect: Connect):
    a, b = start("a"), start("b")
    old, new = connect(a), connect(b)
    own_id = "a-publisher-of-its-own"
    old.send({"type": "publisher", "id": own_id, "generation": 1})
    old.publish(*events(1, 10))
    new.send({"type": "publisher", "id": own_id, "generation": 2})
    new.publish(*events(11, 20))
    old.publish(*events(21, 30), wait=False)
    assert old.closed_with() == 4409
    assert [found["sequence"] for found in b.events("r")] == list(range(1, 21))


def test_the_states_are_known_at_all_hubs_and_after_a_restart(start: Start, connect: Connect):
    a, b = start("a"), start("b")
    connect(a).publish(event(1, type_="run_started"), *events(2, 9), event(10, type_="run_completed"))
    for hub in (a, b):  # an acknowledgement may come before this hub, too, has told it
        until(lambda hub=hub: hub.json("api/runs")["position"]["offset"] == 10, "the tail")  # type: ignore[misc]
    told = b.json("api/runs/r")
    assert told == a.json("api/runs/r")
    a.stop()
    a.start()
    assert a.json("api/runs/r") == told
    assert a.json("api/runs")["position"] == b.json("api/runs")["position"]


def test_who_posts_finds_it_at_once_at_the_same_hub(start: Start):
    """Though what is stored is told only when it comes back from Redis; also what another hub has stored."""
    a, b = start("a"), start("b")
    for number in range(1, 101):
        hub, other = (a, b) if number % 2 else (b, a)
        assert hub.request("api/events", event(number))[0] == 200
        assert [found["sequence"] for found in hub.events("r")] == list(range(1, number + 1))
        assert hub.json("api/runs")["position"]["offset"] == number
        assert other.request("api/events", event(number))[0] == 200  # known
        assert other.json("api/runs")["position"]["offset"] == number


# --- somebody goes


@pytest.mark.parametrize("killed", ["hub", "redis"])
def test_nothing_is_lost_or_repeated_when_one_is_killed_in_mid_stream(
    start: Start, redis: RedisProcess, spawn: Callable[..., "subprocess.Popen[bytes]"], tmp_path: Path, killed: str
):
    """Publisher and subscriber at A; they fail over to B when it is A that is killed."""
    a, b = start("a"), start("b")
    urls = [f"ws://127.0.0.1:{hub.port}" for hub in (a, b)]
    spawn("told", "subscribe", "--since", "start", *urls)
    publishing = spawn("sent", "publish", "--outbox", str(tmp_path / "outbox"), *urls, stdin=subprocess.PIPE)
    told = tmp_path / "told"
    feed(publishing, events(1, 2000))
    until(lambda: told.read_bytes().count(b"\n") >= 500, "the first events")
    feed(publishing, events(2001, 6000))
    if killed == "hub":
        a.kill()
    else:
        redis.kill()
        redis.start()
    feed(publishing, events(6001, 10_000))
    assert publishing.stdin is not None
    publishing.stdin.close()
    publishing.stdin = None
    assert publishing.wait(2 * PATIENCE_S) == 0, (tmp_path / "sent.err").read_text()
    until(lambda: told.read_bytes().count(b"\n") >= 10_000, "the last events")
    assert told.read_bytes().splitlines() == events(1, 10_000)
    assert [found["sequence"] for found in b.events("r", 5000)] == list(range(1, 10_001))
    assert "gap" not in (tmp_path / "told.err").read_text()


def test_while_redis_is_away_who_listens_stays_and_who_publishes_is_told(
    start: Start, connect: Connect, redis: RedisProcess
):
    hub = start("a")
    listening, publisher = connect(hub), connect(hub)
    listening.subscribe(since="start")
    publisher.publish(*events(1, 5))
    listening.read(5)
    redis.kill()
    until(lambda: hub.request("readyz")[0] == 503, "that it is not ready")
    assert hub.request("api/runs/r/events")[0] == 503
    assert hub.request("healthz")[0] == 200
    publisher.publish(*events(6, 10), wait=False)
    assert publisher.closed_with() == 4200
    redis.start()
    until(lambda: hub.request("readyz")[0] == 200, "that it is ready")
    connect(hub).publish(*events(1, 10))
    listening.read(10)  # on the same connection
    assert sequences(listening.lines) == list(range(1, 11))
    assert listening.gaps == []


def test_a_log_that_was_emptied_is_declared_to_all(start: Start, connect: Connect, redis: RedisProcess):
    hubs = [start("a"), start("b")]
    told = [connect(hub) for hub in hubs]
    for client in told:
        client.subscribe(since="start")
    connect(hubs[0]).publish(*events(1, 30))
    for client in told:
        client.read(30)
    redis.ask("FLUSHALL")
    assert [client.closed_with() for client in told] == [4101, 4101]
    until(lambda: all("read anew" in hub.stderr for hub in hubs), "the word on stderr")
    again = [connect(hub) for hub in hubs]
    connect(hubs[1]).publish(*events(1, 3))
    for client in again:
        confirmed = client.subscribe(since={"epoch": told[0].epoch, "offset": 30})
        assert not confirmed.recovered
        assert client.epoch != told[0].epoch
        client.next("snapshot")
        client.read(3)
        assert client.gaps == [(0, 0, "epoch")]
        assert sequences(client.lines) == [1, 2, 3]
    assert again[0].epoch == again[1].epoch


def test_standard_input_goes_on_in_the_next_life(
    redis: RedisProcess, spawn: Callable[..., "subprocess.Popen[bytes]"], start: Start, tmp_path: Path
):
    other = start("a")
    store = f"redis://127.0.0.1:{redis.port}/0?prefix=test"
    fed = spawn("out", "serve", "--port", "0", "--exit-on-eof", "--store", store, stdin=subprocess.PIPE)
    feed(fed, events(1, 3))
    until(lambda: stored(other) == [1, 2, 3], "what was fed")
    redis.ask("FLUSHALL")
    until(lambda: "read anew" in (tmp_path / "out.err").read_text(), "the next life")
    feed(fed, events(4, 6))
    until(lambda: stored(other) == [4, 5, 6], "what was fed then")
    assert fed.stdin is not None
    fed.stdin.close()
    fed.stdin = None
    assert fed.wait(PATIENCE_S) == 0


def test_a_hub_that_slept_while_others_dropped_what_it_had_not_read_says_so(
    start: Start, connect: Connect, redis: RedisProcess
):
    a, b = start("a", "--retain", "10ev"), start("b", "--retain", "10ev")
    client = connect(b)
    client.subscribe(since="start")
    publisher = connect(a)
    publisher.publish(*events(1, 5))
    client.read(5)
    b.process.send_signal(signal.SIGSTOP)
    for number in range(6, 106, 5):
        publisher.publish(*events(number, number + 4))
    redis.ask("DEL", "{test}:retaining")  # it was for the sleeper to do so
    a.stop()
    a.start()  # which drops what is over the limits
    until(lambda: stored(a)[0] > 6, "the eviction")
    b.process.send_signal(signal.SIGCONT)
    assert client.closed_with() == 4101
    again = connect(b)
    again.subscribe(since={"epoch": client.epoch, "offset": 5})
    again.next("events")
    assert [gap[0] for gap in again.gaps] == [6]
    assert {gap[2] for gap in again.gaps} == {"evicted"}
    assert sequences(again.lines)[0] == (again.gaps[-1][1] or 0) + 1
    assert again.epoch == client.epoch


def test_a_hub_that_slept_in_the_middle_of_a_commit_adds_nothing_when_it_wakes(start: Start, connect: Connect):
    """Its publisher went on elsewhere meanwhile; what it had taken is known, and too late what it had not."""
    a, b = start("a"), start("b")
    old, new, watching = connect(a), connect(b), connect(a)
    watching.subscribe(since="start")
    own_id = "a-publisher-of-its-own"
    old.send({"type": "publisher", "id": own_id, "generation": 1})
    for first in range(1, 2001, 50):
        old.publish(*events(first, first + 49), wait=False)
    a.process.send_signal(signal.SIGSTOP)
    for first in range(2001, 2201, 50):  # in its socket
        old.publish(*events(first, first + 49), wait=False)
    new.send({"type": "publisher", "id": own_id, "generation": 2})
    for first in range(1, 3001, 100):
        new.publish(*events(first, first + 99))
    a.process.send_signal(signal.SIGCONT)
    assert old.closed_with() == 4409
    watching.read(3000)
    assert sequences(watching.lines) == list(range(1, 3001))
    assert stored(b)[:3] == stored(a)[:3] == [1, 2, 3]


def test_a_promoted_replica_goes_on_behind_the_same_address(
    start: Start, connect: Connect, redis: RedisProcess, tmp_path: Path
):
    options = ("--replicaof", "127.0.0.1", str(redis.port))
    with RedisProcess(tmp_path / "replica", *options) as replica, Proxy(redis.port) as proxy:
        hubs = [start("a", port=proxy.port), start("b", port=proxy.port)]
        listening = connect(hubs[1])
        listening.subscribe(since="start")
        connect(hubs[0]).publish(*events(1, 100))
        listening.read(100)
        size = redis.ask("XLEN", "{test}:log")
        until(lambda: replica.ask("XLEN", "{test}:log") == size, "replication")
        redis.kill()
        replica.ask("REPLICAOF", "NO", "ONE")
        proxy.point(replica.port)
        proxy.cut()
        until(lambda: hubs[0].request("readyz")[0] == 200, "the failover")
        connect(hubs[0]).publish(*events(1, 200))
        listening.read(200)
        assert sequences(listening.lines) == list(range(1, 201))
        for hub in hubs:
            hub.stop()
