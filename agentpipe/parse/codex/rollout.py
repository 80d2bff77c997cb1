"""Codex's own record of a session: ``$CODEX_HOME/sessions/…/rollout-*.jsonl``.

The rules this module keeps: calls and results are those of the model (``response_item``), which every version keeps;
what the program noted when one ended (its exit status, the true diff) makes the result better, and stands for it only
when the model's is missing. A text, which both families tell, is told by whichever comes first. What a program, not a
person, said in the user's name is ``synthetic``.

Source: recorded sessions of three versions and ``codex-rs/protocol``; see ``docs/formats/codex.md``.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from agentpipe.event import JSON
from agentpipe.parse.adapter import Clock, Draft, Moment, Sureness, Whole, source_time
from agentpipe.parse.codex.account import CodexAccount
from agentpipe.parse.codex.acts import Act
from agentpipe.parse.codex.calls import ACTS, search_act
from agentpipe.parse.codex.events import EVENTS, SILENT, questions
from agentpipe.parse.codex.noted import bettered, ended_event
from agentpipe.parse.codex.output import output_of, parts_of
from agentpipe.parse.codex.said import is_bare_head, is_bare_item, origin_of, session_id, spoken
from agentpipe.parse.codex.twice import Family, Twice
from agentpipe.parse.codex.usage import tokens_of
from agentpipe.parse.options import ParseOptions
from agentpipe.parse.vocabulary.content import flat, shortened
from agentpipe.parse.vocabulary.drafts import log
from agentpipe.parse.vocabulary.fields import items, mapping, string, whole
from agentpipe.parse.vocabulary.stamp import Stamp

__all__ = ["CodexRollout"]

_TYPES = frozenset({"compacted", "event_msg", "response_item", "session_meta", "token_usage_record", "turn_context",
                    "world_state", "inter_agent_communication", "inter_agent_communication_metadata",
                    "retained_context"})  # fmt: skip

#: All that the lines of a rollout hold.
_ENVELOPE = frozenset({"ordinal", "payload", "timestamp", "type"})

#: Lines without news for a viewer: settings, copies of state, what is for the model alone.
_SILENT_LINES = frozenset({"inter_agent_communication_metadata", "realtime_item", "retained_context",
                           "security_risk_score", "world_state"})  # fmt: skip
_SILENT_ITEMS = frozenset({"additional_tools", "compaction", "compaction_summary", "compaction_trigger",
                           "context_compaction", "ghost_snapshot"})  # fmt: skip
_SILENT_EVENTS = SILENT | {
    "collab_agent_interaction_end", "collab_agent_spawn_end", "collab_close_end", "collab_resume_end",
    "collab_waiting_end", "dynamic_tool_call_request", "dynamic_tool_call_response", "image_generation_end",
    "sub_agent_activity", "thread_settings_applied", "view_image_tool_call",
}  # fmt: skip

#: Ids of calls that have their result, remembered for what is noted after it.
_REMEMBERED = 1024


class _Noted(NamedTuple):
    """How the program noted the end of a call, before the model was told."""

    event: dict[str, JSON]
    stamp: Stamp


class CodexRollout(CodexAccount):
    """The adapter of rollout files for the lines of one session; see `agentpipe.parse.adapter.Adapter`."""

    name = "codex-rollout"
    suffix = "transcript"

    def __init__(self, options: ParseOptions, clock: Clock) -> None:
        super().__init__(options, clock)
        self._cwd = ""
        self._twice = Twice()
        self._noted: dict[str, _Noted] = {}
        self._answered: dict[str, None] = {}
        self._nameless = 0  # calls that have no id

    @staticmethod
    def recognises(found: Mapping[str, JSON]) -> Sureness:
        """Its envelope with one of its types is sure; before September 2025 the items stood there without one."""
        kind = found.get("type")
        if type(found.get("payload")) is dict and type(kind) is str:
            dated = type(found.get("timestamp")) is str
            if kind in _TYPES:
                return Sureness.SURE if dated else Sureness.LIKELY
            return Sureness.LIKELY if dated and found.keys() <= _ENVELOPE else Sureness.NO
        if type(kind) is str:
            return Sureness.LIKELY if is_bare_item(kind, found) else Sureness.NO
        return Sureness.LIKELY if is_bare_head(found) or found.get("record_type") == "state" else Sureness.NO

    @staticmethod
    def session_of(found: Mapping[str, JSON]) -> str:
        """Only the first line of a file has it."""
        if found.get("type") == "session_meta":
            return session_id(mapping(found.get("payload")))
        return string(found.get("id")) if "type" not in found and is_bare_head(found) else ""

    def read(self, found: dict[str, JSON], moment: Moment, size: int) -> list[Draft]:
        """The drafts of one line; *size* is its length in bytes."""
        stamp = self.stamp(source_time(found.get("timestamp")), moment, size)
        kind, payload = string(found.get("type")), found.get("payload")
        due = self.ticks(stamp, moment)
        if type(payload) is not dict:
            return [*due, *self._bare(kind, found, stamp)]
        reader = _READERS.get(kind)
        if reader is not None:
            return [*due, *reader(self, payload, stamp)]
        return (
            due if kind in _SILENT_LINES else [*due, self.raw(stamp, f"unknown type {shortened(kind, 100)!r}", found)]
        )

    def finish(self, moment: Moment) -> list[Draft]:
        """Tell what the program noted of calls whose result never came, and the texts that were cut."""
        out: list[Draft] = []
        for noted in list(self._noted.values()):
            out += EVENTS[noted.event["type"]](self, noted.event, noted.stamp)
        self._noted.clear()
        return [*out, *super().finish(moment)]

    def _bare(self, kind: str, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        """A line of the shape before September 2025: an item by itself, or the head of the file."""
        if kind:
            return self._item(found, stamp)
        return [] if "record_type" in found else self._meta(found, stamp)

    def _meta(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:  # noqa: ARG002 - one shape for all
        """The head of the file; a forked session has that of its origin after its own."""
        session = session_id(found)
        origin = string(found.get("forked_from_id"))
        self.sessions |= {name for name in (session, origin) if name}
        if "session_id" in self.facts:
            return []
        spawned = mapping(mapping(mapping(found.get("source")).get("subagent")).get("thread_spawn"))
        self._cwd = string(found.get("cwd"))
        self.learn(
            session_id=session,
            agent_version=string(found.get("cli_version")),
            cwd=self._cwd,
            parent_session_id=string(found.get("parent_thread_id")) or string(spawned.get("parent_thread_id")),
        )
        return []

    def _context(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:  # noqa: ARG002 - one shape for all
        """Once a turn: the model and the folder."""
        self.model = string(found.get("model")) or self.model
        self._cwd = string(found.get("cwd")) or self._cwd
        self.learn(model=self.model, cwd=self._cwd)
        self.ready = True
        return []

    def _usage(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        """The newest versions' record of one answer; ``token_count`` repeats it."""
        if string(found.get("thread_id")) not in {"", self.facts.get("session_id")}:
            return []  # a sub-agent's, which has a rollout of its own
        counts = tokens_of(found.get("thread_token_usage"))
        return self.used(counts, "", stamp, whole(mapping(found.get("usage")).get("input_tokens")))

    def _compacted(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:  # noqa: ARG002 - one shape for all
        return self._compaction("item", stamp)

    def _compaction(self, family: Family, stamp: Stamp) -> list[Draft]:
        if not self._twice.first(family, "compacted", ""):
            return []
        return log("info", "context compacted", stamp.at, "compact")

    def _between(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        """One agent writes to another."""
        text = string(found.get("content")) or spoken(found.get("content"))
        sender, receiver = string(found.get("author")), string(found.get("recipient"))
        return log("info", f"{sender} → {receiver}: {text}", stamp.at, "agents") if text else []

    # ---- what the model said

    def _item(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        kind = string(found.get("type"))
        reader = _ITEMS.get(kind)
        if reader is not None:
            return reader(self, found, stamp)
        if kind in _SILENT_ITEMS:
            return []
        return [self.raw(stamp, f"unknown item {shortened(kind, 100)!r}", found)]

    def _message(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        role, own_id = string(found.get("role")), string(found.get("id"))
        texts, images = parts_of(found.get("content"))
        if role == "user":
            words = spoken(found.get("content"))
            return self._user("item", words, "\n".join(texts), own_id, stamp, origin_of(found, texts), images)
        if role != "assistant":
            return []  # instructions of the program to its model
        self.ready = True
        marks: dict[str, JSON] = {"phase": found["phase"]} if string(found.get("phase")) else {}
        out: list[Draft] = []
        for index, text in enumerate(texts):
            out += self._text("item", "agent_output", text, own_id, index, stamp, **marks)
        return out

    def _reasoning(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        """Its summary, else what it says in the open; mostly it is encrypted and says nothing."""
        texts = parts_of(found.get("summary"))[0] or parts_of(found.get("content"))[0]
        out: list[Draft] = []
        for index, text in enumerate(texts):
            out += self._text("item", "agent_thinking", text, string(found.get("id")), index, stamp)
        return out

    def _act(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        act = ACTS[found["type"]](found, self._cwd)
        self.ready = True
        out = [self.acts.called(stamp, self._call_id(found), act)]
        if act.name == "request_user_input":
            return [*out, *questions(self, {**act.input, "call_id": found.get("call_id")}, stamp)]
        return out

    def _call_id(self, found: dict[str, JSON]) -> str:
        own = string(found.get("call_id")) or string(found.get("id"))
        if not own:
            self._nameless += 1
        return own or f"call-{self._nameless}"

    def _web_search(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        """A call that has no result of its own: the model's provider did it."""
        act = search_act(found)
        if not self._twice.first("item", "web_search", act.telling or "", string(found.get("id"))):
            return []
        self.ready = True
        ok = found.get("status") != "failed"
        return self.acts.returned(stamp, self._call_id(found), act.telling or "", act, ok=ok)

    def _image(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        data, prompt = string(found.get("result")), string(found.get("revised_prompt"))
        media = (Whole("image/png", data, base64=True),) if data else ()
        text = flat([{"type": "image", "media_type": "image/png", "data": data}]) if data else ""
        act = Act("image_generation", {"prompt": prompt}, shown="Image")
        ok = found.get("status") != "failed"
        return self.acts.returned(stamp, self._call_id(found), text, act, ok=ok, whole=media)

    def _output(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        call_id = string(found.get("call_id"))
        output = output_of(found["output"] if "output" in found else found.get("tools"))
        noted = self._noted.pop(call_id, None)
        self._remember(call_id)
        act = self.acts.act_of(call_id)
        if noted is not None:
            output, act = bettered(output, act, noted.event)
        ok = output.ok is not False
        return self.acts.returned(
            stamp,
            call_id,
            output.text,
            act,
            ok=ok,
            exit_code=output.exit_code,
            duration_ms=output.duration_ms,
            whole=output.whole,
            failed="" if output.text.strip() or not output.exit_code else f"exit status {output.exit_code}",
        )

    def _remember(self, call_id: str) -> None:
        self._answered[call_id] = None
        if len(self._answered) > _REMEMBERED:
            del self._answered[next(iter(self._answered))]

    # ---- what a user saw

    def _event(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        kind = string(found.get("type"))
        if kind == "item_completed":
            item = mapping(found.get("item"))
            event = ended_event(item)
            if event is None:
                return self._unknown_item(item, stamp)
            found, kind = event, event["type"]
        own = _EVENTS.get(kind)
        if own is not None:
            return own(self, found, stamp)
        reader = EVENTS.get(kind)
        if reader is None:
            known = kind in _SILENT_EVENTS
            return [] if known else [self.raw(stamp, f"unknown event {shortened(kind, 100)!r}", found)]
        self.ready = self.ready or kind in ("task_complete", "turn_aborted")
        return reader(self, found, stamp)

    def _unknown_item(self, item: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        """An item that the model's own family tells as well, unless nothing of it was told."""
        kind, own_id = string(item.get("type")), string(item.get("id"))
        if own_id in self.calls or own_id in self._answered or kind in ("HookPrompt", "Plan", "SubAgentActivity"):
            return []
        return [self.raw(stamp, f"unknown item {shortened(kind, 100)!r}", item)]

    def _ended(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        """The program notes that a call has ended; its result for the model mostly follows."""
        call_id = string(found.get("call_id"))
        if call_id in self._answered:
            return []
        if call_id in self.calls:
            self._noted[call_id] = _Noted(found, stamp)
            return []
        self._remember(call_id)
        self.ready = True
        return EVENTS[found["type"]](self, found, stamp)

    def _search_ended(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        act = search_act(found)
        news = self._twice.first("event", "web_search", act.telling or "", string(found.get("call_id")))
        return EVENTS["web_search_end"](self, found, stamp) if news else []

    def _said(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        return self._seen("agent_output", found, "message", stamp)

    def _thought(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        return self._seen("agent_thinking", found, "text", stamp)

    def _seen(
        self,
        type: Literal["agent_output", "agent_thinking"],  # noqa: A002 - the event's field
        found: dict[str, JSON],
        field: str,
        stamp: Stamp,
    ) -> list[Draft]:
        texts = items(found[field]) if isinstance(found.get(field), list) else [found.get(field)]
        marks: dict[str, JSON] = {"phase": found["phase"]} if string(found.get("phase")) else {}
        out: list[Draft] = []
        for index, text in enumerate(texts):
            out += self._text("event", type, string(text), string(found.get("id")), index, stamp, **marks)
        return out

    def _asked(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:
        text = string(found.get("message"))
        return self._user("event", text, text, "", stamp, "")

    def _context_compacted(self, found: dict[str, JSON], stamp: Stamp) -> list[Draft]:  # noqa: ARG002 - one shape for all
        return self._compaction("event", stamp)

    # ---- texts, by whichever family comes first

    def _text(
        self,
        family: Family,
        type: Literal["agent_output", "agent_thinking"],  # noqa: A002 - the event's field
        text: str,
        own_id: str,
        index: int,
        stamp: Stamp,
        **marks: JSON,
    ) -> list[Draft]:
        if type == "agent_output" and text:
            self.answer = text
        if not text or not self._twice.first(family, type, text, own_id and f"{own_id}:{index}"):
            return []
        word = "message" if type == "agent_output" else "reasoning"
        return self.texts.final(stamp, type, own_id or self.text_id(word), text, index if own_id else 0, **marks)

    def _user(
        self,
        family: Family,
        words: str,
        text: str,
        own_id: str,
        stamp: Stamp,
        origin: str,
        images: tuple[Whole, ...] = (),
    ) -> list[Draft]:
        """*text* in the user's name; its *words* are what the other family repeats."""
        if not text or not self._twice.first(family, "user", words):
            return []
        marks: dict[str, JSON] = {"role": "user", "origin": origin} if origin else {"role": "user"}
        out = self.texts.final(stamp, "agent_output", own_id or self.text_id("user"), text, **marks)
        for draft in out:
            draft.whole = images
        return out


_Reader = Callable[[CodexRollout, dict[str, JSON], Stamp], list[Draft]]

_READERS: dict[str, _Reader] = {
    "compacted": CodexRollout._compacted,  # noqa: SLF001 - the class's own table
    "event_msg": CodexRollout._event,  # noqa: SLF001 - the class's own table
    "inter_agent_communication": CodexRollout._between,  # noqa: SLF001 - the class's own table
    "response_item": CodexRollout._item,  # noqa: SLF001 - the class's own table
    "session_meta": CodexRollout._meta,  # noqa: SLF001 - the class's own table
    "token_usage_record": CodexRollout._usage,  # noqa: SLF001 - the class's own table
    "turn_context": CodexRollout._context,  # noqa: SLF001 - the class's own table
}

_ITEMS: dict[str, _Reader] = {
    **dict.fromkeys(ACTS, CodexRollout._act),  # noqa: SLF001 - the class's own table
    "agent_message": CodexRollout._between,  # noqa: SLF001 - the class's own table
    "custom_tool_call_output": CodexRollout._output,  # noqa: SLF001 - the class's own table
    "function_call_output": CodexRollout._output,  # noqa: SLF001 - the class's own table
    "image_generation_call": CodexRollout._image,  # noqa: SLF001 - the class's own table
    "message": CodexRollout._message,  # noqa: SLF001 - the class's own table
    "reasoning": CodexRollout._reasoning,  # noqa: SLF001 - the class's own table
    "tool_search_output": CodexRollout._output,  # noqa: SLF001 - the class's own table
    "web_search_call": CodexRollout._web_search,  # noqa: SLF001 - the class's own table
}

_EVENTS: dict[str, _Reader] = {
    "agent_message": CodexRollout._said,  # noqa: SLF001 - the class's own table
    "agent_reasoning": CodexRollout._thought,  # noqa: SLF001 - the class's own table
    "agent_reasoning_raw_content": CodexRollout._thought,  # noqa: SLF001 - the class's own table
    "context_compacted": CodexRollout._context_compacted,  # noqa: SLF001 - the class's own table
    "exec_command_end": CodexRollout._ended,  # noqa: SLF001 - the class's own table
    "mcp_tool_call_end": CodexRollout._ended,  # noqa: SLF001 - the class's own table
    "patch_apply_end": CodexRollout._ended,  # noqa: SLF001 - the class's own table
    "user_message": CodexRollout._asked,  # noqa: SLF001 - the class's own table
    "web_search_end": CodexRollout._search_ended,  # noqa: SLF001 - the class's own table
}
