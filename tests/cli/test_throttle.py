"""``agentpipe throttle`` as a process: the rate on the wall clock, nothing lost, every hole declared, statuses."""

import itertools
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agentpipe.event import make, timestamp

AGENTPIPE = str(Path(sys.executable).with_name("agentpipe"))


def event(sequence: int, kind: str = "agent_tool_call", **payload):
    return make(kind, payload, run_id="r", agent_id="a", sequence=sequence, at=timestamp(1.79e9))


def session(count: int) -> bytes:
    """A run with texts in chunks, calls, results, errors and an end."""
    made = [event(1, "run_started")]
    while len(made) < count - 1:
        n = len(made) + 1
        text = {"message_id": f"m{n // 20}", "index": 0, "text": "word ", "final": False}
        if n % 20 == 19:
            made.append(event(n, "agent_output", **{**text, "final": True}))
        elif n % 20 > 8:
            made.append(event(n, "agent_output", **text))
        else:
            made.append(event(n, ("error" if n % 100 == 5 else "agent_tool_result") if n % 5 == 0 else "file_changed"))
    made.append(event(count, "run_completed"))
    return b"".join(one.line + b"\n" for one in made)


def throttle(data: bytes, *options: str) -> tuple[list[tuple[float, dict]], dict]:
    """Run it on *data*: each event with the seconds since before the start, and the counts it printed."""
    start = time.monotonic()
    process = subprocess.Popen(
        [AGENTPIPE, "throttle", "--stats", *options],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    feeder = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=process.stdin)
    process.stdin.close()
    with process, feeder:
        writing = threading.Thread(target=lambda: (feeder.stdin.write(data), feeder.stdin.close()))
        writing.start()
        came = [(time.monotonic() - start, json.loads(line)) for line in process.stdout]
        writing.join()
        errors = process.stderr.read().decode()
        assert process.wait() == 0, errors
    return came, json.loads(errors.strip().splitlines()[-1].removeprefix("agentpipe: "))


def balanced(counts: dict) -> bool:
    return counts["in"] == counts["out"] + sum(counts["dropped"].values()) + counts["merged"] + counts["left"]


def declared(events: list[dict]) -> list[int]:
    numbers = []
    for one in events:
        spans = one["payload"]["ranges"] if one["type"] == "gap" else [[one["sequence"]] * 2, *one.get("covers", [])]
        numbers += [n for first, last in spans for n in range(first, last + 1)]
    return sorted(numbers)


def test_a_burst_in_delay_obeys_burst_and_rate_and_loses_nothing() -> None:
    rate, burst, count = 1000, 20, 3000
    lines = b"".join(event(n).line + b"\n" for n in range(1, count + 1))
    came, counts = throttle(lines, "--rate", f"{rate}/s", "--burst", str(burst))
    assert [one["sequence"] for _, one in came] == list(range(1, count + 1))
    # Reading late only makes these times longer, so a busy machine cannot break the inequality.
    assert all(n <= burst + rate * t for n, (t, _) in enumerate(came, 1))
    assert (counts["out"], counts["dropped"], counts["left"]) == (count, {}, 0)
    assert balanced(counts)


@pytest.mark.parametrize("mode", ["coalesce", "drop", "sample"])
def test_every_missing_event_is_declared_and_errors_always_pass(mode: str) -> None:
    data = session(2000)
    came, counts = throttle(data, "--rate", "400/s", "--mode", mode)
    events = [one for _, one in came]
    sent = [json.loads(line) for line in data.splitlines()]
    assert len(events) < len(sent)
    assert declared(events) == list(range(1, 2001)), "no hole and nothing twice"
    exempt = {"run_started", "error", "agent_tool_result", "run_completed"}
    kept = [one for one in events if one["type"] in exempt]
    assert kept == [one for one in sent if one["type"] in exempt]
    assert events[-1]["type"] == "run_completed"
    assert balanced(counts)
    assert counts["in"] == 2000


def test_coalesce_loses_no_final_text_and_joins_chunks() -> None:
    data = session(600)
    came, counts = throttle(data, "--rate", "400/s", "--mode", "coalesce")
    final = [one for _, one in came if one["payload"].get("final")]
    assert len(final) == len([line for line in data.splitlines() if b'"final":true' in line])
    assert counts["merged"] > 0


def test_events_that_pass_keep_their_bytes() -> None:
    odd = b'{"type" : "x","run_id":"r","sequence":1,"n":123456789012345678901234567890,"t":"\\u00e9\\ud83d"}\n'
    done = subprocess.run([AGENTPIPE, "throttle"], input=odd, capture_output=True)
    assert done.stdout == odd
    assert done.returncode == 0


def test_what_comes_is_handed_on_at_once() -> None:
    with subprocess.Popen([AGENTPIPE, "throttle"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for n in range(1, 4):
            process.stdin.write(event(n).line + b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == event(n).line + b"\n"
        process.stdin.close()
        assert process.wait() == 0


def test_a_reader_that_is_gone_ends_it_silently_with_141() -> None:
    command = f"yes '{event(1).line.decode()}' | {AGENTPIPE} throttle --rate none | head -1; echo ${{PIPESTATUS[1]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "141"
    assert done.stderr == ""


def test_sigterm_hands_on_what_is_held_and_ends_with_143() -> None:
    with subprocess.Popen(
        [AGENTPIPE, "throttle", "--rate", "1/m", "--stats"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        process.stdin.write(b"".join(event(n).line + b"\n" for n in range(1, 6)))
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["sequence"] == 1
        process.terminate()
        rest = [json.loads(line)["sequence"] for line in process.stdout]
        assert process.wait() == -15
        assert rest == [2, 3, 4, 5]
        assert b'"left":0' in process.stderr.read()


def test_a_value_that_makes_no_sense_is_a_usage_error() -> None:
    for options in (["--rate", "quick"], ["--burst", "0"], ["--mode", "guess"]):
        done = subprocess.run(
            [AGENTPIPE, "throttle", *options], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert done.returncode == 2
        assert options[0] in done.stderr


def test_by_agent_each_has_its_own_rate() -> None:
    lines = [
        make("file_changed", {}, run_id=f"r{agent}", agent_id=f"a{agent}", sequence=n, at=timestamp(1.79e9)).line
        for n, agent in itertools.product(range(1, 11), range(5))
    ]
    came, _ = throttle(b"\n".join(lines), "--rate", "1/m", "--burst", "2", "--by", "agent_id", "--mode", "drop")
    passed = [one["agent_id"] for _, one in came if one["type"] != "gap"]
    assert sorted(passed) == sorted([f"a{agent}" for agent in range(5)] * 2)
    gaps = {one["run_id"]: one["payload"]["ranges"] for _, one in came if one["type"] == "gap"}
    assert gaps == {f"r{agent}": [[3, 10]] for agent in range(5)}
