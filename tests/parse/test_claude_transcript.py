"""Session files of Claude Code: what each line tells, whose it is, and when a file without an end is whole."""

import json
from typing import Any

import pytest

from agentpipe.event import decode
from tests.parse.lines import Line, encoded, of, parsed, parsed_bytes, stage, types

SESSION = "5e55-10"
T = "2026-11-20T07:00:{:02}.000Z"


def entry(kind: str, /, number: int = 0, **more: Any) -> Line:
    return {
        "parentUuid": None, "isSidechain": False, "userType": "external", "cwd": "/w", "sessionId": SESSION,
        "version": "2.1.0", "type": kind, "uuid": f"u{number}", "timestamp": T.format(number), **more,
    }  # fmt: skip


def prompt(said: Any = "go", number: int = 1, **more: Any) -> Line:
    return entry("user", number, message={"role": "user", "content": said}, **more)


def said(block: Line, number: int = 2, message: str = "m1", stop: str | None = None, **more: Any) -> Line:
    usage = more.pop("usage", {"input_tokens": 10, "output_tokens": 1})
    body = {
        "id": message,
        "role": "assistant",
        "model": "opus",
        "content": [block],
        "stop_reason": stop,
        "usage": usage,
    }
    return entry("assistant", number, message=body, requestId="req_1", **more)


def text(words: str, number: int = 2, message: str = "m1", **more: Any) -> Line:
    return said({"type": "text", "text": words}, number, message, **more)


def call(name: str, given: Line, call_id: str = "t1", number: int = 3, **more: Any) -> Line:
    return said({"type": "tool_use", "id": call_id, "name": name, "input": given}, number, f"m-{call_id}", **more)


def back(content: Any = "ok", call_id: str = "t1", number: int = 4, *, failed: bool = False, **more: Any) -> Line:
    block = {"type": "tool_result", "tool_use_id": call_id, "content": content, "is_error": failed}
    return prompt([block], number, **more)


def texts(events: list[Line]) -> list[tuple[str | None, str]]:
    return [(p.get("role"), p["text"]) for p in of(events, "agent_output")]


# ---- the run


def test_a_session_file_is_a_teller_of_its_own() -> None:
    events = parsed(prompt(), text("hi"))
    assert {event["run_id"] for event in events} == {f"{SESSION}/transcript"}
    assert events[0]["payload"] == {
        "schema": "agentpipe/1", "agent": "claude", "session_id": SESSION, "agent_version": "2.1.0", "cwd": "/w",
    }  # fmt: skip
    assert [event["timestamp"] for event in events[:2]] == [T.format(1), T.format(1)]


def test_a_file_of_a_sub_agent_is_one_of_its_own_too() -> None:
    inside = {"isSidechain": True, "agentId": "a7"}
    events = parsed(prompt("count", **inside), text("two", **inside))
    assert {event["run_id"] for event in events} == {f"{SESSION}/agent-a7"}
    assert [event.get("parent_id") for event in events] == [None] * len(events)
    assert of(events, "agent_output")[0]["origin"] == "subagent_prompt"
    assert (events[-1]["type"], events[-1]["payload"]["result"]) == ("run_completed", "two")


def test_objects_over_many_lines_and_one_array_are_the_same() -> None:
    lines = [prompt(), call("Bash", {"command": "ls"}), back(), text("done", 5, "m2")]
    told = parsed(*lines)
    pretty = "\n".join(json.dumps(line, indent=2) for line in lines).encode() + b"\n"
    assert [decode(event.line) for event in parsed_bytes(pretty)] == told
    for data in (json.dumps(lines).encode(), json.dumps(lines, indent=4).encode()):
        started, *others = [decode(event.line) for event in parsed_bytes(data)]
        assert (started["timestamp"], started["payload"]["model"]) == (T.format(1), "opus")  # which is known at once
        told_otherwise = [(event["type"], event["timestamp"], event["payload"]) for event in others]
        assert told_otherwise == [
            (event["type"], event["timestamp"], event["payload"])
            for event in told[1:]
            if event["type"] != "agent_state_update"
        ]


