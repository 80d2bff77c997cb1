"""The stage ``parse``: an agent's own lines, or the events of ``run``, in; events out.

The rules this module keeps: every line is accounted for (``in = sources + ignored + raw + passed_through``); an event
that is parsed already passes with its bytes; several runs in one input are told apart, by ``run``'s id or by the
session of a bare line, and each has its own numbers, start and end.
"""

import re
from collections.abc import Callable, Mapping, Sequence

from agentpipe.errors import InputError
from agentpipe.event import JSON, Event, decode, encode
from agentpipe.intake import column
from agentpipe.parse.adapter import Moment, process_moment
from agentpipe.parse.detect import is_event
from agentpipe.parse.input import Input
from agentpipe.parse.options import ParseOptions
from agentpipe.parse.run import Run, Tally
from agentpipe.parse.vocabulary.fields import string
from agentpipe.parse.waiting import Wait
from agentpipe.stage import BaseStage, Demand

__all__ = ["Parse"]

_RUN_IN_HEAD = rb'\{"type":"process_output","run_id":"((?:[^"\\]|\\.)+)"'  # compiled when a line over the limit comes
_BRACKETS = (b"{", b"[")

#: Runs whose format is said on stderr: a log may hold thousands.
_MOST_NOTICES = 20


def _random_id() -> str:
    import uuid  # only a run without an id of its own pays for it at start-up

    return uuid.uuid4().hex


