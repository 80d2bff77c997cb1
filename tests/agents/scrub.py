"""Taking names of this machine out of a recording.

The rule this module keeps: what is recorded is what was printed; only names of this machine (paths, its user and host,
an address) are replaced, by names of a made-up one, in whole strings and never by taking a line apart.
"""

import re
import socket
import tempfile
from pathlib import Path

from tests.agents.sandbox import Sandbox

__all__ = ["names_of", "scrub"]

_ROOT = Path(__file__).parents[2]


def scrub(text: str, names: dict[str, str]) -> str:
    """*text* with every one of *names* replaced, longest first. Raises ValueError when a trace of the machine is left.

    CLIs also write paths with everything but letters and digits turned into dashes, and without the first slash.
    """
    dashed = {
        re.sub(r"[^A-Za-z0-9]", "-", found): re.sub(r"[^A-Za-z0-9]", "-", made_up) for found, made_up in names.items()
    }
    relative = {found.lstrip("/"): made_up.lstrip("/") for found, made_up in names.items()}
    for found, made_up in sorted((names | dashed | relative).items(), key=lambda pair: -len(pair[0])):
        text = text.replace(found, made_up)
    for forbidden in ("sk-dummy", "127.0.0.1", tempfile.gettempdir() + "/", str(_ROOT), str(Path.home()) + "/"):
        at = text.find(forbidden)
        if at >= 0:
            raise ValueError(f"{forbidden} is left in the recording: {text[max(0, at - 60) : at + 60]}")
    if re.search(rf"\b{re.escape(socket.gethostname())}\b", text):
        raise ValueError("the name of the host is left in the recording")
    return text


def names_of(sandbox: Sandbox, agent: str) -> dict[str, str]:
    """What is this machine's in a recording, and what stands there instead."""
    return {
        str(sandbox.binary): agent,
        str(sandbox.workspace): "/home/dev/shop",
        str(sandbox.home / "config"): "/home/dev/.claude",
        str(sandbox.tmp): "/home/dev/.cache",
        str(sandbox.home): "/home/dev",
        sandbox.url.removeprefix("http://"): "mock",
    }