def test_objects_that_a_logger_indented_by_its_first_line_alone_are_found() -> None:
    data = b"[12:00] Received:\n " + json.dumps(prompt(), indent=2).encode() + b"\n[12:01] more\n"
    events = [decode(event.line) for event in parsed_bytes(data)]
    assert texts(events) == [("user", "go")]
    assert [p["text"] for p in of(events, "raw")] == ["[12:00] Received:", "[12:01] more"]


def test_half_a_line_at_the_end_is_kept_and_said() -> None:
    data = encoded([prompt(), text("hi")]) + b'{"parentUuid":"u2","isSidechain":false,"typ'
    events = [decode(event.line) for event in parsed_bytes(data)]
    assert of(events, "raw")[0]["text"].startswith('{"parentUuid"')
    assert events[-1]["payload"]["incomplete"] == "the last line is cut"


def test_several_versions_in_one_file() -> None:
    events = parsed(prompt(), text("hi"), text("ho", 3, "m2", version="2.2.0"))
    assert of(events, "agent_state_update")[-1]["changed"] == {"agent_version": "2.2.0"}


def test_several_sessions_in_one_file_are_several_runs() -> None:
    events = parsed(
        prompt(), text("hi"), prompt("again", 3, sessionId="other"), text("yes", 4, "m2", sessionId="other")
    )
    assert {event["run_id"] for event in events} == {f"{SESSION}/transcript", "other/transcript"}


def test_a_line_that_a_resume_repeats_is_told_once() -> None:
    lines = [prompt(), call("Bash", {}), back(), text("hi", 5, "m2")]
    copies = [{**line, "uuid": f"copy-{line['uuid']}"} for line in lines[1:]]
    again = parsed(*lines, *lines, *copies, text("new", 6, "m3"))
    assert types(again) == types(parsed(*lines, text("new", 6, "m3")))


def test_a_summary_of_another_session_says_nothing() -> None:
    events = parsed({"type": "summary", "summary": "Old", "leafUuid": "x"}, prompt(), text("hi"))
    assert {event["run_id"] for event in events} == {f"{SESSION}/transcript"}
    assert texts(events) == [("user", "go"), (None, "hi")]


SILENT: list[Line] = [
    {"type": "file-history-snapshot", "messageId": "u1", "snapshot": {}, "isSnapshotUpdate": False},
    {"type": "queue-operation", "operation": "enqueue", "content": "go", "sessionId": SESSION},
    {"type": "ai-title", "title": "x", "sessionId": SESSION},
    {"type": "last-prompt", "lastPrompt": "go", "sessionId": SESSION},
    {"type": "permission-mode", "mode": "default", "sessionId": SESSION},
    {"type": "api-request", "params": {}, "sessionId": SESSION},
    entry("progress", 9, data={"type": "bash_progress", "output": ""}),
    entry("attachment", 9, attachment={"type": "date", "date": "2026-11-20"}),
    entry("system", 9, subtype="stop_hook_summary", hookErrors=[], preventedContinuation=False),
]


@pytest.mark.parametrize("line", SILENT, ids=lambda line: line["type"])
def test_state_of_the_client_is_silent_by_rule(line: Line) -> None:
    assert types(parsed(prompt(), line, text("hi"))) == types(parsed(prompt(), text("hi")))


def test_what_is_not_known_is_kept() -> None:
    lines = [entry("brand-new", 5), entry("system", 6, subtype="brand_new")]
    raws = of(parsed(prompt(), *lines, text("hi")), "raw")
    assert [(raw["reason"], raw["data"]) for raw in raws] == [
        ("unknown type 'brand-new'", lines[0]), ("unknown subtype 'brand_new'", lines[1]),
    ]  # fmt: skip


# ---- who speaks


