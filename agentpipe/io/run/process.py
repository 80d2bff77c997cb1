"""``agentpipe run``: start an agent, stream what it prints as events, and end with its status.

The rules this module keeps: the agent is never held up, slowed or lost by whoever reads our output; every line it
printed is an event, also those it printed while it was being ended; ``process_started`` comes first,
``process_exited`` last; and when `run_command` returns, nothing that the agent started is left.

Who does what: `Plumbing` the descriptors, `spawn` the start, `Drain` the reading, `Backlog` the waiting, `Custody` the
ending, `ProcessEvents` the events, `RunLoop` the loop that joins them; here they are put together.
"""

import dataclasses
import os
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Literal

from agentpipe.errors import OptionError
from agentpipe.io.clock import Clock, now
from agentpipe.io.run.backlog import MEMORY_BYTES, Backlog
from agentpipe.io.run.custody import Custody
from agentpipe.io.run.drain import Drain, Tee
from agentpipe.io.run.job_control import JobControl
from agentpipe.io.run.loop import RunLoop
from agentpipe.io.run.plumbing import Plumbing
from agentpipe.io.run.reaper import adopt_orphans, children
from agentpipe.io.run.spawn import Program, Refused, find, spawn
from agentpipe.io.signals import SignalWatch
from agentpipe.io.streams import Outlet
from agentpipe.ndjson import DEFAULT_MAX_LINE
from agentpipe.process_event import ProcessEvents
from agentpipe.stage import option
from agentpipe.stop import Limits

__all__ = ["RunOptions", "run_command"]

#: Of ``env``, ``nohup`` and ``timeout``: we ourselves failed, before the command was started.
_FAILED = 125

#: Under --backpressure the agent is at most this far ahead of the reader, besides what fits into the pipe.
_SMALL_BYTES = 64 * 1024

Warn = Callable[[str], None]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a command is run. Durations are seconds, 0 for none; sizes are bytes."""

    tee: str | None = option(None, "Write the command's stdout, byte for byte, to this file too.", unit="path")
    agent: str | None = option(None, "Name of the agent in the events.  [default: the command's name]")
    run_id: str | None = option(None, "Id of this run in the events.  [default: a random one]")
    work_id: str | None = option(None, "Id of the work order that this run belongs to.")
    timeout: float = option(0.0, "End the command after this time, with status 124.", unit="duration", minimum=0)
    idle_timeout: float = option(
        0.0, "End the command after so long without output, with status 124.", unit="duration", minimum=0
    )
    result_grace: float = option(
        0.0,
        "End the command, with status 0, when it is silent for so long after its result.",
        unit="duration",
        minimum=0,
    )
    grace: float = option(
        5.0, "How long to wait for the command to end before the next, harder signal.", unit="duration", minimum=0
    )
    stdin: Literal["null", "inherit"] = option(
        "null", "What the command reads: nothing, or our own stdin.", choices=("null", "inherit")
    )
    stderr: Literal["events", "inherit", "null"] = option(
        "events",
        "Where the command's stderr goes: into the events, to our own stderr, or nowhere.",
        choices=("events", "inherit", "null"),
    )
    pty: bool = option(False, "Give the command a terminal as stdout.")
    cwd: str | None = option(None, "Run the command in this directory.", unit="path", metavar="DIR")
    queue: int = option(
        1 << 30, "How far the command may be ahead of the reader, first in memory, then on disk.", unit="size"
    )
    backpressure: bool = option(False, "Let a slow reader slow the command down, instead of queueing.")
    max_line: int = option(
        DEFAULT_MAX_LINE, "Declare a longer line as a gap instead of passing it on.", unit="size", minimum=1024
    )


def run_command(options: RunOptions, words: Sequence[str], *, warn: Warn, fd_out: int = 1, clock: Clock = now) -> int:
    """Run the command *words* and write its events to *fd_out*; the exit status that ``run`` ends with.

    To be called from the main thread. *warn* takes a line for people. Raises OptionError; ReaderGone when the reader of
    *fd_out* has closed and OutputError when writing failed, both after the command and its descendants were ended.
    """
    if options.tee == "-":
        raise OptionError("--tee", "wants a file; stdout is where the events go")
    folder = _folder(options.cwd)
    if not os.path.isdir(folder):
        warn(f"--cwd: {folder}: no such directory")
        return _FAILED
    program = find(words, folder)
    if isinstance(program, Refused):
        warn(program.problem)
        return program.status
    try:
        tee = Tee(options.tee, warn) if options.tee is not None else None
    except OSError as error:
        warn(f"--tee: {options.tee}: {os.strerror(error.errno or 0)}")
        return _FAILED
    with ExitStack() as stack:
        if tee is not None:
            stack.callback(tee.close)
        return _run(program, options, tee, Outlet(fd_out), warn, clock)


def _run(program: Program, options: RunOptions, tee: Tee | None, outlet: Outlet, warn: Warn, clock: Clock) -> int:
    before = children()
    adopt_orphans()
    with SignalWatch() as signals, JobControl() as keys, ExitStack() as stack:
        plumbing = Plumbing(options.stdin, options.stderr, pty=options.pty, large=not options.backpressure)
        stack.callback(plumbing.close)
        started_at = clock()
        child = spawn(program, plumbing.stdin, plumbing.stdout, plumbing.stderr)
        if isinstance(child, Refused):
            warn(child.problem)
            return child.status
        plumbing.hand_over()
        stack.callback(child.release)
        custody = Custody(child, before, options.grace, warn)
        backlog = _backlog(options, warn)
        drain = Drain(plumbing.take_sources(), backlog, tee, clock)
        stack.callback(backlog.release)
        stack.callback(drain.finish)
        stack.callback(custody.end, clock)
        drain.start()
        limits = _limits(options, started_at)
        events = _events(options, program, limits)
        loop = RunLoop(custody, drain, backlog, events, limits, outlet, signals, keys, warn, clock)
        return loop.run(program, started_at, options.grace)


def _folder(cwd: str | None) -> str:
    try:
        here = os.getcwd()
    except OSError:  # somebody removed it under us; the command may not care
        here = os.environ.get("PWD", "/")
    return os.path.normpath(os.path.join(here, cwd)) if cwd is not None else here


def _limits(options: RunOptions, started_at: float) -> Limits:
    return Limits(
        started_at, timeout_s=options.timeout, idle_s=options.idle_timeout, result_grace_s=options.result_grace
    )


def _events(options: RunOptions, program: Program, limits: Limits) -> ProcessEvents:
    return ProcessEvents(
        run_id=options.run_id or uuid.uuid4().hex,
        agent_id=options.agent or os.path.basename(program.words[0]),
        work_id=options.work_id,
        max_line=options.max_line,
        watch=limits.see if limits.reads else None,
    )


def _backlog(options: RunOptions, warn: Warn) -> Backlog:
    if options.backpressure:
        return Backlog(_SMALL_BYTES)

    def say(problem: str) -> None:
        warn(f"the reader is behind and {problem}: the command has to wait")

    return Backlog(min(MEMORY_BYTES, options.queue), max(0, options.queue - MEMORY_BYTES), on_full=say)
