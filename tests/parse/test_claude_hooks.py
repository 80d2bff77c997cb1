"""Payloads of Claude Code's hooks: what each tells, how they are paired, and what no payload says."""

import json
from pathlib import Path
from typing import Any

import pytest

from agentpipe.event import decode
from tests.parse.counts.claude_hooks import counted
from tests.parse.lines import Line, encoded, of, parsed, parsed_bytes, stage, types

SHARED = Path(__file__).parents[3] / "shared"
LOGS = sorted([*SHARED.glob("recordings/claude*/*.hooks.jsonl"), *SHARED.glob("fixtures/claude-hooks/*/*.json")])
SESSION = "4b78-55"


def hook(name: str, /, **more: Any) -> Line:
    return {"session_id": SESSION, "transcript_path": "/t", "cwd": "/w", "hook_event_name": name, **more}


def pre(name: str = "Bash", given: Line | None = None, call_id: str = "t1", **more: Any) -> Line:
    named = {"tool_use_id": call_id} if call_id else {}
    return hook("PreToolUse", tool_name=name, tool_input=given or {"command": "ls"}, **named, **more)


def post(response: Any = None, name: str = "Bash", given: Line | None = None, call_id: str = "t1", **more: Any) -> Line:
    named = {"tool_use_id": call_id} if call_id else {}
    told = {"stdout": "x", "stderr": ""} if response is None else response
    given = given or {"command": "ls"}
    return hook("PostToolUse", tool_name=name, tool_input=given, tool_response=told, **named, **more)


def shown(delta: str, index: int = 0, message: str = "m1", *, final: bool = False) -> Line:
    return hook("MessageDisplay", turn_id="turn", message_id=message, index=index, final=final, delta=delta)


def texts(events: list[Line]) -> list[tuple[str, str, bool]]:
    return [(p["message_id"], p["text"], p["final"]) for p in of(events, "agent_output")]


# ---- the run


def test_the_session_is_told_by_a_second_teller_of_its_own() -> None:
    events = parsed(hook("SessionStart", source="startup", model="opus"), hook("SessionEnd", reason="other"))
    assert {event["run_id"] for event in events} == {f"{SESSION}/hooks"}
    assert {event["agent_id"] for event in events} == {"claude"}
    assert events[0]["payload"] == {
        "schema": "agentpipe/1", "agent": "claude", "session_id": SESSION, "cwd": "/w", "model": "opus",
    }  # fmt: skip
    assert events[-1]["type"] == "run_completed"
    assert "incomplete" not in events[-1]["payload"]


def test_the_model_of_the_first_payload_is_in_run_started() -> None:
    [started] = of(parsed(hook("SessionStart", source="startup", model="opus")), "run_started")
    assert started["model"] == "opus"


def test_an_event_happened_when_the_hook_received_it() -> None:
    spooled = [
        {"received_at": "2026-11-20T07:00:00.000Z", **pre()},
        {"received_at": "2026-11-20T07:00:02.500Z", **post()},
    ]
    events = parsed(*spooled)
    assert [event["timestamp"] for event in events[1:3]] == ["2026-11-20T07:00:00.000Z", "2026-11-20T07:00:02.500Z"]
    assert of(events, "agent_tool_result")[0]["duration_ms"] == 2500


def test_payloads_in_an_array_and_pretty_printed_are_the_same() -> None:
    lines = [hook("UserPromptSubmit", prompt="go"), pre(), post(), hook("Stop", stop_hook_active=False)]
    told = parsed(*lines)
    for data in (json.dumps(lines).encode() + b"\n", json.dumps(lines, indent=2).encode()):
        assert [decode(event.line) for event in parsed_bytes(data)] == told


def test_one_payload_alone_pretty_printed() -> None:
    data = json.dumps(pre(), indent=2).encode()
    assert types([decode(event.line) for event in parsed_bytes(data)]) == [
        "run_started", "agent_tool_call", "run_completed",
    ]  # fmt: skip


def test_two_sessions_are_two_runs() -> None:
    events = parsed(pre(), {**pre(), "session_id": "other"})
    assert {event["run_id"] for event in events} == {f"{SESSION}/hooks", "other/hooks"}


def test_a_resumed_session_says_so() -> None:
    events = parsed(pre(), hook("SessionStart", source="resume", model="haiku"))
    assert of(events, "agent_log_entry")[0]["message"] == "session started (resume)"
    assert of(events, "agent_state_update")[0]["changed"] == {"model": "haiku"}


# ---- calls