@pytest.mark.parametrize(
    ("content", "more", "origin"),
    [
        ("hello", {}, None),
        ("hello", {"isMeta": True}, "meta"),
        ("This session is being continued", {"isCompactSummary": True}, "compact_summary"),
        ("<command-name>/plan</command-name>", {}, "command"),
        ("<command-message>x</command-message>", {}, "command"),
        ("<local-command-stdout>x</local-command-stdout>", {}, "command_output"),
        ("Caveat: The messages below were generated by the user while running local commands.", {}, "caveat"),
        ("<task-notification>x</task-notification>", {}, "task-notification"),
        ([{"type": "text", "text": "<system-reminder>x</system-reminder>"}], {}, "reminder"),
        ("hello", {"origin": {"kind": "channel"}}, "channel"),
        ("hello", {"origin": {"kind": "human"}}, None),
    ],
)
def test_texts_that_no_human_wrote_say_so(content: Any, more: Line, origin: str | None) -> None:
    [found] = of(parsed(prompt(content, **more)), "agent_output")
    assert (found["role"], found.get("origin")) == ("user", origin)


def test_a_reminder_beside_a_prompt_is_not_the_prompt() -> None:
    blocks = [{"type": "text", "text": "<system-reminder>x"}, {"type": "text", "text": "real"}]
    assert [p.get("origin") for p in of(parsed(prompt(blocks)), "agent_output")] == ["reminder", None]


def test_a_prompt_that_waited_is_told_where_it_was_taken() -> None:
    queued = {"type": "queued_command", "prompt": "and that", "commandMode": "prompt"}
    notified = {"type": "queued_command", "prompt": "x", "origin": {"kind": "task-notification"}}
    events = parsed(prompt(), entry("attachment", 5, attachment=queued), entry("attachment", 6, attachment=notified))
    assert [(p["text"], p.get("origin")) for p in of(events, "agent_output")[1:]] == [
        ("and that", None), ("x", "task-notification"),
    ]  # fmt: skip


def test_thinking_of_which_only_the_signature_was_stored_says_nothing() -> None:
    assert "agent_thinking" not in types(parsed(prompt(), said({"type": "thinking", "thinking": "", "signature": "x"})))


# ---- tools


def test_calls_files_and_plans_are_told_as_the_stream_tells_them() -> None:
    write = call("Write", {"file_path": "/w/f", "content": "a\nb\n"})
    wrote = back(toolUseResult={"type": "create", "filePath": "/w/f", "structuredPatch": [], "content": "a\nb\n"})
    plan = call("TodoWrite", {"todos": [{"content": "a", "status": "completed"}]}, "t2", 5)
    events = parsed(prompt(), write, wrote, plan, back("ok", "t2", 6), text("done", 7, "m9"))
    assert [p["duration_ms"] for p in of(events, "agent_tool_result")] == [1000, 1000]
    [changed] = of(events, "file_changed")
    assert (changed["path"], changed["change"], changed["added"]) == ("/w/f", "created", 2)
    assert of(events, "progress_update")[0]["percent"] == 100.0


def test_branches_of_the_tree_are_told_in_the_order_of_the_file() -> None:
    lines = [
        prompt(), call("Read", {}, "a", 3, parentUuid="u1"), call("Grep", {}, "b", 4, parentUuid="u3"),
        back("B", "b", 5, parentUuid="u4"), back("A", "a", 6, parentUuid="u3"),
    ]  # fmt: skip
    assert [p["tool_use_id"] for p in of(parsed(*lines), "agent_tool_result")] == ["b", "a"]


# ---- sub-agents

SIDE = {"isSidechain": True}
TASK = {"description": "Count", "prompt": "count them", "subagent_type": "general-purpose"}


def parents(events: list[Line]) -> list[tuple[str, str | None]]:
    found = [event for event in events if event["type"] in ("agent_output", "agent_tool_call", "agent_tool_result")]
    return [(e["payload"].get("text") or e["payload"]["tool_use_id"], e.get("parent_id")) for e in found]