class Parse(BaseStage):
    """Turns lines into events. *new_id* makes the id of a run that has none of its own.

    Under strict a malformed line ends the input: ``failure`` is the InputError that tells it, ``demand`` is DONE, and
    what came before the line is told as usual. Whoever drives the stage raises it at the end.
    """

    def __init__(self, options: ParseOptions, new_id: Callable[[], str] = _random_id) -> None:
        super().__init__()
        # given
        self._options = options
        self._new_id = new_id
        # changing
        self._runs: list[Run] = []  # that have not ended, in the order in which they began
        self._waiting: set[Wait] = set()  # of those that start later, or may be due: few, while runs may be many
        self._processes: dict[str, Input] = {}  # by the id that `run` gave
        self._bare = Input(self._begin, by_session=True)
        self._names: dict[str, int] = {}  # how often an id was asked for
        self._told = {"sources": 0, "ignored": 0, "raw": 0, "passed_through": 0}
        self._events = 0
        self._formats: dict[str, Run] = {}
        self._unknown: list[Run] = []  # that have started before anybody knew whose they are
        self._number = 0  # of the line in the input, under strict
        self._extra = 0  # parts of lines that were broken, beyond one a line
        self._torn = ""  # the beginning of a line that another one broke off, when that was just before
        self._when = Moment(0.0)  # of the last event of ``run``

    @property
    def demand(self) -> Demand:
        """MORE until a malformed line under strict."""
        return Demand.MORE if self.failure is None else Demand.DONE

    @property
    def deadline(self) -> float | None:
        """When a run should start although its agent is silent."""
        return min((wait.due for wait in self._waiting if wait.due is not None), default=None)

    def feed(self, events: Sequence[Event], now: float) -> Sequence[Event]:
        """Take lines; return the events that they make."""
        moment = Moment(now)
        out: list[Event] = []
        if self._options.strict:
            self._strictly(events, moment, out)
        else:
            for event in events:
                self._line(event, moment, out)
        self._count(out)
        return out

    def wake(self, now: float) -> Sequence[Event]:
        """Start runs that have waited."""
        return self._each(Run.wake, Moment(now))

    def finish(self, now: float) -> Sequence[Event]:
        """End the runs that are still open."""
        out = self._each(Run.finish, Moment(now))
        self._runs.clear()
        return out

    def report(self) -> Mapping[str, JSON]:
        """Lines by what became of them, and the format of each run."""
        told = self._lines_told()
        formats = {run_id: run.format for run_id, run in self._formats.items()}
        return {**self.counts.report(), **told, "events": self._events, "formats": formats}

    def _each(self, step: Callable[[Run, Moment, list[Event]], None], moment: Moment) -> list[Event]:
        out: list[Event] = []
        for run in self._runs:
            step(run, moment, out)
        self._count(out)
        return out

    def _count(self, out: Sequence[Event]) -> None:
        """Bring the counts up to date, once a batch."""
        self._events += len(out)
        if self._unknown:
            self._say_known()
        told, counts = self._lines_told(), self.counts
        counts.read = sum(told.values())
        counts.passed = counts.read - told["ignored"]
        if told["ignored"]:
            counts.dropped["ignored"] = told["ignored"]

    def _lines_told(self) -> Tally:
        """How many lines became what: the parts of one that was broken count as one."""
        told, extra = self._told, self._extra
        if extra:
            told = dict(told)
            for name in ("sources", "raw", "passed_through", "ignored"):
                taken = min(extra, told[name])
                told[name] -= taken
                extra -= taken
        return told

    def _strictly(self, events: Sequence[Event], moment: Moment, out: list[Event]) -> None:
        """Take lines up to the first that is malformed; the intake of a strict input gives each its number."""
        for event in events:
            if self.failure is not None:
                break
            self._number = event.sequence or self._number + 1
            self._line(event, moment, out)

    def _line(self, event: Event, moment: Moment, out: list[Event]) -> None:
        line = event.line
        if event.type == "gap" and not event.run_id:
            self._oversize(event, moment, out)
        elif line[:1] == b"{" or line.lstrip()[:1] in _BRACKETS:
            try:
                found = decode(line)
            except ValueError as error:
                self._not_json(line, str(error), moment, out)
                return
            if "payload" in found and type(found) is dict and is_event(found):
                self._event(found, line, moment, out)
            else:
                _run_of(self._bare, found, moment).json(found, moment, len(line), out)
        else:
            self._text(self._bare, line.decode("utf-8", "replace"), moment, out)

    def _not_json(self, line: bytes, problem: str, moment: Moment, out: list[Event]) -> None:
        """A line that begins like JSON: broken, cut, or the first of a value over many lines."""
        text = line.decode("utf-8", "replace")
        if "�" in text:
            try:
                found = decode(text.encode())  # whole but for its bad UTF-8
            except ValueError:
                pass  # no JSON either way
            else:
                self._bare.of(found, moment).json(found, moment, len(line), out)
                return
        if self._refuses(text, problem, column(problem, line)):
            return
        self._text(self._bare, text, moment, out)

    def _text(self, source: Input, text: str, moment: Moment, out: list[Event]) -> None:
        """A line that is no JSON, unless whole lines stand in it; they are counted as the one that it is."""
        torn, self._torn = self._torn, ""
        if (torn or '{"' in text) and self._options.format != "plain":
            from agentpipe.parse.mend import parts_of  # only a broken line pays for it

            while (parts := parts_of(text, torn, source.sureness)) is not None:
                for found in parts.lines:
                    self._found(source, found, moment, out)
                self._extra += len(parts.lines)
                text, torn = parts.rest or parts.torn, ""
                self._torn = parts.torn
                if not text:
                    self._extra -= 1
                    return
                if parts.torn:
                    break
        source.of_nobody(moment).text(text, moment, out)

    def _found(self, source: Input, found: dict[str, JSON], moment: Moment, out: list[Event]) -> None:
        """A line that stood in a broken one."""
        if is_event(found):
            self._event(found, encode(found), moment, out)
        else:
            _run_of(source, found, moment).json(found, moment, len(encode(found)), out)

    def _refuses(self, text: str, problem: str, place: int = 1) -> bool:
        """Whether a line that begins like JSON and is none ends a strict input."""
        if not self._options.strict or len(text.strip()) <= 2:  # a lone bracket begins a value over many lines
            return False
        self.failure = InputError("stdin", self._number, place, problem)
        return True

    def _event(self, found: dict[str, JSON], line: bytes, moment: Moment, out: list[Event]) -> None:
        kind: str = found["type"]
        if not kind.startswith("process_"):
            process = self._processes.get(found["run_id"])
            if process is None:
                out.append(_as_is(found, line))
                self._told["passed_through"] += 1
            else:
                payload = {**found["payload"]}
                if kind == "gap" and payload.get("ranges"):  # in numbers that are not this run's
                    payload["source_ranges"], payload["ranges"] = payload["ranges"], []
                run = process.of_nobody(moment)
                run.kept(payload, process_moment(moment.now, found["timestamp"]), out, kind)
            return
        self._process_event(kind, found, line, moment, out)

    def _process_event(self, kind: str, found: dict[str, JSON], line: bytes, moment: Moment, out: list[Event]) -> None:
        process = self._processes.get(found["run_id"]) or self._begin_process(found)
        payload: dict[str, JSON] = found["payload"]
        when = self._when
        if found["timestamp"] != when.at or moment.now != when.now:  # lines of one write mostly say one time
            when = self._when = process_moment(moment.now, found["timestamp"])
        if kind == "process_output":
            self._output(process, payload, when, len(line), out)
        elif kind == "process_started":
            process.of_nobody(when).process_started(payload, when)
        elif kind == "process_exited":
            self._exited(process, found["run_id"], payload, when, out)
        else:
            told = {"format": "agentpipe", "reason": f"unknown type {kind[:100]!r}", "data": payload}
            process.of_nobody(when).kept(told, when, out)

    def _output(self, process: Input, payload: dict[str, JSON], when: Moment, size: int, out: list[Event]) -> None:
        data = payload.get("data")
        if payload.get("stream") == "stderr":
            text = payload["text"] if type(payload.get("text")) is str else ""
            process.of_nobody(when).stderr(text if data is None else _encoded(data), when, out)
        elif type(data) is dict or type(data) is list:
            _run_of(process, data, when).json(data, when, size, out)
        else:
            text = string(payload.get("text")) if data is None else _encoded(data)
            if text.lstrip()[:1] not in ("{", "[") or not self._refuses(text, "not JSON"):
                self._text(process, text, when, out)

    def _exited(self, process: Input, run_id: str, payload: dict[str, JSON], when: Moment, out: list[Event]) -> None:
        """A process has ended, and all that its output was about; one that goes on is another run."""
        process.of_nobody(when)
        self._told["sources"] += 1
        for run in process.runs:
            run.process_exited(payload, when, out)
            self._runs.remove(run)
        del self._processes[run_id]

    def _oversize(self, event: Event, moment: Moment, out: list[Event]) -> None:
        """A line over the limit, of which its head and its size are left; or lines that the source has lost."""
        payload = event.payload
        if payload.get("reason") == "source":
            self._bare.of_nobody(moment).kept(payload, moment, out, "gap")
            return
        head = string(payload.get("head"))
        place = re.match(_RUN_IN_HEAD, head.encode("utf-8", "surrogatepass"))
        process = self._processes.get(decode(b'"' + place[1] + b'"')) if place is not None else None
        run = (process or self._bare).of_nobody(moment)
        size = payload.get("bytes")
        run.kept(
            {"format": run.format, "reason": f"a line of {size} bytes is over the limit", "text": head}, moment, out
        )

    def _begin_process(self, found: dict[str, JSON]) -> Input:
        """The runs of a process that ``run`` started."""
        run_id: str = found["run_id"]
        agent_id: str = found["agent_id"]
        work_id = string(found.get("work_id"))

        def begin(moment: Moment) -> Run:
            return self._begin(moment, run_id, agent_id, work_id)

        process = self._processes[run_id] = Input(begin, by_session=False)
        return process

    def _begin(self, moment: Moment, given: str = "", agent_id: str = "", work_id: str = "") -> Run:
        def name(run: Run) -> str:
            run_id = self._unused(self._options.run_id or given or _own_id(run) or self._new_id())
            self._formats[run_id] = run
            if run.format == "auto":
                self._unknown.append(run)
            else:
                self._decided(run)
            return run_id

        run = Run(self._options, self._told, name, Wait(self._waiting, moment.now), agent_id, work_id or None)
        self._runs.append(run)
        return run

    def _unused(self, wanted: str) -> str:
        """An id that is asked for again gets a number."""
        count = self._names[wanted] = self._names.get(wanted, 0) + 1
        return wanted if count == 1 else f"{wanted}/{count}"

    def _say_known(self) -> None:
        """Say whose output those are that said nothing when they started."""
        waiting, self._unknown = self._unknown, []
        for run in waiting:
            if run.format == "auto":
                self._unknown.append(run)
            else:
                self._decided(run)

    def _decided(self, run: Run) -> None:
        """Say whose output a run was found to be, for the first few of many."""
        if run.told or len(self._formats) > _MOST_NOTICES:
            return
        more = ", and of further runs nothing is said" if len(self._formats) == _MOST_NOTICES else ""
        self.notices.append(f"parse: detected {run.format}{more}")


def _run_of(source: Input, found: JSON, moment: Moment) -> Run:
    """The run of a decoded line: mostly the one that spoke last, as the line's session says."""
    run = source.current
    if run is not None and run.quick and type(found) is dict:
        session = found.get("session_id")
        if type(session) is str and session in run.quick and "hook_event_name" not in found:
            return run
    return source.of(found, moment)


def _own_id(run: Run) -> str:
    """The session's id, and by whom it is told when that is not the agent itself."""
    return f"{run.session}/{run.suffix}" if run.session and run.suffix else run.session


def _as_is(found: dict[str, JSON], line: bytes) -> Event:
    """The event of a line that is one already, with its head and its bytes."""
    sequence = found.get("sequence")
    return Event(
        found["type"],
        found["run_id"],
        found["agent_id"],
        string(found.get("work_id")) or None,
        sequence if type(sequence) is int else None,
        string(found.get("event_id")) or None,
        line,
    )


def _encoded(data: JSON) -> str:
    return encode(data).decode()