def test_pre_and_post_are_paired_by_id() -> None:
    events = parsed(pre(call_id="a"), pre(call_id="b"), post(call_id="b", duration_ms=7), post(call_id="a"))
    assert [p["tool_use_id"] for p in of(events, "agent_tool_call", "agent_tool_result")] == ["a", "b", "b", "a"]
    assert of(events, "agent_tool_result")[0]["duration_ms"] == 7


def test_without_ids_they_are_paired_by_name_and_input() -> None:
    one, two = {"command": "one"}, {"command": "two"}
    events = parsed(
        pre("Bash", one, ""), pre("Bash", two, ""), pre("Read", two, ""), post("2", "Bash", two, ""),
        post("r", "Read", two, ""), post("1", "Bash", one, ""),
    )  # fmt: skip
    calls = {p["tool_use_id"]: p["name"] + str(p["input"]) for p in of(events, "agent_tool_call")}
    assert list(calls) == ["call-1", "call-2", "call-3"]
    assert [(p["tool_use_id"], p["content"]) for p in of(events, "agent_tool_result")] == [
        ("call-2", "2"), ("call-3", "r"), ("call-1", "1"),
    ]  # fmt: skip


def test_the_same_call_twice_without_ids_is_answered_in_order() -> None:
    events = parsed(pre(call_id=""), pre(call_id=""), post("a", call_id=""), post("b", call_id=""))
    assert [p["tool_use_id"] for p in of(events, "agent_tool_result")] == ["call-1", "call-2"]


def test_without_ids_an_input_that_a_hook_changed_finds_its_only_call() -> None:
    events = parsed(pre("Bash", {"command": "rm"}, ""), post("x", "Bash", {"command": "rm -i"}, ""))
    assert len(of(events, "agent_tool_call")) == 1
    assert of(events, "agent_tool_result")[0]["tool_use_id"] == "call-1"


def test_a_failed_call_of_an_old_version_has_no_result_and_takes_nobody_else_s() -> None:
    bad, good = {"command": "bad"}, {"command": "good"}
    events = parsed(pre("Bash", bad, ""), pre("Bash", good, ""), post("ok", "Bash", good, ""), hook("Stop"))
    assert [p["tool_use_id"] for p in of(events, "agent_tool_result")] == ["call-2"]
    assert events[-1]["type"] == "run_completed"
    assert "incomplete" not in events[-1]["payload"]


def test_only_results_tell_their_calls_too() -> None:
    events = parsed(post(call_id="a"), post(call_id=""))
    assert types(events)[1:-1] == ["agent_tool_call", "agent_tool_result"] * 2
    assert events[-1]["payload"]["incomplete"] == "no Stop from the agent"


def test_only_calls_get_no_made_up_results() -> None:
    events = parsed(pre(), pre(call_id="t2"))
    assert types(events) == ["run_started", "agent_tool_call", "agent_tool_call", "run_completed"]
    assert events[-1]["payload"]["incomplete"] == "the last turn has no Stop"


def test_a_hook_that_is_configured_twice_tells_once() -> None:
    events = parsed(pre(), pre(), post(), post())
    assert types(events)[1:-1] == ["agent_tool_call", "agent_tool_result"]


def test_a_failure_is_a_failed_result_and_an_error_of_rank_tool() -> None:
    failed = hook(
        "PostToolUseFailure", tool_name="Bash", tool_input={}, tool_use_id="t1", error="Exit code 3\nno", duration_ms=9
    )
    events = parsed(pre(), failed)
    [found] = of(events, "agent_tool_result")
    assert (found["ok"], found["exit_code"], found["duration_ms"], found["content"]) == (False, 3, 9, "Exit code 3\nno")
    assert [p["rank"] for p in of(events, "error")] == ["tool"]


def test_a_call_that_was_interrupted_says_so() -> None:
    failed = hook("PostToolUseFailure", tool_name="Bash", tool_use_id="t1", error="stopped", is_interrupt=True)
    assert of(parsed(pre(), failed), "agent_tool_result")[0]["detail"] == {"interrupted": True}


def batch(*entries: tuple[str, str]) -> Line:
    calls = [
        {"tool_name": "Bash", "tool_input": {}, "tool_use_id": name, "tool_response": said} for name, said in entries
    ]
    return hook("PostToolBatch", tool_calls=calls)


def test_a_batch_repeats_what_was_told() -> None:
    assert types(parsed(pre(), post(), batch(("t1", "x")), hook("Stop"))) == types(parsed(pre(), post(), hook("Stop")))


