"""The parts of a message of the Gemini API, as Gemini CLI and Qwen Code save them: text, thoughts, calls, responses.

The rule this module keeps: what a saved call or its response means is read here once for both; nothing raises.
"""

from collections.abc import Iterator

from agentpipe.event import JSON
from agentpipe.parse.adapter import Whole
from agentpipe.parse.vocabulary.content import flat
from agentpipe.parse.vocabulary.fields import items, mapping, string, whole
from agentpipe.parse.vocabulary.usage import Tokens, tokens

__all__ = ["Part", "calls_in", "media_in", "parts_of", "response_of", "responses_in", "said", "tokens_of"]

Part = dict[str, JSON]


def parts_of(content: JSON) -> list[Part]:
    """The parts of a message: a string is one text, a part alone stands for itself."""
    if type(content) is str:
        return [{"text": content}]
    if type(content) is dict:
        return [content]
    return [part if type(part) is dict else {"text": flat(part)} for part in items(content)]


def said(parts: list[Part], between: str = "", *, thought: bool = False) -> str:
    """The text of *parts* with the names of images and files, or that of its thoughts. What a model says goes on from
    part to part, while those of the user stand one below the other: *between* is put between them.
    """
    texts = [_text(part) for part in parts if (part.get("thought") is True) is thought]
    return between.join(text for text in texts if text)


def _text(part: Part) -> str:
    if type(part.get("text")) is str:
        return string(part["text"])
    for field in ("inlineData", "fileData"):
        found = mapping(part.get(field))
        if found:
            source = {"media_type": found.get("mimeType"), "data": found.get("data"), "url": found.get("fileUri")}
            return flat([{"type": "document", "source": source}])
    return ""


def media_in(parts: list[Part]) -> tuple[Whole, ...]:
    """The images and files in *parts*, whole."""
    found = (mapping(part.get("inlineData")) for part in parts)
    return tuple(
        Whole(string(data.get("mimeType")) or "application/octet-stream", string(data.get("data")), base64=True)
        for data in found
        if string(data.get("data"))
    )


def calls_in(parts: list[Part]) -> Iterator[Part]:
    """The calls in *parts*: ``id``, ``name``, ``args``."""
    return (mapping(part["functionCall"]) for part in parts if "functionCall" in part)


def responses_in(parts: list[Part]) -> Iterator[Part]:
    """The responses in *parts*: ``id``, ``name``, ``response``."""
    return (mapping(part["functionResponse"]) for part in parts if "functionResponse" in part)


def response_of(found: Part) -> tuple[str, bool]:
    """What a response tells the model, and whether it is an error."""
    response = mapping(found.get("response"))
    failed = "error" in response
    return flat(response.get("error") if failed else response.get("output")), failed


def tokens_of(given: JSON, output: JSON, thoughts: JSON, cached: JSON, total: JSON) -> Tokens:
    """Tokens as the Gemini API counts them: cached ones are in the input, thoughts beside the output. Where other APIs
    are behind it thoughts may be in the output, which the total shows.
    """
    written, thought, all_ = whole(output), whole(thoughts) or 0, whole(total)
    if all_ is None or (whole(given) or 0) + (written or 0) + thought <= all_:
        written = (written or 0) + thought if written is not None or thought else None
    return tokens(given, written, cached, includes_cache=True)
