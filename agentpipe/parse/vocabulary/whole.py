"""The whole of what an event shows in part or by name, as the payloads of ``content`` events.

The rule this module keeps: joined in order, the parts are the whole; no part is larger than a hub takes in one message.
"""

from agentpipe.event import JSON
from agentpipe.parse.adapter import Whole
from agentpipe.parse.vocabulary.content import decoded_size, size_of

__all__ = ["PART_CHARACTERS", "content_payloads"]

#: A character is at most 12 bytes of JSON (an escaped surrogate pair), and a hub takes 1 MiB in one message. Base64 is
#: cut at a multiple of four characters, so that each part decodes by itself.
PART_CHARACTERS = 64 * 1024


def content_payloads(whole: Whole, ref: str) -> list[dict[str, JSON]]:
    """The payloads of the parts, at least one; *ref* is the id that the first part's event will have."""
    data = whole.data
    key = "base64" if whole.base64 else "text"
    size = decoded_size(data) if whole.base64 else size_of(data)
    starts = range(0, max(len(data), 1), PART_CHARACTERS)
    return [
        {
            "ref": ref,
            "media_type": whole.media_type,
            "bytes": size,
            "part": number,
            "parts": len(starts),
            key: data[start : start + PART_CHARACTERS],
        }
        for number, start in enumerate(starts, 1)
    ]
