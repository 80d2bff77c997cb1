"""One run as ``parse`` sees it: who it is, when it starts, the numbers of its events, and its one end.

The rules this module keeps: ``run_started`` is the first event and comes with the first line that tells enough, for a
process at the latest a second after it started; sequence numbers count from 1 without a hole; exactly one
terminal event is the last. What was read before the agent was known is held, then told in order. Which events a log
makes depends on what it says and when it says it happened, not on the pace at which it is read: what is played again
must have the numbers it had.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from agentpipe.event import JSON, SCHEMA, Event, Maker, decode, encode
from agentpipe.parse.adapter import Adapter, Clock, Draft, Moment, Outcome
from agentpipe.parse.detect import adapter, for_program, knows, likeliest, recognised
from agentpipe.parse.document import Document
from agentpipe.parse.ending import terminal
from agentpipe.parse.options import ParseOptions
from agentpipe.parse.progress import Progress, turn_limit
from agentpipe.parse.vocabulary.drafts import bounded
from agentpipe.parse.vocabulary.fields import string
from agentpipe.parse.vocabulary.whole import content_payloads
from agentpipe.parse.waiting import HOLD_LINES, Wait, held_drafts, stderr_draft

__all__ = ["Run", "Tally"]

#: Counts lines by what became of them: ``sources``, ``ignored`` or ``raw``.
Tally: TypeAlias = dict[str, int]


class Run:
    """A run that is being read. *name* gives its id once it starts; *wait* is until when it may put that off, and is
    over by `wake`; *out* of each method takes the events it makes.
    """

    def __init__(
        self,
        options: ParseOptions,
        tally: Tally,
        name: Callable[["Run"], str],
        wait: Wait,
        agent_id: str = "",
        work_id: str | None = None,
    ) -> None:
        # given
        self._options = options
        self._tally = tally
        self._name = name
        self._wait = wait
        self._leaves_out = options.no_chunks or options.no_output or options.no_tool_calls or options.no_tool_results
        self._agent_id = options.agent or agent_id
        self._work_id = options.work_id or work_id
        # changing
        self.sessions: set[str] = set()  # that are known to be this run's: the adapter's own
        self.quick: set[str] = set()  # those by whose ``session_id`` alone a line is known to be this run's
        self.suffix = ""
        self.run_id = ""
        self.ended = False
        self.format = options.format
        self._clock = Clock()
        self._progress = Progress(self._clock, options.progress_interval)
        self._adapter: Adapter | None = None
        self._process: dict[str, JSON] = {}
        self._document = Document()
        self._held_lines: list[tuple[str, JSON, Moment]] = []  # read before the agent was known
        self._held: list[Draft] = []  # told before the run started
        self._begun_at: str | None = None  # when the first line said that it was, if the run did not start with it
        self._told: Mapping[str, JSON] = {}  # the facts that were told
        self._maker: Maker | None = None  # once the run has started
        self._flows: Adapter | None = None  # the adapter, while a line needs nothing but to be read
        self._cut = False  # whether the last line of stdout was not whole
        self._undecided = options.format == "auto"  # an adapter may still recognise what comes after a banner
        if not self._undecided:
            self._adopt(self.format)

    @property
    def started(self) -> bool:
        """Whether ``run_started`` was made."""
        return self._maker is not None

    @property
    def told(self) -> bool:
        """Whether the user said whose output this is."""
        return self._options.format != "auto"

    @property
    def decided(self) -> str:
        """The format, once it is known; the empty string while another may still turn out to be the right one."""
        return "" if self._undecided else self.format

    @property
    def session(self) -> str:
        """The session that the agent has told, or the empty string."""
        return string(self._adapter.facts.get("session_id")) if self._adapter is not None else ""

    def json(self, found: JSON, moment: Moment, size: int, out: list[Event]) -> None:
        """A line of stdout that is a JSON object or array, of *size* bytes."""
        adapter = self._flows
        if adapter is None or self._wait.due is not None or self._document.lines or type(found) is not dict:
            self._json(found, moment, size, out)
            return
        # One more line of a run that has started, wanted whole, as most are: what `_tell` does, in fewer steps.
        self._cut = False
        drafts = adapter.read(found, moment, size)
        if adapter.facts is not self._told:
            self._correct(adapter, moment, out)
        if drafts:
            self._tally["sources" if drafts[0].type != "raw" else _outcome(drafts)] += 1
            self._make(self._progress.told(drafts, moment), out)
        else:
            self._tally["ignored"] += 1

    def _json(self, found: JSON, moment: Moment, size: int, out: list[Event]) -> None:
        """The line of a run that waits, is undecided or wanted in part, and a line that is an array."""
        if self._wait.due is not None:
            self._came(moment, out)
        if self._document.lines and self._continues(encode(found).decode(), moment, out):
            return
        if self._undecided or self._maker is None:
            self._take(found, moment, size, out)
            return
        self._cut = False
        if self._adapter is None or type(found) is not dict:
            self._value(found, moment, size, 1, out)
        else:
            self._tell(self._adapter.read(found, moment, size), 1, out, moment)

    def text(self, text: str, moment: Moment, out: list[Event]) -> None:
        """A line of stdout that is no JSON object or array."""
        self._came(moment, out)
        if self._options.format != "plain" and self._continues(text, moment, out):
            return
        self._cut = text.lstrip()[:1] in ("{", "[")
        if self._adapter is None:
            self._hold("text", text, moment, out)
        elif text and not text.isspace():
            self._tell(self._adapter.read_text(text, moment), 1, out, moment)
        else:
            self._blank(text, moment, out)

    def stderr(self, text: str, moment: Moment, out: list[Event]) -> None:
        """A line of stderr."""
        self._came(moment, out)
        if self._adapter is None:
            self._hold("stderr", text, moment, out)
        else:
            self._tell([stderr_draft(text, self._clock.at(None, moment))], 1, out, moment)

    def kept(self, payload: Mapping[str, JSON], moment: Moment, out: list[Event], type: str = "raw") -> None:  # noqa: A002 - the event's field
        """Something that is told as it is: a line over the limit, a gap of the source."""
        if self._adapter is None:
            self._hold("kept", (type, payload), moment, out)
        else:
            self._tell([Draft(type, payload, self._clock.at(None, moment))], 1, out, moment)

    def process_started(self, payload: dict[str, JSON], moment: Moment) -> None:
        """``run`` has started the command; told with ``run_started``."""
        self._wait.begin(moment)
        known = {"command": list, "cwd": str, "pid": int}
        self._process = {key: payload[key] for key, kind in known.items() if type(payload.get(key)) is kind}
        self._progress.limit(turn_limit(self._process.get("command")))
        self._begun_at = self._clock.at(None, moment)  # whenever that is told
        self._tally["sources"] += 1

    def process_exited(self, payload: dict[str, JSON], moment: Moment, out: list[Event]) -> None:
        """The command has ended: so has the run. Its line is counted by whoever ends all runs of the process."""
        self._end(payload, moment, out)

    def wake(self, moment: Moment, out: list[Event]) -> None:
        """Start the run if it has waited long enough."""
        due = self._wait.due
        if due is not None and due <= moment.now:
            self._release(moment, out)

    def finish(self, moment: Moment, out: list[Event]) -> None:
        """The input has ended."""
        if not self.ended:
            self._end(None, moment, out)

    def _take(self, found: JSON, moment: Moment, size: int, out: list[Event]) -> None:
        """A whole JSON line."""
        self._cut = False
        if self._undecided:
            name = recognised(found)
            if name is not None:
                self._decide(name, out)
            elif self._adapter is None:
                self._hold("json", found, moment, out)
                return
        self._value(found, moment, size, 1, out)

    def _continues(self, text: str, moment: Moment, out: list[Event]) -> bool:
        """Put *text* to a value over many lines; False when it is none and stands for itself."""
        document = self._document
        if not document.fits(text):
            self._give_back(moment, out)
            return False
        found = document.add(text)
        if self._wait.due is None:
            self._wait.begin(moment)
        if found is None:
            return True
        lines = document.take()
        if self._undecided:
            name = recognised(found)
            if name is None:
                self._one_by_one(lines, moment, out)
                return True
            self._decide(name, out)
        self._cut = False
        self._value(found, moment, sum(map(len, lines)), len(lines), out)
        return True

    def _give_back(self, moment: Moment, out: list[Event]) -> None:
        if self._document.lines:
            self._one_by_one(self._document.take(), moment, out)

    def _one_by_one(self, lines: Sequence[str], moment: Moment, out: list[Event]) -> None:
        """Lines that looked like the parts of one value and are none."""
        for line in lines:
            self._cut = False
            found = _object(line)
            if found is not None:
                self._take(found, moment, len(line), out)
            elif self._adapter is None:
                self._hold("text", line, moment, out)
            elif line.strip():
                self._tell(self._adapter.read_text(line, moment), 1, out, moment)
            else:
                self._blank(line, moment, out)

    def _blank(self, text: str, moment: Moment, out: list[Event]) -> None:
        """A line without ink says something only in plain text."""
        adapter = self._adapter
        drafts = adapter.read_text(text, moment) if adapter is not None and adapter.name == "plain" else ()
        self._tell(drafts, 1, out, moment)

    def _hold(self, kind: str, value: JSON, moment: Moment, out: list[Event]) -> None:
        self._held_lines.append((kind, value, moment))
        if self.started or len(self._held_lines) >= HOLD_LINES:
            self._guess(out)

    def _decide(self, name: str, out: list[Event]) -> None:
        """The agent is known: tell what was held."""
        self._undecided = name == "plain"
        adapter = self._adopt(name)
        held, self._held_lines = self._held_lines, []
        for kind, value, moment in held:
            if kind == "json" and not self._undecided and knows(name, value):
                self._value(value, moment, len(encode(value)), 1, out)
            else:
                self._tell(held_drafts(adapter, self._clock, kind, value, moment), 1, out, moment)

    def _adopt(self, name: str) -> Adapter:
        """From now on the lines are read as the format *name*."""
        self.format = name
        found = self._adapter = adapter(name)(self._options, self._clock)
        self.sessions = found.sessions
        self._flows = None if self._undecided or self._leaves_out or not self.started else found
        if name == "claude":
            self.quick = found.sessions
        return found

    def _guess(self, out: list[Event]) -> None:
        """Nothing decided so far: what the held lines are most likely."""
        values = [value for kind, value, _ in self._held_lines if kind == "json"]
        self._decide(likeliest(values) or "plain", out)

    def _value(self, found: JSON, moment: Moment, size: int, lines: int, out: list[Event]) -> None:
        """A decoded line, or an array of them."""
        adapter = self._adapter
        assert adapter is not None  # decided by the caller
        if type(found) is dict:
            if self._undecided:
                payload = {"format": "plain", "reason": "not recognised", "data": found}
                drafts: Sequence[Draft] = [Draft("raw", payload, self._clock.at(None, moment))]
            else:
                drafts = adapter.read(found, moment, size)
        else:
            drafts = [draft for one in found for draft in self._item(one, moment, size)]
            if drafts and not self.started and self._begun_at is None:
                self._begun_at = drafts[0].at  # not the time of the last one, which the clock has reached
        self._tell(drafts, lines, out, moment)

    def _item(self, found: JSON, moment: Moment, size: int) -> Sequence[Draft]:
        """One element of an array of messages."""
        assert self._adapter is not None  # decided by the caller
        if type(found) is dict and not self._undecided:
            return self._adapter.read(found, moment, size)
        payload = {"format": self._adapter.name, "reason": "not an object", "data": found}
        return [Draft("raw", payload, self._clock.at(None, moment))]

    def _tell(self, drafts: Sequence[Draft], lines: int, out: list[Event], moment: Moment) -> None:
        """Make events of *drafts*, which *lines* lines gave; hold them while the run cannot start yet."""
        if drafts:
            drafts = self._progress.told(drafts, moment)
        if self._leaves_out and drafts:
            drafts = [draft for draft in drafts if self._wanted(draft)]
        adapter = self._adapter
        assert adapter is not None  # only an adapter makes drafts
        if self._maker is None:
            starts = adapter.ready or len(self._held) >= HOLD_LINES
            self._tally["sources" if starts and not drafts else _outcome(drafts)] += lines
            if not starts:
                if self._begun_at is None:
                    self._begun_at = self._clock.at(None, moment)
                self._held += drafts
                return
            self._start(adapter, out, moment)
        else:
            self._tally[_outcome(drafts)] += lines
            if adapter.facts is not self._told:
                self._correct(adapter, moment, out)
        if drafts:
            self._make(drafts, out)

    def _wanted(self, draft: Draft) -> bool:
        options, kind = self._options, draft.type
        if kind in ("agent_output", "agent_thinking"):
            return not options.no_output and not (options.no_chunks and draft.payload.get("final") is False)
        if kind == "agent_tool_call":
            return not options.no_tool_calls
        return not (options.no_tool_results and kind == "agent_tool_result")

    def _came(self, moment: Moment, out: list[Event]) -> None:
        """A line came: by its own time the wait may have been over before it."""
        if self._wait.is_over(moment):
            self._release(moment, out)

    def _start(self, adapter: Adapter, out: list[Event], moment: Moment) -> None:
        self._wait.end()
        self._agent_id = self._agent_id or adapter.agent
        self.suffix = adapter.suffix
        self.run_id = self._name(self)
        self._maker = Maker(run_id=self.run_id, agent_id=self._agent_id, work_id=self._work_id)
        self._told = adapter.facts
        self._flows = None if self._undecided or self._leaves_out else self._adapter
        held, self._held = self._held, []
        at = self._begun_at or (held[0].at if held else self._clock.at(None, moment))
        payload = {"schema": SCHEMA, "agent": adapter.agent, **self._process, **adapter.facts}
        self._make([Draft("run_started", payload, at), *held], out)

    def _correct(self, adapter: Adapter, moment: Moment, out: list[Event]) -> None:
        """Facts that came after ``run_started``, or changed with a later turn."""
        changed = {key: value for key, value in adapter.facts.items() if self._told.get(key) != value}
        self._told = adapter.facts
        if changed:
            payload = {"state": "initialized", "changed": changed}
            self._make([Draft("agent_state_update", payload, self._clock.at(None, moment))], out)

    def _release(self, moment: Moment, out: list[Event]) -> None:
        """Nothing more is waited for: lines that are no value, an agent that is not known, a run that did not start."""
        self._wait.end()
        self._give_back(moment, out)
        if self._adapter is None:
            if not self._held_lines and self._process:
                self._start(self._silent_adapter(), out, moment)
                return
            self._guess(out)
        if not self.started and self._adapter is not None and self._process:
            self._start(self._adapter, out, moment)  # a bare line's agent is waited for: nothing happens meanwhile

    def _silent_adapter(self) -> Adapter:
        """Who runs, by the command's own name, when nothing was said yet; what comes decides all the same."""
        return adapter(for_program(self._process.get("command")))(self._options, self._clock)

    def _end(self, exited: dict[str, JSON] | None, moment: Moment, out: list[Event]) -> None:
        self._give_back(moment, out)
        if self._adapter is None:
            if self._held_lines:
                self._guess(out)
            else:
                self._adopt(for_program(self._process.get("command")))
        adapter = self._adapter
        assert adapter is not None  # decided above
        if not self.started:
            self._start(adapter, out, moment)
        left = adapter.finish(moment)
        if left:
            self._make([draft for draft in left if self._wanted(draft)], out)
        at = self._clock.at(None, moment)
        outcome = self._said(adapter)
        kind, payload = terminal(outcome, exited, 0.0 if outcome.duration_ms else self._clock.elapsed_s(at))
        self._make([Draft(kind, payload, at)], out)
        self._wait.end()
        self.ended = True
        self._adapter = self._flows = None  # what it remembers is of no use any more

    def _said(self, adapter: Adapter) -> Outcome:
        outcome = adapter.outcome()
        if self._cut and adapter.name != "plain":
            both = [text for text in (outcome.incomplete, "the last line is cut") if text]
            return outcome._replace(incomplete="; ".join(both))
        return outcome

    def _make(self, drafts: Sequence[Draft], out: list[Event]) -> None:
        maker = self._maker
        assert maker is not None  # the run has started
        for draft in drafts:  # mostly one
            if draft.type == "raw":
                draft = bounded(draft, self._options)
            payload = draft.payload
            if draft.whole and not self._options.no_contents:
                payload = {**payload, "whole": self._whole(maker, draft, out)}
            out.append(maker.make(draft.type, payload, draft.at, draft.parent_id))

    def _whole(self, maker: Maker, draft: Draft, out: list[Event]) -> JSON:
        """Tell before *draft* what it leaves out; where that stands."""
        places = []
        for whole in draft.whole:
            parts = content_payloads(whole, f"{self.run_id}:{maker.sequence + 1}")
            out += [maker.make("content", part, draft.at, draft.parent_id) for part in parts]
            places.append({name: parts[0][name] for name in ("ref", "media_type", "bytes")})
        return places


def _outcome(drafts: Sequence[Draft]) -> str:
    """What became of a line: nothing by rule, only what was not known, or events."""
    if drafts and drafts[0].type != "raw":
        return "sources"
    if not drafts:
        return "ignored"
    return "raw" if all(draft.type == "raw" for draft in drafts) else "sources"


def _object(line: str) -> JSON:
    """The JSON object or array that *line* is, or None."""
    if line.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return decode(line.encode("utf-8", "surrogatepass"))
    except ValueError:
        return None