def test_a_batch_that_overtook_a_result_does_not_double_it() -> None:
    events = parsed(pre(), batch(("t1", "x")), post(), hook("Stop"))
    assert len(of(events, "agent_tool_result")) == 1


def test_a_batch_tells_the_results_that_no_other_hook_did() -> None:
    events = parsed(pre(), batch(("t1", "fine"), ("t2", "<tool_use_error>no")), hook("Stop"))
    assert [(p["tool_use_id"], p["ok"]) for p in of(events, "agent_tool_result")] == [("t1", True), ("t2", False)]
    assert len(of(events, "agent_tool_call")) == 2


@pytest.mark.parametrize(
    ("response", "shown"),
    [
        ({"stdout": "a", "stderr": "b", "interrupted": False}, "a\nb"),
        ({"type": "text", "file": {"filePath": "/f", "content": "lines"}}, "lines"),
        ({"type": "image", "file": {"type": "image/png", "base64": "QUJD" * 10}}, "[image/png, 30 bytes]"),
        ({"stdout": "data:image/png;base64," + "QUJD" * 10, "stderr": "", "isImage": True}, "[image/png, 30 bytes]"),
        ({"filenames": ["a", "b"], "numFiles": 2}, "a\nb"),
        ({"mode": "content", "filenames": [], "content": "1:x"}, "1:x"),
        ({"content": [{"type": "text", "text": "two"}], "agentId": "a"}, "two"),
        ([{"type": "text", "text": "mcp"}], "mcp"),
        ("just text", "just text"),
        ({"odd": 1}, '{"odd":1}'),
        ({}, ""),
    ],
)
def test_the_structured_response_is_read_as_text(response: Any, shown: str) -> None:
    events = parsed(pre(), post(response))
    assert of(events, "agent_tool_result")[0]["content"] == shown
    assert (len(of(events, "content")) == 1) is shown.startswith("[image")


def test_a_written_file_is_told() -> None:
    given = {"file_path": "/w/f", "content": "a\nb\n"}
    response = {"type": "create", "filePath": "/w/f", "content": "a\nb\n", "structuredPatch": [], "originalFile": None}
    events = parsed(pre("Write", given), post(response, "Write", given))
    [found] = of(events, "file_changed")
    assert (found["path"], found["change"], found["added"], found["removed"]) == ("/w/f", "created", 2, 0)


def test_a_to_do_list_is_progress() -> None:
    todos = {"todos": [{"content": "a", "status": "completed", "activeForm": "A"}]}
    [update] = of(
        parsed(pre("TodoWrite", todos), post({"newTodos": todos["todos"]}, "TodoWrite", todos)), "progress_update"
    )
    assert update["percent"] == 100.0


# ---- sub-agents

TASK = {"description": "Count", "prompt": "count", "subagent_type": "explorer"}
INSIDE = {"agent_id": "a1", "agent_type": "explorer"}


def parents(events: list[Line]) -> list[tuple[str, str | None]]:
    return [
        (event["payload"]["tool_use_id"], event.get("parent_id"))
        for event in events
        if event["type"] == "agent_tool_call"
    ]


def test_a_sub_agent_belongs_to_the_only_call_that_can_have_started_it() -> None:
    events = parsed(pre("Agent", TASK), hook("SubagentStart", **INSIDE), pre(call_id="t2", **INSIDE))
    assert parents(events) == [("t1", None), ("t2", "t1")]


def test_a_sub_agent_is_known_by_the_result_that_names_it() -> None:
    launched = post({"status": "async_launched", "agentId": "a1"}, "Agent", TASK)
    events = parsed(pre("Agent", TASK), pre("Agent", TASK, "t9"), launched, pre(call_id="t2", **INSIDE))
    assert parents(events)[-1] == ("t2", "t1")


def test_a_sub_agent_whose_call_is_not_known_goes_by_its_own_id() -> None:
    events = parsed(pre("Agent", TASK), pre("Agent", TASK, "t9"), pre(call_id="t2", **INSIDE), hook("Stop"))
    assert parents(events)[-1] == ("t2", "a1")
    assert "incomplete" not in events[-1]["payload"]


def test_the_last_text_of_a_sub_agent_is_told() -> None:
    events = parsed(pre("Agent", TASK), hook("SubagentStop", last_assistant_message="two files", **INSIDE))
    [said] = [event for event in events if event["type"] == "agent_output"]
    assert (said["payload"]["text"], said["parent_id"]) == ("two files", "t1")


