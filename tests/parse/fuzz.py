"""Mutated logs of every format against ``parse``: nothing raises, nothing hangs, every line is accounted for, and what
is told is valid.

    python tests/parse/fuzz.py --count 200000 --seed 1

Each input is a few lines of real logs (of one format, sometimes of several), mutated as text or as JSON. An input that
breaks the rule is printed with its seed, by which it can be made again: ``--only SEED``.
"""

import argparse
import json
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema

sys.path.insert(0, str(Path(__file__).parents[2]))

from agentpipe.event import TERMINAL_TYPES, Event, decode
from agentpipe.parse.detect import ADAPTERS
from agentpipe.payload import event_schema
from tests.parse.lines import lines_in, parsed_bytes, stage
from tests.parse.logs import EXAMPLES, LOGS, ROOT

#: An input of a few lines takes a millisecond; what takes this long would never end.
HANG_S = 20

#: Lines that are longer make a mutated input slow without making it stranger.
_LONGEST = 8 * 1024

_LEAVES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1 << 70, 1e308, "", "\x00", "\ud800", "a\nb", "\u2028", "\x1b[31m", [], {}, [[]], [{}],
    "2026-13-45T99:99:99Z", "toolu_1", ["a"], {"type": "text"}, "{}", "[", "9" * 400,
)  # fmt: skip


#: One event in so many is checked against the schema.
_CHECKED = 10
_VALIDATOR = jsonschema.Draft202012Validator(event_schema())


class Hang(Exception):
    """An input took longer than it ever should."""


def corpus() -> list[list[bytes]]:
    """The lines of every log at hand: the shared ones, those of the repository, and a short one of every format."""
    paths = [log.path for log in (*EXAMPLES, *LOGS)]
    paths += [*ROOT.glob("tests/agents/recordings/**/*.jsonl"), *ROOT.glob("docs/samples/*.jsonl")]
    logs = [[line for line in path.read_bytes().split(b"\n") if 0 < len(line) <= _LONGEST] for path in sorted(paths)]
    return [lines for lines in logs if lines]


def made(logs: Sequence[Sequence[bytes]], chance: random.Random) -> bytes:
    """One input: some lines of one log, or of two, most of them as they were."""
    lines: list[bytes] = []
    for _ in range(1 if chance.random() < 0.85 else 2):
        log = chance.choice(logs)
        start = 0 if chance.random() < 0.5 else chance.randrange(len(log))
        lines += log[start : start + chance.randrange(1, 24)]
    if chance.random() < 0.1:
        chance.shuffle(lines)
    lines = [_mutated(line, chance) if chance.random() < 0.4 else line for line in lines]
    end = b"\r\n" if chance.random() < 0.05 else b"\n"
    return end.join(lines) + (b"" if chance.random() < 0.2 else end)


