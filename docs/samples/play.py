"""What ``make run`` does: plays the recorded session through the five-stage shell pipe into a hub.

    replay | parse | throttle | buffer | publish  ══►  serve  ──►  the dashboard

``--once`` ends by itself with a summary, taken from the same ``/api/runs`` that the page shows; else the dashboard
stays up until Ctrl-C. Standard library only; everything it starts it also ends.
"""

import argparse
import json
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

SAMPLE = Path(__file__).resolve().parent / "tour.ndjson"
AGENTPIPE = shlex.quote(str(Path(sys.executable).parent / "agentpipe"))
STARTS_WITHIN_S = 30


def main() -> int:
    """Start the hub, play the session, say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="end with a summary instead of serving on")
    parser.add_argument("--speed", default=None, help="speed of the replay (default: 1 and dated now, with --once: 20)")
    parser.add_argument("--port", default="8765", help="port of the dashboard (default 8765; any when taken)")
    options = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # the summary is read while the dashboard stays up
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends us ends what we started
    with tempfile.TemporaryDirectory(prefix="agentpipe-run-") as folder:
        hub, address = started(Path(folder), "0" if options.once else options.port)
        try:
            pace = "--speed 20" if options.once else "--speed 1 --rewrite-time"  # live, it happens now
            status = played(Path(folder), address, f"--speed {options.speed}" if options.speed else pace)
            summary(Path(folder), address)
            if not options.once and status == 0:
                print("the dashboard stays up; Ctrl-C ends it", file=sys.stderr)
                hub.wait()
        except KeyboardInterrupt:
            status = 0
        finally:
            hub.terminate()
            hub.wait(STARTS_WITHIN_S)
    return status


def started(folder: Path, port: str) -> tuple["subprocess.Popen[bytes]", str]:
    """The hub's process and its address ``http://127.0.0.1:PORT``; another port when *port* is taken."""
    ready = folder / "ready"
    for attempt in (port, "0"):
        files = f"--store {folder}/hub.db --token-file {folder}/token --ready-file {ready}"
        hub = subprocess.Popen(["bash", "-c", f"exec {AGENTPIPE} serve --port {attempt} {files} </dev/null"])
        deadline = time.monotonic() + STARTS_WITHIN_S
        while hub.poll() is None and time.monotonic() < deadline:
            if ready.exists() and ready.read_text().strip():
                return hub, ready.read_text().split("#")[0].strip().rstrip("/")
            time.sleep(0.02)
        hub.terminate()
        hub.wait(STARTS_WITHIN_S)
    raise SystemExit("the hub did not start")


def played(folder: Path, address: str, pace: str) -> int:
    """Run the pipe as a shell would; its status."""
    stages = [
        f"replay {shlex.quote(str(SAMPLE))} {pace} --max-idle 3s",
        "parse",
        "throttle",
        "buffer",
        f"publish {address.replace('http', 'ws')} --token-file {folder}/token --stats",
    ]
    line = " | ".join(f"{AGENTPIPE} {stage}" for stage in stages)
    print(line.replace(AGENTPIPE, "agentpipe").replace(" | ", " \\\n  | "), file=sys.stderr)
    return subprocess.run(["bash", "-o", "pipefail", "-c", line], check=False).returncode


def summary(folder: Path, address: str) -> None:
    """Print each run as the page shows it."""
    token = (folder / "token").read_text().strip()
    request = urllib.request.Request(f"{address}/api/runs", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=STARTS_WITHIN_S) as answer:
        runs = json.load(answer)["runs"]
    print(f"runs        {len(runs)}")
    for run in runs:
        cost = f"${run['cost_usd']:.4f}" if "cost_usd" in run else "not given"
        print(f"run         {run['run_id']}  {run['agent_id']}  {run['state']}")
        print(f"events      {run['events']}")
        print(f"tool calls  {run['tool_calls']} ({run['tool_failures']} failed)")
        print(f"cost        {cost}")


if __name__ == "__main__":
    sys.exit(main())
