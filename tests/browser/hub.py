"""The real hub in a process of its own, and events made for it."""

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.hub_process import HubProcess


class BrowsedHub(HubProcess):
    """A hub with quick heartbeats; not started yet."""

    def __init__(self, folder: Path, environment: Mapping[str, str], store: str = "hub.db", *more: str) -> None:
        super().__init__(folder, environment, "--heartbeat", "1s", *more, store=store)

    @property
    def page(self) -> str:
        """The address that `serve` prints for people."""
        return f"{self.url}#token={self.token}"

    def send(self, events: Iterable[Mapping[str, Any]]) -> None:
        lines = [json.dumps(event) for event in events]
        answer = self.json("api/events", "\n".join(lines).encode(), Content_Type="application/x-ndjson")
        assert answer["accepted"] + answer["known"] == len(lines), answer

    def run(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self.json(f"api/runs/{run}")
        return found


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
