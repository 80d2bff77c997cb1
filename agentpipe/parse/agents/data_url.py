"""Images and files that stand in a line as a data URL (RFC 2397).

The rule this module keeps: a text names them, their data are handed on beside it.
"""

from agentpipe.event import JSON
from agentpipe.parse.adapter import Whole
from agentpipe.parse.vocabulary.content import flat
from agentpipe.parse.vocabulary.fields import string

__all__ = ["image_of"]


def image_of(url: JSON) -> tuple[str, tuple[Whole, ...]]:
    """How the image or file at *url* reads in a text, and its data when the address holds them."""
    address = string(url)
    head, _, data = address.partition(",")
    if not head.startswith("data:") or not head.endswith(";base64"):
        return f"[image {address}]".replace(" ]", "]"), ()
    name = head[5:].split(";", 1)[0] or "image"
    return flat([{"type": "image", "media_type": name, "data": data}]), (Whole(name, data, base64=True),)
