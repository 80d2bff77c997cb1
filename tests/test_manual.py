"""The manual says what the program does: made pages are up to date, options agree both ways, examples are real."""

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from agentpipe.catalog import COMMANDS
from agentpipe_cli.main import cli
from tests.conftest import Run

ROOT = Path(__file__).parents[1]
MAN = ROOT / "man"
NAMES = ["agentpipe", *COMMANDS]
SECTIONS = ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "EXIT STATUS", "FILES", "SEE ALSO")

every = pytest.mark.parametrize("name", NAMES)


def page(name: str) -> str:
    return (MAN / ("agentpipe.1" if name == "agentpipe" else f"agentpipe-{name}.1")).read_text()


def plain(roff: str) -> str:
    """Without fonts and escapes."""
    for escape, text in {"\\-": "-", "\\e": "\\", "\\&": ""}.items():
        roff = roff.replace(escape, text)
    return re.sub(r"\\f[BIR]", "", roff)


def section(name: str, heading: str) -> str:
    found = re.search(rf'^\.SH "?{heading}"?\n(.*?)(?=^\.SH|\Z)', page(name), re.MULTILINE | re.DOTALL)
    return plain(found[1]) if found else ""


def flags(names: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", names))


def test_the_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(MAN / "build.py"), "--check"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_a_page_that_is_out_of_date_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: object) -> None:
    spec = importlib.util.spec_from_file_location("build", MAN / "build.py")
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    for path in MAN.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    monkeypatch.setattr(build, "HERE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["build.py", "--check"])
    assert build.main() == 0
    (tmp_path / "agentpipe-run.1").write_text("old")
    (tmp_path / "agentpipe-gone.1").write_text("old")
    assert build.main() == 1
    assert isinstance(capsys, pytest.CaptureFixture)
    said = capsys.readouterr().out
    assert "agentpipe-run.1: out of date" in said
    assert "agentpipe-gone.1: no command" in said
    assert (tmp_path / "agentpipe-run.1").read_text() == "old"


@every
def test_a_page_has_its_sections_and_its_name(name: str) -> None:
    assert [heading for heading in SECTIONS if not section(name, heading)] == []
    title = "agentpipe" if name == "agentpipe" else f"agentpipe-{name}"
    assert section(name, "NAME").startswith(f"{title} - ")
    assert section(name, "SYNOPSIS").startswith(title.replace("-", " ", 1) + " ")


@every
def test_page_and_help_have_the_same_options(agentpipe: Run, name: str) -> None:
    text = agentpipe(*([] if name == "agentpipe" else [name]), "--help").stdout.decode()
    helped = text[text.index("\nOptions:\n") :].partition("\n\n")[0]
    shown = {line.strip().split("  ")[0] for line in helped.splitlines()[2:] if re.match(r"  -", line)}
    in_help = {flag for names in shown for flag in flags(names)}
    tags = re.findall(r"^\.TP\n(.*)$", section(name, "OPTIONS"), re.MULTILINE)
    in_page = {flag for names in tags for flag in flags(names)}
    assert in_page == in_help
    assert in_page >= {"--help"}


@every
def test_pages_lint_clean(name: str) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed")
    path = MAN / ("agentpipe.1" if name == "agentpipe" else f"agentpipe-{name}.1")
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", str(path)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@every
def test_options_and_commands_that_the_prose_names_exist(name: str) -> None:
    prose = "\n".join(
        section(name, heading) for heading in ("DESCRIPTION", "EXIT STATUS", "ENVIRONMENT", "FILES", "NOTES")
    )
    known = {flag for command in COMMANDS for flag in flags(section(command, "OPTIONS"))}
    own = known if name == "agentpipe" else flags(section(name, "OPTIONS"))
    assert {flag for flag in flags(prose) if flag.startswith("--")} <= own
    assert set(re.findall(r"agentpipe-(\w+)\(1\)", plain(page(name)))) <= set(COMMANDS)
    assert set(re.findall(r"agentpipe ([a-z]+)\b", section(name, "SYNOPSIS"))) <= set(COMMANDS)


def examples(text: str) -> Iterator[list[str]]:
    """The words of every ``agentpipe`` call in shell text, without what belongs to the shell."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
        call: list[str] = []
        skip = False
        for word in [*words, "|"]:
            if skip:
                skip = False
            elif re.fullmatch(r"[|&;()]+", word):
                if call[:1] == ["agentpipe"]:
                    yield call[1:]
                call = []
            elif re.fullmatch(r"[<>]+&?|[<>]&", word):
                skip = True
            else:
                call.append(word)


def code(name: str) -> str:
    return "\n".join(re.findall(r"^\.EX\n(.*?)^\.EE", section(name, "EXAMPLES"), re.MULTILINE | re.DOTALL))


@every
def test_every_example_is_a_call_that_the_program_takes(name: str) -> None:
    calls = list(examples(code(name)))
    assert calls, "a page shows examples"
    if name != "agentpipe":
        assert any(call[0] == name for call in calls)
    for call in calls:
        parsed(call)


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))], ids=lambda path: path.name)
def test_every_example_of_the_documents_is_one_too(path: Path) -> None:
    for block in re.findall(r"```sh\n(.*?)```", path.read_text(), re.DOTALL):
        for call in examples(block):
            parsed(call)


@every
def test_examples_in_the_help_are_calls_too(agentpipe: Run, name: str) -> None:
    text = agentpipe(*([] if name == "agentpipe" else [name]), "--help").stdout.decode()
    described = text[: text.index("\nOptions:\n")].partition("\n")[2]
    lines = re.sub(r"\\\n\s*", " ", described).splitlines()
    for call in examples(
        "\n".join(line for line in lines if re.match(r"\s+(agentpipe|…|\w+) .*", line) and "|" in line)
    ):
        parsed(call)


def parsed(call: list[str]) -> None:
    """Give the words to click as a shell would; a usage error fails the test."""
    name, *words = call
    if name.startswith("-"):
        assert name in {"--help", "--version"}
        return
    command = cli.get_command(click.Context(cli), name)
    assert command is not None, f"no command {name!r}"
    words = ["…" if word.startswith("$") else word for word in words]
    try:
        command.make_context(name, list(words))
    except click.exceptions.Exit:
        assert words[-1] in {"-h", "--help"}


def test_the_example_reader_reads_shell() -> None:
    text = "agentpipe run -- sh -c 'a | b' 2>&1 | agentpipe parse > x # so\n"
    text += "cat f | agentpipe throttle \\\n  --rate 5/s < y &\nagentpipe publish ws://h:1"
    assert list(examples(text)) == [
        ["run", "--", "sh", "-c", "a | b", "2"],
        ["parse"],
        ["throttle", "--rate", "5/s"],
        ["publish", "ws://h:1"],
    ]
    with pytest.raises(click.UsageError):
        parsed(["throttle", "--rte", "5"])
