"""``agentpipe subscribe`` as a process against real hubs, also across their restarts."""

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub_process import HubProcess
from tests.io.hubs import PATIENCE_S, RealHub, events, eventually
from tests.io.talking_hub import TalkingHub


@pytest.fixture
def hub(tmp_path, environment) -> Iterator[RealHub]:
    real = RealHub(tmp_path, environment, "--heartbeat", "1s")
    yield real
    real.stop()


@pytest.fixture
def put(agentpipe, hub):
    """Publish events and wait until they are stored."""

    def publish(data: bytes) -> bytes:
        done = agentpipe("publish", hub.url, "--drain-timeout", "60s", input=data)
        assert done.returncode == 0, done.stderr
        return data

    return publish


class Subscriber:
    """``agentpipe subscribe`` whose output is collected as it comes."""

    def __init__(self, environment, *args):
        command = ["agentpipe", "subscribe", "--stats", *args]
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        self.got = bytearray()
        self._thread = threading.Thread(target=self._collect)
        self._thread.start()

    def _collect(self):
        while piece := self.process.stdout.read(65536):
            self.got += piece

    def waited_for(self, count):
        eventually(lambda: self.got.count(b"\n") >= count or self.process.poll() is not None, f"event {count}")
        return bytes(self.got)

    def ended(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        err = self.process.stderr.read().decode()
        self.process.wait(timeout=PATIENCE_S)
        self._thread.join()
        return self.process.returncode, err


@pytest.fixture
def follow(environment) -> Iterator:
    begun = []

    def start(*args):
        begun.append(Subscriber(environment, *args))
        return begun[-1]

    yield start
    for subscriber in begun:
        if subscriber.process.poll() is None:
            subscriber.process.kill()
        subscriber.process.wait()
        subscriber._thread.join()
        subscriber.process.stdout.close()
        subscriber.process.stderr.close()


def report(err):
    return json.loads(next(line for line in err.splitlines() if '{"stage"' in line).removeprefix("agentpipe: "))


def test_without_following_it_prints_the_log_and_ends(hub, put, agentpipe):
    data = put(events(1, 300) + b'{"odd" : 1.50,"type":"t","run_id":"s","sequence":1,"big":123456789012345678901234}\n')
    data += put(b'{"type":"t","run_id":"u","sequence":1,"payload":{"text":"cut: \\ud83d","x":1e400}}\n')
    done = agentpipe("subscribe", "--no-follow", hub.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, data, b"")


def test_without_following_an_empty_log_is_a_success(hub, agentpipe):
    done = agentpipe("subscribe", "--no-follow", hub.url)
    assert (done.returncode, done.stdout) == (0, b"")


def test_filters_and_places_to_start(hub, put, agentpipe):
    first, second = put(events(1, 50)), put(events(1, 30, run="s", kind="error"))
    assert agentpipe("subscribe", "--no-follow", "--run", "s", hub.url).stdout == second
    assert agentpipe("subscribe", "--no-follow", "--type", "agent_output,other", hub.url).stdout == first
    assert agentpipe("subscribe", "--no-follow", "--agent", "nobody", hub.url).stdout == b""
    assert agentpipe("subscribe", "--no-follow", "--since", "last:2", hub.url).stdout == events(29, 30, "s", "error")
    last_of_r = agentpipe("subscribe", "--no-follow", "--since", "last:2", "--run", "r", hub.url)
    assert last_of_r.stdout == events(49, 50)
    assert agentpipe("subscribe", "--no-follow", "--since", "live", hub.url).stdout == b""
    stats = agentpipe("subscribe", "--no-follow", "--stats", hub.url).stderr.decode()
    epoch = report(stats)["position"].partition(":")[0]
    assert agentpipe("subscribe", "--no-follow", "--since", f"{epoch}:50", hub.url).stdout == second


def test_following_prints_what_comes_from_now_on_at_once(hub, put, follow):
    put(events(1, 10))
    subscriber = follow(hub.url)
    probe = 10
    while not subscriber.got:  # until it has subscribed, what comes is not for it
        probe += 1
        put(events(probe, probe))
    first = json.loads(bytes(subscriber.got).splitlines()[0])["sequence"]
    put(events(probe + 1, probe + 20))
    assert subscriber.waited_for(probe + 20 - first + 1) == events(first, probe + 20)
    assert subscriber.ended()[0] == -signal.SIGTERM


def test_a_subscriber_sees_no_hole_and_no_repeat_across_restarts_of_the_hub(hub, put, follow):
    subscriber = follow("--since", "start", hub.url)
    put(events(1, 2000))
    subscriber.waited_for(1)
    for round_ in (1, 2):
        hub.stop(signal.SIGKILL if round_ == 1 else signal.SIGTERM)
        hub.start()
        put(events(2000 * round_ + 1, 2000 * round_ + 2000))
        subscriber.waited_for(2000 * round_ + 2000)
    assert subscriber.waited_for(6000) == events(1, 6000)
    status, err = subscriber.ended()
    assert status == -signal.SIGTERM
    counts = report(err)
    assert (counts["out"], counts["missed"]) == (6000, 0)
    assert counts["reconnects"] >= 2
    assert err.count("back after") == counts["reconnects"]


def test_publisher_and_subscriber_live_through_a_killed_hub_together(hub, environment, follow):
    subscriber = follow("--since", "start", hub.url)
    publisher = subprocess.Popen(
        ["agentpipe", "publish", hub.url, "--drain-timeout", "60s"], env=environment, stdin=subprocess.PIPE, bufsize=0
    )
    for first in range(1, 20_001, 100):
        publisher.stdin.write(events(first, first + 99))
        if first in (5001, 12_001):
            hub.stop(signal.SIGKILL)
            hub.start()
    publisher.stdin.close()
    assert publisher.wait(timeout=2 * PATIENCE_S) == 0
    assert subscriber.waited_for(20_000) == events(1, 20_000)
    assert subscriber.ended()[0] == -signal.SIGTERM
    assert hub.stored() == events(1, 20_000).splitlines()


def test_a_store_that_was_replaced_is_said_and_read_from_its_start(hub, put, follow):
    subscriber = follow("--since", "start", hub.url)
    put(events(1, 10))
    subscriber.waited_for(10)
    hub.stop(signal.SIGTERM)
    Path(hub.store).unlink()
    hub.start()
    put(events(1, 5, run="new"))
    assert subscriber.waited_for(15) == events(1, 10) + events(1, 5, run="new")
    _, err = subscriber.ended()
    assert "the log is another one than before" in err


def test_a_reader_that_stalls_gets_everything_later(hub, put, environment):
    command = f"agentpipe subscribe --since start {hub.url} | (sleep 1; head -n 30000)"
    process = subprocess.Popen(["bash", "-c", command], env=environment, stdout=subprocess.PIPE)
    data = put(events(1, 30_000))
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert out == data


def test_a_reader_that_leaves_ends_it_silently_with_141(hub, put, environment):
    put(events(1, 5000))
    command = f"agentpipe subscribe --since start {hub.url} | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, timeout=60)
    assert done.stdout == events(1, 1) + b"141\n"
    assert done.stderr == b""


def test_a_reader_that_leaves_while_nothing_comes_ends_it_too(hub, environment):
    process = subprocess.Popen(["agentpipe", "subscribe", hub.url], env=environment, stdout=subprocess.PIPE)
    time.sleep(0.5)
    process.stdout.close()
    assert process.wait(timeout=PATIENCE_S) == -signal.SIGPIPE


def test_a_hub_that_was_never_there_ends_it_with_69(agentpipe):
    begun = time.monotonic()
    done = agentpipe("subscribe", "--connect-timeout", "300ms", "127.0.0.1:1")
    assert done.returncode == 69
    assert time.monotonic() - begun >= 0.3
    assert b"connection refused" in done.stderr


def test_a_wrong_token_ends_it_with_77(hub, agentpipe, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("nonsense")
    done = agentpipe("subscribe", "--token-file", str(wrong), hub.url)
    assert done.returncode == 77
    assert b"nonsense" not in done.stderr


def test_an_interrupt_ends_it(hub, follow):
    subscriber = follow(hub.url)
    time.sleep(0.5)
    assert subscriber.ended(signal.SIGINT)[0] == -signal.SIGINT


def test_what_the_hub_dropped_is_said_in_its_place_and_counted(tmp_path, environment, agentpipe):
    """A hub that keeps little: from a position that is long gone, with and without a filter."""
    hub = HubProcess(tmp_path, environment, "--window", "64KiB", store="memory")
    hub.start()
    try:
        token = ("--token-file", str(hub.token_file))
        assert agentpipe("publish", *token, hub.url, input=events(1, 2000)).returncode == 0
        first = agentpipe("subscribe", *token, "--no-follow", "--stats", hub.url)
        epoch = report(first.stderr.decode())["position"].partition(":")[0]
        kept = first.stdout.count(b"\n")
        assert 0 < kept < 2000
        for more in ((), ("--run", "r")):
            done = agentpipe("subscribe", *token, "--no-follow", "--stats", *more, "--since", f"{epoch}:5", hub.url)
            err = done.stderr.decode()
            assert done.stdout == first.stdout
            assert f"{1995 - kept} events are missing (offsets 6 to {2000 - kept}): evicted" in err
            counts = report(err)
            assert (counts["out"], counts["missed"], counts["gaps"]) == (kept, 1995 - kept, 1)
    finally:
        hub.stop(signal.SIGKILL)


def test_a_gap_in_the_middle_stands_between_what_came_before_and_after(agentpipe, environment):
    with TalkingHub() as hub:
        process = subprocess.Popen(
            ["agentpipe", "subscribe", "--stats", "--since", "e:0", "--type", "t", hub.url],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert hub.asked()["filter"] == {"types": ["t"]}
        hub.says(
            {"type": "subscription_confirmed", "id": 1, "position": {"epoch": "e", "offset": 0}, "recovered": True}
        )
        hub.sends(0, 4, "a")
        hub.says({"type": "gap", "id": 1, "from": 5, "to": 90, "count": 3, "reason": "evicted"})
        hub.sends(90, 95, "b")
        out = process.stdout.readline() + process.stdout.readline()
        process.terminate()
        rest, err = process.communicate(timeout=PATIENCE_S)
    assert [json.loads(line)["event_id"] for line in (out + rest).splitlines()] == ["a", "b"]
    assert b"3 events are missing (offsets 5 to 90): evicted" in err
    counts = report(err.decode())
    assert (counts["out"], counts["missed"], counts["gaps"], counts["position"]) == (2, 3, 1, "e:95")


def test_a_store_that_fails_while_the_last_events_are_looked_for_is_asked_again(environment):
    with TalkingHub() as hub:
        process = subprocess.Popen(
            ["agentpipe", "subscribe", "--since", "last:2", hub.url],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert hub.asked()["since"] == {"last": 2}
        hub.says({"type": "error", "code": "unavailable", "message": "the disk is full", "in_reply_to": 1})
        hub.confirms(4, own_id=2)
        hub.sends(4, 5, "a", own_id=2)
        line = process.stdout.readline()
        process.terminate()
        _, err = process.communicate(timeout=PATIENCE_S)
    assert json.loads(line)["event_id"] == "a"
    assert b"the disk is full: trying again" in err


def chunk(number, text, *, final=False):
    payload = {"message_id": "m", "index": 0, "text": text, "final": final}
    event = {
        "type": "agent_output", "run_id": "r", "agent_id": "a", "sequence": number,
        "timestamp": "2026-11-20T07:00:00.000Z", "event_id": f"r:{number}", "payload": payload,
    }  # fmt: skip
    return json.dumps(event).encode() + b"\n"


def test_texts_that_wait_together_come_as_one_event_when_asked(hub, put, agentpipe):
    data = put(b"".join(chunk(number, f"{number} ") for number in range(1, 6)))
    assert agentpipe("subscribe", "--no-follow", hub.url).stdout == data
    (line,) = agentpipe("subscribe", "--no-follow", "--accumulate", hub.url).stdout.splitlines()
    event = json.loads(line)
    assert (event["payload"]["text"], event["sequence"], event["covers"]) == ("1 2 3 4 5 ", 5, [[1, 4]])


def test_the_first_of_several_hubs_that_answers_is_read(hub, put, agentpipe):
    data = put(events(1, 5))
    done = agentpipe("subscribe", "--no-follow", "127.0.0.1:1", hub.url)
    assert (done.returncode, done.stdout) == (0, data)
    assert b"127.0.0.1:1/ws: connection refused; trying again" in done.stderr
    assert b": there after" in done.stderr