def _mutated(line: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.6:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            pass
        else:
            for _ in range(chance.randrange(1, 4)):
                value = _json(value, chance)
            indent = 2 if chance.random() < 0.03 else None
            return json.dumps(value, indent=indent).encode("utf-8", "surrogatepass")
    return chance.choice(_TEXT)(line, chance)


def _json(value: Any, chance: random.Random) -> Any:
    """*value* with one place of it changed."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        way = chance.random()
        if way < 0.15:
            return {name: found for name, found in value.items() if name != key}
        if way < 0.25:
            return {**value, chance.choice(list(value)): value[key]}
        return {**value, key: _json(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.9:
        place = chance.randrange(len(value))
        if chance.random() < 0.2:
            return [*value[:place], value[place], value[place], *value[place + 1 :]]
        return [*value[:place], _json(value[place], chance), *value[place + 1 :]]
    return chance.choice(_LEAVES)


def _cut(line: bytes, chance: random.Random) -> bytes:
    return line[: chance.randrange(len(line) + 1)]


def _flip(line: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(line))
    return line[:place] + bytes([chance.randrange(256)]) + line[place + 1 :]


def _splice(line: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(line))
    return line[:place] + line + line[place:]


def _noise(line: bytes, chance: random.Random) -> bytes:
    return bytes(chance.randrange(256) for _ in range(chance.randrange(40))) + (line if chance.random() < 0.5 else b"")


def _bracket(line: bytes, chance: random.Random) -> bytes:
    return chance.choice((b"{", b"}", b"[", b"]", b"[{", b"}]", b"null", b"\xef\xbb\xbf" + line, b"[" + line + b"]"))


_TEXT: tuple[Callable[[bytes, random.Random], bytes], ...] = (_cut, _flip, _splice, _noise, _bracket)


def problem(data: bytes, format_: str) -> str | None:
    """What is wrong with how *data* is parsed as *format_*, or None."""
    parse = stage(format=format_)
    events = parsed_bytes(data, parse)
    report = parse.report()
    lines = lines_in(data)
    if report["in"] != lines:
        return f"{lines} lines went in, {report['in']} are counted"
    if report["in"] != report["sources"] + report["ignored"] + report["raw"] + report["passed_through"]:
        return f"a line is unaccounted for: {report}"
    runs: dict[str, list[Any]] = {}
    for event in events:
        runs.setdefault(event.run_id, []).append(decode(event.line))
    own = {run_id: found for run_id, found in runs.items() if run_id in report["formats"]}
    if bool(own) is not bool(report["in"] - report["passed_through"]):
        return "there is no run"
    return next((said for said in map(_wrong, own.values()) if said), None) or _invalid(events, len(data))


def _invalid(events: Sequence[Event], start: int) -> str | None:
    """What is wrong with some of the events: to check one takes longer than to make it."""
    for event in events[start % _CHECKED :: _CHECKED]:
        error = next(_VALIDATOR.iter_errors(decode(event.line)), None)
        if error is not None:
            return f"an event {event.type} is not valid: {error.message[:200]} at {list(error.absolute_path)}"
    return None


def _wrong(events: list[Any]) -> str | None:
    """What is wrong with the events of one run."""
    kinds = [event["type"] for event in events]
    if kinds[0] != "run_started" or kinds.count("run_started") != 1:
        return "a run has not one start"
    if kinds[-1] not in TERMINAL_TYPES or sum(kind in TERMINAL_TYPES for kind in kinds) != 1:
        return "a run has not one end"
    if [event["sequence"] for event in events] != list(range(1, len(events) + 1)):
        return "the numbers have a hole"
    return None


def inputs(count: int, seed: int) -> Iterator[tuple[str, bytes, str]]:
    """*count* inputs by name, each with the format that it is to be read as."""
    logs = corpus()
    for number in range(count):
        name = f"{seed}.{number}"
        chance = random.Random(name)
        format_ = "auto" if chance.random() < 0.7 else chance.choice(list(ADAPTERS))
        yield name, made(logs, chance), format_


def checked(name: str, data: bytes, format_: str) -> str | None:
    """As `problem`, with what it raises and whether it hangs."""
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    try:
        return problem(data, format_)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _hangs(*_: object) -> None:
    raise Hang("it hangs")


def main() -> int:
    """Run the search; 1 when something was found."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=200_000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--only", help="make and check this input alone, and print it")
    given = options.parse_args()
    signal.signal(signal.SIGALRM, _hangs)
    if given.only:
        seed, number = map(int, given.only.split("."))
        name, data, format_ = list(inputs(number + 1, seed))[-1]
        print(format_, data.decode("utf-8", "backslashreplace"), sep="\n")
        print(problem(data, format_))
        return 0
    started, found = time.monotonic(), 0
    for number, (name, data, format_) in enumerate(inputs(given.count, given.seed), 1):
        said = checked(name, data, format_)
        if said:
            found += 1
            print(f"{name} ({format_}): {said}", flush=True)
        if number % 10_000 == 0:
            print(f"{number} inputs, {found} problems, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    print(f"{given.count} inputs, {found} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
