"""``agentpipe hook`` as an agent runs it: real processes, a real hub, real kills."""

import json
import os
import pty
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cli.hooking import SESSION, Hooks, call, hooking, payload, result
from tests.conftest import Run
from tests.hub_process import PATIENCE_S, HubProcess, until

RUN = f"{SESSION}%2Fhooks"


@pytest.fixture
def hooks(environment: Mapping[str, str]) -> Iterator[Hooks]:
    """Hooks without a hub."""
    with hooking(environment) as made:
        yield made


@pytest.fixture
def hub(environment: Mapping[str, str], tmp_path: Path) -> Iterator[HubProcess]:
    running = HubProcess(tmp_path, environment)
    running.start()
    yield running
    running.kill()


@pytest.fixture
def sent(environment: Mapping[str, str], hub: HubProcess) -> Iterator[Hooks]:
    """Hooks whose hub is ``hub``."""
    hooked = {**environment, "AGENTPIPE_TOKEN_FILE": str(hub.token_file)}
    with hooking(hooked, f"ws://127.0.0.1:{hub.port}") as made:
        yield made


def stored(hub: HubProcess, run: str = f"{SESSION}/hooks") -> list[dict[str, Any]]:
    """The events of *run* in the hub; none when it does not know it."""
    known = {each["run_id"] for each in hub.json("api/runs")["runs"]}
    return hub.events(run.replace("/", "%2F")) if run in known else []


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def calls(events: list[dict[str, Any]]) -> list[str]:
    return [event["payload"]["tool_use_id"] for event in events if event["type"] == "agent_tool_call"]


def whole(events: list[dict[str, Any]]) -> bool:
    """Whether they are one run from its start to its end, numbered without a hole."""
    return (
        [event["sequence"] for event in events] == list(range(1, len(events) + 1))
        and types(events)[:1] == ["run_started"]
        and [kind for kind in types(events) if kind.startswith("run_") and kind != "run_iteration"]
        == ["run_started", types(events)[-1]]
    )


# --- the agent is never harmed


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\n", b"{", b"}{", b"no JSON", b'{"session_id":7}', b"[1,2]", b'"x"', b"\xff\xfe\x00", b"{}",
        b'{"session_id":"../../x"}', b'{"session_id":"' + b"y" * 9000 + b'"}', payload("Stop")[:-1],
        payload("NoSuchEvent"), b"\xef\xbb\xbf" + payload("Stop"), payload("Stop").replace(b",", b",\r\n "),
    ],
)  # fmt: skip
def test_whatever_comes_it_is_silent_and_succeeds(hooks: Hooks, data: bytes) -> None:
    hooks.run(data)
    kept: list[bytes] = []
    if data.strip():
        kept = until(lambda: [text for path in hooks.folder.glob("*.ndjson") if (text := path.read_bytes())], "a spool")
    assert len(kept) == bool(data.strip())
    for text in kept:
        assert text.count(b"\n") == 2, "a header and one line"
        assert text.endswith(b"\n")


@pytest.mark.parametrize(
    "options", [["--no-such"], ["--url"], ["--url", "no url"], ["word"], ["--token-file", "/none"]]
)
def test_a_wrong_option_is_no_reason_to_refuse_what_the_agent_does(hooks: Hooks, options: list[str]) -> None:
    hooks.keep(call(1), *options)
    assert [line["tool_use_id"] for line in hooks.kept()] == ["t1"]


def test_a_wrong_option_without_a_payload_is_said(hooks: Hooks) -> None:
    process = hooks.start("--no-such", stdin=subprocess.DEVNULL)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert b"--no-such" in err


@pytest.mark.parametrize("closed", [[0], [1, 2], [0, 1, 2]])
def test_closed_descriptors_are_no_harm(hooks: Hooks, tmp_path: Path, closed: list[int]) -> None:
    shut = " ".join(f"{fd}{'<' if fd == 0 else '>'}&-" for fd in closed)
    (tmp_path / "in").write_bytes(call(1))
    command = f"exec agentpipe hook {'<in' if 0 not in closed else ''} {shut}"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=hooks.environment, timeout=PATIENCE_S)
    assert done.returncode == 0
    if 0 not in closed:
        until(lambda: hooks.spool().exists() and hooks.kept()[0]["tool_use_id"] == "t1", "the line")


