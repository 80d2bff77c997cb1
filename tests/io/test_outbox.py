"""``publish --outbox`` as a process: killed, terminated, on a full disk, with hubs that come and go."""

import contextlib
import dataclasses
import json
import os
import pty
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentpipe.io.outbox_file import OutboxFile
from tests.faults.lab.proxy import Proxy
from tests.io.hubs import PATIENCE_S, RealHub, events, eventually
from tests.io.raw_hub import RawHub

AWAY = "127.0.0.1:1"


@pytest.fixture
def hub(tmp_path, environment) -> Iterator[RealHub]:
    real = RealHub(tmp_path, environment)
    yield real
    real.stop()


@pytest.fixture
def outbox(tmp_path: Path) -> str:
    return str(tmp_path / "events.outbox")


@dataclasses.dataclass
class Started:
    """A publisher under way."""

    process: subprocess.Popen

    def feed(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self.process.stdin.write(view) :]

    def is_up(self) -> None:
        """Wait until it is at work: it says that no hub is there."""
        assert b"connection refused" in self.process.stderr.readline()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ended(self) -> tuple[int, str]:
        """Close its input; its status and what it said."""
        _, err = self.process.communicate(timeout=2 * PATIENCE_S)
        return self.process.returncode, err.decode()


@pytest.fixture
def publish(environment, outbox) -> Iterator[Callable[..., Started]]:
    """Start ``publish --outbox FILE ARGS…``; killed at the end of the test."""
    begun = []

    def start(*args, **more):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            ["agentpipe", "publish", "--outbox", outbox, *args], bufsize=0, env=environment, **{**pipes, **more}
        )
        begun.append(process)
        return Started(process)

    yield start
    for process in begun:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stderr):
            if stream is not None:
                stream.close()


def lines_in(outbox: str) -> list[bytes]:
    """What an outbox holds that no process has."""
    with contextlib.closing(OutboxFile(outbox)) as file:
        lines: list[bytes] = []
        after = 0
        while (found := file.read(after, 1 << 20)) is not None:
            after = found.number
            lines += found.lines.splitlines()
        return lines


