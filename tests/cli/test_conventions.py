"""How every command behaves in a shell: streams, statuses, help. One test a line of the conventions."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from agentpipe.catalog import COMMANDS
from agentpipe.version import __version__
from tests.cli.commands import ANY_LINE, EVENT, FILTERS, NEEDS, STAGE_COMMANDS
from tests.conftest import Run

SIGPIPE = -signal.SIGPIPE  # the shell shows 141
EVENTS = b"".join(EVENT % n for n in range(1, 4))
STRICT = [name for name in STAGE_COMMANDS if name not in ANY_LINE]

filters = pytest.mark.parametrize("name", sorted(FILTERS))
stages = pytest.mark.parametrize("name", STAGE_COMMANDS)
strict = pytest.mark.parametrize("name", STRICT)
every = pytest.mark.parametrize("name", sorted(COMMANDS))


def fed(agentpipe: Run, name: str, data: bytes, *more: str, **extra: object) -> "subprocess.CompletedProcess[bytes]":
    return agentpipe(name, *FILTERS[name].args, *more, input=data, **extra)


# --- streams, C1


@filters
@pytest.mark.parametrize("env", [{}, {"PYTHONWARNINGS": "always", "PYTHONDEVMODE": "1"}], ids=["plain", "warnings"])
def test_stdout_is_ndjson_only(agentpipe: Run, name: str, env: Mapping[str, str]) -> None:
    done = fed(agentpipe, name, EVENTS + b"\xff broken\n" + EVENT % 4, env=env)
    assert done.returncode == 0
    assert done.stdout
    for text in done.stdout.splitlines():
        if name != "replay":  # which writes what it was given
            assert isinstance(json.loads(text), dict)
    assert b"Warning" not in done.stderr


@filters
def test_nothing_in_nothing_out(agentpipe: Run, name: str) -> None:
    done = fed(agentpipe, name, b"")
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"", 0)


@filters
def test_a_last_line_without_its_end_is_processed_and_gets_it(agentpipe: Run, name: str) -> None:
    assert fed(agentpipe, name, EVENTS[:-1], env={"TZ": "UTC"}).stdout.count(b"\n") >= 3
    if FILTERS[name].output == "events":
        assert fed(agentpipe, name, EVENTS[:-1]).stdout == EVENTS


@strict
def test_untouched_events_keep_their_bytes_but_for_crlf_bom_and_blank_lines(agentpipe: Run, name: str) -> None:
    odd = (
        b'{"z":1e400,"run_id":"r","type":"t","agent_id":"a","sequence":4,"payload":["\\ud800",18446744073709551616]}\n'
    )
    given = b"\xef\xbb\xbf" + (EVENTS + odd).replace(b"\n", b"\r\n\r\n")
    assert fed(agentpipe, name, given).stdout == EVENTS + odd


@strict
def test_a_malformed_line_is_warned_about_and_counted_and_the_rest_goes_on(agentpipe: Run, name: str) -> None:
    done = fed(agentpipe, name, EVENT % 1 + b"\n{oops\n" + EVENT % 2, "--stats")
    assert done.stdout == EVENT % 1 + EVENT % 2
    assert done.returncode == 0
    assert done.stderr.startswith(b"agentpipe: stdin:3: skipped a malformed line")
    assert json.loads(done.stderr[done.stderr.index(b'{"stage"') :])["malformed"] == 1


@strict
def test_strict_ends_with_65_at_the_line_and_column(agentpipe: Run, name: str) -> None:
    done = fed(agentpipe, name, EVENT % 1 + b"\n{oops\n" + EVENT % 2, "--strict")
    assert done.stdout == EVENT % 1
    assert done.returncode == 65
    assert re.fullmatch(rb"agentpipe: stdin:3:2: .+\n", done.stderr)


@strict
def test_an_oversize_line_is_declared_and_the_next_is_unharmed(agentpipe: Run, name: str) -> None:
    long = (EVENT % 2).replace(b"{}", b'{"x":"%s"}' % (b"y" * 5000))
    done = fed(agentpipe, name, EVENT % 1 + long + EVENT % 3, "--max-line", "1KiB")
    events = [json.loads(text) for text in done.stdout.splitlines()]
    assert [event["sequence"] for event in events] == [1, 2, 3]
    assert events[1]["type"] == "gap"
    assert events[1]["payload"]["ranges"] == [[2, 2]]
    assert b"5" in done.stderr
    assert b"over the limit" in done.stderr


@pytest.mark.parametrize("name", [*STAGE_COMMANDS, "publish"])
def test_a_terminal_without_input_is_told_what_is_needed(environment: Mapping[str, str], name: str) -> None:
    words = [name, "ws://127.0.0.1:9"] if name == "publish" else [name]
    leader, follower = pty.openpty()
    try:
        process = subprocess.Popen(
            ["agentpipe", *words], stdin=follower, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )
        out, err = process.communicate(timeout=60)
    finally:
        os.close(leader)
        os.close(follower)
    assert process.returncode == 2
    assert out == b""
    assert f"| agentpipe {name}".encode() in err


@filters
def test_a_closed_stdout_is_an_error(agentpipe: Run, name: str) -> None:
    done = fed(agentpipe, name, EVENTS, stdout=None, preexec_fn=lambda: os.close(1))
    assert done.returncode == 74
    assert done.stderr.count(b"\n") == 1


@filters
def test_a_full_disk_is_one_line_and_status_74(agentpipe: Run, name: str) -> None:
    with open("/dev/full", "wb") as full:
        done = fed(agentpipe, name, EVENTS, stdout=full)
    assert done.returncode == 74
    assert done.stderr.count(b"\n") == 1
    assert b"No space left" in done.stderr


@pytest.mark.parametrize("name", [name for name in STAGE_COMMANDS if name != "parse"])
def test_an_event_passes_while_the_input_goes_on(environment: Mapping[str, str], name: str) -> None:
    command = ["agentpipe", name, *FILTERS[name].args]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for n in range(1, 4):
            process.stdin.write(EVENT % n)
            assert select.select([process.stdout], [], [], 60)[0], "held back although the input is silent"
            assert process.stdout.readline() == EVENT % n
        process.stdin.close()
        assert process.wait(60) == 0


# --- a reader that is gone, C2


@filters
def test_a_gone_reader_ends_it_silently_as_by_sigpipe(
    environment: Mapping[str, str], tmp_path: Path, name: str
) -> None:
    (tmp_path / "in").write_bytes(b"".join(EVENT % n for n in range(1, 20_000)))
    command = ["agentpipe", name, *FILTERS[name].args]
    with (tmp_path / "in").open("rb") as stdin:
        process = subprocess.Popen(
            command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == SIGPIPE
    assert process.stderr.read() == b""
    process.stderr.close()


@stages
def test_a_gone_reader_ends_it_while_the_input_is_silent(environment: Mapping[str, str], name: str) -> None:
    command = ["agentpipe", name, *FILTERS[name].args]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.close()
    begun = time.monotonic()
    assert process.wait(60) == SIGPIPE
    assert time.monotonic() - begun < 30
    process.stdin.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.parametrize("words", [["--help"], ["schema"], ["schema", "--list"], ["throttle", "--help"]])
def test_text_for_people_ends_silently_too(environment: Mapping[str, str], words: list[str]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(["agentpipe", *words], stdout=write_end, stderr=subprocess.PIPE, env=environment, timeout=60)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (SIGPIPE, b"")


@filters
def test_the_shell_shows_it_all(environment: Mapping[str, str], tmp_path: Path, name: str) -> None:
    """``set -o pipefail``: any failing stage gives a failure, and a gone reader is 141."""
    (tmp_path / "in").write_bytes(EVENTS * 2000)
    call = " ".join(["agentpipe", name, *FILTERS[name].args])
    script = f"set -o pipefail; (cat {tmp_path}/in; exit 3) | {call} | cat > /dev/null; echo $?"
    assert subprocess.run(["bash", "-c", script], env=environment, capture_output=True, timeout=60).stdout == b"3\n"
    script = f"{call} < {tmp_path}/in | head -n 1 > /dev/null; echo ${{PIPESTATUS[0]}}"
    assert subprocess.run(["bash", "-c", script], env=environment, capture_output=True, timeout=60).stdout == b"141\n"


# --- endings and help


@every
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_is_on_stdout_and_no_error(agentpipe: Run, name: str, flag: str) -> None:
    done = agentpipe(name, flag)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(f"Usage: agentpipe {name} ".encode())
    assert f"agentpipe {name}".encode() in done.stdout.split(b"\n", 1)[1] or name == "schema", "help shows examples"


@every
def test_a_bad_option_is_a_usage_error_with_a_suggestion(agentpipe: Run, name: str) -> None:
    done = agentpipe(name, "--hepl")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"No such option" in done.stderr
    assert b"--help" in done.stderr


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_a_missing_argument_is_a_usage_error_that_names_it(agentpipe: Run, name: str) -> None:
    done = agentpipe(name)
    assert (done.returncode, done.stdout) == (2, b"")
    assert f"Missing argument '{NEEDS[name]}".encode() in done.stderr


def test_no_arguments_is_help_on_stderr_with_status_2(agentpipe: Run) -> None:
    done = agentpipe()
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"Usage: agentpipe ")


@pytest.mark.parametrize(
    ("word", "meant"), [("throtle", b"'throttle'"), ("suscribe", b"'subscribe'"), ("pars", b"'parse'")]
)
def test_a_bad_command_is_a_usage_error_with_a_suggestion(agentpipe: Run, word: str, meant: bytes) -> None:
    done = agentpipe(word)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Did you mean " + meant in done.stderr
    assert b"Did you mean" not in agentpipe("xyzzy").stderr


def test_abbreviations_of_commands_are_not_commands(agentpipe: Run) -> None:
    assert agentpipe("thr").returncode == 2


def test_an_option_behind_the_command_of_run_is_the_commands_own(agentpipe: Run) -> None:
    assert agentpipe("run", "--tmeout", "5", "true").returncode == 2
    done = agentpipe("run", "--", "printf", "%s,", "--help", "--", "-h")
    assert done.returncode == 0
    assert json.loads(done.stdout.splitlines()[1])["payload"]["text"] == "--help,--,-h,"


def test_the_version_is_a_constant_on_stdout(agentpipe: Run) -> None:
    done = agentpipe("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"agentpipe {__version__}\n".encode(), b"")


#: What costs start-up and is not needed to print text (research D5).
HEAVY = {
    "asyncio", "ssl", "importlib.metadata", "aiohttp", "uvloop", "sh", "tenacity", "websocket", "msgspec", "orjson",
    "sqlite3", "socket", "logging",
}  # fmt: skip


def loaded(environment: Mapping[str, str], words: list[str], stdin: bytes = b"") -> set[str]:
    code = (
        "import sys, os, atexit\n"
        f"sys.argv = ['agentpipe', *{words!r}]\n"
        "atexit.register(lambda: os.write(2, '\\n'.join(['MODULES', *sys.modules]).encode()))\n"
        "from agentpipe_cli.main import main\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=stdin, capture_output=True, env=environment, timeout=60)
    return set(done.stderr.decode().split("MODULES\n")[1].splitlines())


@pytest.mark.parametrize("words", [["--version"], ["--help"]])
def test_version_and_help_import_nothing_heavy_and_no_stage(environment: Mapping[str, str], words: list[str]) -> None:
    modules = loaded(environment, words)
    assert "agentpipe_cli.main" in modules
    assert not modules & HEAVY
    ours = {module for module in modules if module.startswith("agentpipe")}
    assert ours <= {
        "agentpipe", "agentpipe.version", "agentpipe.catalog", "agentpipe.errors",
        "agentpipe_cli", "agentpipe_cli.main", "agentpipe.io", "agentpipe.io.signals",
    }  # fmt: skip


@stages
def test_a_filter_imports_only_what_it_needs(environment: Mapping[str, str], name: str) -> None:
    modules = loaded(environment, [name, *FILTERS[name].args], EVENTS)
    assert not modules & (HEAVY - {"msgspec", "orjson", "socket"})
    others = {f"agentpipe.{other}" for other in STAGE_COMMANDS if other != name}
    assert (
        not {module for module in modules if module in others or module.startswith("agentpipe.parse.")}
        or name == "parse"
    )


# --- settings, C5


def rate_of(environment: Mapping[str, str], env: Mapping[str, str], *flags: str) -> str:
    """The rate that throttle's options object ends up with."""
    code = (
        "import sys, json\n"
        "import agentpipe_cli.filters as filters\n"
        "filters._run = lambda spec, options: print(json.dumps([options.rate, options.mode, options.stats]))\n"
        f"sys.argv = ['agentpipe', 'throttle', *{list(flags)!r}]\n"
        "from agentpipe_cli.main import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={**environment, **env}, timeout=60, text=True
    )
    return done.stdout.strip() or done.stderr