def test_a_folder_that_cannot_be_made_is_no_harm(hooks: Hooks) -> None:
    hooks.folder.parent.parent.mkdir(parents=True)
    hooks.folder.parent.write_text("a file where the folder should be")
    hooks.run(call(1))


def test_a_full_disk_is_no_harm_and_the_loss_is_counted(hooks: Hooks) -> None:
    """RLIMIT_FSIZE is a disk that is full beyond the first bytes of a file."""
    hooks.keep(call(1))
    size = hooks.spool().stat().st_size
    hooks.run(call(2), preexec_fn=lambda: _limit_files(size + 10))
    hooks.run(call(3), preexec_fn=lambda: _limit_files(size + 10))
    until(lambda: b'"lost":         2' in hooks.spool().read_bytes(), "the count")
    assert hooks.spool().stat().st_size == size
    hooks.keep(call(4))
    kept = hooks.kept()
    assert [line.get("tool_use_id") or line["agentpipe"] for line in kept] == ["t1", "lost", "t4"]
    assert kept[1]["count"] == 2


def _limit_files(size: int) -> None:
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_payload_of_5_mb_is_kept_whole(hooks: Hooks) -> None:
    hooks.keep(payload("PostToolUse", tool_name="Read", tool_response="x" * 5_000_000))
    assert len(hooks.kept()[0]["tool_response"]) == 5_000_000


def test_of_a_payload_over_16_mib_the_head_is_kept(hooks: Hooks) -> None:
    data = payload("PostToolUse", tool_name="Read", tool_response="x" * (40 << 20))
    hooks.run(data)
    (cut,) = until(lambda: hooks.spool().exists() and hooks.kept(), "the line")
    assert cut["agentpipe"] == "cut"
    assert cut["bytes"] == len(data)
    assert cut["head"].encode() == data[:512]


def test_a_stdin_that_stays_open_holds_nobody_up_and_loses_nothing(hooks: Hooks) -> None:
    process = hooks.start()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(call(1)[:20])
    process.stdin.flush()
    assert process.wait(PATIENCE_S) == 0
    assert process.stdout.read() == b"", "whoever goes on does not hold the agent's pipe"
    process.stdin.write(call(1)[20:])
    process.stdin.close()
    until(lambda: hooks.spool().exists() and hooks.kept(), "the payload")
    assert hooks.kept()[0]["tool_use_id"] == "t1"
    process.stdout.close()
    assert process.stderr is not None
    process.stderr.close()


def test_a_lock_that_is_held_holds_nobody_up_and_loses_nothing(hooks: Hooks) -> None:
    import fcntl

    hooks.keep(call(1))
    with hooks.spool().open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        hooks.run(call(2))
        assert len(hooks.kept()) == 1
    until(lambda: len(hooks.kept()) == 2, "the second payload")


def test_the_sender_holds_nothing_of_the_agents(hooks: Hooks, tmp_path: Path) -> None:
    with (tmp_path / "agents.log").open("w") as log:
        hooks.keep(call(1), pass_fds=[log.fileno()], cwd=tmp_path)
    process_id = until(hooks.sender, "the sender")
    held = {os.readlink(f"/proc/{process_id}/fd/{fd}") for fd in os.listdir(f"/proc/{process_id}/fd")}
    assert str(tmp_path / "agents.log") not in held
    for fd in (0, 1, 2):
        assert os.readlink(f"/proc/{process_id}/fd/{fd}") == "/dev/null"
    assert os.readlink(f"/proc/{process_id}/cwd") == "/"
    assert os.getsid(process_id) == process_id


def test_files_are_for_the_account_alone(hooks: Hooks) -> None:
    hooks.keep(call(1), preexec_fn=lambda: os.umask(0))
    assert hooks.folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in hooks.folder.iterdir()} == {0o600}


def test_nothing_is_imported_that_an_agent_would_have_to_wait_for(hooks: Hooks) -> None:
    """Each of these takes as long as Python's own start, or comes with something that does."""
    hooks.environment["PYTHONPROFILEIMPORTTIME"] = "1"
    process = hooks.start()
    _, err = process.communicate(call(1), timeout=PATIENCE_S)
    imported = {
        line.rpartition(b"|")[2].strip().decode() for line in err.splitlines() if line.startswith(b"import time:")
    }
    script = Path(sys.executable).with_name("agentpipe").read_text()
    imported -= {"enum", "re"} if "\nimport re\n" in script else set()  # as pip wrote it until 2024: not ours to change
    assert "agentpipe.io.hook.entry" in imported
    assert imported & {"click", "dataclasses", "enum", "json", "orjson", "msgspec", "re", "signal", "typing"} == set()
    assert len([name for name in imported if name.startswith("agentpipe")]) < 10


