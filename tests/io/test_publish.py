"""``agentpipe publish`` as a process against real hubs, killed ones, and hubs that never answer."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from agentpipe.event import make
from agentpipe.io.absence import TOLD
from agentpipe.io.publish import exit_status
from tests.io.hubs import PATIENCE_S, RealHub, events, eventually
from tests.io.raw_hub import RawHub

RECORDINGS = os.path.join(os.path.dirname(__file__), "..", "..", "..", "shared", "recordings")


@pytest.fixture
def hub(tmp_path, environment) -> Iterator[RealHub]:
    real = RealHub(tmp_path, environment)
    yield real
    real.stop()


@pytest.fixture
def publish(environment) -> Iterator:
    """Start ``agentpipe publish ARGS…`` with pipes; killed at the end of the test."""
    begun: list[subprocess.Popen[bytes]] = []

    def start(*args, env=None, **more):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            ["agentpipe", "publish", *args], bufsize=0, env={**environment, **(env or {})}, **{**pipes, **more}
        )
        begun.append(process)
        return process

    yield start
    for process in begun:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def write_all(process, data):
    view = memoryview(data)
    while view:
        view = view[process.stdin.write(view) :]


def ended(process):
    """Close the input; status and what was said."""
    out, err = process.communicate(timeout=2 * PATIENCE_S)
    return process.returncode, out, err.decode()


def report(err):
    return json.loads(next(line for line in err.splitlines() if '{"stage"' in line).removeprefix("agentpipe: "))


def sequences(lines, run="r"):
    found = [json.loads(line) for line in lines]
    return [event["sequence"] for event in found if event["run_id"] == run and event["type"] != "gap"]


# --- a hub that is there


def test_what_was_published_is_stored_the_same_bytes_in_order(hub, agentpipe):
    data = events(1, 500) + b'{"odd" : 1.50,"type":"t","run_id":"s","sequence":1,"big":123456789012345678901234}\n'
    done = agentpipe("publish", hub.url, "--stats", input=data)
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    assert hub.stored() == data.splitlines()
    counts = report(done.stderr.decode())
    assert (counts["in"], counts["acknowledged"], counts["left"]) == (501, 501, 0)


def test_publishing_the_same_log_twice_adds_nothing(hub, agentpipe):
    data = events(1, 300) + events(301, 301, kind="run_completed")
    for _ in range(2):
        assert agentpipe("publish", hub.url, input=data).returncode == 0
    assert hub.stored() == data.splitlines()


def test_an_event_is_sent_the_moment_it_comes(hub, publish):
    process = publish(hub.url)
    for number in range(1, 4):
        write_all(process, events(number, number))
        eventually(lambda n=number: len(hub.told()) == n, "the event's storing")
    assert ended(process)[0] == 0


def test_no_input_is_a_success(hub, agentpipe):
    done = agentpipe("publish", hub.url, input=b"")
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_line_without_its_end_and_crlf_are_published(hub, agentpipe):
    assert agentpipe("publish", hub.url, input=events(1, 1)[:-1] + b"\r\n" + events(2, 2)[:-1]).returncode == 0
    assert hub.stored() == events(1, 2).splitlines()


def test_a_malformed_line_is_said_and_the_rest_is_published(hub, agentpipe):
    done = agentpipe("publish", hub.url, input=events(1, 1) + b'{"type":\n]}\n' + events(2, 2))
    assert done.returncode == 0
    assert b"malformed" in done.stderr
    assert sequences(hub.stored()) == [1, 2]


def test_an_event_over_the_hubs_limit_is_declared_and_the_rest_is_published(hub, agentpipe):
    data = events(1, 1) + events(2, 2, text="x" * (2 << 20)) + events(3, 3)
    done = agentpipe("publish", hub.url, input=data)
    assert done.returncode == 75
    assert b"1 events not delivered: 1 larger than the hub takes; " in done.stderr
    stored = [json.loads(line) for line in hub.stored()]
    assert [event["type"] for event in stored] == ["agent_output", "gap", "agent_output"]
    assert stored[1]["payload"]["ranges"] == [[2, 2]]


def test_a_large_event_goes_alone_in_its_frame(agentpipe):
    with RawHub() as raw:
        data = events(1, 3) + events(4, 4, text="x" * 100_000) + events(5, 6)
        done = agentpipe("publish", raw.url, input=data)
        assert done.returncode == 0, done.stderr
        assert [count for count, _ in raw.frames] == [3, 1, 2]


def test_frames_keep_to_twenty_events_and_64_kilobytes(agentpipe):
    with RawHub() as raw:
        data = events(1, 300) + events(301, 400, text="x" * 9000)
        assert agentpipe("publish", raw.url, input=data).returncode == 0
        assert sum(count for count, _ in raw.frames) == 400
        assert all(count <= 20 and size <= 65536 + 64 for count, size in raw.frames)


# --- a hub that dies


def test_a_hub_that_is_killed_in_mid_stream_has_every_event_once_and_in_order(hub, publish):
    process = publish(hub.url, "--stats", "--drain-timeout", "60s")
    written = 0
    for _ in range(3):
        write_all(process, events(written + 1, written + 1000))
        written += 1000
        eventually(lambda reached=written: len(hub.told()) == reached, "the first events' storing")
        write_all(process, events(written + 1, written + 12_000))
        written += 12_000
        hub.stop(signal.SIGKILL)
        hub.start()
    status, _, err = ended(process)
    assert status == 0, err
    assert hub.stored() == events(1, written).splitlines()
    counts = report(err)
    assert counts["reconnects"] == 3
    assert (counts["in"], counts["dropped"], counts["left"]) == (written, 0, 0)
    assert err.count("events are kept") == 3
    assert err.count("back after") == 3


def test_a_hub_that_comes_later_gets_everything(tmp_path, environment, publish):
    first = RealHub(tmp_path, environment)
    first.stop()
    process = publish(first.url, "--drain-timeout", "60s")
    write_all(process, events(1, 100))
    first.start()
    try:
        assert ended(process)[0] == 0
        assert first.stored() == events(1, 100).splitlines()
    finally:
        first.stop()


def test_a_hub_that_is_away_for_longer_than_the_window_gets_a_declared_gap_before_the_end(hub, publish):
    hub.stop()
    process = publish(hub.url, "--window", "64KiB", "--hold", "0s", "--stats", "--drain-timeout", "60s")
    errors = events(3001, 3002, kind="error")
    write_all(process, events(1, 3000) + errors + events(3003, 3003, kind="run_completed"))
    hub.start()
    status, _, err = ended(process)
    stored = [json.loads(line) for line in hub.stored()]
    kept = [event["sequence"] for event in stored if event["type"] != "gap"]
    gaps = [event for event in stored if event["type"] == "gap"]
    gone = [n for gap in gaps for low, high in gap["payload"]["ranges"] for n in range(low, high + 1)]
    assert kept == sorted(kept)
    assert sorted(kept + gone) == list(range(1, 3004))
    assert kept[-3:] == [3001, 3002, 3003], "errors and the end survive"
    assert stored[-1]["type"] == "run_completed"
    counts = report(err)
    assert counts["dropped"] == len(gone) == sum(gap["payload"]["count"] for gap in gaps) > 0
    assert counts["in"] + counts["added"] == counts["acknowledged"] + counts["dropped"] + counts["left"]
    assert (status, counts["left"]) == (75, 0)
    assert f"{len(gone)} events not delivered" in err


def test_a_hub_that_is_away_never_stops_the_pipe(publish):
    process = publish("ws://127.0.0.1:1", "--window", "64KiB", "--hold", "100ms", "--drain-timeout", "0s", "--stats")
    limit = time.monotonic() + PATIENCE_S
    write_all(process, events(1, 20_000))
    assert time.monotonic() < limit
    status, _, err = ended(process)
    counts = report(err)
    assert status == 75
    assert counts["in"] == 20_000
    assert counts["in"] + counts["added"] == counts["dropped"] + counts["left"]


# --- a hub that is slow, silent or broken


def test_a_slow_hub_sets_the_pace_and_loses_nothing(agentpipe):
    with RawHub(acks=0.02) as raw:
        data = events(1, 2000)
        done = agentpipe("publish", raw.url, "--window", "64KiB", "--stats", input=data)
        assert done.returncode == 0, done.stderr
        assert sequences(raw.lines) == list(range(1, 2001))
        assert report(done.stderr.decode())["dropped"] == 0


def test_a_hub_that_never_acknowledges_is_reported_with_how_much_was_not(agentpipe):
    with RawHub(acks=None) as raw:
        begun = time.monotonic()
        done = agentpipe("publish", raw.url, "--drain-timeout", "300ms", input=events(1, 50))
        assert done.returncode == 75
        assert b"50 events not delivered: 50 not acknowledged" in done.stderr
        assert time.monotonic() - begun >= 0.3
        assert sequences(raw.lines) == list(range(1, 51)), "they were sent"


def test_a_paused_hub_does_not_stop_the_pipe_and_gets_what_was_kept(hub, publish):
    process = publish(hub.url, "--window", "64KiB", "--hold", "200ms", "--stats", "--drain-timeout", "60s")
    write_all(process, events(1, 100))
    eventually(lambda: len(hub.told()) == 100)
    hub.pause()
    write_all(process, events(101, 30_000))
    hub.proceed()
    status, _, err = ended(process)
    counts = report(err)
    assert status == 75
    assert counts["left"] == 0
    stored = [json.loads(line) for line in hub.stored()]
    gone = [
        n for e in stored if e["type"] == "gap" for low, high in e["payload"]["ranges"] for n in range(low, high + 1)
    ]
    assert sorted(sequences(hub.stored()) + gone) == list(range(1, 30_001))


def test_a_connection_cut_in_the_middle_is_replaced_and_the_rest_sent_again(publish):
    with RawHub(acks=None) as raw:
        process = publish(raw.url, "--stats")
        write_all(process, events(1, 100))
        eventually(lambda: len(raw.lines) == 100)
        raw.acks = 0.0
        raw.cut()
        write_all(process, events(101, 110))
        status, _, err = ended(process)
        assert status == 0, err
        assert sequences(raw.lines) == [*range(1, 101), *range(1, 111)]
        counts = report(err)
        assert (counts["reconnects"], counts["resent"]) == (1, 100)


def test_a_silent_hub_counts_as_unreachable(agentpipe):
    with RawHub(welcome=False) as raw:
        done = agentpipe("publish", raw.url, "--required", "--drain-timeout", "500ms", input=events(1, 5))
        assert done.returncode == 69


@pytest.mark.parametrize(("status", "expected"), [(401, 77), (404, 76), (503, 75)])
def test_what_the_upgrade_was_answered_decides_the_status(agentpipe, status, expected):
    with RawHub(status=status) as raw:
        done = agentpipe("publish", raw.url, "--drain-timeout", "500ms", input=events(1, 5))
        assert done.returncode == expected
        assert b"5 events not delivered" in done.stderr
        assert (raw.connections > 1) == (expected == 75), "only what can pass is tried again"


@pytest.mark.parametrize(
    ("code", "expected", "again"),
    [
        (4401, 77, False),
        (4400, 76, False),
        (4100, 75, True),
        (4200, 75, True),
    ],
)
def test_the_range_of_a_close_code_decides(agentpipe, code, expected, again):
    with RawHub(closes=code, acks=None) as raw:
        done = agentpipe("publish", raw.url, "--drain-timeout", "500ms", input=events(1, 5))
        assert done.returncode == expected, done.stderr
        assert (raw.connections > 1) == again


def test_a_hub_that_welcomes_and_hangs_up_holds_the_pipe_up_no_longer_than_one_that_is_away(publish):
    """Each attempt is within the hold of the last: were a welcome progress every time, it would never be over."""
    with RawHub(closes=4100, acks=None) as raw:
        options = ["--window", "64KiB", "--hold", "3s", "--drain-timeout", "0s", "--stats"]
        process = publish(raw.url, *options)
        write_all(process, events(1, 5000))
        status, _, err = ended(process)
        assert status == 75
        assert report(err)["dropped"] > 4000
        assert err.count("back after") <= TOLD


def test_a_refused_publisher_reads_its_input_to_the_end_so_that_the_pipe_lives(publish):
    with RawHub(status=401) as raw:
        process = publish(raw.url)
        eventually(lambda: raw.connections == 1)
        for first in range(1, 100_001, 10_000):
            write_all(process, events(first, first + 9999))
            assert process.poll() is None
        status, _, err = ended(process)
        assert status == 77
        assert "100000 events not delivered" in err


def test_a_required_hub_that_refuses_ends_it_at_once(publish):
    with RawHub(status=401) as raw:
        process = publish(raw.url, "--required")
        assert process.wait(timeout=PATIENCE_S) == 77


# --- several hubs


def test_events_go_on_at_another_hub_when_one_fails(publish):
    with RawHub(acks=None) as one, RawHub() as two:
        process = publish(one.url, two.url, "--stats")
        write_all(process, events(1, 30))
        eventually(lambda: len(one.lines) == 30)
        one.cut()
        eventually(lambda: len(two.lines) == 30)
        write_all(process, events(31, 40))
        status, _, err = ended(process)
        assert status == 0, err
        assert sequences(two.lines) == list(range(1, 41))
        assert (one.connections, two.connections) == (1, 1)
        assert f"{one.url}/ws: " in err
        assert f"{two.url}/ws: there after" in err


def test_a_log_that_is_another_one_is_told_once_something_was_stored(publish):
    with RawHub() as one, RawHub(epoch="other") as two:
        process = publish(one.url, two.url)
        write_all(process, events(1, 30))
        eventually(lambda: one.acknowledged == 30)
        one.cut()
        write_all(process, events(31, 40))
        status, _, err = ended(process)
        assert status == 0, err
        assert f"{two.url}/ws: the log is another one than before; 30 events that were stored may be gone" in err


def test_a_hub_that_refuses_is_left_out_while_another_takes_events(agentpipe):
    with RawHub(status=401) as one, RawHub() as two, RawHub(closes=4400) as three:
        done = agentpipe("publish", one.url, three.url, two.url, input=events(1, 5))
        assert done.returncode == 0, done.stderr
        assert sequences(two.lines) == [1, 2, 3, 4, 5]
        assert f"{one.url}/ws: ".encode() in done.stderr
        assert done.stderr.count(b"this hub is not asked again") == 2
        assert done.stderr.count(f"{one.url}/ws".encode()) == 1, "an error may name the hub itself"


def test_when_every_hub_refuses_it_is_the_end(agentpipe):
    with RawHub(status=401) as one, RawHub(status=401) as two:
        done = agentpipe("publish", one.url, two.url, input=events(1, 5))
        assert done.returncode == 77
        assert (one.connections, two.connections) == (1, 1)


def test_of_several_required_hubs_one_is_enough(agentpipe):
    with RawHub() as hub:
        assert agentpipe("publish", "--required", "127.0.0.1:1", hub.url, input=events(1, 5)).returncode == 0
    done = agentpipe("publish", "--required", "--drain-timeout", "300ms", "127.0.0.1:1", "127.0.0.1:2", input=b"")
    assert done.returncode == 69
    assert b"ws://127.0.0.1:1/ws, ws://127.0.0.1:2/ws" in done.stderr


def test_hubs_that_are_all_down_are_not_asked_in_a_hot_loop(environment):
    with RawHub(status=503) as one, RawHub(status=503) as two:
        command = ["agentpipe", "publish", one.url, two.url, "--drain-timeout", "2s"]
        done = subprocess.run(command, input=events(1, 5), env=environment, capture_output=True, timeout=PATIENCE_S)
        assert done.returncode == 75
        assert 1 <= one.connections < 40
        assert abs(one.connections - two.connections) <= 1


# --- where, and who we are


def test_the_wrong_token_is_refused_with_77(hub, agentpipe, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("nonsense\n")
    done = agentpipe("publish", hub.url, "--token-file", str(wrong), input=events(1, 3))
    assert done.returncode == 77
    assert b"nonsense" not in done.stderr


def test_the_token_is_sent_as_a_bearer_header_and_never_shown(tmp_path, agentpipe):
    token = tmp_path / "token"
    token.write_text("s3cret-token\n")
    with RawHub() as raw:
        named = agentpipe("publish", raw.url, "--token-file", str(token), "--stats", input=events(1, 1))
        variable = agentpipe("publish", raw.url, env={"AGENTPIPE_TOKEN_FILE": str(token)}, input=events(1, 1))
        assert [head.count("Authorization: Bearer s3cret-token") for head in raw.headers] == [1, 1]
        assert b"s3cret" not in named.stderr + variable.stderr


def test_a_loopback_hub_is_never_reached_through_a_proxy(hub, agentpipe):
    with socket.create_server(("127.0.0.1", 0)) as dead:
        proxy = f"http://127.0.0.1:{dead.getsockname()[1]}"
        variables = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"), proxy)
        assert agentpipe("publish", hub.url, env=variables, input=events(1, 3)).returncode == 0
        dead.settimeout(0)
        with pytest.raises(BlockingIOError):
            dead.accept()
    assert len(hub.stored()) == 3


@pytest.mark.parametrize("form", ["http://127.0.0.1:{0}/", "localhost:{0}"])
def test_every_form_of_the_url_finds_the_hub(hub, agentpipe, form):
    assert agentpipe("publish", form.format(hub.port), input=events(1, 2)).returncode == 0
    assert len(hub.stored()) == 2


def test_a_required_hub_that_is_not_there_ends_it_with_69(agentpipe):
    done = agentpipe("publish", "127.0.0.1:1", "--required", "--drain-timeout", "300ms", input=events(1, 5))
    assert done.returncode == 69
    assert b"connection refused" in done.stderr


# --- what it leaves to others


def test_passthrough_writes_the_same_bytes(hub, agentpipe):
    data = events(1, 100) + b"no json\r\n\n" + events(101, 101)[:-1]
    done = agentpipe("publish", hub.url, "--passthrough", input=data)
    assert (done.returncode, done.stdout) == (0, data)
    assert sequences(hub.stored()) == list(range(1, 102))


def test_passthrough_to_a_reader_that_leaves_delivers_what_was_read_and_ends_with_141(hub, publish):
    process = publish(hub.url, "--passthrough")
    write_all(process, events(1, 10))
    eventually(lambda: len(hub.told()) == 10)
    process.stdout.close()
    process.stdout = None
    assert process.wait(timeout=PATIENCE_S) == -signal.SIGPIPE
    assert process.stderr.read() == b""


def test_passthrough_waits_for_its_reader_and_loses_nothing(hub, environment):
    data = events(1, 5000)
    command = f"agentpipe publish --passthrough {hub.url} | (sleep 0.5; cat)"
    done = subprocess.run(["bash", "-c", command], env=environment, input=data, capture_output=True, timeout=60)
    assert done.stdout == data
    assert hub.stored() == data.splitlines()


@pytest.mark.parametrize(
    ("kind", "payload", "expected"),
    [
        ("run_completed", {"exit_code": 0}, 0),
        ("run_failed", {"exit_code": 7}, 7),
        ("run_failed", {"exit_code": -9}, 137),
        ("run_failed", {"exit_code": 0}, 1),
        ("run_failed", {}, 1),
        ("run_failed", {"exit_code": True}, 1),
        ("run_cancelled", {}, 130),
        ("run_completed", {}, 0),
    ],
)
def test_a_terminal_event_stands_for_a_status(kind, payload, expected):
    ending = make(kind, payload, run_id="r", agent_id="a", sequence=2, at="2026-11-20T07:00:00.000Z")
    assert exit_status(ending) == expected


def test_exit_with_run_ends_as_the_run_did(agentpipe):
    with RawHub() as raw:
        end = b'{"type":"run_failed","run_id":"r","agent_id":"a","sequence":2,"payload":{"exit_code":7}}\n'
        assert agentpipe("publish", raw.url, "--exit-with-run", input=events(1, 1) + end).returncode == 7
        assert agentpipe("publish", raw.url, input=events(1, 1) + end).returncode == 0
        assert agentpipe("publish", raw.url, "--exit-with-run", input=events(1, 1)).returncode == 1


# --- signals


def test_an_interrupt_lets_the_pipe_end_and_delivers_it(hub, publish):
    process = publish(hub.url)
    write_all(process, events(1, 10))
    eventually(lambda: len(hub.told()) == 10)
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    write_all(process, events(11, 11, kind="run_cancelled"))
    assert ended(process)[0] == 0
    assert sequences(hub.stored()) == list(range(1, 12))


def test_an_interrupt_whose_pipe_does_not_end_is_over_after_the_drain_timeout_with_130(hub, publish):
    process = publish(hub.url, "--drain-timeout", "500ms")
    write_all(process, events(1, 10))
    eventually(lambda: len(hub.told()) == 10)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=PATIENCE_S) == -signal.SIGINT
    assert process.stderr.read() == b"", "everything was delivered"


def test_a_second_interrupt_ends_it_at_once(publish):
    process = publish("127.0.0.1:1", "--drain-timeout", "1h")
    write_all(process, events(1, 10))
    process.stdin.close()
    process.stdin = None
    assert b"connection refused" in process.stderr.readline(), "it is at work"
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    assert process.wait(timeout=PATIENCE_S) == -signal.SIGINT
    assert b"10 events not delivered" in process.stderr.read()


def test_a_termination_delivers_what_was_read_and_ends_with_143(hub, publish):
    process = publish(hub.url)
    write_all(process, events(1, 10))
    eventually(lambda: len(hub.told()) == 10)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=PATIENCE_S) == -signal.SIGTERM


def test_a_termination_ends_a_backoff(publish):
    process = publish("127.0.0.1:1", "--drain-timeout", "200ms")
    write_all(process, events(1, 10))
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=PATIENCE_S) == -signal.SIGTERM


# --- with the rest of the pipe


def test_a_replayed_log_published_twice_adds_nothing(hub, environment, tmp_path):
    log = tmp_path / "log.ndjson"
    log.write_bytes(events(1, 2000) + events(2001, 2001, kind="run_completed"))
    command = f"agentpipe replay --speed max {log} | agentpipe publish {hub.url}"
    for _ in range(2):
        assert subprocess.run(["bash", "-o", "pipefail", "-c", command], env=environment, timeout=60).returncode == 0
    assert hub.stored() == log.read_bytes().splitlines()


@pytest.mark.skipif(not os.path.isdir(RECORDINGS), reason="the recordings are not beside the repository")
def test_an_agents_own_log_replayed_through_parse_twice_adds_nothing(hub, environment):
    command = (
        f"agentpipe replay --speed max {RECORDINGS}/claude/tools.jsonl | agentpipe parse | agentpipe publish {hub.url}"
    )
    for _ in range(2):
        assert subprocess.run(["bash", "-o", "pipefail", "-c", command], env=environment, timeout=60).returncode == 0
    stored = hub.stored()
    assert [json.loads(line)["sequence"] for line in stored] == list(range(1, len(stored) + 1))
    assert json.loads(stored[0])["type"] == "run_started"
    assert json.loads(stored[-1])["type"] == "run_completed"
