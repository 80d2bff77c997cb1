"""A real `agentpipe serve` in a process of its own, which a test may kill and start again as it was."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

#: Generous, because the machine may be busy; nothing waits this long when all is well.
PATIENCE_S = 30.0


def until(true: Callable[[], Any], what: str = "it") -> Any:
    """Poll *true* until it is; its value. Fails when that takes too long."""
    limit = time.monotonic() + PATIENCE_S
    while not (found := true()):
        assert time.monotonic() < limit, f"{what} did not happen in {PATIENCE_S:g} s"
        time.sleep(0.01)
    return found


class HubProcess:
    """A hub that keeps in *folder* its store (unless it is ``memory`` or a URL), its token and what it says on stderr.

    Started again it has the same port, token and store. With *own_token* False the token is where every command of
    this *environment* looks for it by itself.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        *options: str,
        store: str = "hub.db",
        own_token: bool = True,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        # given
        self.folder = folder
        self.store = store if store == "memory" or "://" in store else str(folder / store)
        self.token_file = folder / "token" if own_token else None
        self._environment = environment
        self._options = options
        self._stdin = stdin
        self.program = [str(Path(sys.executable).parent / "agentpipe")]
        # changing
        self.process: subprocess.Popen[bytes]
        self.port = 0
        self.url = ""  # http://127.0.0.1:PORT/

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self.begin()
        ready = self.folder / "ready"
        until(lambda: ready.exists() or self.process.poll() is not None, "the start of the hub")
        assert ready.exists(), self.stderr
        self.url = ready.read_text().strip()
        self.port = urlsplit(self.url).port or 0

    def begin(self) -> None:
        """Start it, and do not wait."""
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        command = [
            *self.program, "serve", "--port", str(self.port), "--store", self.store,
            "--ready-file", str(ready), *self._options,
        ]  # fmt: skip
        if self.token_file is not None:
            command += ["--token-file", str(self.token_file)]
        with (self.folder / "stderr").open("ab") as stderr:
            self.process = subprocess.Popen(
                command, env=self._environment, stdin=self._stdin, stdout=subprocess.DEVNULL, stderr=stderr
            )

    @property
    def token(self) -> str:
        assert self.token_file is not None
        return self.token_file.read_text().strip()

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    @property
    def rss(self) -> int:
        """Bytes in memory."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self.stop(signal.SIGKILL)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it with a signal, if it still runs; its status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def request(
        self, path: str, body: bytes | None = None, *, token: str | None = "", method: str | None = None, **headers: str
    ) -> tuple[int, Any, bytes]:
        """Status, headers and body; *token* None sends none, ``""`` the right one."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            named["Authorization"] = f"Bearer {token or self.token}"
        request = urllib.request.Request(self.url + path.lstrip("/"), data=body, headers=named, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def json(self, path: str, body: bytes | None = None, **more: Any) -> Any:
        """The body of an answer that has to be 200."""
        status, _, text = self.request(path, body, **more)
        assert status == 200, text
        return json.loads(text)

    def events(self, run: str, limit: int = 500) -> list[dict[str, Any]]:
        """Every event of a run that the log holds, page by page."""
        found: list[dict[str, Any]] = []
        after, more = 0, True
        while more:
            page = self.json(f"api/runs/{run}/events?after={after}&limit={limit}")
            found += page["events"]
            after, more = page["next"], page["more"]
        return found
