"""The manual: prose by hand in ``man/*.md``, everything that the program knows itself filled in; man(7) comes out.

``python man/build.py`` writes ``man/*.1``; ``--check`` writes nothing and ends with 1 when a page is out of date.
NAME, SYNOPSIS, OPTIONS and the common part of ENVIRONMENT and FILES are made; the rest is a source's sections
(``# TITLE``) of paragraphs, ``- `term`: text`` lists, fenced code, `code`, *emphasis* and **strong**.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from agentpipe.catalog import COMMANDS
from agentpipe.version import __version__
from agentpipe_cli.main import cli

HERE = Path(__file__).parent
#: When the manual was last gone through as a whole; a page needs a date, and a date of building would never be equal.
DATE = "2026-11-20"
ORDER = ("DESCRIPTION", "COMMANDS", "OPTIONS", "EXAMPLES", "EXIT STATUS", "ENVIRONMENT", "FILES", "NOTES", "SEE ALSO")
MADE = ("NAME", "SYNOPSIS", "OPTIONS")
SPECIAL = {
    "\\": "\\e",
    "-": "\\-",
    "…": "...",
    "–": "\\(en",
    "×": "\\(mu",
    "→": "\\(->",
    "≤": "\\(<=",
    "≥": "\\(>=",
    "’": "\\(cq",
}


def main() -> int:
    """Write the pages, or with ``--check`` compare them; the exit status."""
    check = sys.argv[1:] == ["--check"]
    stale = []
    for name, text in pages().items():
        path = HERE / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if not check:
            path.write_text(text)
    extra = [path.name for path in HERE.glob("*.1") if path.name not in pages()]
    for name in stale:
        print(f"man/{name}: {'out of date; run make man' if check else 'written'}")
    for name in extra:
        print(f"man/{name}: no command of that name")
    return 1 if extra or (check and stale) else 0


def pages() -> dict[str, str]:
    """Every page as the file's name and text."""
    found = {"agentpipe.1": page("agentpipe", cli, "see what a coding agent does while it does it")}
    for name, row in COMMANDS.items():
        summary = row.summary[0].lower() + row.summary[1:].removesuffix(".")
        found[f"agentpipe-{name}.1"] = page(name, row.load(), summary)
    return found


def page(name: str, command: click.Command, summary: str) -> str:
    """The page of one command."""
    title = "agentpipe" if name == "agentpipe" else f"agentpipe-{name}"
    context = click.Context(command, info_name=title.replace("-", " "), **command.context_settings)
    sections = read(HERE / f"{name}.md")
    sections["OPTIONS"] = list(options(command, context))
    if name != "agentpipe":
        sections["ENVIRONMENT"] = [*environment(command, context), *sections.get("ENVIRONMENT", [])]
        sections["FILES"] = [*settings(name), *sections.get("FILES", [])]
    lines = [
        f'.\\" Made by man/build.py from man/{name}.md and the command itself: change those.',
        f'.TH "{escaped(title.upper())}" 1 {DATE} "agentpipe {__version__}" "agentpipe manual"',
        ".SH NAME",
        f"{escaped(title)} \\- {escaped(summary)}",
        ".SH SYNOPSIS",
        *synopsis(command, context),
    ]
    for heading in ORDER:
        if heading in sections:
            lines += [f'.SH "{heading}"', *sections[heading]]
    return "\n".join(lines) + "\n"


def synopsis(command: click.Command, context: click.Context) -> Iterator[str]:
    words = " ".join(command.collect_usage_pieces(context))
    if "CMD" in words:
        words = words.replace("CMD", "-- CMD")
    yield f"\\fB{escaped(context.command_path)}\\fR {escaped(words)}"


def options(command: click.Command, context: click.Context) -> Iterator[str]:
    """Each option of the command as a tagged paragraph, with its bounds and its default."""
    for param in command.get_params(context):
        record = param.get_help_record(context) if isinstance(param, click.Option) else None
        if record is None:
            continue
        names, text = record
        yield ".TP"
        yield tagged(names)
        yield from flow(bounds(" ".join(text.split())))


def tagged(names: str) -> str:
    """The option's names in bold, what it takes in italics."""
    flags, _, value = names.rpartition(" ")
    if not flags or value.startswith("-"):
        flags, value = names, ""
    strong = re.sub(r"--?[a-z][a-z-]*", lambda match: f"\\fB{escaped(match[0])}\\fR", flags)
    return f"{strong} \\fI{escaped(value)}\\fR" if value else strong