# --- what is kept


def test_the_line_is_the_payload_with_the_time_before_it(hooks: Hooks) -> None:
    before = time.time()
    hooks.keep(call(1))
    header, line = hooks.spool().read_bytes().splitlines()
    assert json.loads(header) == {"lost": 0, "generation": 1, "run_id": f"{SESSION}/hooks"}
    assert line.startswith(b'{"received_at":"20')
    assert line.endswith(b"," + call(1)[1:])
    found = json.loads(line)["received_at"]
    assert before - 1 < time.mktime(time.strptime(found[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone < time.time() + 1


def test_twenty_hooks_at_once_are_twenty_lines_and_one_sender(sent: Hooks, hub: HubProcess) -> None:
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda number: sent.run(call(number)), range(20)))
    order = [line["tool_use_id"] for line in until(lambda: len(sent.kept()) == 20 and sent.kept(), "twenty lines")]
    assert sorted(order) == sorted(f"t{number}" for number in range(20))
    until(lambda: len(calls(stored(hub))) == 20, "twenty calls in the hub")
    assert calls(stored(hub)) == order


# --- what arrives


def test_a_session_arrives_as_a_run_and_leaves_nothing_behind(sent: Hooks, hub: HubProcess) -> None:
    sent.keep(payload("SessionStart", source="startup"))
    sent.keep(call(1))
    until(lambda: calls(stored(hub)), "the call, while the session goes on")
    assert not types(stored(hub))[-1].startswith("run_c")
    sent.keep(result(1))
    sent.keep(payload("Stop", last_assistant_message="Done."))
    sent.run(payload("SessionEnd", reason="other"))
    until(sent.gone, "the sender's end")
    events = stored(hub)
    assert whole(events)
    assert events[-1]["type"] == "run_completed"
    assert events[0]["payload"]["session_id"] == SESSION
    assert sent.kept() == []
    assert sent.spool().stat().st_size < 200


def test_a_resumed_session_is_a_run_of_its_own(sent: Hooks, hub: HubProcess) -> None:
    for number in (1, 2):
        sent.keep(payload("SessionStart", source="startup" if number == 1 else "resume"))
        sent.keep(call(number))
        sent.run(payload("SessionEnd", reason="other"))
        until(sent.gone, "the sender's end")
    first, second = stored(hub), stored(hub, f"{SESSION}/hooks/2")
    assert (calls(first), calls(second)) == (["t1"], ["t2"])
    assert whole(first)
    assert whole(second)


def test_hooks_of_a_hub_that_is_down_arrive_when_it_is_up(sent: Hooks, hub: HubProcess) -> None:
    hub.kill()
    sent.keep(call(1))
    until(sent.sender, "the sender")
    sent.keep(result(1))
    hub.start()
    until(lambda: "agent_tool_result" in types(stored(hub)), "the result in the hub")
    sent.run(payload("SessionEnd", reason="other"))
    until(lambda: whole(stored(hub)), "the end in the hub")


def test_a_hub_that_comes_back_without_its_log_gets_the_session_from_its_beginning(
    sent: Hooks, hub: HubProcess
) -> None:
    sent.keep(payload("SessionStart", source="startup"))
    sent.keep(call(1))
    until(lambda: calls(stored(hub)), "the call in the first log")
    hub.kill()
    for file in hub.folder.glob("hub.db*"):
        file.unlink()
    hub.start()
    sent.keep(result(1))
    sent.run(payload("SessionEnd", reason="other"))
    until(sent.gone, "the sender's end")
    assert calls(stored(hub)) == ["t1"]
    assert whole(stored(hub))


def test_a_sender_gives_up_on_a_hub_that_stays_away_and_the_next_session_brings_both(
    environment: Mapping[str, str], sent: Hooks, hub: HubProcess
) -> None:
    hub.kill()
    sent.environment["AGENTPIPE_HOOK_LINGER"] = "300ms"
    sent.keep(call(1))
    sent.run(payload("SessionEnd", reason="other"))
    until(sent.gone, "the sender gave up")
    assert sent.kept()[0]["tool_use_id"] == "t1"
    hub.start()
    sent.environment["AGENTPIPE_HOOK_LINGER"] = "60s"
    sent.keep(call(2, "other"), session="other")
    sent.run(payload("SessionEnd", "other", reason="other"))
    until(lambda: whole(stored(hub)), "what was left behind")
    until(lambda: whole(stored(hub, "other/hooks")), "the other session")


def test_a_sender_that_is_killed_loses_nothing_and_nothing_comes_twice(sent: Hooks, hub: HubProcess) -> None:
    for number in range(30):
        sent.keep(call(number))
        if number % 10 == 5:
            os.kill(until(sent.sender, "the sender"), signal.SIGKILL)
            until(sent.gone, "the sender's end")
    order = [line["tool_use_id"] for line in sent.kept()]
    sent.run(payload("SessionEnd", reason="other"))
    until(lambda: whole(stored(hub)), "the whole run")
    assert calls(stored(hub)) == order == [f"t{number}" for number in range(30)]


def test_an_idle_sender_ends_and_leaves_the_run_open(sent: Hooks, hub: HubProcess) -> None:
    sent.environment["AGENTPIPE_HOOK_LINGER"] = "300ms"
    sent.keep(call(1))
    until(lambda: calls(stored(hub)) and sent.gone(), "the sender's end")
    assert types(stored(hub))[-1] == "agent_tool_call"
    sent.keep(result(1))
    until(lambda: types(stored(hub))[-1] == "agent_tool_result", "the result from the next sender")
    assert calls(stored(hub)) == ["t1"]


def test_what_was_lost_is_declared_in_the_run(sent: Hooks, hub: HubProcess) -> None:
    sent.keep(call(1))
    with sent.spool().open("r+b") as spool:  # as if two payloads had met a full disk
        spool.write(b'{"lost":         2')
    sent.run(payload("PostToolUse", tool_name="Read", tool_response="x" * (17 << 20)))
    until(lambda: len(sent.kept()) == 3, "the head of what is too long")
    sent.run(payload("SessionEnd", reason="other"))
    until(lambda: whole(stored(hub)), "the whole run")
    events = stored(hub)
    (gap,) = [event["payload"] for event in events if event["type"] == "gap"]
    assert (gap["count"], gap["reason"]) == (2, "source")
    (raw,) = [event["payload"] for event in events if event["type"] == "raw"]
    assert "over the limit" in raw["reason"]
    assert "PostToolUse" in raw["text"]


def test_sigterm_delivers_what_is_there_and_ends(sent: Hooks, hub: HubProcess) -> None:
    """As when the system goes down."""
    sent.keep(call(1))
    process_id = until(sent.sender, "the sender")
    sent.run(payload("SessionEnd", reason="other"))
    os.kill(process_id, signal.SIGTERM)
    until(sent.gone, "the sender's end")
    assert whole(stored(hub))


def test_sigterm_is_seen_to_also_by_a_sender_that_has_just_been_started(sent: Hooks, hub: HubProcess) -> None:
    sent.run(payload("SessionEnd", reason="other"))
    process_id = until(lambda: _program(sent.environment["HOME"]), "the sender")
    os.kill(process_id, signal.SIGTERM)
    until(sent.gone, "the sender's end")
    assert whole(stored(hub))


def _program(home: str) -> int | None:
    """The process that is, or is about to be, the sender of this account."""
    for entry in Path("/proc").iterdir():
        try:
            if b"--send" in (entry / "cmdline").read_bytes() and home.encode() in (entry / "environ").read_bytes():
                return int(entry.name)
        except OSError:
            continue  # it ended while we looked, or is no process
    return None


def test_senders_that_cannot_start_are_not_started_for_every_hook(sent: Hooks, hub: HubProcess) -> None:
    settings = Path(sent.environment["HOME"], ".config", "agentpipe", "config.toml")
    settings.parent.mkdir(parents=True)
    settings.write_text("[hook]\nno-such-option = 1\n")
    sent.keep(call(1))
    until(sent.gone, "the end of the first sender")
    started = (sent.folder / f"{SESSION}.lock").stat().st_mtime
    settings.unlink()
    sent.keep(call(2))
    until(lambda: calls(stored(hub)) == ["t1", "t2"], "both calls, from a later sender")
    assert (sent.folder / f"{SESSION}.lock").stat().st_mtime > started + 1.5


def test_whoever_is_killed_the_hub_has_what_the_spool_had_once_and_in_order(sent: Hooks, hub: HubProcess) -> None:
    """Hooks four at a time, some of them killed; meanwhile the sender is killed, or the hub, at random moments."""
    chance = random.Random(7)

    def one(number: int) -> None:
        process = sent.start()
        if number % 17 == 5:
            process.kill()
        process.communicate(b"" if number % 17 == 5 else call(number), timeout=PATIENCE_S)

    with ThreadPoolExecutor(4) as pool:
        hooked = [pool.submit(one, number) for number in range(120)]
        while not all(each.done() for each in hooked):
            time.sleep(chance.uniform(0.05, 0.4))
            if chance.random() < 0.3:
                hub.kill()
                hub.start()
            elif (process_id := sent.sender()) is not None:
                _kill(process_id)
    survivors = {f"t{number}" for number in range(120) if number % 17 != 5}
    until(lambda: survivors <= {line.get("tool_use_id") for line in sent.kept()}, "all lines")
    order = [line["tool_use_id"] for line in sent.kept()]
    sent.run(payload("SessionEnd", reason="other"))
    until(lambda: whole(stored(hub)), "the whole run")
    assert calls(stored(hub)) == order
    assert len(order) == len(survivors)


def _kill(process_id: int) -> None:
    try:
        os.kill(process_id, signal.SIGKILL)
    except ProcessLookupError:
        return  # it ended by itself


# --- by hand


def test_on_a_terminal_it_says_what_it_is_for(hooks: Hooks) -> None:
    leader, follower = pty.openpty()
    try:
        process = hooks.start(stdin=follower)
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        os.close(leader)
        os.close(follower)
    assert (process.returncode, out) == (2, b"")
    assert b"agentpipe hook --install" in err


def test_send_brings_what_was_kept_and_says_how_it_ended(sent: Hooks, hub: HubProcess) -> None:
    hub.kill()
    sent.environment["AGENTPIPE_HOOK_LINGER"] = "0s"
    sent.keep(call(1))
    until(sent.gone, "the sender gave up")
    command = ["agentpipe", "hook", "--send", "all", "--url", sent.url, "--linger"]
    done = subprocess.run([*command, "100ms"], env=sent.environment, capture_output=True, timeout=PATIENCE_S)
    assert done.returncode == 75
    assert b"connection refused" in done.stderr
    hub.start()
    done = subprocess.run([*command, "500ms"], env=sent.environment, capture_output=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr) == (0, b"")
    assert calls(stored(hub)) == ["t1"]


def test_a_session_that_is_not_kept_is_an_error(hooks: Hooks) -> None:
    process = hooks.start("--send", "nobody")
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 66
    assert b"nobody" in err


# --- the settings


def test_install_and_uninstall_by_hand(agentpipe: Run, environment: Mapping[str, str], tmp_path: Path) -> None:
    settings = Path(environment["HOME"], ".claude", "settings.json")
    settings.parent.mkdir()
    settings.write_text('{"model": "x"}\n')
    token = tmp_path / "to ken"
    done = agentpipe("hook", "--install", "--events", "common", "--token-file", "to ken", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.count(b"\n") == 1
    assert b"9 events" in done.stderr
    (group,) = json.loads(settings.read_text())["hooks"]["SessionEnd"]
    words = shlex.split(group["hooks"][0]["command"])
    assert words == [str(Path(sys.executable).parent / "agentpipe"), "hook", "--token-file", str(token)]
    done = agentpipe("hook", "--uninstall")
    assert done.returncode == 0
    assert settings.read_text() == '{"model": "x"}\n'


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (["--install", "--uninstall"], 2), (["--install", "--events", "Stpo"], 2), (["--install", "--project"], 65),
        (["--install", "--project", "--settings", "x"], 2), (["--install", "--url", "ftp://h"], 2),
        (["--install", "--url", "ws://user:secret@h"], 2),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    agentpipe: Run, tmp_path: Path, options: list[str], status: int
) -> None:
    settings = tmp_path / ".claude" / "settings.json"
    settings.parent.mkdir()
    settings.write_text("{,}")
    done = agentpipe("hook", *options, cwd=tmp_path)
    assert done.returncode == status
    assert done.stderr
    assert settings.read_text() == "{,}"
    assert os.listdir(settings.parent) == ["settings.json"]
