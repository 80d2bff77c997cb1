"""What a tool was given and gave back, as text of bounded size.

The rule this module keeps: what is cut is cut between characters and says how much is missing; images and files are
named, never carried.
"""

from agentpipe.event import JSON, encode
from agentpipe.parse.adapter import Whole
from agentpipe.parse.vocabulary.fields import items, mapping, string

__all__ = ["capped", "capped_value", "cut", "decoded_size", "flat", "media_of", "shortened", "shown", "size_of"]

#: All strings of one input together may be this many times the limit: a MultiEdit of many edits keeps its structure.
_BUDGET = 4


#: A limit by which nothing is cut but images and files are named.
_NAMED_ONLY = 1 << 60

#: Blocks whose data are named in a text, and handed on beside it.
_MEDIA = frozenset({"image", "document", "audio", "video"})

#: Longer strings of base64 alone are an image or a file, whatever their field is called.
_BASE64_CHARACTERS = 1024

#: So much of one is looked at, in which so many different characters stand: a line of dashes is no image.
_LOOK_CHARACTERS = 512
_VARIETY = 24

_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_\n\r")


def size_of(text: str) -> int:
    """The size of *text* in bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def decoded_size(data: str) -> int:
    """How many bytes *data* in base64 stands for: four characters are three bytes, line ends none."""
    characters = len(data) - data.count("\n") - data.count("\r")
    return characters * 3 // 4 - data[-4:].rstrip()[-2:].count("=")


def cut(text: str, limit: int) -> tuple[str, int, bool]:
    """*text* cut to at most *limit* bytes, the size of the whole in bytes, and whether it was cut."""
    size = len(text)
    if size <= limit and text.isascii():  # the normal case, which is no other than the rest
        return text, size, False
    size = size_of(text)
    if size <= limit:
        return text, size, False
    if size == len(text):
        return text[:limit], size, True
    kept = text.encode("utf-8", "surrogatepass")[:limit]
    while kept and kept[-1] & 0xC0 == 0x80 and not _whole_at_end(kept):
        kept = kept[:-1]
    if kept and kept[-1] >= 0xC0:
        kept = kept[:-1]
    return kept.decode("utf-8", "surrogatepass"), size, True


def _whole_at_end(data: bytes) -> bool:
    """Whether the last character of UTF-8 *data*, which ends in a continuation byte, is whole."""
    for back in range(1, 5):
        lead = data[-back] if back <= len(data) else 0
        if lead & 0xC0 != 0x80:
            needed = 4 if lead >= 0xF0 else 3 if lead >= 0xE0 else 2
            return back == needed
    return False


def shortened(text: str, limit: int) -> str:
    """*text*, or its first *limit* bytes and how many are missing: ``… [+12345 bytes]``."""
    if len(text) <= limit and text.isascii():
        return text
    kept, size, missing = cut(text, limit)
    return f"{kept}… [+{size - size_of(kept)} bytes]" if missing else text


def capped(value: dict[str, JSON], limit: int) -> dict[str, JSON]:
    """*value* with every long string shortened, and images and files named; its structure stays."""
    found: dict[str, JSON] = capped_value(value, limit)
    return found


def capped_value(value: JSON, limit: int) -> JSON:
    """The same of any value."""
    return _capped(value, limit, [limit * _BUDGET])


def _capped(value: JSON, limit: int, left: list[int]) -> JSON:
    kind = type(value)
    if kind is str:
        value = shown(value)
        room = min(limit, left[0])
        short = shortened(value, room)
        left[0] -= min(size_of(value), room)
        return short
    if kind is dict:
        if type(value.get("data")) is str and ("media_type" in value or "mimeType" in value):
            value = {**value, "data": _media("file", value)}
        return {key: _capped(found, limit, left) for key, found in value.items()}
    if kind is list:
        return [_capped(found, limit, left) for found in value]
    return value


def _is_data(text: str) -> bool:
    """Whether a long *text* is an image or a file in base64, alone or as a data URL."""
    if text.startswith("data:"):
        return ";base64," in text[:_LOOK_CHARACTERS]
    look = set(text[:_LOOK_CHARACTERS])
    return len(look) >= _VARIETY and _BASE64.issuperset(look) and _BASE64.issuperset(text[-_LOOK_CHARACTERS:])


def shown(text: str) -> str:
    """*text*, or ``[image/png, 4096 bytes]`` for the long data URL or base64 that it is."""
    if len(text) <= _BASE64_CHARACTERS or not _is_data(text):
        return text
    head, _, data = text.partition(";base64,")
    return _media("base64", {"media_type": head[5:], "data": data} if data else {"data": text})


def flat(content: JSON) -> str:
    """The content of a tool result as text: a string, or its blocks one below the other."""
    if type(content) is str:
        return content
    if type(content) is list:
        return "\n".join(_block(block) for block in content)
    return "" if content is None else _json(content)


def _block(block: JSON) -> str:
    if type(block) is str:
        return block
    found = mapping(block)
    kind = string(found.get("type"))
    if kind == "text" and type(found.get("text")) is str:
        return string(found["text"])
    if kind in _MEDIA:
        return _media(kind, mapping(found.get("source")) or found)
    if kind == "tool_reference":
        return f"[tool {string(found.get('tool_name'))}]"
    if kind in ("web_search_result", "search_result"):
        return f"{string(found.get('title'))} {string(found.get('url'))}".strip()
    if "content" in found and items(found["content"]):
        return flat(found["content"])
    return _json(capped_value(block, _NAMED_ONLY))


def _media(kind: str, source: dict[str, JSON]) -> str:
    """``[image/png, 4096 bytes]``."""
    name = string(source.get("media_type")) or string(source.get("mimeType")) or kind
    data = string(source.get("data"))
    if data:
        return f"[{name}, {decoded_size(data)} bytes]"
    return f"[{name} {string(source.get('url'))}]".replace(" ]", "]")


def media_of(content: JSON) -> tuple[Whole, ...]:
    """The images and files in the blocks of a result or a message, whole, also those inside other blocks."""
    found: list[Whole] = []
    for block in map(mapping, items(content)):
        if string(block.get("type")) in _MEDIA:
            whole = _whole(block)
            found += [whole] if whole is not None else []
        elif "content" in block:
            inner = block["content"]
            found += media_of(inner if type(inner) is list else [inner])
    return tuple(found)


def _whole(block: dict[str, JSON]) -> Whole | None:
    source = mapping(block.get("source")) or block
    data = string(source.get("data"))
    name = string(source.get("media_type")) or string(source.get("mimeType"))
    return Whole(name or "application/octet-stream", data, source.get("type") != "text") if data else None


def _json(value: JSON) -> str:
    return encode(value).decode("utf-8")