def test_inline_sidechains_find_their_call_by_the_prompt_and_their_lines_by_their_parents() -> None:
    events = parsed(
        prompt(), call("Task", TASK, "t1", 3), call("Task", {**TASK, "prompt": "list"}, "t2", 4),
        prompt("list", 5, **SIDE), prompt("count them", 6, **SIDE),
        call("Bash", {}, "x1", 7, parentUuid="u6", **SIDE), call("Bash", {}, "x2", 8, parentUuid="u5", **SIDE),
        back("1", "x1", 9, parentUuid="u7", **SIDE), text("two", 10, "m5", parentUuid="u9", **SIDE),
        back("two", "t1", 11),
    )  # fmt: skip
    assert parents(events) == [
        ("go", None), ("t1", None), ("t2", None), ("list", "t2"), ("count them", "t1"), ("x1", "t1"), ("x2", "t2"),
        ("x1", "t1"), ("two", "t1"), ("t1", None),
    ]  # fmt: skip


def test_a_sidechain_whose_call_is_not_known_is_not_the_main_agent_s() -> None:
    events = parsed(prompt(), prompt("Warmup", 5, **SIDE), text("ready", 6, "m5", parentUuid="u5", **SIDE))
    assert parents(events) == [("go", None), ("Warmup", "u5"), ("ready", "u5")]


def test_sub_agents_that_follow_in_the_same_input_are_joined_by_the_result_that_names_them() -> None:
    inside = {"isSidechain": True, "agentId": "a7"}
    events = parsed(
        prompt(), call("Agent", TASK), back("two", toolUseResult={"status": "completed", "agentId": "a7"}),
        text("done", 5, "m3"), prompt("count them", 6, **inside), text("two", 7, "m4", **inside),
    )  # fmt: skip
    assert parents(events)[-2:] == [("count them", "t1"), ("two", "t1")]


def test_lines_of_a_sub_agent_inside_progress_lines_are_told_once() -> None:
    inner = {"type": "assistant", "uuid": "i1", "message": text("inside", 0, "m7")["message"]}
    data = {"type": "agent_progress", "message": inner, "prompt": "count them", "agentId": "a7"}
    events = parsed(
        prompt(), call("Task", TASK), entry("progress", 4, data=data, parentToolUseID="t1"),
        text("inside", 5, "m7", isSidechain=True, agentId="a7") | {"uuid": "i1"},
    )  # fmt: skip
    assert parents(events)[-1] == ("inside", "t1")
    assert len(of(events, "agent_output")) == 2


# ---- usage


def test_the_usage_of_a_message_is_the_largest_of_its_lines_and_told_once() -> None:
    def used(output: int) -> Line:
        return {"input_tokens": 10, "output_tokens": output, "cache_read_input_tokens": 5}

    events = parsed(
        prompt(), text("a", 2, "m1", usage=used(3)), text("b", 3, "m1", usage=used(172)),
        text("c", 4, "m2", usage=used(20)),
    )  # fmt: skip
    assert [p["output_tokens"] for p in of(events, "usage_update")] == [172, 20]
    assert events[-1]["payload"]["usage"] == {
        "input_tokens": 20, "output_tokens": 192, "cache_read_tokens": 10, "cache_write_tokens": 0,
    }  # fmt: skip
    assert "cost_usd" not in events[-1]["payload"]


def test_a_cost_is_told_where_the_file_has_one() -> None:
    models = {"opus": {"inputTokens": 7, "outputTokens": 8, "costUSD": 0.5}}
    line = {"type": "cost-state", "sessionId": SESSION, "totalCostUSD": 0.5, "modelUsage": models}
    end = parsed(prompt(), text("hi"), line)[-1]["payload"]
    assert (end["cost_usd"], end["usage"]["output_tokens"]) == (0.5, 8)


# ---- turns and ends