def written(outbox: str) -> int:
    """How large the log of its database is."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.getsize(outbox + "-wal")
    return 0


def report(err: str) -> dict[str, int]:
    return json.loads(next(line for line in err.splitlines() if '{"stage"' in line).removeprefix("agentpipe: "))


# --- a hub that is away


def test_what_no_hub_took_is_kept_and_sent_first_by_the_next(hub, agentpipe, outbox):
    hub.stop()
    first = agentpipe("publish", "--outbox", outbox, "--drain-timeout", "100ms", hub.url, input=events(1, 300))
    assert first.returncode == 75
    assert (
        b"300 events not delivered: 300 kept in %b, which the next publish --outbox" % outbox.encode() in first.stderr
    )
    hub.start()
    second = agentpipe("publish", "--outbox", outbox, "--stats", hub.url, input=events(301, 400))
    assert second.returncode == 0, second.stderr
    counts = report(second.stderr.decode())
    assert (counts["in"], counts["resumed"], counts["acknowledged"], counts["kept"]) == (400, 300, 400, 0)
    assert hub.stored() == events(1, 400).splitlines()
    assert lines_in(outbox) == []


def test_without_input_it_sends_what_is_there(hub, agentpipe, outbox):
    agentpipe("publish", "--outbox", outbox, "--drain-timeout", "0s", AWAY, input=events(1, 5000))
    assert agentpipe("publish", "--outbox", outbox, hub.url).returncode == 0
    assert hub.stored() == events(1, 5000).splitlines()


def test_on_a_terminal_it_sends_what_is_there_and_asks_for_a_pipe_when_there_is_nothing(
    hub, agentpipe, outbox, environment
):
    agentpipe("publish", "--outbox", outbox, "--drain-timeout", "0s", AWAY, input=events(1, 10))
    leader, follower = pty.openpty()
    try:
        for expected in (0, 2):
            done = subprocess.run(
                ["agentpipe", "publish", "--outbox", outbox, hub.url],
                stdin=follower, capture_output=True, env=environment, timeout=PATIENCE_S,
            )  # fmt: skip
            assert done.returncode == expected, done.stderr
    finally:
        os.close(leader)
        os.close(follower)
    assert hub.stored() == events(1, 10).splitlines()


def test_more_than_memory_may_hold_waits_in_the_file(hub, publish, outbox):
    hub.stop()
    publisher = publish("--window", "64KiB", "--hold", "0s", "--stats", "--drain-timeout", "60s", hub.url)
    publisher.feed(events(1, 20_000))
    hub.start()
    status, err = publisher.ended()
    assert status == 0, err
    assert report(err)["dropped"] == 0
    assert hub.stored() == events(1, 20_000).splitlines()


def test_a_backlog_may_take_longer_than_the_drain_timeout_while_the_hub_takes_it(agentpipe, outbox):
    agentpipe("publish", "--outbox", outbox, "--drain-timeout", "0s", AWAY, input=events(1, 400))
    with RawHub(acks=0.15) as raw:
        begun = time.monotonic()
        done = agentpipe("publish", "--outbox", outbox, "--drain-timeout", "2s", raw.url)
        assert time.monotonic() - begun > 2.5
        assert done.returncode == 0, done.stderr
        assert len(raw.lines) == 400


def test_a_full_outbox_holds_up_then_drops_and_declares(hub, agentpipe, outbox):
    data = events(1, 30_000) + events(30_001, 30_001, kind="run_completed")
    done = agentpipe(
        "publish", "--outbox", outbox, "--outbox-size", "1MiB", "--hold", "100ms", "--drain-timeout", "0s", "--stats",
        AWAY, input=data,
    )  # fmt: skip
    counts = report(done.stderr.decode())
    assert done.returncode == 75
    assert counts["in"] + counts["added"] == counts["dropped"] + counts["left"]
    assert counts["kept"] == counts["left"]
    kept = int(re.search(rb"(\d+) kept in", done.stderr)[1])
    assert b"30001 events not delivered" in done.stderr
    assert b"%d dropped from a full outbox" % (30_001 - kept) in done.stderr
    assert os.path.getsize(outbox) < 3 << 20
    assert agentpipe("publish", "--outbox", outbox, hub.url).returncode == 0
    stored = [json.loads(line) for line in hub.stored()]
    kept = [event["sequence"] for event in stored if event["type"] != "gap"]
    gone = [
        n for e in stored if e["type"] == "gap" for low, high in e["payload"]["ranges"] for n in range(low, high + 1)
    ]
    assert kept == sorted(kept)
    assert sorted(kept + gone) == list(range(1, 30_002))
    assert stored[-1]["type"] == "run_completed"
    assert len(gone) == counts["dropped"] > 10_000


# --- one at a time, and who it is


def test_a_second_publisher_is_refused_at_once_with_the_name_of_the_file(publish, agentpipe, outbox):
    first = publish("--drain-timeout", "0s", AWAY)
    first.feed(events(1, 3))
    first.is_up()
    second = agentpipe("publish", "--outbox", outbox, AWAY, input=events(4, 5), timeout=PATIENCE_S)
    assert second.returncode == 74
    assert second.stderr.decode() == f"agentpipe: {outbox}: in use by another process\n"
    assert first.ended()[0] == 75
    assert len(lines_in(outbox)) == 3


def test_a_file_that_is_no_outbox_is_refused_with_its_name(agentpipe, tmp_path):
    (tmp_path / "notes").write_text("notes\n" * 500)
    done = agentpipe("publish", "--outbox", str(tmp_path / "notes"), AWAY, input=events(1, 2))
    assert done.returncode == 74
    assert b"notes: is no outbox" in done.stderr
    assert (tmp_path / "notes").read_text() == "notes\n" * 500


def test_every_connection_says_who_it_is_with_a_number_that_rises(agentpipe, publish, outbox):
    with RawHub(acks=None) as raw:
        publisher = publish("--drain-timeout", "60s", raw.url)
        publisher.feed(events(1, 5))
        eventually(lambda: len(raw.lines) == 5)
        raw.acks = 0.0
        raw.cut()
        assert publisher.ended()[0] == 0
        assert agentpipe("publish", "--outbox", outbox, raw.url, input=events(6, 6)).returncode == 0
        for n in (1, 2):
            assert agentpipe("publish", raw.url, input=events(n, n)).returncode == 0
        kept, alone = raw.publishers[:3], raw.publishers[3:]
    assert len({one["id"] for one in kept}) == 1
    generations = [one["generation"] for one in kept]
    assert generations == sorted(set(generations))
    assert len({one["id"] for one in (*kept, *alone)}) == 3, "without an outbox every process is another publisher"


def test_a_fenced_publisher_stops_and_leaves_the_rest_in_its_outbox(agentpipe, outbox):
    with RawHub(closes=4409, acks=None) as raw:
        urls = raw.url, AWAY
        done = agentpipe("publish", "--outbox", outbox, *urls, input=events(1, 7), timeout=PATIENCE_S)
        assert raw.connections == 1
    assert done.returncode == 76
    assert b"a newer publisher uses %b or a copy of it" % outbox.encode() in done.stderr
    assert b"7 kept in" in done.stderr
    assert len(lines_in(outbox)) == 7


def test_a_copy_of_an_outbox_that_was_used_since_is_fenced_by_a_real_hub(hub, agentpipe, outbox):
    assert agentpipe("publish", "--outbox", outbox, hub.url, input=events(1, 3)).returncode == 0
    copy = outbox + ".copy"
    shutil.copy(outbox, copy)
    for n in (4, 5):
        assert agentpipe("publish", "--outbox", outbox, hub.url, input=events(n, n)).returncode == 0
    done = agentpipe("publish", "--outbox", copy, hub.url, input=events(6, 6))
    assert done.returncode == 76, done.stderr
    assert b"fenced" in done.stderr
    assert hub.stored() == events(1, 5).splitlines()


def test_an_outbox_that_is_removed_meanwhile_is_told_and_keeps_nothing(publish, outbox):
    publisher = publish("--drain-timeout", "0s", AWAY)
    publisher.is_up()
    publisher.feed(events(1, 3))
    eventually(lambda: written(outbox) > 0)
    for end in ("", "-wal"):
        os.unlink(outbox + end)
    publisher.feed(events(4, 5))
    status, err = publisher.ended()
    assert status == 75
    assert f"{outbox}: was removed or replaced while it was in use; events go on in memory" in err
    assert "5 not acknowledged" in err
    assert "kept in" not in err


# --- acknowledgements that are lost


BARE = b'{"type":"t","run_id":"bare","payload":{"n":%d}}\n'


def test_events_without_a_number_are_stored_once_when_their_outbox_is_sent_twice(hub, agentpipe, outbox):
    agentpipe("publish", "--outbox", outbox, "--drain-timeout", "0s", AWAY, input=b"".join(BARE % n for n in range(50)))
    shutil.copy(outbox, outbox + ".copy")  # as a crash before the removal of what was acknowledged leaves it
    for name in (outbox, outbox + ".copy"):
        assert agentpipe("publish", "--outbox", name, hub.url).returncode == 0
    stored = [json.loads(line) for line in hub.stored()]
    assert [event["payload"]["n"] for event in stored] == list(range(50))


def test_a_copy_of_an_outbox_gives_its_own_ids_to_events_without_a_number(hub, agentpipe, outbox):
    agentpipe("publish", "--outbox", outbox, "--drain-timeout", "0s", AWAY, input=b"")
    shutil.copy(outbox, outbox + ".copy")
    for n, name in enumerate((outbox, outbox + ".copy")):
        assert agentpipe("publish", "--outbox", name, hub.url, input=BARE % n).returncode == 0
    assert [json.loads(line)["payload"]["n"] for line in hub.stored()] == [0, 1]


@pytest.mark.parametrize("outboxed", [True, False])
def test_a_lost_acknowledgement_adds_nothing(hub, environment, outbox, outboxed):
    with Proxy(hub.port) as proxy:
        options = ["--outbox", outbox] if outboxed else []
        command = ["agentpipe", "publish", *options, "--drain-timeout", "60s", "--stats", proxy.url]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, bufsize=0)
        publisher = Started(process)
        publisher.feed(BARE % 0)
        eventually(lambda: len(hub.told()) == 1)
        proxy.behave(limit_bytes=1, ways=("down",))  # cut off in the middle of what the hub says next
        publisher.feed(b"".join(BARE % n for n in range(1, 30)) + events(1, 30))
        eventually(lambda: len(hub.told()) > 1)
        eventually(lambda: not proxy.open)
        proxy.behave()
        status, err = publisher.ended()
    assert status == 0, err
    assert report(err)["resent"] > 0
    stored = [json.loads(line) for line in hub.stored()]
    assert [event["payload"]["n"] for event in stored if event["run_id"] == "bare"] == list(range(30))
    assert len(stored) == 60


# --- ends


def test_a_termination_leaves_in_the_outbox_what_the_pipe_held(publish, outbox):
    publisher = publish("--drain-timeout", "0s", AWAY)
    publisher.feed(events(1, 3))
    publisher.is_up()
    publisher.signal(signal.SIGSTOP)
    publisher.feed(events(4, 200) + events(201, 201)[:-1])  # it has not read this when it is told to end
    publisher.signal(signal.SIGTERM)
    publisher.signal(signal.SIGCONT)
    assert publisher.process.wait(timeout=PATIENCE_S) == -signal.SIGTERM
    assert b"201 kept in" in publisher.process.stderr.read()
    assert lines_in(outbox) == events(1, 201).splitlines()


def test_a_writer_that_goes_on_does_not_keep_a_terminated_publisher(environment, outbox):
    command = (
        f"yes '{events(1, 1).decode().strip()}' | exec agentpipe publish --outbox {outbox} --drain-timeout 0s {AWAY}"
    )
    process = subprocess.Popen(["bash", "-c", command], env=environment, start_new_session=True)
    eventually(lambda: os.path.exists(outbox) and written(outbox) > 1_000_000)
    found = subprocess.run(["pgrep", "-s", str(process.pid), "-f", "publish --outbox"], capture_output=True, text=True)
    publisher = next(int(pid) for pid in found.stdout.split() if int(pid) != process.pid)
    os.kill(publisher, signal.SIGTERM)
    process.wait(timeout=PATIENCE_S)
    assert lines_in(outbox)


#: ``publish``, with SIGKILL from itself before or after a call of a method.
DOOMED = """
import importlib, os, signal, sys
place, when, number = sys.argv[1].split(":"), sys.argv[2], int(sys.argv[3])
owner = getattr(importlib.import_module(place[0]), place[1])
step, calls = getattr(owner, place[2]), 0
def doomed(*args, **more):
    global calls
    calls += 1
    if calls == number and when == "before": os.kill(os.getpid(), signal.SIGKILL)
    result = step(*args, **more)
    if calls == number and when == "after": os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(owner, place[2], doomed)
