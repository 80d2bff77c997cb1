"""Debian's Chromium, headless, driven over the DevTools protocol with websocket-client; nothing else is needed.

The rule it keeps: what a page logs as an error, throws, or was refused by its policy is collected from its first
moment, so a test that asks for `problems` cannot miss one.
"""

import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

FLAGS = [  # those of a browser that talks to nobody but the test
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--hide-scrollbars", "--mute-audio", "--remote-debugging-port=0", "--remote-allow-origins=*",
]  # fmt: skip
START_S = 60.0  # a busy machine starts a browser slowly
CALL_S = 60.0


def find() -> str | None:
    """Where Chromium is, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-headless-shell"))), None)


class Session:
    """One DevTools connection: commands and their answers, events to `note`."""

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(address, timeout=CALL_S)
        self._ids = itertools.count(1)
        self._answers: dict[int, dict[str, Any]] = {}
        self._arrived = threading.Condition()
        self._alive = True
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One DevTools command and its result."""
        number = next(self._ids)
        with self._arrived:
            self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
            if not self._arrived.wait_for(lambda: number in self._answers or not self._alive, timeout=CALL_S):
                raise TimeoutError(method)
            answer = self._answers.pop(number, {"error": "the browser is gone"})
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def close(self) -> None:
        self._alive = False
        self._socket.close()
        self._reader.join(5)

    def _read(self) -> None:
        while self._alive:
            try:
                message = json.loads(self._socket.recv())
            except websocket.WebSocketTimeoutException:
                continue  # a page that has nothing to say
            except (websocket.WebSocketException, OSError, ValueError):
                break
            if "id" in message:
                with self._arrived:
                    self._answers[message["id"]] = message
                    self._arrived.notify_all()
            else:
                self.note(message.get("method", ""), message.get("params", {}))
        with self._arrived:
            self._alive = False
            self._arrived.notify_all()

    def note(self, method: str, params: dict[str, Any]) -> None:
        """An event of the browser; not of interest here."""


class Page(Session):
    """One tab. Calls raise RuntimeError with what the browser says.

    ``problems`` is what its log and console hold; ``expected`` are parts of those that a test brings about on purpose,
    whenever they come.
    """

    def __init__(self, address: str) -> None:
        self.problems: list[str] = []
        self.expected: tuple[str, ...] = ()
        super().__init__(address)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def open(self, url: str) -> None:
        """Navigate; returns at once."""
        self.call("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression (awaited when it is a promise)."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def wait(self, expression: str, timeout_s: float = 40.0) -> None:
        """Return once the expression is true. Raises AssertionError with the page's text after *timeout_s*."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                found = self.evaluate(f"!!({expression})")
            except RuntimeError as error:  # between two documents nothing can be evaluated
                found, last = None, str(error)
            else:
                last = repr(found)
            if found:
                return
            if time.monotonic() > deadline:
                text = self.evaluate("document.body.innerText")
                raise AssertionError(
                    f"not true in {timeout_s} s: {expression} (last {last})\n{self.problems}\n{text[:3000]}"
                )
            time.sleep(0.03)

    def surprises(self) -> list[str]:
        """The problems that nobody expected."""
        return [problem for problem in self.problems if not any(part in problem for part in self.expected)]

    def text(self, selector: str) -> str | None:
        """The text of the first element that matches, or None."""
        return self.evaluate(f"document.querySelector({json.dumps(selector)})?.textContent?.trim() ?? null")

    def key(self, key: str) -> None:
        """Press and release one key, as a keyboard does."""
        text = {"Enter": "\r"}.get(key, key)
        code = {"Enter": 13}.get(key, ord(key[0].upper()))
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=text, windowsVirtualKeyCode=code)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def size(self, width: int, height: int, *, dark: bool = False) -> None:
        """The window's size, and whether the system prefers dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path) -> Path:
        """A PNG of what is in view."""
        path.parent.mkdir(parents=True, exist_ok=True)
        shot = self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(f"exception: {details.get('exception', {}).get('description', details['text'])}")
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            said = " ".join(str(part.get("value", part.get("description"))) for part in params["args"])
            self.problems.append(f"console.{params['type']}: {said}")
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            entry = params["entry"]
            self.problems.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}".strip())


class Browser:
    """One Chromium with a new, empty profile; ended with everything it started."""

    def __init__(self, program: str) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="agentpipe-chromium-", ignore_cleanup_errors=True)
        command = [program, *FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"]
        nothing = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
        try:
            port, path = self._wait_for_port()
        except Exception:
            self._end()
            raise
        self._address = f"ws://127.0.0.1:{port}"
        self._control = Session(f"{self._address}{path}")

    def _wait_for_port(self) -> tuple[str, str]:
        file = Path(self._profile.name) / "DevToolsActivePort"
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"chromium ended with status {self._process.returncode}")
            lines = file.read_text().split("\n") if file.exists() else []
            if len(lines) >= 2:
                return lines[0], lines[1]
            time.sleep(0.05)
        raise TimeoutError("chromium did not start")

    @contextmanager
    def page(self) -> Iterator[Page]:
        """A tab with cookies of its own, closed at the end."""
        context = self._control.call("Target.createBrowserContext")["browserContextId"]
        target = self._control.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        page = Page(f"{self._address}/devtools/page/{target}")
        try:
            yield page
        finally:
            page.close()
            self._control.call("Target.disposeBrowserContext", browserContextId=context)

    def close(self) -> None:
        """End the browser, politely first."""
        try:
            self._control.call("Browser.close")
        except (RuntimeError, OSError, websocket.WebSocketException):
            pass  # it may be gone before it answers
        self._control.close()
        self._end()

    def _end(self) -> None:
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)  # its own group: it was started as a session
            self._process.wait()
        self._profile.cleanup()
