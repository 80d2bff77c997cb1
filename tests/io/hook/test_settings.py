"""The settings file: what is not ours stays, what is ours comes and goes, and nothing is half done."""

import json
import os
import shlex
import stat
import subprocess
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from agentpipe.errors import InputError, InputMissing, OptionError
from agentpipe.io.hook.settings import ALL, COMMON, LATER, RECENT, chosen, hook_command, install, path_of, uninstall

COMMAND = "/opt/a b/bin/agentpipe hook"

OTHERS: dict[str, Any] = {
    "zeta": {"b": 1, "a": [1.50, 12345678901234567890]},
    "hooks": {
        "PreToolUse": [{"matcher": "Bash", "hooks": [{"type": "command", "command": "audit.sh", "timeout": 9}]}],
        "Unknown": [{"hooks": [], "extra": True}],
    },
    "permissions": {"allow": ["Bash(ls:*)"]},
    "ümlaut": "é",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(OTHERS, indent=4, ensure_ascii=False) + "\n")
    return path


def hooks(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())["hooks"]
    return found


def test_install_adds_a_group_an_event_and_touches_nothing_else(file: Path) -> None:
    install(str(file), COMMAND, COMMON)
    found = json.loads(file.read_text())
    assert list(found) == list(OTHERS)
    assert {key: found[key] for key in found if key != "hooks"} == {k: OTHERS[k] for k in OTHERS if k != "hooks"}
    assert hooks(file)["PreToolUse"][0] == OTHERS["hooks"]["PreToolUse"][0]
    assert hooks(file)["Unknown"] == OTHERS["hooks"]["Unknown"]
    for event in COMMON:
        ours = hooks(file)[event][-1]["hooks"]
        assert [(hook["type"], hook["command"]) for hook in ours] == [("command", COMMAND)]


def test_install_and_uninstall_give_the_very_bytes_back(file: Path) -> None:
    before = file.read_bytes()
    install(str(file), COMMAND, ALL)
    assert file.read_bytes() != before
    uninstall(str(file))
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1}',
        '{\n  "a": 1\n}',
        '{\n\t"a": 1\n}\n',
        '{\r\n  "a": 1\r\n}\r\n',
        "{}",
        '{\n   "b": [\n      1\n   ]\n}\n',
        '\ufeff{\n  "a": 1\n}\n',
        '{\n  "a": "\\ud800 😀"\n}\n',
    ],
)
def test_the_file_keeps_its_form(file: Path, text: str) -> None:
    file.write_bytes(text.encode())
    install(str(file), COMMAND, COMMON)
    uninstall(str(file))
    assert file.read_bytes().decode().replace(" ", "") == text.replace(" ", "")


def test_twice_is_once(file: Path) -> None:
    install(str(file), COMMAND, COMMON)
    once = file.read_bytes()
    times = file.stat().st_mtime_ns
    assert "already" in install(str(file), COMMAND, COMMON)
    assert (file.read_bytes(), file.stat().st_mtime_ns) == (once, times)
    uninstall(str(file))
    assert "no hook" in uninstall(str(file))


def test_another_command_of_ours_is_replaced_and_other_events_are_left(file: Path) -> None:
    install(str(file), "/old/agentpipe hook --url ws://old:1", ALL)
    install(str(file), COMMAND, ["PreToolUse", "Stop"])
    text = file.read_text()
    assert "/old/" not in text
    assert text.count("/opt/a b/bin/agentpipe hook") == 2
    assert set(hooks(file)) == {"PreToolUse", "Unknown", "Stop"}


def test_uninstall_takes_our_hook_out_of_a_group_of_others_too(file: Path) -> None:
    group = {"matcher": "*", "hooks": [{"type": "command", "command": "a"}, {"type": "command", "command": COMMAND}]}
    file.write_text(json.dumps({"hooks": {"Stop": [group]}}))
    uninstall(str(file))
    assert hooks(file) == {"Stop": [{"matcher": "*", "hooks": [{"type": "command", "command": "a"}]}]}