def test_a_turn_ends_when_the_next_begins_and_the_last_with_the_file() -> None:
    events = parsed(prompt(), text("one"), prompt("more", 3), text("two", 4, "m2"))
    assert [(p["turn"], p["ok"], p["result"]) for p in of(events, "run_iteration")] == [
        (1, True, "one"), (2, True, "two"),
    ]  # fmt: skip
    assert (events[-1]["type"], events[-1]["payload"]["turns"]) == ("run_completed", 2)
    assert "incomplete" not in events[-1]["payload"]


def test_a_turn_whose_duration_is_told_ends_there() -> None:
    events = parsed(prompt(), text("one"), entry("system", 3, subtype="turn_duration", durationMs=1234))
    assert of(events, "run_iteration")[0]["duration_ms"] == 1234
    assert events[-1]["payload"]["duration_ms"] == 1234


OPEN: list[tuple[str, list[Line]]] = [
    ("a prompt", [prompt()]),
    ("a call", [prompt(), call("Bash", {})]),
    ("a result", [prompt(), call("Bash", {}), back()]),
    ("thinking", [prompt(), said({"type": "thinking", "thinking": "hm"})]),
    ("a text before a call", [prompt(), text("I'll look", stop="tool_use")]),
]


@pytest.mark.parametrize("lines", [lines for _, lines in OPEN], ids=[name for name, _ in OPEN])
def test_a_file_is_incomplete_when_an_answer_is_missing(lines: list[Line]) -> None:
    end = parsed(*lines)[-1]
    assert (end["type"], end["payload"]["incomplete"]) == ("run_completed", "the last turn has no end")


WHOLE: list[tuple[str, list[Line]]] = [
    ("a command of the client", [prompt("<command-name>/clear</command-name>")]),
    ("its output", [prompt(), text("hi"), prompt("<local-command-stdout>x</local-command-stdout>", 3)]),
    ("a summary", [prompt(), text("hi"), prompt("before", 3, isCompactSummary=True)]),
    ("nothing but titles", [{"type": "summary", "summary": "x", "leafUuid": "y"}]),
]


@pytest.mark.parametrize("lines", [lines for _, lines in WHOLE], ids=[name for name, _ in WHOLE])
def test_a_file_in_which_nothing_is_open_is_complete(lines: list[Line]) -> None:
    end = parsed(*lines)[-1]
    assert (end["type"], "incomplete" in end["payload"]) == ("run_completed", False)


def test_an_api_that_failed_for_good_is_a_failed_turn() -> None:
    body = {"id": "x", "model": "<synthetic>", "content": [{"type": "text", "text": "API Error: 529"}]}
    line = entry("assistant", 3, message=body, isApiErrorMessage=True, error="overloaded", apiErrorStatus=529)
    events = parsed(prompt(), line)
    assert [(p["rank"], p["code"]) for p in of(events, "error")] == [("agent", "overloaded"), ("turn", "overloaded")]
    assert of(events, "error")[0]["status"] == 529
    assert (events[-1]["type"], events[-1]["payload"]["error"]) == ("run_failed", "API Error: 529")


def test_an_old_api_error_has_only_its_mark() -> None:
    body = {"id": "x", "model": "<synthetic>", "content": [{"type": "text", "text": "API Error"}]}
    events = parsed(prompt(), entry("assistant", 3, message=body, isApiErrorMessage=True))
    assert [(p["rank"], p["code"]) for p in of(events, "error")] == [("agent", "api_error"), ("turn", "api_error")]


def test_an_answer_of_the_client_itself_is_marked() -> None:
    body = {"id": "x", "model": "<synthetic>", "content": [{"type": "text", "text": "No response requested."}]}
    events = parsed(prompt(), entry("assistant", 3, message=body, isApiErrorMessage=False))
    assert of(events, "agent_output")[1]["synthetic"] is True
    assert events[-1]["type"] == "run_completed"


def test_an_interrupted_turn_is_cancelled() -> None:
    events = parsed(
        prompt(), call("Bash", {}), back(failed=True), prompt("[Request interrupted by user for tool use]", 5)
    )
    assert of(events, "run_iteration")[0]["error"] == "interrupted by user"
    assert events[-1]["type"] == "run_cancelled"


