"""What holds for a whole session of any agent, for the formats of which no saved log is at hand."""

from collections import Counter
from collections.abc import Callable, Iterable

import jsonschema

from agentpipe.event import TERMINAL_TYPES, decode
from agentpipe.payload import event_schema
from tests.parse.lines import Line, encoded, parsed_bytes, stage

VALIDATOR = jsonschema.Draft202012Validator(event_schema())


def check(lines: Iterable[Line | str], format_: str, counted: Callable[[bytes], tuple[int, int]]) -> list[Line]:
    """*lines* are one run of *format_*, told validly, whole, and the same however they are cut; nothing is raw, and
    calls and results are as many as *counted* says. Returns the events.
    """
    data = encoded(lines)
    parse = stage()
    events = parsed_bytes(data, parse)
    report = parse.report()
    assert set(report["formats"].values()) == {format_}
    assert report["in"] == report["sources"] + report["ignored"]
    told = [decode(event.line) for event in events]
    for event in told:
        VALIDATOR.validate(event)
    kinds = Counter(event["type"] for event in told)
    assert (told[0]["type"], kinds["run_started"]) == ("run_started", 1)
    assert told[-1]["type"] in TERMINAL_TYPES
    assert [event["sequence"] for event in told] == list(range(1, len(told) + 1))
    assert (kinds["agent_tool_call"], kinds["agent_tool_result"]) == counted(data)
    again = parsed_bytes(data, stage(), range(1, len(data)))
    assert [event.line for event in again] == [event.line for event in events]
    return told