@pytest.mark.parametrize(
    "theirs", ["my-agentpipe-hook", "echo agentpipe hooks", "/x/agentpipe subscribe", "agentpiped hook", "x.py hook"]
)
def test_what_looks_like_ours_and_is_not_stays(file: Path, theirs: str) -> None:
    file.write_text(json.dumps({"hooks": {"Stop": [{"hooks": [{"type": "command", "command": theirs}]}]}}))
    assert "no hook" in uninstall(str(file))


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", '"x"', "null", '{"hooks": []}', '{"hooks": {"Stop": {}}}', '{"hooks": {"Stop": [1]}}',
        '{"hooks": {"Stop": [{"hooks": {}}]}}', '{"hooks": {"Stop": [{"hooks": ["x"]}]}}', '{"a": 1, "a": 2}',
        '{"a": 1} // comment', "\udcff", '{"a": NaN}', '{"a": -1e400}', '{"a": ' + "[" * 50_000 + "]" * 50_000 + "}",
    ],
    ids=lambda text: text[:30],
)  # fmt: skip
@pytest.mark.parametrize("step", [uninstall, lambda path: install(path, COMMAND, COMMON)], ids=["out", "in"])
def test_a_file_that_is_not_what_it_should_be_is_not_touched(file: Path, text: str, step: Callable[[str], str]) -> None:
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError):
        step(str(file))
    assert file.read_bytes() == text.encode(errors="surrogateescape")
    assert os.listdir(file.parent) == ["settings.json"]


def test_what_was_there_before_us_is_kept_once(file: Path) -> None:
    before = file.read_bytes()
    install(str(file), COMMAND, COMMON)
    install(str(file), COMMAND, ALL)
    assert file.with_name("settings.json.before-agentpipe").read_bytes() == before
    assert sorted(os.listdir(file.parent)) == ["settings.json", "settings.json.before-agentpipe"]


def test_the_mode_stays(file: Path) -> None:
    file.chmod(0o640)
    install(str(file), COMMAND, COMMON)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_file_that_is_not_there_is_made_and_goes_empty(tmp_path: Path) -> None:
    path = tmp_path / ".claude" / "settings.json"
    install(str(path), COMMAND, COMMON)
    assert set(hooks(path)) == set(COMMON)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    uninstall(str(path))
    assert json.loads(path.read_text()) == {}


def test_a_link_stays_a_link(tmp_path: Path, file: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(file.name)
    install(str(link), COMMAND, COMMON)
    assert link.is_symlink()
    assert "Stop" in hooks(file)


def test_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to("gone.json")
    with pytest.raises(InputMissing):
        install(str(link), COMMAND, COMMON)
    assert os.listdir(tmp_path) == ["link.json"]


def test_which_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    assert path_of(None, project=False) == "/home/x/.claude/settings.json"
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", "/c")
    assert path_of(None, project=False) == "/c/settings.json"
    monkeypatch.chdir(tmp_path)
    assert path_of(None, project=True) == str(tmp_path / ".claude" / "settings.json")
    assert path_of("x.json", project=False) == str(tmp_path / "x.json")
    with pytest.raises(OptionError):
        path_of("x.json", project=True)


def test_which_events() -> None:
    assert chosen(["common"]) == COMMON
    assert chosen(["all"]) == ALL
    assert chosen(["Stop", "PreToolUse", "Stop"]) == ("Stop", "PreToolUse")
    with pytest.raises(OptionError, match="Stpo"):
        chosen(["Stpo"])


@pytest.mark.parametrize(
    ("said", "events"),
    [
        ("echo '2.1.328 (Claude Code)'", {*COMMON, *LATER, *RECENT}),
        ("echo '2.1.100 (Claude Code)'", {*COMMON, *LATER}),
        ("echo '2.0.76 (Claude Code)'", COMMON), ("echo '1.0.128 (Claude Code)'", COMMON), ("echo hello", COMMON),
        ("exit 1", COMMON), ("printf '\\377'", COMMON),
    ],
)  # fmt: skip
def test_auto_asks_the_installed_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, events: Collection[str]
) -> None:
    program = tmp_path / "claude"
    program.write_text(f"#!/bin/sh\n{said}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert sorted(chosen(["auto"])) == sorted(events)


def test_without_a_program_auto_is_what_every_version_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert chosen(["auto"]) == COMMON


def test_the_command_works_from_anywhere_and_with_odd_arguments(tmp_path: Path) -> None:
    command = hook_command(["--url", "ws://h:1/a b?c'd"])
    assert shlex.split(command)[-2:] == ["--url", "ws://h:1/a b?c'd"]
    environment = {"HOME": str(tmp_path), "PATH": "/nonexistent"}
    done = subprocess.run(["/bin/sh", "-c", command], input=b" ", cwd="/", env=environment, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_no_module_of_the_working_folder_is_ours(tmp_path: Path) -> None:
    """A project with a folder called ``agentpipe`` is no reason to run what is in it."""
    (tmp_path / "agentpipe").mkdir()
    (tmp_path / "agentpipe" / "__init__.py").write_text("raise SystemExit(7)")
    done = subprocess.run(["/bin/sh", "-c", hook_command([])], input=b" ", cwd=tmp_path, env={"HOME": str(tmp_path)})
    assert done.returncode == 0