def bounds(text: str) -> str:
    """Click's notes in brackets as a sentence of the manual."""
    text = re.sub(r"\s*\[default: ([^\]]*)\]", lambda m: f" Default: `{m[1]}`.", text)
    text = re.sub(r"\s*\[(\d[\d.]*)<=x<=([\d.]+)\]", r" From \1 to \2.", text)
    text = re.sub(r"\s*\[x>=(\d[\d.]*)\]", r" At least \1.", text)
    return re.sub(r"\s*\[x<=(\d[\d.]*)\]", r" At most \1.", text)


def environment(command: click.Command, context: click.Context) -> Iterator[str]:
    """How every option is said by the environment, with one of this command's as the example."""
    own = [param for param in command.get_params(context) if isinstance(param, click.Option) and param.envvar]
    if own:
        example = own[0]
        yield from flow(
            f"Every option can be given by a variable: `{example.envvar}` stands for `{example.opts[0]}`, and so on. "
            "An option on the command line goes before its variable, and the variable before the settings file."
        )


def settings(name: str) -> Iterator[str]:
    yield ".TP"
    yield "\\fI$XDG_CONFIG_HOME/agentpipe/config.toml\\fR"
    yield from flow(
        f"Settings; the table `[{name}]` holds this command's, named as the options without their dashes. "
        "Without `XDG_CONFIG_HOME` it is looked for in *~/.config*."
    )


def read(path: Path) -> dict[str, list[str]]:
    """The sections of a source, each as lines of man(7)."""
    sections: dict[str, list[str]] = {}
    for part in re.split(r"^# ", path.read_text(), flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        if heading not in ORDER or heading in MADE:
            raise SystemExit(f"{path.name}: a page has no hand-written section {heading!r}")
        sections[heading] = list(blocks(body))
    return sections


def blocks(body: str) -> Iterator[str]:
    """Paragraphs, lists and fenced code."""
    for number, block in enumerate(re.split(r"\n{2,}", body.strip("\n"))):
        if block.startswith("```"):
            yield from [*[".PP"] * bool(number), ".RS 4", ".EX", *map(literal, block.split("\n")[1:-1]), ".EE", ".RE"]
        elif block == "{commands}":
            yield from commands()
        elif block.startswith("- "):
            yield from items(block)
        else:
            yield from [".PP"] * bool(number)
            yield from flow(" ".join(block.split()))


def items(block: str) -> Iterator[str]:
    for item in re.split(r"^- ", block, flags=re.MULTILINE)[1:]:
        term, _, text = " ".join(item.split()).partition(": ")
        yield from [".TP", inline(term), *flow(text)]


def commands() -> Iterator[str]:
    for name, row in COMMANDS.items():
        yield from [".TP", f"\\fBagentpipe\\-{name}\\fR(1)", *flow(row.summary)]


def flow(text: str) -> Iterator[str]:
    """A paragraph, each sentence on a line of its own, as man(7) wants it."""
    for sentence in re.split(r"(?<=[.?])\s+(?=[A-Z`*(])", text):
        yield guarded(inline(sentence))


def inline(text: str) -> str:
    """Code and strong in bold, emphasis in italics, references to pages as they are usually set."""
    found = ""
    for piece in re.split(r"(`[^`]+`|\*\*[^*]+\*\*|\*[^*]+\*)", text):
        if piece.startswith("`"):
            found += f"\\fB{escaped(piece[1:-1])}\\fR"
        elif piece.startswith("**"):
            found += f"\\fB{escaped(piece[2:-2])}\\fR"
        elif piece.startswith("*") and len(piece) > 2:
            found += f"\\fI{escaped(piece[1:-1])}\\fR"
        else:
            found += escaped(piece)
    return found


def literal(line: str) -> str:
    return guarded(escaped(line))


def escaped(text: str) -> str:
    return "".join(SPECIAL.get(character, character) for character in text)


def guarded(line: str) -> str:
    """A line that begins with a control character is text all the same."""
    return f"\\&{line}" if line.startswith((".", "'")) else line


if __name__ == "__main__":
    sys.exit(main())