def test_a_session_that_went_on_after_an_interrupt_is_not_cancelled() -> None:
    stopped = prompt("[Request interrupted by user]", 3)
    assert parsed(prompt(), text("a"), stopped, prompt("go on", 4), text("b", 5, "m2"))[-1]["type"] == "run_completed"


def test_no_more_turns_is_a_failed_turn() -> None:
    line = entry("attachment", 5, attachment={"type": "max_turns_reached", "maxTurns": 3, "turnCount": 4})
    events = parsed(prompt(), call("Bash", {}), back(), line)
    assert of(events, "error")[0]["code"] == "error_max_turns"
    assert events[-1]["type"] == "run_failed"


SYSTEM: list[tuple[Line, str, str]] = [
    ({"subtype": "compact_boundary", "compactMetadata": {"trigger": "manual", "preTokens": 9}},
     "agent_log_entry", "context compacted (manual): 9 tokens before"),
    ({"subtype": "local_command", "content": "<command-name>/x"}, "agent_log_entry", "<command-name>/x"),
    ({"content": "hooks ran", "level": "info"}, "agent_log_entry", "hooks ran"),
    ({"content": "careful", "level": "warning"}, "error", "careful"),
    ({"subtype": "informational", "content": "note", "level": "notice"}, "agent_log_entry", "note"),
    ({"subtype": "stop_hook_summary", "hookErrors": ["boom"]}, "error", "Stop hook: boom"),
    ({"subtype": "api_error", "error": {"status": 529, "formatted": "529 Overloaded"}, "retryAttempt": 1,
      "maxRetries": 10, "retryInMs": 500.5}, "error", "the API failed: 529 Overloaded; attempt 1 of 10"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "type_", "message"), SYSTEM, ids=[f"{m.get('subtype')}-{s}" for m, _, s in SYSTEM])
def test_system_lines(more: Line, type_: str, message: str) -> None:
    events = parsed(prompt(), entry("system", 5, **more), text("hi"))
    assert [p["message"] for p in of(events, type_)] == [message]
    assert all(p["rank"] == "warning" for p in of(events, "error"))


def test_a_pull_request_is_told() -> None:
    line = {"type": "pr-link", "prUrl": "https://example.org/1", "prNumber": 1, "sessionId": SESSION}
    assert of(parsed(prompt(), line), "agent_log_entry")[0]["message"] == "pull request https://example.org/1"


@pytest.mark.parametrize("odd", [None, 7, "x", [], {}, [7], {"content": [7]}])
def test_fields_of_the_wrong_kind_raise_nothing(odd: Any) -> None:
    fields = (
        "message", "toolUseResult", "attachment", "data", "subtype", "parentUuid", "uuid", "timestamp", "agentId",
        "content", "compactMetadata", "hookErrors", "error", "version", "cwd", "modelUsage", "isSidechain",
    )  # fmt: skip
    kinds = ("user", "assistant", "system", "progress", "attachment", "cost-state", "pr-link", "summary")
    lines = [entry(kind, 5, **{field: odd}) for kind in kinds for field in fields]
    events = [decode(event.line) for event in parsed_bytes(encoded([prompt(), *lines]), stage())]
    assert types(events)[-1].startswith("run_")


@pytest.mark.parametrize("odd", [None, 7, [], {}, [[]], {"a": []}])
def test_blocks_of_the_wrong_kind_raise_nothing(odd: Any) -> None:
    fields = ("type", "name", "id", "input", "tool_use_id", "content", "text")
    blocks = [{"type": "tool_use", "id": "t1", "name": "Task", "input": {}, field: odd} for field in fields]
    results = [{"type": "tool_result", "tool_use_id": "t1", "content": "x", field: odd} for field in fields]
    lines = [said(block, number) for number, block in enumerate(blocks, 2)]
    lines += [prompt([block], number) for number, block in enumerate(results, 20)]
    assert types(parsed(prompt(), *lines))[-1].startswith("run_")