def settings(home: Path, text: str) -> None:
    (home / "agentpipe").mkdir(parents=True)
    (home / "agentpipe" / "config.toml").write_text(text)


def test_a_flag_beats_the_environment_beats_the_settings_beat_the_default(
    environment: dict[str, str], tmp_path: Path
) -> None:
    config = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    variables = {"AGENTPIPE_THROTTLE_RATE": "20/s", "AGENTPIPE_THROTTLE_STATS": "1"}
    assert rate_of(environment, config) == '[50.0, "delay", false]'
    settings(tmp_path / "config", '[throttle]\nrate = "10/s"\nmode = "drop"\n[buffer]\nmode = "x"\n')
    assert rate_of(environment, config) == '[10.0, "drop", false]'
    assert rate_of(environment, {**config, **variables}) == '[20.0, "drop", true]'
    assert rate_of(environment, {**config, **variables}, "--rate", "30/s") == '[30.0, "drop", true]'


def test_settings_are_read_from_the_home_when_xdg_says_nothing(environment: dict[str, str]) -> None:
    settings(Path(environment["HOME"]) / ".config", "[throttle]\nrate = 7\n")
    assert rate_of(environment, {}).startswith("[7")


@pytest.mark.parametrize(
    "text",
    ["[throttle", "[throttle]\nrate = 'fast'", "[throttle]\nrate = true", "[throttle]\nrate = nan",
     "[throttle]\nrate = []", "[throttle]\nrat = 3", "[throttle]\nmode = 'dance'", "[throttle]\nexempt = 3"],
)  # fmt: skip
def test_settings_that_make_no_sense_are_usage_errors(environment: dict[str, str], agentpipe: Run, text: str) -> None:
    settings(Path(environment["HOME"]) / ".config", text)
    done = agentpipe("throttle", input=EVENTS)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Traceback" not in done.stderr
    assert agentpipe("--version").returncode == 0


def test_settings_that_are_no_text_are_usage_errors(environment: dict[str, str], agentpipe: Run) -> None:
    settings(Path(environment["HOME"]) / ".config", "")
    (Path(environment["HOME"]) / ".config" / "agentpipe" / "config.toml").write_bytes(b'a = "\xff"')
    done = agentpipe("throttle", input=EVENTS)
    assert done.returncode == 2
    assert b"config.toml" in done.stderr