def test_an_old_sub_agent_s_end_does_not_end_what_the_main_agent_is_saying() -> None:
    assert texts(parsed(shown("one\n"), hook("SubagentStop"), shown("two", 1, final=True))) == [
        ("m1", "one\n", False), ("m1", "one\ntwo", True),
    ]  # fmt: skip


# ---- texts


def test_displayed_text_comes_in_parts_and_once_whole() -> None:
    assert texts(parsed(shown("one\n"), shown("two\n", 1), shown("three", 2, final=True))) == [
        ("m1", "one\n", False), ("m1", "two\n", False), ("m1", "one\ntwo\nthree", True),
    ]  # fmt: skip


def test_a_message_that_ends_with_a_line_has_an_empty_last_flush() -> None:
    assert texts(parsed(shown("one\n"), shown("", 1, final=True))) == [("m1", "one\n", False), ("m1", "one\n", True)]


def test_flushes_that_overtook_each_other_are_put_in_order() -> None:
    told = texts(parsed(shown("b\n", 1), shown("c", 2, final=True), shown("a\n", 0)))
    assert told == [("m1", "a\nb\nc", True)]


def test_the_last_message_is_told_by_stop_only_when_nothing_displayed_it() -> None:
    stop = hook("Stop", last_assistant_message="done")
    assert texts(parsed(shown("done", final=True), stop)) == [("m1", "done", True)]
    assert texts(parsed(pre(), stop)) == [("stop-1", "done", True)]


def test_a_message_whose_last_flush_is_missing_is_ended_by_stop() -> None:
    events = parsed(shown("one\n"), hook("Stop", last_assistant_message="one\ntwo"))
    assert texts(events) == [("m1", "one\n", False), ("m1", "one\ntwo", True)]


def test_a_text_that_was_cut_is_told_whole_at_the_end() -> None:
    events = parsed(shown("a\n"), shown("c", 2))
    assert texts(events)[-1] == ("m1", "a\nc", True)
    assert of(events, "agent_output")[-1]["aborted"] is True


def test_a_prompt_that_no_human_wrote_says_so() -> None:
    lines = [
        hook("UserPromptSubmit", prompt="go", source="user"), hook("UserPromptSubmit", prompt="go", source="sdk"),
        hook("UserPromptSubmit", prompt="<task-notification>…"),
    ]  # fmt: skip
    assert [p.get("origin") for p in of(parsed(*lines), "agent_output")] == [None, "sdk", "task-notification"]


# ---- turns and the small ones


def test_a_stop_ends_a_turn_and_a_failed_one_the_run() -> None:
    events = parsed(
        hook("Stop", last_assistant_message="ok"), hook("StopFailure", error="overloaded", error_details="529")
    )
    assert [(p["turn"], p["ok"]) for p in of(events, "run_iteration")] == [(1, True), (2, False)]
    assert [(p["rank"], p["code"]) for p in of(events, "error")] == [("agent", "overloaded"), ("turn", "overloaded")]
    assert events[-1]["type"] == "run_failed"


def test_a_session_that_ends_without_a_stop_says_so() -> None:
    end = parsed(pre(), hook("SessionEnd", reason="prompt_input_exit"))[-1]
    assert (end["type"], end["payload"]["incomplete"]) == ("run_completed", "the session ended without a Stop")


def test_a_permission_is_asked_for() -> None:
    line = hook("PermissionRequest", tool_name="Bash", tool_input={"command": "rm"}, tool_use_id="t1")
    assert of(parsed(line), "permission_request") == [{"name": "Bash", "input": {"command": "rm"}, "tool_use_id": "t1"}]


@pytest.mark.parametrize(("event", "change"), [("change", "modified"), ("add", "created"), ("unlink", "deleted")])
def test_a_watched_file(event: str, change: str) -> None:
    [found] = of(parsed(hook("FileChanged", file_path="/w/f", event=event)), "file_changed")
    assert found == {"path": "/w/f", "change": change, "source": "watch"}


SMALL: list[tuple[Line, str]] = [
    (hook("Notification", message="waiting", notification_type="idle_prompt"), "waiting"),
    (hook("PreCompact", trigger="manual"), "the context is being compacted (manual)"),
    (hook("PostCompact", trigger="auto", compact_summary="s"), "context compacted (auto)"),
    (hook("CwdChanged", old_cwd="/a", new_cwd="/b"), "working directory: /b"),
    (hook("UserPromptExpansion", command_name="plan", command_args="x"), "command /plan x"),
    (hook("TaskCreated", task_subject="s", teammate_name="ann"), "task created: s (ann)"),
    (hook("TeammateIdle", teammate_name="ann"), "teammate idle: ann"),
    (hook("WorktreeCreate", name="w"), "worktree created: w"),
    (hook("WorktreeRemove", worktree_path="/w"), "worktree removed: /w"),
    (hook("ConfigChange", source="user_settings"), "configuration changed: user_settings"),
    (hook("DirectoryAdded", directory="/d"), "directory added: /d"),
    (hook("ElicitationResult", mcp_server_name="m", action="accept"), "question of m: accept"),
    (hook("Setup", trigger="init"), "set up (init)"),
]


