"""The same act is the same event whatever the agent: one short story, told by every format, and what recorded agents
did at the request of a scripted model.

The stories (``examples/``) are made up: a file is created, another edited, a command fails, a plan of two has one item
done, and the agent says so in the end.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agentpipe.event import decode
from agentpipe.parse.detect import ADAPTERS
from tests.parse.lines import Line, of, parsed, parsed_bytes, types, wrapped
from tests.parse.logs import EXAMPLES, LOGS, SHARED

STORIES = {log.format: log.path.read_bytes() for log in EXAMPLES}
AGENTS = sorted(STORIES.keys() - {"plain"})

#: What a format does not say, so that nobody can.
NO_TOKENS = {"claude-hooks", "kimi"}
NO_TURNS = {"gemini-chat", "kimi", "qwen-transcript"}
COSTS = {"claude": 0.25, "opencode": 0.25, "pi": 0.25}
TOLD_ONCE = {"codex", "copilot", "goose"}  # formats whose plan has no item in progress: it is done or not
NO_PLAN = {"pi"}
FAILURE_UNSAID = {"gemini"}  # a command's status is not in the stream: the call went well


def told(data: bytes) -> list[Line]:
    return [decode(event.line) for event in parsed_bytes(data)]


@pytest.fixture(scope="module", params=AGENTS)
def agent(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def story(agent: str) -> list[Line]:
    return told(STORIES[agent])


def test_every_format_tells_the_story() -> None:
    assert STORIES.keys() == ADAPTERS.keys()


def test_nothing_of_it_is_raw(story: list[Line]) -> None:
    assert "raw" not in types(story)


def test_files_are_edited_by_calls_and_then_changed(story: list[Line]) -> None:
    calls = {p["tool_use_id"]: p for p in of(story, "agent_tool_call")}
    results = {p["tool_use_id"]: p for p in of(story, "agent_tool_result")}
    changes = of(story, "file_changed")
    for change in changes:
        assert calls[change["tool_use_id"]]["kind"] == "edit"
        assert results[change["tool_use_id"]]["ok"] is True
        places = [n for n, event in enumerate(story) if event["payload"].get("tool_use_id") == change["tool_use_id"]]
        assert [story[place]["type"] for place in places] == ["agent_tool_call", "agent_tool_result", "file_changed"]
    assert [(p["path"], p["change"], p["added"], p["removed"], p["source"]) for p in changes] == [
        ("/w/new.txt", "created", 2, 0, "tool"),
        ("/w/notes.txt", "modified", 1, 1, "tool"),
    ]


def test_a_command_that_fails_is_a_failed_tool_with_its_status(agent: str, story: list[Line]) -> None:
    [call] = [p for p in of(story, "agent_tool_call") if p["kind"] == "execute"]
    [result] = [p for p in of(story, "agent_tool_result") if p["tool_use_id"] == call["tool_use_id"]]
    assert "cat nope" in call["title"]
    assert "bash -lc" not in call["title"]
    assert "No such file or directory" in result["content"]
    if agent in FAILURE_UNSAID:
        assert (result["ok"], result.get("exit_code"), of(story, "error")) == (True, None, [])
        return
    assert (result["ok"], result["exit_code"]) == (False, 1)
    [error] = of(story, "error")
    assert (error["rank"], error["tool_use_id"]) == ("tool", call["tool_use_id"])


def test_every_result_has_its_call_s_name_and_kind(story: list[Line]) -> None:
    calls = {p["tool_use_id"]: (p["name"], p["kind"]) for p in of(story, "agent_tool_call")}
    results = {p["tool_use_id"]: (p["name"], p["kind"]) for p in of(story, "agent_tool_result")}
    assert results == calls


def test_a_plan_is_progress(agent: str, story: list[Line]) -> None:
    plans = of(story, "progress_update")
    if agent in NO_PLAN:
        assert plans == []
        return
    [plan] = plans
    assert (plan["done"], plan["total"], plan["percent"], plan["basis"]) == (1, 2, 50.0, "plan")
    assert [item["text"] for item in plan["items"]] == ["Write", "Check"]
    doing = "pending" if agent in TOLD_ONCE else "in_progress"
    assert [item["status"] for item in plan["items"]] == ["completed", doing]


def test_tokens_are_input_without_the_cache_which_stands_apart_and_are_never_counted_twice(
    agent: str, story: list[Line]
) -> None:
    end, updates = story[-1]["payload"], of(story, "usage_update")
    if agent in NO_TOKENS:
        assert ("usage" in end, updates) == (False, [])
        return
    assert (end["usage"]["input_tokens"], end["usage"]["cache_read_tokens"]) == (100, 50)
    assert end["usage"]["output_tokens"] == 10
    totals = [p for p in updates if p["cumulative"]]
    steps = [p for p in updates if not p["cumulative"] and not p.get("provisional")]
    if totals:
        assert (totals[-1]["input_tokens"], totals[-1]["output_tokens"]) == (100, 10)
    if steps:
        assert (sum(p["input_tokens"] for p in steps), sum(p["output_tokens"] for p in steps)) == (100, 10)
    for turn in of(story, "run_iteration"):
        assert turn.get("usage", end["usage"])["input_tokens"] == 100


def test_cost_is_the_source_s_or_nobody_s(agent: str, story: list[Line]) -> None:
    assert story[-1]["payload"].get("cost_usd") == COSTS.get(agent)
    assert all("cost_usd" not in event["payload"] for event in story) is (agent not in COSTS)


def test_the_last_text_is_final_once_and_is_the_result(agent: str, story: list[Line]) -> None:
    texts = [p for p in of(story, "agent_output") if p.get("role") != "user"]
    assert [p["text"] for p in texts if p["final"]] == ["Tidied."]
    chunks = [p for p in texts if not p["final"]]
    assert "".join(p["text"] for p in chunks) in ("", "Tidied.")
    assert {(p["message_id"], p["index"]) for p in chunks} <= {(texts[-1]["message_id"], texts[-1]["index"])}
    assert texts[-1]["final"] is True
    turns = of(story, "run_iteration")
    assert [(turn["turn"], turn["ok"], turn["result"]) for turn in turns] == (
        [] if agent in NO_TURNS else [(1, True, "Tidied.")]
    )


def test_what_is_whole_is_completed(story: list[Line]) -> None:
    assert story[-1]["type"] == "run_completed"
    assert "incomplete" not in story[-1]["payload"]
    assert "error" not in story[-1]["payload"]


# ---- ends


AT = "2026-11-20T08:00:20.000Z"
WHY = "[API Error: overloaded"
THREAD = "T-00000000-0000-4000-8000-000000000001"


def _entry(kind: str, **more: Any) -> Line:
    return {"uuid": "r2", "parentUuid": "u1", "timestamp": AT, "type": kind, **more}


def _said(session: str, text: str, model: str, **more: Any) -> Line:
    usage = {"input_tokens": 0, "output_tokens": 0}
    body = {"id": "x", "role": "assistant", "model": model, "content": [{"type": "text", "text": text}], "usage": usage}
    return {
        "type": "assistant", "message": body, "uuid": "x", "session_id": session, "parent_tool_use_id": None, **more,
    }  # fmt: skip


#: The last lines of a run whose model cannot be reached, after this many lines of the story.
FAILURES: dict[str, tuple[int, Sequence[Line]]] = {
    "acp": (3, [{"jsonrpc": "2.0", "id": 2, "error": {"code": -32603, "message": WHY}}]),
    "claude": (
        1,
        [
            _said("ex-claude", WHY, "<synthetic>", error="overloaded"),
            {
                "type": "result", "subtype": "success", "is_error": True, "result": WHY, "session_id": "ex-claude",
                "total_cost_usd": 0, "uuid": "z",
            },
        ],
    ),
    "claude-hooks": (
        2,
        [{"session_id": "ex-claude-hooks", "hook_event_name": "StopFailure", "error": "overloaded",
          "error_details": WHY}],
    ),
    "claude-transcript": (
        1,
        [_entry("assistant", isSidechain=False, sessionId="ex-claude-transcript", error="overloaded",
                isApiErrorMessage=True, message=_said("", WHY, "<synthetic>")["message"])],
    ),
    "codex": (2, [{"type": "error", "message": WHY}, {"type": "turn.failed", "error": {"message": WHY}}]),
    "codex-rollout": (3, [{"timestamp": AT, "type": "event_msg", "payload": {"type": "error", "message": WHY}}]),
    "copilot": (
        2,
        [
            {"type": "session.error", "data": {"errorType": "query", "message": WHY}, "id": "e3", "timestamp": AT,
             "parentId": "e2"},
            {"type": "result", "timestamp": AT, "sessionId": "ex-copilot", "exitCode": 1, "usage": {}},
        ],
    ),
    "gemini": (2, [{"type": "result", "timestamp": AT, "status": "error", "error": {"type": "x", "message": WHY}}]),
    "gemini-chat": (2, [{"id": "e1", "timestamp": AT, "type": "error", "content": WHY}]),
    "goose": (2, [{"type": "error", "error": WHY}, {"type": "complete", "total_tokens": None}]),
    "opencode": (
        1,
        [{"type": "error", "timestamp": 1_795_161_600_000, "sessionID": "ex-opencode",
          "error": {"name": "APIError", "data": {"message": WHY, "statusCode": 529}}}],
    ),
    "pi": (
        4,
        [
            {"type": "message_end", "message": {"role": "assistant", "content": [], "stopReason": "error",
                                                "errorMessage": WHY}},
            {"type": "agent_end", "messages": []},
        ],
    ),
    "qwen": (
        1,
        [
            _said("ex-qwen", WHY, "coder"),
            {"type": "result", "subtype": "success", "is_error": False, "result": WHY, "session_id": "ex-qwen",
             "uuid": "z", "usage": {}, "permission_denials": []},
        ],
    ),
}  # fmt: skip

#: The agents of which nothing but the failed turn is seen.
TURNS: dict[str, tuple[int, Sequence[Line]]] = {
    "amp": (2, [{"type": "result", "subtype": "error_during_execution", "is_error": True, "error": WHY,
                 "session_id": THREAD}]),
    "cursor": (2, [{"type": "result", "subtype": "error", "is_error": True, "result": WHY,
                    "session_id": "ex-cursor"}]),
}  # fmt: skip


def cut(agent: str, lines: int) -> list[Line]:
    return [decode(line) for line in STORIES[agent].split(b"\n")[:lines]]


@pytest.mark.parametrize("agent", FAILURES)
def test_an_api_that_failed_for_good_fails_the_run_and_is_the_agent_s_rank(agent: str) -> None:
    count, lines = FAILURES[agent]
    events = parsed(*cut(agent, count), *lines)
    ranks = [(p["rank"], WHY in p["message"]) for p in of(events, "error")]
    turns = of(events, "run_iteration")
    assert ranks == [("agent", True), *[("turn", True)] * len(turns)]  # and the turn that failed with it
    assert all(turn["ok"] is False for turn in turns)
    assert events[-1]["type"] == "run_failed"
    assert WHY in events[-1]["payload"]["error"]


@pytest.mark.parametrize("agent", TURNS)
def test_a_failed_turn_fails_the_run(agent: str) -> None:
    count, lines = TURNS[agent]
    events = parsed(*cut(agent, count), *lines)
    assert [p["rank"] for p in of(events, "error")] == ["turn"]
    assert (events[-1]["type"], events[-1]["payload"]["error"]) == ("run_failed", WHY)


#: A try that failed and is made again, after the head of the story.
RETRIES: dict[str, Line] = {
    "claude": {"type": "system", "subtype": "api_retry", "attempt": 2, "max_retries": 5, "retry_delay_ms": 300,
               "error_status": 529, "error": "overloaded", "session_id": "ex-claude", "uuid": "u"},
    "claude-transcript": _entry("system", subtype="api_error", sessionId="ex-claude-transcript", isSidechain=False,
                                error={"status": 529}, retryInMs=300, retryAttempt=2, maxRetries=5),
    "codex": {"type": "error", "message": "Reconnecting... 2/5 (overloaded)"},
    "cursor": {"type": "retry", "subtype": "starting", "session_id": "ex-cursor", "attempt": 2},
    "pi": {"type": "auto_retry_start", "attempt": 2, "maxAttempts": 3, "delayMs": 300, "errorMessage": "overloaded"},
}  # fmt: skip


@pytest.mark.parametrize("agent", RETRIES)
def test_a_retry_is_a_warning_with_its_attempt(agent: str) -> None:
    story = [decode(line) for line in STORIES[agent].splitlines()]
    events = parsed(*story[:2], RETRIES[agent], *story[2:])
    warnings = [p for p in of(events, "error") if p["rank"] == "warning"]
    assert [p["attempt"] for p in warnings] == [2]
    assert all(p.get("retry_in_ms") in (None, 300) for p in warnings)
    assert events[-1]["type"] == "run_completed"


@pytest.mark.parametrize("agent", sorted(set(AGENTS) - {"claude-transcript", "claude-hooks", *NO_TURNS}))
def test_what_ends_without_a_word_is_incomplete_however_the_process_ended(agent: str) -> None:
    """Killed, cut, or status 0: the agent's account of itself is not whole."""
    lines = cut(agent, len(STORIES[agent].splitlines()) // 2)
    [end] = of(parsed(*lines), "run_completed")
    assert end["incomplete"] == "no result from the agent"
    killed = parsed(*wrapped(lines, exit_code=None, signal="SIGKILL"))[-1]
    assert (killed["type"], killed["payload"]["incomplete"]) == ("run_failed", "no result from the agent")
    assert killed["payload"]["signal"] == "SIGKILL"
    quiet = parsed(*wrapped(lines, exit_code=0))[-1]
    assert (quiet["type"], quiet["payload"]["incomplete"]) == ("run_completed", "no result from the agent")


@pytest.mark.parametrize("agent", AGENTS)
def test_what_a_person_interrupts_is_cancelled(agent: str) -> None:
    lines = cut(agent, len(STORIES[agent].splitlines()) // 2)
    for exited in ({"exit_code": None, "signal": "SIGINT"}, {"exit_code": 130}, {"exit_code": 143}):
        assert parsed(*wrapped(lines, **exited))[-1]["type"] == "run_cancelled"


#: The agent says itself that it was interrupted.
INTERRUPTED: dict[str, Sequence[Line]] = {
    "acp": [{"jsonrpc": "2.0", "id": 2, "result": {"stopReason": "cancelled"}}],
    "codex-rollout": [{"timestamp": AT, "type": "event_msg",
                       "payload": {"type": "turn_aborted", "reason": "interrupted"}}],
    "copilot": [{"type": "abort", "data": {"reason": "user"}, "id": "e3", "timestamp": AT, "parentId": "e2"}],
    "gemini": [{"type": "result", "timestamp": AT, "status": "error",
                "error": {"type": "FatalCancellationError", "message": "Operation cancelled."}}],
    "opencode": [{"type": "error", "timestamp": 1_795_161_600_000, "sessionID": "ex-opencode",
                  "error": {"name": "MessageAbortedError", "data": {"message": "aborted"}}}],
    "pi": [{"type": "message_end", "message": {"role": "assistant", "content": [], "stopReason": "aborted"}},
           {"type": "agent_end", "messages": []}],
    "qwen-transcript": [_entry("system", sessionId="ex-qwen-transcript", subtype="turn_result",
                               systemPayload={"state": "cancelled", "endedAt": 1})],
}  # fmt: skip


@pytest.mark.parametrize("agent", INTERRUPTED)
def test_an_agent_that_says_it_was_interrupted_is_cancelled(agent: str) -> None:
    assert parsed(*cut(agent, 3), *INTERRUPTED[agent])[-1]["type"] == "run_cancelled"


# ---- sub-agents


def _child(agent: str) -> tuple[str, list[Line]]:
    """The call that starts a sub-agent, and lines by it."""
    if agent in ("claude", "qwen", "amp"):
        session = {"claude": "ex-claude", "qwen": "ex-qwen", "amp": THREAD}[agent]
        line = _said(session, "counting", "m")
        line["parent_tool_use_id"] = "toolu_p"
        if agent == "amp":
            del line["uuid"], line["message"]["id"]
        return "toolu_p", [line]
    if agent == "copilot":
        data = {"messageId": "s1", "content": "counting", "toolRequests": [], "parentToolCallId": "tp"}
        return "tp", [{"type": "assistant.message", "data": data, "id": "e3", "timestamp": AT, "parentId": "e2"}]
    meta = {"claudeCode": {"parentToolUseId": "tp", "toolName": "Bash"}}
    update = {"sessionUpdate": "tool_call", "toolCallId": "c9", "title": "ls", "kind": "execute",
              "status": "in_progress", "_meta": meta}  # fmt: skip
    return "tp", [{"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": "ex-acp", "update": update}}]


@pytest.mark.parametrize("agent", ["acp", "amp", "claude", "copilot", "qwen"])
def test_a_sub_agent_s_events_name_the_call_that_started_it(agent: str) -> None:
    parent, lines = _child(agent)
    events = parsed(*cut(agent, 3 if agent == "acp" else 2), *lines)
    assert [e.get("parent_id") for e in events if e["type"] in ("agent_output", "agent_tool_call")][-1] == parent


# ---- what recorded agents did


class Recorded(NamedTuple):
    """What a recorded tour tells: whether the lines of both changes are counted, where the plan ends (None when the
    tool was refused, or there is none), and whether the command that fails went well, with its status.
    """

    name: str
    counts: bool = True
    plan: tuple[int, int] | None = None
    failure: tuple[bool, int | None] | None = (False, 1)


TOURS = [
    Recorded("claude/tools", plan=(1, 3)),
    Recorded("claude-1.0.128/tools", plan=(1, 3), failure=(False, None)),
    Recorded("claude-2.0.77/tools", plan=(1, 3)),
    Recorded("claude-2.1.197/tools", plan=(1, 3)),
    Recorded("codex/tools", counts=False),
    Recorded("codex-0.55.0/tools", counts=False, plan=(3, 3), failure=None),
    Recorded("codex-0.96.0/tools", counts=False, plan=(3, 3)),
    Recorded("codex/tools.transcript"),
    Recorded("codex-0.55.0/tools.transcript", plan=(3, 3), failure=None),
    Recorded("codex-0.96.0/tools.transcript", plan=(3, 3)),
    Recorded("gemini/tools", failure=(True, None)),
    Recorded("gemini/tools.transcript"),
    Recorded("opencode/tools", plan=(1, 2)),
    Recorded("opencode/tools-thinking", plan=(1, 2)),
    Recorded("qwen/tools", plan=(1, 2), failure=(True, None)),
    Recorded("qwen/tools-partial", plan=(1, 2), failure=(True, None)),
    Recorded("qwen/tools.transcript", plan=(1, 2)),
]


@pytest.mark.skipif(not LOGS, reason="the saved logs (../shared) are not here")
@pytest.mark.parametrize("tour", TOURS, ids=lambda tour: tour.name)
def test_recorded_agents_did_what_the_model_asked_for(tour: Recorded) -> None:
    events = told((SHARED / "recordings" / f"{tour.name}.jsonl").read_bytes())
    changes = [
        (Path(p["path"]).name, p["change"], p.get("added"), p.get("removed")) for p in of(events, "file_changed")
    ]
    counts = [(3, 0), (1, 1)] if tour.counts else [(None, None)] * 2
    assert changes == [("notes.txt", "created", *counts[0]), ("notes.txt", "modified", *counts[1])]
    kinds = {p["tool_use_id"]: p["kind"] for p in of(events, "agent_tool_call")}
    assert {kinds[p["tool_use_id"]] for p in of(events, "file_changed")} == {"edit"}
    plans = [(p["done"], p["total"]) for p in of(events, "progress_update")]
    assert plans[-1:] == ([tour.plan] if tour.plan else [])
    failing = [p["tool_use_id"] for p in of(events, "agent_tool_call") if "cat does-not-exist.txt" in p["title"]]
    results = [p for p in of(events, "agent_tool_result") if p["tool_use_id"] in failing]
    assert [(p["ok"], p.get("exit_code")) for p in results] == ([tour.failure] if tour.failure else [])
    ranks = [p["rank"] for p in of(events, "error") if p.get("tool_use_id") in failing]
    assert ranks == ["tool"] * sum(not p["ok"] for p in results)
    finals = [(e.get("parent_id"), p["message_id"], p["index"]) for e in events
              if e["type"] == "agent_output" and (p := e["payload"])["final"]]  # fmt: skip
    assert len(finals) == len(set(finals))
    assert events[-1]["type"] == "run_completed"


#: Recordings whose end the log itself tells: of an API that failed for good, and of one that was asked again.
FAILED = ("claude/api-529-fatal", "codex/api-400", "codex/api-401", "codex/api-429-fatal", "codex/api-500-fatal",
          "codex/api-failed", "codex/stream-cut-fatal", "gemini/api-400", "gemini/api-401", "qwen/api-401",
          "qwen/api-500-fatal")  # fmt: skip
RETRIED = ("claude/api-529-retry", "codex/api-429-retry")
CUT = ("codex/api-unreachable", "codex/sigint-tool", "codex/sigkill-tool", "codex/sigterm-tool", "gemini/api-500-fatal",
       "gemini/sigint-group-tool", "gemini/sigterm-group-tool", "opencode/sigint-tool", "opencode/sigterm-tool",
       "qwen/max-turns")  # fmt: skip


@pytest.mark.skipif(not LOGS, reason="the saved logs (../shared) are not here")
@pytest.mark.parametrize("name", [*FAILED, *RETRIED, *CUT])
def test_recorded_ends(name: str) -> None:
    events = told((SHARED / "recordings" / f"{name}.jsonl").read_bytes())
    ranks = [p["rank"] for p in of(events, "error")]
    end = events[-1]
    if name in FAILED:
        assert (end["type"], ranks.count("agent")) == ("run_failed", 1)
        assert end["payload"]["error"]
        assert [turn["ok"] for turn in of(events, "run_iteration")] == [False]
    elif name in RETRIED:
        assert (end["type"], set(ranks)) == ("run_completed", {"warning"})
        assert all(p["attempt"] >= 1 for p in of(events, "error"))
    else:
        assert (end["type"], end["payload"]["incomplete"]) == ("run_completed", "no result from the agent")
        assert "agent" not in ranks
