"""What a tool gave back, read from its structured form alone: hooks are told nothing else.

The rule this module keeps: the text is what the structure holds, in the words of the tool; nothing is worded anew.
"""

from agentpipe.event import JSON
from agentpipe.parse.vocabulary.content import flat
from agentpipe.parse.vocabulary.fields import items, mapping, string

__all__ = ["content_of"]

#: Fields whose text is all that a tool said, the first that is there.
_SAID = ("content", "result", "output", "message", "text", "summary", "filePath")


def content_of(response: JSON) -> JSON:
    """The content of a result as a message would hold it: a text or blocks. *response* is a hook's ``tool_response``
    or a transcript's ``toolUseResult``.
    """
    if type(response) is not dict:
        return response
    file = mapping(response.get("file"))
    if file:
        return _file(file)
    if "stdout" in response or "stderr" in response:
        return _streams(response)
    if type(response.get("filenames")) is list and "content" not in response:
        return "\n".join(string(name) for name in response["filenames"])
    return _said(response)


def _file(file: dict[str, JSON]) -> JSON:
    data = string(file.get("base64"))
    if data:
        return [_image(string(file.get("type")) or "application/octet-stream", data)]
    return file["content"] if type(file.get("content")) is str else string(file.get("filePath"))


def _streams(response: dict[str, JSON]) -> JSON:
    out, err = string(response.get("stdout")), string(response.get("stderr"))
    head, _, data = out.partition(";base64,")
    if data and response.get("isImage") is True and head.startswith("data:"):
        return [_image(head[5:], data)]
    return "\n".join(text for text in (out, err) if text)


def _said(response: dict[str, JSON]) -> JSON:
    if type(response.get("filePath")) is str and "content" in response:
        return response["filePath"]  # a file was written: its content is the call's own
    for field in _SAID:
        value = response.get(field)
        if type(value) is str or (type(value) is list and field == "content" and items(value)):
            return value
    return flat([response]) if response else ""


def _image(media_type: str, data: str) -> dict[str, JSON]:
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}
