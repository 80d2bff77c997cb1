"""What a call of Codex gave back, as a rollout keeps it: a text, JSON in a text, a list of contents, an object.

The rule this module keeps: what Codex wrote above the output for its model (times, the exit status) becomes fields and
is no part of the content; a text that only looks like one of these stands as it is.
"""

from typing import NamedTuple

from agentpipe.event import JSON, decode
from agentpipe.parse.adapter import Whole
from agentpipe.parse.agents.data_url import image_of
from agentpipe.parse.vocabulary.content import flat
from agentpipe.parse.vocabulary.fields import items, mapping, number, string, whole

__all__ = ["Output", "output_of", "parts_of"]

#: How an output without an exit status begins when the call came to nothing.
_FAILURES = (
    "aborted", "apply_patch verification failed", "collab spawn failed", "exec_command failed", "execution error",
    "failed to parse", "patch rejected", "rejected by user", "unsupported call", "unsupported custom tool call",
    "unable to locate image", "write_stdin failed",
)  # fmt: skip

#: Lines above ``Output:`` are fewer than this.
_HEAD_LINES = 8


class Output(NamedTuple):
    """*ok* is None when the output does not say."""

    text: str
    ok: bool | None = None
    exit_code: int | None = None
    duration_ms: int | None = None
    whole: tuple[Whole, ...] = ()


def output_of(value: JSON) -> Output:
    """The ``output`` of a ``function_call_output`` or a ``custom_tool_call_output``."""
    if type(value) is list:
        return _list(value)
    if type(value) is dict:
        content = value.get("content", value.get("output"))
        found = output_of(content) if type(content) in (str, list) else Output(flat(content))
        return found._replace(ok=value["success"]) if type(value.get("success")) is bool else found
    text = string(value)
    return _json(text) or _headed(text)


def parts_of(content: JSON) -> tuple[list[str], tuple[Whole, ...]]:
    """The contents of a message or an output as texts, one each, and its images."""
    texts: list[str] = []
    images: tuple[Whole, ...] = ()
    for part in items(content):
        found = mapping(part)
        if type(found.get("text")) is str:
            texts.append(found["text"])
        elif "image_url" in found:
            text, media = image_of(found["image_url"])
            texts.append(text)
            images += media
        else:
            texts.append(flat([part]))
    return texts, images


def _list(value: list[JSON]) -> Output:
    texts, images = parts_of(value)
    headed = bool(texts) and texts[0].startswith(("Wall time: ", "Chunk ID: ", "Exit code: "))
    head = _headed(texts[0]) if headed else Output("")
    rest = texts[1:] if headed and not head.text else texts if not headed else [head.text, *texts[1:]]
    return head._replace(text="\n".join(rest), whole=images)


def _json(text: str) -> Output | None:
    """``{"output": …, "metadata": {"exit_code", "duration_seconds"}}``."""
    if not text.startswith('{"') or '"output"' not in text:
        return None
    try:
        found = mapping(decode(text.encode("utf-8", "surrogatepass")))
    except ValueError:
        return None
    facts = found.get("metadata")
    if type(found.get("output")) is not str or type(facts) is not dict:
        return None
    code, took_s = whole(facts.get("exit_code")), number(facts.get("duration_seconds"))
    took_ms = None if took_s is None else round(took_s * 1000)
    return Output(found["output"], None if code is None else code == 0, code, took_ms)


def _headed(text: str) -> Output:
    """Lines such as ``Process exited with code 0`` above ``Output:``."""
    code: int | None = None
    took_ms: int | None = None
    place = 0
    for _ in range(_HEAD_LINES):
        end = text.find("\n", place)
        line = text[place : end if end >= 0 else len(text)]
        if line == "Output:":
            body = text[end + 1 :] if end >= 0 else ""
            return Output(body, _succeeded(body, code), code, took_ms)
        found = _status(line)
        code = found if found is not None else code
        seconds = _seconds(line)
        took_ms = seconds if seconds is not None else took_ms
        if end < 0 or not _is_head(line):
            break
        place = end + 1
    if place and text[place:].startswith(_FAILURES):  # ``Wall time: 2.3 seconds`` and that it was aborted
        return Output(text[place:], False, code, took_ms)
    return Output(text, False if text.startswith(_FAILURES) else None)


_HEADS = ("Chunk ID: ", "Exit code: ", "Original token count: ", "Process exited ", "Process running ", "Total output",
          "Wall time: ", "Warning: ")  # fmt: skip


def _is_head(line: str) -> bool:
    return line.startswith(_HEADS)


def _status(line: str) -> int | None:
    for mark in ("Process exited with code ", "Exit code: "):
        digits = line.removeprefix(mark)
        if digits != line and digits.removeprefix("-").isdecimal() and len(digits) < 12:
            return int(digits)
    return None


def _seconds(line: str) -> int | None:
    if not line.startswith("Wall time: "):
        return None
    try:
        return round(float(line[11:].split(" ", 1)[0]) * 1000)
    except (ValueError, OverflowError):
        return None


def _succeeded(body: str, code: int | None) -> bool | None:
    if code is not None:
        return code == 0
    return False if body.startswith(_FAILURES) else None
