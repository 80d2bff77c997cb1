"""The real hub in a process of its own, and events made for it."""

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

START_S = 40.0


class HubProcess:
    """``agentpipe serve`` with a store in *folder*; started again it has the same port, token and store."""

    def __init__(self, folder: Path, environment: Mapping[str, str], store: str | None = None, *more: str) -> None:
        self._folder = folder
        self._environment = environment
        self._store = store or str(folder / "hub.db")
        self._more = more
        self._port = "0"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    @property
    def token_file(self) -> Path:
        return self._folder / "token"

    @property
    def token(self) -> str:
        return self.token_file.read_text().strip()

    @property
    def page(self) -> str:
        """The address that `serve` prints for people."""
        return f"{self.url}#token={self.token}"

    def start(self) -> None:
        ready = self._folder / "ready"
        ready.unlink(missing_ok=True)
        log = (self._folder / "hub.log").open("ab")
        self._process = subprocess.Popen(
            ["agentpipe", "serve", "--port", self._port, "--store", self._store, "--heartbeat", "1s",
             "--token-file", str(self.token_file), "--ready-file", str(ready), *self._more],
            env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
        )  # fmt: skip
        log.close()
        deadline = time.monotonic() + START_S
        while not ready.exists():
            assert self._process.poll() is None, (self._folder / "hub.log").read_text()
            assert time.monotonic() < deadline, "the hub did not start"
            time.sleep(0.02)
        self.url = ready.read_text().strip()
        self._port = str(urllib.parse.urlsplit(self.url).port)

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(20)

    def call(self, path: str, body: bytes | None = None) -> Any:
        request = urllib.request.Request(f"{self.url}{path}", data=body)
        request.add_header("Authorization", f"Bearer {self.token}")
        request.add_header("Content-Type", "application/x-ndjson")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def send(self, events: Iterable[Mapping[str, Any]]) -> None:
        lines = [json.dumps(event) for event in events]
        answer = self.call("api/events", "\n".join(lines).encode())
        assert answer["accepted"] + answer["known"] == len(lines), answer

    def events(self, run: str) -> list[dict[str, Any]]:
        """Everything that the hub keeps of a run."""
        found: list[dict[str, Any]] = []
        after = 0
        while True:
            page = self.call(f"api/runs/{run}/events?after={after}&limit=500")
            found += page["events"]
            after = page["next"]
            if not page["more"]:
                return found

    def run(self, run: str) -> dict[str, Any]:
        return self.call(f"api/runs/{run}")


class Story:
    """Events of one run, numbered as its maker would."""

    def __init__(self, run: str, agent: str = "claude") -> None:
        self.run = run
        self._agent = agent
        self._sequence = 0
        self._started = time.time()

    def event(self, kind: str, payload: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        self._sequence += 1
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
        return {
            "type": kind, "run_id": self.run, "agent_id": self._agent, "sequence": self._sequence, "timestamp": stamp,
            "event_id": f"{self.run}:{self._sequence}", **more, "payload": dict(payload),
        }  # fmt: skip

    def started(self, **more: Any) -> dict[str, Any]:
        return self.event("run_started", {"schema": "agentpipe/1", "agent": self._agent, **more})

    def chunk(
        self, message: str, text: str, *, final: bool = False, of: str = "agent_output", **more: Any
    ) -> dict[str, Any]:
        return self.event(of, {"message_id": message, "index": 0, "text": text, "final": final}, **more)

    def call(self, tool: str, name: str, what: str, kind: str = "execute", **more: Any) -> dict[str, Any]:
        given = {"command": what} if kind == "execute" else {"file_path": what}
        payload = {"tool_use_id": tool, "name": name, "kind": kind, "input": given, "title": f"{name}: {what}"}
        return self.event("agent_tool_call", payload, **more)

    def result(
        self,
        tool: str,
        name: str,
        content: str,
        *,
        ok: bool = True,
        size: int | None = None,
        kind: str = "execute",
        **more: Any,
    ) -> dict[str, Any]:
        size = len(content.encode()) if size is None else size
        payload = {
            "tool_use_id": tool, "name": name, "kind": kind, "ok": ok, "content": content, "bytes": size,
            "truncated": size > len(content.encode()), "duration_ms": 840,
        }  # fmt: skip
        return self.event("agent_tool_result", payload, **more)

    def completed(self, **more: Any) -> dict[str, Any]:
        return self.event("run_completed", {"duration_ms": 61_000, "exit_code": 0, "reason": "exit", **more})
