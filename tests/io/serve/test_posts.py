"""Events posted by many at once, by some who do not wait for the answer, and while the hub ends."""

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from agentpipe.event import decode, peek_lines
from agentpipe.io.sqlite.log import SqliteLog
from tests.io.serve.hubs import PATIENCE_S, Client, Hub, event, until

Start = Callable[..., Hub]
Connect = Callable[..., Client]


def stored(hub: Hub) -> list[tuple[str, int | None]]:
    """Run and number of every entry of the store of a hub that has ended; no id is there twice."""
    log = SqliteLog(hub.store)
    try:
        events, _ = peek_lines(log.since(0, 1_000_000, 1 << 30).lines)
    finally:
        log.close()
    assert len({each.identity for each in events}) == len(events)
    return [(each.run_id, each.sequence) for each in events]


def posted(hub: Hub, *lines: bytes) -> tuple[int, int] | None:
    """How many were new and how many known; None when the hub did not say so."""
    try:
        status, _, body = hub.request("api/events", b"\n".join(lines))
    except OSError:
        return None
    if status != 200:
        return None
    found = decode(body)
    return found["accepted"], found["known"]


def test_a_hundred_posts_at_once_are_all_stored_when_they_are_answered(start: Start):
    """Each of its own run, and all of them of one run as well, whose numbers come in every order."""
    hub = start(store="hub.db")

    def post(number: int) -> tuple[int, int] | None:
        return posted(hub, *[event(n, f"own-{number}") for n in range(1, 21)], event(number + 1, "shared"))

    with ThreadPoolExecutor(100) as pool:
        found = list(pool.map(post, range(100)))
    hub.kill()
    assert all(each is not None and sum(each) == 21 for each in found)
    log = stored(hub)
    for number in range(100):
        assert [n for run, n in log if run == f"own-{number}"] == list(range(1, 21))
    shared = [n for run, n in log if run == "shared"]
    assert len(shared) == sum(each[0] for each in found if each) - 2000
    assert shared == sorted(shared, key=lambda n: n or 0)


def test_who_hangs_up_before_the_answer_and_posts_again_adds_nothing(start: Start):
    hub = start(store="hub.db")
    body = b"\n".join(event(number, size=500) for number in range(1, 2001))
    head = (
        f"POST /api/events HTTP/1.1\r\nHost: 127.0.0.1:{hub.port}\r\nAuthorization: Bearer {hub.token}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    for sent in (len(body) // 2, len(body), len(body)):
        with socket.create_connection(("127.0.0.1", urlsplit(hub.url).port)) as link:
            link.sendall(head + body[:sent])
    until(lambda: hub.request("api/runs/r")[0] == 200, "an event of those who hung up")
    found = posted(hub, body)
    assert found is not None
    assert sum(found) == 2000
    hub.stop()
    assert [number for _, number in stored(hub)] == list(range(1, 2001))


@pytest.mark.parametrize("signals", [1, 2])
def test_what_was_acknowledged_before_the_hub_ended_is_stored_though_megabytes_were_on_their_way(
    start: Start, connect: Connect, signals: int
):
    """With a second signal it ends at once."""
    hub = start(store="hub.db")
    lines = [event(number, size=1000) for number in range(1, 20_001)]  # 20 MB
    client = connect(hub)
    acknowledged = 0

    def send() -> None:
        try:
            for place in range(0, len(lines), 200):
                client.publish(*lines[place : place + 200], wait=False)
        except OSError:
            return  # the hub is gone

    thread = threading.Thread(target=send)
    thread.start()
    try:
        while client.settled < 1000:
            client.next("ack")
        for _ in range(signals):
            hub.process.terminate()
        while True:
            client.next("ack")
    except (AssertionError, OSError, Exception):  # noqa: BLE001 - the connection ends as it likes
        acknowledged = client.settled
    status = hub.process.wait(PATIENCE_S)
    thread.join(PATIENCE_S)
    assert status in (-15, 128 + 15)
    numbers = [number for _, number in stored(hub)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert 1000 <= acknowledged <= len(numbers)


def test_posts_while_the_hub_ends_are_stored_or_not_answered_with_success(start: Start):
    hub = start(store="hub.db")
    answers: list[int] = []
    ended = threading.Event()

    def post_on(run: str) -> None:
        for number in range(1, 10_000):
            found = None if ended.is_set() else posted(hub, event(number, run, size=2000))
            if found is None:
                answers.append(number - 1)
                return

    with ThreadPoolExecutor(20) as pool:
        for number in range(20):
            pool.submit(post_on, f"run-{number}")
        time.sleep(0.5)
        hub.stop()
        ended.set()
    log = stored(hub)
    assert len(answers) == 20
    assert sum(answers) <= len(log)
    for number in range(20):
        own = [n for run, n in log if run == f"run-{number}"]
        assert own == list(range(1, len(own) + 1))


def test_a_body_of_many_events_is_answered_as_one(start: Start):
    """It is stored in parts; what was refused is told by its place in the body."""
    hub = start()
    lines = [event(number) for number in range(1, 5001)]
    lines[10] = lines[4500] = b'{"type":"x"}'
    status, _, body = hub.request("api/events", b"\n".join(lines))
    found = decode(body)
    assert (status, found["accepted"], found["known"]) == (200, 4998, 0)
    assert [refusal["index"] for refusal in found["refused"]] == [10, 4500]
    assert posted(hub, *lines) == (0, 4998)
