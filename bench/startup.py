"""How long until ``--version``, and until the first byte of a filter?"""

import subprocess
import time

from bench.measure import AGENTPIPE, PYTHON, Answer, Contender, compare

LINE = (
    b'{"type":"heartbeat","run_id":"r","agent_id":"a","sequence":1,'
    b'"timestamp":"2026-11-20T07:00:00.000Z","payload":{}}\n'
)


def milliseconds(*command: str) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - started) * 1e3


def first_byte(*command: str) -> float:
    started = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(LINE)
        child.stdin.flush()
        if not child.stdout.read(1):
            raise RuntimeError(f"{command} gave nothing")
        taken = (time.perf_counter() - started) * 1e3
        child.stdin.close()
        child.stdout.read()
    return taken


def answers(repeats: int) -> list[Answer]:
    click = Contender("import click", lambda: milliseconds(PYTHON, "-c", "import click"))
    bare = Contender("python -c pass", lambda: milliseconds(PYTHON, "-c", "pass"))
    jq = Contender("jq first byte", lambda: first_byte("jq", "-c", "--unbuffered", "."), "jq")
    times = max(repeats, 11)
    return [
        compare(
            "start-up of --version",
            [Contender("agentpipe --version", lambda: milliseconds(AGENTPIPE, "--version")), click, bare],
            unit="ms",
            better="lower",
            repeats=times,
            goals={"import click": "≤ + 10"},
        ),
        compare(
            "first byte of a filter",
            [
                *[
                    Contender(f"agentpipe {n}", lambda n=n: first_byte(AGENTPIPE, n))
                    for n in ("buffer", "throttle", "parse")
                ],
                click,
                jq,
            ],
            unit="ms",
            better="lower",
            repeats=times,
            goals={"import click": "≤ + 25"},
        ),
    ]