@pytest.mark.parametrize(("line", "message"), SMALL, ids=[line["hook_event_name"] for line, _ in SMALL])
def test_the_small_hooks_are_log_entries(line: Line, message: str) -> None:
    assert [p["message"] for p in of(parsed(line), "agent_log_entry")] == [message]


def test_a_denied_call_is_a_warning() -> None:
    line = hook("PermissionDenied", tool_name="Bash", tool_input={}, tool_use_id="t1", reason="no")
    assert [(p["rank"], p["code"], p["message"]) for p in of(parsed(line), "error")] == [
        ("warning", "permission_denied", "no")
    ]


def test_tasks_of_the_agent_s_own_tools_are_told_once() -> None:
    events = parsed(pre("TaskCreate", {"subject": "s"}), hook("TaskCreated", task_id="1", task_subject="s"))
    assert "agent_log_entry" not in types(events)


def test_a_question_of_a_server_waits_for_a_human() -> None:
    [asked] = of(parsed(hook("Elicitation", mcp_server_name="m", message="which?")), "permission_request")
    assert (asked["name"], asked["reason"]) == ("m", "which?")


@pytest.mark.parametrize("name", ["InstructionsLoaded", "PreModelSwitch"])
def test_hooks_that_say_nothing_by_rule(name: str) -> None:
    assert types(parsed(pre(), hook(name))) == types(parsed(pre()))


def test_a_hook_that_is_not_known_is_kept() -> None:
    line = hook("BrandNew", x=1)
    [raw] = of(parsed(pre(), line), "raw")
    assert (raw["format"], raw["reason"], raw["data"]) == ("claude-hooks", "unknown hook 'BrandNew'", line)


@pytest.mark.parametrize("odd", [None, 7, "x", [], {}])
def test_fields_of_the_wrong_kind_raise_nothing(odd: Any) -> None:
    fields = (
        "tool_name", "tool_input", "tool_use_id", "tool_response", "error", "prompt", "delta", "index", "message_id",
        "tool_calls", "agent_id", "agent_type", "received_at", "duration_ms", "cwd", "source", "last_assistant_message",
    )  # fmt: skip
    names = ("PreToolUse", "PostToolUse", "PostToolUseFailure", "PostToolBatch", "MessageDisplay", "UserPromptSubmit",
             "Stop", "SubagentStop", "SessionStart", "FileChanged", "PermissionRequest")  # fmt: skip
    lines = [hook(name, **{field: odd}) for name in names for field in fields]
    assert types([decode(event.line) for event in parsed_bytes(encoded(lines), stage())])[-1] == "run_completed"


# ---- the saved ones


@pytest.mark.skipif(not LOGS, reason="the saved logs (../shared) are not here")
@pytest.mark.parametrize("path", LOGS, ids=lambda path: f"{path.parent.name[:20]}-{path.stem}")
def test_saved_payloads_are_counted_independently(path: Path) -> None:
    data = path.read_bytes()
    parse = stage()
    kinds = types([decode(event.line) for event in parsed_bytes(data, parse)])
    assert (kinds.count("agent_tool_call"), kinds.count("agent_tool_result")) == counted(data)
    assert (kinds.count("run_started"), kinds[-1]) == (1, "run_completed")
    report = parse.report()
    assert set(report["formats"].values()) == {"claude-hooks"}
    assert report["raw"] == 0
    assert report["in"] == report["sources"] + report["ignored"]


@pytest.mark.parametrize("odd", [True, -1, {"type": "text"}, [[]]])
def test_facts_that_are_no_text_are_not_told(odd: Any) -> None:
    events = parsed({**hook("SessionStart", source="startup", model=odd), "cwd": odd}, pre(), format="claude-hooks")
    assert of(events, "run_started") == [{"schema": "agentpipe/1", "agent": "claude", "session_id": SESSION}]
    nameless = parsed({**pre(), "session_id": odd}, format="claude-hooks")
    assert "session_id" not in of(nameless, "run_started")[0]