from agentpipe_cli.main import main
sys.argv[:4] = ["agentpipe"]
main()
"""

POINTS = [
    ("agentpipe.io.outbox_file:OutboxFile:keep_generation", "after", 1),
    ("agentpipe.io.block_file:BlockFile:insert", "before", 2),
    ("agentpipe.io.block_file:BlockFile:insert", "after", 2),  # committed, not sent
    ("agentpipe.io.link:Link:send", "after", 2),  # sent, not acknowledged
    ("agentpipe.outbox:Outbox:settle", "after", 1),  # acknowledged, not removed
    ("agentpipe.io.block_file:BlockFile:remove", "before", 1),
    ("agentpipe.io.block_file:BlockFile:remove", "after", 1),
    ("agentpipe.outbox:Outbox:finish", "after", 1),
    ("agentpipe.io.link:Link:close", "before", 1),
    ("agentpipe.io.block_file:BlockFile:close", "after", 1),
]


def test_killed_at_any_step_and_started_again_every_event_is_stored_once_and_in_order(
    hub, agentpipe, environment, tmp_path
):
    for number, (place, when, call) in enumerate(POINTS):
        data = events(1, 3000, run=f"r{number}")
        outboxed = ["publish", "--outbox", str(tmp_path / f"outbox{number}"), hub.url]
        doomed = [sys.executable, "-c", DOOMED, place, when, str(call), *outboxed]
        killed = subprocess.run(doomed, input=data, env=environment, stderr=subprocess.PIPE, timeout=PATIENCE_S)
        assert killed.returncode == -signal.SIGKILL, (place, killed.stderr)
        assert agentpipe(*outboxed, input=data).returncode == 0
    numbers: dict[str, list[int]] = {}
    for line in hub.stored():
        event = json.loads(line)
        numbers.setdefault(event["run_id"], []).append(event["sequence"])
    assert numbers == {f"r{n}": list(range(1, 3001)) for n in range(len(POINTS))}


def test_killed_at_random_moments_while_hubs_come_and_go_nothing_that_was_in_the_file_is_lost(
    hub, publish, agentpipe, outbox
):
    seed = int(os.environ.get("AGENTPIPE_SEED") or random.randrange(1 << 32))
    print(f"AGENTPIPE_SEED={seed}")
    dice = random.Random(seed)
    in_file: dict[str, int] = {}
    for life in range(8):
        run = f"life{life}"
        publisher = publish("--window", dice.choice(["64KiB", "8MiB"]), hub.url)
        publisher.feed(events(1, dice.randrange(1, 300), run=run))  # what a pipe holds
        time.sleep(dice.uniform(0.1, 0.8))
        action = dice.choice(["nothing", "kill hub", "stop hub", "start hub"])
        if action == "kill hub":
            hub.stop(signal.SIGKILL)
        elif action == "stop hub":
            hub.stop(signal.SIGTERM)
        elif hub.process.poll() is not None:
            hub.start()
        time.sleep(dice.uniform(0, 0.2))
        publisher.signal(signal.SIGKILL)
        publisher.process.wait()
        if os.path.exists(outbox) and os.path.getsize(outbox):
            for line in lines_in(outbox):
                found = json.loads(line)
                in_file[found["run_id"]] = found["sequence"]
    if hub.process.poll() is not None:
        hub.start()
    done = agentpipe("publish", "--outbox", outbox, hub.url)
    assert done.returncode == 0, (seed, done.stderr)
    stored: dict[str, list[int]] = {}
    for line in hub.stored():
        found = json.loads(line)
        stored.setdefault(found["run_id"], []).append(found["sequence"])
    for run, numbers in stored.items():
        assert numbers == list(range(1, len(numbers) + 1)), (seed, run)
    for run, last in in_file.items():
        assert len(stored[run]) >= last, (seed, run)
    assert in_file or stored, "at least something happened"


# --- a disk that is full


def test_a_full_disk_is_told_and_the_pipe_goes_on(hub, publish, outbox):
    """The system lets no file of the publisher grow over 300 KB: a real error of a real write."""
    hub.stop()
    limit = 300_000
    publisher = publish(
        "--drain-timeout", "60s", "--stats", hub.url,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY)),
    )  # fmt: skip
    publisher.feed(events(1, 8000))
    eventually(lambda: written(outbox) > limit - 100_000)
    publisher.feed(events(8001, 8100))
    hub.start()
    eventually(lambda: len(hub.told()) == 8100)
    resource.prlimit(publisher.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    time.sleep(1.1)  # it asks again after a second
    publisher.feed(events(8101, 8200))
    status, err = publisher.ended()
    assert status == 0, err
    told = [line for line in err.splitlines() if outbox in line]
    assert "events go on in memory" in told[0]
    assert any("can be written again" in line for line in told)
    assert len(told) <= 6, "a write that is small enough may succeed in between"
    counts = report(err)
    assert (counts["in"], counts["acknowledged"], counts["dropped"]) == (8200, 8200, 0)
    assert hub.stored() == events(1, 8200).splitlines()
    assert lines_in(outbox) == []


def test_on_a_disk_that_stays_full_what_was_in_the_file_stays(hub, publish, agentpipe, outbox):
    hub.stop()
    publisher = publish(
        "--drain-timeout", "0s", "--stats", hub.url,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)),
    )  # fmt: skip
    publisher.feed(events(1, 5000))
    status, err = publisher.ended()
    assert status == 75
    counts = report(err)
    assert counts["left"] == 5000
    assert 0 < counts["kept"] < 5000
    assert f"{counts['kept']} kept in {outbox}" in err
    assert f"{5000 - counts['kept']} not acknowledged" in err
    hub.start()
    assert agentpipe("publish", "--outbox", outbox, hub.url).returncode == 0
    assert hub.stored()[: counts["kept"]] == events(1, counts["kept"]).splitlines()
