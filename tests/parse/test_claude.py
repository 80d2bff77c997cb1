"""Claude Code's quirks, one test each, by the lines that show them."""

import json
from typing import Any

import pytest

from agentpipe.event import decode, timestamp
from tests.parse.lines import (
    NOW,
    SESSION,
    Line,
    assistant,
    block_start,
    call,
    delta,
    encoded,
    init,
    message_start,
    of,
    parsed,
    result,
    returned,
    stage,
    stream,
    system,
    text,
    types,
    wrapped,
)

T0, T1 = "2026-11-20T07:00:00.000Z", "2026-11-20T07:00:01.500Z"
STOP = stream({"type": "message_stop"})


def texts(events: list[Line]) -> list[tuple[str, int, str, bool]]:
    return [(p["message_id"], p["index"], p["text"], p["final"]) for p in of(events, "agent_output")]


# ---- texts


def test_one_block_a_line_with_a_shared_message_id() -> None:
    events = parsed(init(), text("one"), call("Bash", {}, "t1"), text("two"))
    assert texts(events) == [("msg_1", 0, "one", True), ("msg_1", 1, "two", True)]


def test_a_call_takes_an_index_of_its_message() -> None:
    block = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {}}
    assert texts(parsed(init(), text("a"), assistant(block), text("b"))) == [
        ("msg_1", 0, "a", True),
        ("msg_1", 2, "b", True),
    ]


def test_several_blocks_on_one_line() -> None:
    line = assistant(None)
    line["message"]["content"] = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert [found[:3] for found in texts(parsed(init(), line))] == [("msg_1", 0, "a"), ("msg_1", 1, "b")]


def test_partial_text_comes_in_parts_and_once_whole() -> None:
    events = parsed(init(), message_start(), block_start(), delta("he"), delta("llo"), text("hello"), STOP, result())
    assert texts(events) == [
        ("msg_1", 0, "he", False), ("msg_1", 0, "llo", False), ("msg_1", 0, "hello", True),
    ]  # fmt: skip


def test_the_whole_line_comes_before_its_block_stops_and_finds_its_index() -> None:
    events = parsed(
        init(), message_start(), block_start(0, "thinking"), delta("hm", 0, "thinking"),
        assistant({"type": "thinking", "thinking": "hm", "signature": "s"}),
        stream({"type": "content_block_stop", "index": 0}),
        block_start(1), delta("yes", 1), text("yes"), stream({"type": "content_block_stop", "index": 1}), STOP,
    )  # fmt: skip
    assert texts(events) == [("msg_1", 1, "yes", False), ("msg_1", 1, "yes", True)]
    assert [(p["index"], p["final"]) for p in of(events, "agent_thinking")] == [(0, False), (0, True)]


def test_parts_of_a_tool_s_input_say_nothing() -> None:
    start = stream({"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "input": {}}})
    piece = stream(
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": ""}}
    )
    assert types(parsed(init(), message_start(), start, piece)) == ["run_started", "run_completed"]


def test_a_message_that_restarts_after_a_cut_stream_takes_back_its_parts() -> None:
    events = parsed(
        init(), message_start("m1"), block_start(), delta("cut"),
        system("api_retry", attempt=1, max_retries=10, retry_delay_ms=500, error_status=None, error="unknown"),
        message_start("m2"), block_start(), delta("who"), delta("le"), text("whole", "m2"), STOP, result(),
    )  # fmt: skip
    assert texts(events) == [
        ("m1", 0, "cut", False), ("m1", 0, "", True), ("m2", 0, "who", False), ("m2", 0, "le", False),
        ("m2", 0, "whole", True),
    ]  # fmt: skip
    assert [p.get("retracted") for p in of(events, "agent_output")] == [None, True, None, None, None]


def test_a_restart_under_the_same_id_is_another_message() -> None:
    events = parsed(
        init(),
        message_start("m"),
        block_start(),
        delta("cu"),
        message_start("m"),
        block_start(),
        delta("w"),
        text("w", "m"),
    )
    assert texts(events) == [("m", 0, "cu", False), ("m", 0, "", True), ("m~1", 0, "w", False), ("m~1", 0, "w", True)]


def test_a_stream_cut_by_the_end_is_told_whole_as_aborted() -> None:
    events = parsed(init(), message_start(), block_start(), delta("I was"), delta(" about to"))
    assert texts(events)[-1] == ("msg_1", 0, "I was about to", True)
    assert of(events, "agent_output")[-1]["aborted"] is True
    assert types(events)[-1] == "run_completed"


def test_a_block_cut_by_an_interrupt_is_marked() -> None:
    events = parsed(init(), text("half a wo", aborted=True))
    assert of(events, "agent_output")[0]["aborted"] is True


def test_supersedes_takes_back_the_earlier_line() -> None:
    events = parsed(init(), text("old", "m1", uuid="u1"), text("new", "m2", uuid="u2", supersedes=["u1"]))
    assert texts(events) == [("m1", 0, "old", True), ("m1", 0, "", True), ("m2", 0, "new", True)]
    assert of(events, "agent_output")[1]["retracted"] is True


def test_a_refusal_that_falls_back_takes_back_the_lines() -> None:
    fallback = system("model_refusal_fallback", retracted_message_uuids=["u1"], content="another model answers")
    events = parsed(init(), text("old", "m1", uuid="u1"), fallback)
    assert texts(events)[-1] == ("m1", 0, "", True)
    assert of(events, "error")[0]["rank"] == "warning"


def test_empty_thinking_says_nothing() -> None:
    events = parsed(init(), assistant({"type": "thinking", "thinking": "", "signature": "x"}))
    assert "agent_thinking" not in types(events)


def test_redacted_thinking_is_told_without_text() -> None:
    events = parsed(init(), assistant({"type": "redacted_thinking", "data": "…"}))
    assert of(events, "agent_thinking") == [
        {"message_id": "msg_1", "index": 0, "text": "", "final": True, "redacted": True}
    ]


def test_odd_text_survives() -> None:
    odd = "a\u2028b\x1b[31m\x00\ud83d"
    assert of(parsed(init(), text(odd)), "agent_output")[0]["text"] == odd


def test_a_local_command_s_answer_is_marked_as_synthetic() -> None:
    line = text("No such command")
    line["message"]["model"] = "<synthetic>"
    events = parsed(init(), line)
    assert of(events, "agent_output")[0]["synthetic"] is True
    assert "usage_update" not in types(events)


@pytest.mark.parametrize(
    ("more", "origin"),
    [
        ({"isSynthetic": True}, "synthetic"),
        ({"isReplay": True}, "replay"),
        ({"parent_tool_use_id": "t9"}, "subagent_prompt"),
        ({"origin": {"kind": "task-notification"}}, "task-notification"),
        ({}, None),
    ],
)
@pytest.mark.parametrize("content", ["hello", [{"type": "text", "text": "hello"}]], ids=["string", "list"])
def test_a_text_in_the_user_s_name_tells_who_wrote_it(more: Line, origin: str | None, content: Any) -> None:
    line = {"type": "user", "message": {"role": "user", "content": content}, "session_id": SESSION, **more}
    [said] = of(parsed(init(), line), "agent_output")
    assert (said["role"], said["text"], said.get("origin")) == ("user", "hello", origin)


# ---- tools


def test_a_call_and_its_result_are_paired() -> None:
    events = parsed(
        init(), call("Bash", {"command": "ls  -l\n", "description": "List"}, timestamp=T0), returned("x", timestamp=T1)
    )
    assert of(events, "agent_tool_call")[0] == {
        "tool_use_id": "t1", "name": "Bash", "kind": "execute", "title": "Bash: ls -l",
        "input": {"command": "ls  -l\n", "description": "List"},
    }  # fmt: skip
    assert of(events, "agent_tool_result")[0] == {
        "tool_use_id": "t1", "name": "Bash", "kind": "execute", "ok": True, "content": "x", "bytes": 1,
        "truncated": False, "duration_ms": 1500,
    }  # fmt: skip


def test_parallel_calls_find_their_results_in_any_order() -> None:
    events = parsed(init(), call("Read", {}, "a"), call("Grep", {}, "b"), returned("B", "b"), returned("A", "a"))
    assert [(p["tool_use_id"], p["name"]) for p in of(events, "agent_tool_result")] == [("b", "Grep"), ("a", "Read")]


def test_without_a_source_s_time_the_time_of_reading_measures() -> None:
    parse = stage()
    from agentpipe.intake import Intake

    for at, line in ((NOW, init()), (NOW, call("Bash", {})), (NOW + 2.5, returned())):
        events = [decode(event.line) for event in parse.feed(Intake("lines").feed(encoded([line]), at), at)]
    assert of(events, "agent_tool_result")[0]["duration_ms"] == 2500


def test_two_lines_of_one_read_tell_no_duration() -> None:
    assert "duration_ms" not in of(parsed(init(), call("Bash", {}), returned()), "agent_tool_result")[0]


def test_a_result_without_its_call_is_told_all_the_same() -> None:
    [found] = of(parsed(init(), returned("x", "never-seen")), "agent_tool_result")
    assert (found["tool_use_id"], found["name"], found["ok"]) == ("never-seen", "unknown", True)


def test_calls_without_ids_are_paired_in_order() -> None:
    made, back = call("Bash", {}), returned(failed=True)
    del made["message"]["content"][0]["id"], back["message"]["content"][0]["tool_use_id"]
    events = parsed(init(), made, back)
    assert of(events, "agent_tool_call")[0]["tool_use_id"] == of(events, "agent_tool_result")[0]["tool_use_id"]
    assert of(events, "agent_tool_result")[0]["name"] == "Bash"


@pytest.mark.parametrize("failed", [None, False])
def test_a_result_that_is_no_error_is_ok(failed: bool | None) -> None:
    assert of(parsed(init(), call("Bash", {}), returned(failed=failed)), "agent_tool_result")[0]["ok"] is True


def test_a_failed_tool_is_an_error_of_rank_tool_with_its_exit_code() -> None:
    events = parsed(init(), call("Bash", {}), returned("Exit code 101\nboom", failed=True), result())
    assert of(events, "agent_tool_result")[0]["exit_code"] == 101
    assert [error["rank"] for error in of(events, "error")] == ["tool"]
    assert types(events)[-1] == "run_completed"


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (None, ""),
        ("", ""),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb"),
        (
            [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD" * 10}}],
            "[image/png, 30 bytes]",
        ),
        ([{"type": "tool_reference", "tool_name": "TaskCreate"}], "[tool TaskCreate]"),
        ([{"type": "odd", "x": 1}], '{"type":"odd","x":1}'),
    ],
)
def test_content_becomes_text(content: Any, shown: str) -> None:
    assert of(parsed(init(), call("Read", {}), returned(content)), "agent_tool_result")[0]["content"] == shown


def test_long_content_is_cut_between_characters_and_tells_its_size() -> None:
    whole = "aé€😀" * 100
    for limit in range(20, 40):
        [found] = of(parsed(init(), call("Bash", {}), returned(whole), max_content=limit), "agent_tool_result")
        assert found["truncated"] is True
        assert found["bytes"] == len(whole.encode())
        assert whole.startswith(found["content"])
        assert limit - 3 <= len(found["content"].encode()) <= limit


def test_a_lone_surrogate_does_not_break_the_cut() -> None:
    [found] = of(parsed(init(), call("Bash", {}), returned("\ud83d" * 50), max_content=10), "agent_tool_result")
    assert (found["content"], found["bytes"]) == ("\ud83d" * 3, 150)


def test_a_huge_input_keeps_its_structure() -> None:
    given = {"file_path": "/w/big", "content": "x" * 2_000_000, "nested": [{"deep": "y" * 50_000}], "n": 7}
    [made] = of(parsed(init(), call("Write", given)), "agent_tool_call")
    assert made["input"]["content"] == "x" * 16384 + f"… [+{2_000_000 - 16384} bytes]"
    assert made["input"]["nested"][0]["deep"].endswith(f"… [+{50_000 - 16384} bytes]")
    assert (made["input"]["n"], made["input"]["file_path"]) == (7, "/w/big")


def test_a_call_in_the_background_says_so() -> None:
    [made] = of(parsed(init(), call("Bash", {"command": "x", "run_in_background": True})), "agent_tool_call")
    assert made["background"] is True


def test_a_sub_agent_s_lines_keep_their_parent() -> None:
    inner = call("Bash", {"command": "ls"}, "t2", parent_tool_use_id="t1")
    events = parsed(
        init(), call("Agent", {"description": "Count files"}, "t1"), inner,
        returned("x", "t2", parent_tool_use_id="t1"), returned([{"type": "text", "text": "two"}], "t1"),
    )  # fmt: skip
    parents = [(event["type"], event.get("parent_id")) for event in events if event["type"].startswith("agent_tool")]
    assert parents == [
        ("agent_tool_call", None), ("agent_tool_call", "t1"), ("agent_tool_result", "t1"), ("agent_tool_result", None),
    ]  # fmt: skip


def test_the_structured_result_gives_details() -> None:
    found = {
        "status": "completed",
        "agentId": "a1",
        "totalTokens": 99,
        "prompt": "long",
        "content": [],
        "isAsync": False,
    }
    events = parsed(init(), call("Agent", {}), returned(tool_use_result=found))
    assert of(events, "agent_tool_result")[0]["detail"] == {"status": "completed", "agentId": "a1", "totalTokens": 99}


def test_a_structured_result_that_is_text_is_no_detail() -> None:
    events = parsed(init(), call("Bash", {}), returned(failed=True, tool_use_result="Error: Exit code 2"))
    [found] = of(events, "agent_tool_result")
    assert "detail" not in found
    assert found["exit_code"] == 2


def test_a_call_that_was_not_executed_says_why() -> None:
    meta = [{"id": "t1", "non_execution_kind": "permission-rule"}]
    events = parsed(init(), call("Bash", {}), returned("denied", failed=True, tool_result_meta=meta))
    assert of(events, "agent_tool_result")[0]["detail"] == {"non_execution_kind": "permission-rule"}


@pytest.mark.parametrize("kind", ["server_tool_use", "mcp_tool_use"])
def test_tools_of_the_server_are_calls(kind: str) -> None:
    events = parsed(init(), assistant({"type": kind, "id": "s1", "name": "web_search", "input": {"query": "q"}}))
    assert of(events, "agent_tool_call")[0]["title"] == "web_search: q"


def test_results_of_the_server_come_in_the_assistant_s_name() -> None:
    block = {
        "type": "web_search_tool_result",
        "tool_use_id": "s1",
        "content": [{"type": "web_search_result", "title": "T", "url": "u"}],
    }
    events = parsed(
        init(), assistant({"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}), assistant(block)
    )
    assert of(events, "agent_tool_result")[0]["content"] == "T u"


def test_an_mcp_tool_s_title_names_server_and_tool() -> None:
    [made] = of(parsed(init(), call("mcp__demo__echo", {"text": "hi"})), "agent_tool_call")
    assert (made["title"], made["kind"]) == ("demo/echo: hi", "other")


# ---- files


def change(name: str, given: Line, back: Line) -> list[Line]:
    return of(parsed(init(), call(name, given), back), "file_changed")


PATCH = [{"oldStart": 1, "oldLines": 2, "newStart": 1, "newLines": 3, "lines": [" a", "-b", "+c", "+d"]}]


@pytest.mark.parametrize(
    ("name", "given", "structured", "said", "wanted"),
    [
        ("Write", {"content": "a\nb\n"}, {"type": "create", "structuredPatch": []}, "", ("created", 2, 0)),
        ("Write", {"content": "a\nb"}, None, "File created successfully at: /w/f", ("created", 2, 0)),
        ("Write", {"content": "a"}, {"type": "update", "structuredPatch": PATCH}, "", ("modified", 2, 1)),
        ("Write", {"content": "a"}, None, "The file /w/f has been updated", ("modified", 1, 0)),
        ("Edit", {"old_string": "b", "new_string": "c\nd"}, {"structuredPatch": PATCH}, "", ("modified", 2, 1)),
        ("Edit", {"old_string": "x\nb\ny", "new_string": "x\nc\nd\ny"}, None, "", ("modified", 2, 1)),
        ("Edit", {"old_string": "", "new_string": "new\n"}, None, "", ("created", 1, 0)),
        ("Edit", {"old_string": "a", "new_string": "b", "replace_all": True}, None, "", ("modified", None, None)),
        (
            "MultiEdit",
            {"edits": [{"old_string": "a", "new_string": "b"}, {"old_string": "c", "new_string": ""}]},
            None, "", ("modified", 1, 2),
        ),
        ("NotebookEdit", {"new_source": "a\nb"}, {"old_source": "c"}, "", ("modified", 2, 1)),
        ("NotebookEdit", {"new_source": "a", "edit_mode": "insert"}, None, "", ("modified", 1, 0)),
    ],
)  # fmt: skip
def test_a_written_file_is_told_with_its_lines(
    name: str, given: Line, structured: Line | None, said: str, wanted: tuple[str, int | None, int | None]
) -> None:
    path = {"notebook_path" if name == "NotebookEdit" else "file_path": "/w/f"}
    more = {} if structured is None else {"tool_use_result": structured}
    [found] = change(name, {**path, **given}, returned(said, **more))
    assert (found["path"], found["tool_use_id"], found["source"]) == ("/w/f", "t1", "tool")
    assert (found["change"], found.get("added"), found.get("removed")) == wanted


def test_a_failed_write_changes_nothing() -> None:
    assert change("Write", {"file_path": "/w/f", "content": "a"}, returned("no", failed=True)) == []


def test_a_staged_write_changes_nothing() -> None:
    back = returned(tool_use_result={"type": "create", "staged": True})
    assert change("Write", {"file_path": "/w/f", "content": "a"}, back) == []


def test_the_patch_is_a_unified_diff() -> None:
    [found] = change("Edit", {"file_path": "/w/f"}, returned(tool_use_result={"structuredPatch": PATCH}))
    assert found["patch"] == "@@ -1,2 +1,3 @@\n a\n-b\n+c\n+d"


# ---- plans


def test_todos_are_progress() -> None:
    todos = [
        {"content": "Read", "activeForm": "Reading", "status": "completed"},
        {"content": "Write", "activeForm": "Writing", "status": "in_progress"},
    ]
    events = parsed(init(), call("TodoWrite", {"todos": todos}), returned())
    [update] = of(events, "progress_update")
    assert (update["percent"], update["current"], update["total"]) == (50.0, "Writing", 2)


def test_todos_that_failed_are_no_progress() -> None:
    events = parsed(init(), call("TodoWrite", {"todos": [{"content": "a"}]}), returned(failed=True))
    assert "progress_update" not in types(events)


@pytest.mark.parametrize("structured", [True, False], ids=["structured", "text only"])
def test_tasks_are_progress(structured: bool) -> None:
    def back(call_id: str, said: str, more: Line) -> Line:
        return returned(said, call_id, **({"tool_use_result": more} if structured else {}))

    events = parsed(
        init(),
        call("TaskCreate", {"subject": "Read", "activeForm": "Reading"}, "a"),
        back("a", "Task #1 created successfully: Read", {"task": {"id": "1"}}),
        call("TaskCreate", {"subject": "Write"}, "b"),
        back("b", "Task #2 created successfully: Write", {"task": {"id": "2"}}),
        call("TaskUpdate", {"taskId": "1", "status": "in_progress"}, "c"),
        back("c", "Updated task #1 status", {"success": True}),
        call("TaskUpdate", {"taskId": "1", "status": "completed"}, "d"),
        back("d", "Updated task #1 status", {"success": True}),
        call("TaskList", {}, "e"),
        back("e", "#1 [completed] Read\n#2 [pending] Write", {"tasks": [
            {"id": "1", "subject": "Read", "status": "completed"}, {"id": "2", "subject": "Write", "status": "pending"},
        ]}),
        call("TaskUpdate", {"taskId": "2", "status": "deleted"}, "f"),
        back("f", "Updated task #2 status", {"success": True}),
    )  # fmt: skip
    updates = of(events, "progress_update")
    assert [(u["done"], u["total"], u.get("current")) for u in updates] == [
        (0, 1, None), (0, 2, None), (0, 2, "Reading"), (1, 2, None), (1, 1, None),
    ]  # fmt: skip
    assert updates[-1]["items"][1] == {"text": "Write", "status": "cancelled"}


def test_progress_is_told_again_with_the_first_line_after_the_interval() -> None:
    """By the source's own time, so that a log that is played at another pace makes the same numbers."""

    def later(seconds: float) -> str:
        return timestamp(NOW + seconds)

    events = parsed(
        init(),
        call("TodoWrite", {"todos": [{"content": "a", "status": "in_progress"}]}, timestamp=later(0)),
        returned(timestamp=later(1)),
        text("soon", "m2", timestamp=later(5.9)),
        text("then", "m3", timestamp=later(6)),
        text("at once", "m4", timestamp=later(7)),
    )
    assert types(events)[4:8] == ["agent_output", "progress_update", "agent_output", "agent_output"]
    assert [update["elapsed_s"] for update in of(events, "progress_update")] == [1.0, 6.0]


def test_no_interval_tells_progress_only_on_change() -> None:
    from agentpipe.intake import Intake

    parse = stage(progress_interval=0.0)
    lines = [init(), call("TodoWrite", {"todos": [{"content": "a", "status": "in_progress"}]}), returned()]
    assert len(parse.feed(Intake("lines").feed(encoded(lines), NOW), NOW)) == 4
    assert parse.deadline is None


# ---- usage and cost

USAGE = {"input_tokens": 10, "output_tokens": 1, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 3}


def used(line: Line, usage: Line, **more: Any) -> Line:
    line["message"].update({"usage": usage, **more})
    return line


def test_the_usage_of_a_message_is_counted_once() -> None:
    events = parsed(init(), used(text("a"), USAGE), used(text("b"), USAGE), used(text("c", "msg_2"), USAGE))
    assert len(of(events, "usage_update")) == 2
    assert of(events, "usage_update")[0] == {
        "model": "opus-1", "input_tokens": 10, "output_tokens": 1, "cache_read_tokens": 5, "cache_write_tokens": 3,
        "context_used": 18, "cumulative": False, "provisional": True,
    }  # fmt: skip


def test_output_is_true_when_the_message_has_stopped() -> None:
    events = parsed(init(), used(text("a"), USAGE, stop_reason="end_turn"))
    assert "provisional" not in of(events, "usage_update")[0]


def test_in_partial_mode_the_message_delta_tells_the_true_output() -> None:
    last = stream(
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {**USAGE, "output_tokens": 77}}
    )
    events = parsed(init(), message_start(), block_start(), delta("a"), used(text("a"), USAGE), last, STOP)
    [update] = of(events, "usage_update")
    assert (update["output_tokens"], update["model"]) == (77, "opus-1")


def test_nested_cache_counts_stand_in_for_a_zero() -> None:
    usage = {
        **USAGE,
        "cache_creation_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 2},
    }
    assert of(parsed(init(), used(text("a"), usage)), "usage_update")[0]["cache_write_tokens"] == 6


def test_the_total_is_over_all_models() -> None:
    models = {
        "opus": {"inputTokens": 1, "outputTokens": 2, "cacheReadInputTokens": 3, "cacheCreationInputTokens": 4},
        "haiku": {"inputTokens": 10, "outputTokens": 20},
    }
    events = parsed(init(), result(modelUsage=models, usage={"input_tokens": 1, "output_tokens": 2}))
    total = {"input_tokens": 11, "output_tokens": 22, "cache_read_tokens": 3, "cache_write_tokens": 4}
    assert of(events, "usage_update") == [{**total, "cumulative": True, "cost_usd": 0.5}]
    assert events[-1]["payload"]["usage"] == total
    assert of(events, "run_iteration")[0]["usage"]["output_tokens"] == 2


@pytest.mark.parametrize("name", ["total_cost_usd", "total_cost", "cost_usd"])
def test_cost_by_its_old_names(name: str) -> None:
    line = result()
    del line["total_cost_usd"]
    assert parsed(init(), {**line, name: 0.25})[-1]["payload"]["cost_usd"] == 0.25


def test_no_cost_is_made_up() -> None:
    line = result()
    del line["total_cost_usd"]
    assert "cost_usd" not in parsed(init(), line)[-1]["payload"]


# ---- errors


def test_success_with_is_error_is_a_failed_turn() -> None:
    failed = text("API Error: 529", error="overloaded", api_error_status=529)
    failed["message"]["model"] = "<synthetic>"
    events = parsed(init(), failed, result("API Error: 529", is_error=True, api_error_status=529))
    assert [(e["rank"], e["code"]) for e in of(events, "error")] == [("agent", "overloaded"), ("turn", "529")]
    assert "agent_output" not in types(events)
    assert of(events, "run_iteration")[0]["ok"] is False
    assert types(events)[-1] == "run_failed"


def test_an_error_subtype_is_a_failed_turn_even_without_is_error() -> None:
    line = result(subtype="error_max_turns", errors=["Reached maximum number of turns (3)"])
    del line["result"]
    events = parsed(init(), line)
    assert of(events, "error") == [
        {"rank": "turn", "message": "Reached maximum number of turns (3)", "code": "error_max_turns"}
    ]


def test_an_empty_result_is_a_turn() -> None:
    events = parsed(init(), result("", num_turns=0))
    assert of(events, "run_iteration")[0]["ok"] is True


def test_a_retry_of_the_api_is_a_warning() -> None:
    retry = system("api_retry", attempt=2, max_retries=10, retry_delay_ms=544.4, error_status=529, error="overloaded")
    assert of(parsed(init(), retry), "error") == [
        {
            "rank": "warning", "message": "the API failed: overloaded (HTTP 529); attempt 2 of 10",
            "code": "overloaded", "retry_in_ms": 544, "attempt": 2,
        }
    ]  # fmt: skip


def test_a_denied_call_is_a_warning_once() -> None:
    events = parsed(
        init(), call("Bash", {}), system("permission_denied", tool_name="Bash", tool_use_id="t1", message="no"),
        returned("no", failed=True), result(permission_denials=[{"tool_name": "Bash", "tool_use_id": "t1"}]),
    )  # fmt: skip
    assert [error["rank"] for error in of(events, "error")] == ["warning", "tool"]


def test_a_denial_that_only_the_result_tells() -> None:
    events = parsed(init(), result(permission_denials=[{"tool_name": "Write", "tool_use_id": "t5"}]))
    assert of(events, "error")[0]["code"] == "permission_denied"


def test_can_use_tool_is_a_permission_request() -> None:
    request = {
        "subtype": "can_use_tool",
        "tool_name": "Bash",
        "input": {"command": "rm"},
        "tool_use_id": "t1",
        "decision_reason": "ask",
    }
    events = parsed(init(), {"type": "control_request", "request_id": "q", "request": request})
    assert of(events, "permission_request") == [
        {"name": "Bash", "input": {"command": "rm"}, "tool_use_id": "t1", "reason": "ask"}
    ]


@pytest.mark.parametrize(("status", "told"), [("allowed", 0), ("allowed_warning", 1), ("rejected", 1)])
def test_rate_limits_are_warnings_unless_allowed(status: str, told: int) -> None:
    info = {"status": status, "rateLimitType": "five_hour", "resetsAt": 1_800_000_000}
    errors = of(parsed(init(), {"type": "rate_limit_event", "rate_limit_info": info}), "error")
    assert len(errors) == told


def test_tasks_in_the_background_are_log_entries() -> None:
    events = parsed(
        init(),
        system("task_started", task_id="b1", tool_use_id="t1", description="Tick", is_backgrounded=True),
        system("task_progress", task_id="b1", description="Tick"),
        system("background_tasks_changed", tasks=[]),
        system("task_updated", task_id="b1", patch={"status": "completed"}),
        system("task_notification", task_id="b1", status="failed", summary="gone", output_file=""),
    )
    assert [(entry["level"], entry["message"]) for entry in of(events, "agent_log_entry")] == [
        ("info", "task started in the background: Tick"), ("warning", "task failed: gone"),
    ]  # fmt: skip


def test_a_compacted_context_is_told() -> None:
    line = system("compact_boundary", compact_metadata={"trigger": "auto", "pre_tokens": 204215, "post_tokens": 2632})
    assert of(parsed(init(), line), "agent_log_entry")[0]["message"] == "context compacted (auto): 204215 → 2632 tokens"


NOISE: list[Line] = [
    *(
        system(name)
        for name in ("status", "thinking_tokens", "hook_started", "session_state_changed", "post_turn_summary")
    ),
    system("hook_response", outcome="success", exit_code=0),
    {"type": "tool_progress", "tool_use_id": "t1", "session_id": SESSION},
    {"type": "keep_alive"},
    {"type": "control_response", "response": {}},
    {"type": "prompt_suggestion", "suggestion": "x"},
    {"type": "auth_status", "isAuthenticating": True, "output": []},
]


@pytest.mark.parametrize("line", NOISE, ids=lambda line: line.get("subtype") or line["type"])
def test_noise_is_silent_by_rule(line: Line) -> None:
    assert types(parsed(init(), line, result())) == types(parsed(init(), result()))


UNKNOWN: list[tuple[Line, str]] = [
    ({"type": "brand_new", "x": 1, "session_id": SESSION}, "unknown type 'brand_new'"),
    (system("brand_new"), "unknown subtype 'brand_new'"),
    (assistant({"type": "brand_new", "x": 1}), "unknown block 'brand_new'"),
    (stream({"type": "brand_new"}), "unknown stream event 'brand_new'"),
    ({"type": "control_request", "request": {"subtype": "brand_new"}}, "unknown type 'control_request'"),
    ({"no": "type"}, "unknown type ''"),
    ({"type": 7}, "unknown type ''"),
]


@pytest.mark.parametrize(("line", "reason"), UNKNOWN, ids=[reason for _, reason in UNKNOWN])
def test_what_is_not_known_is_kept_as_raw(line: Line, reason: str) -> None:
    [raw] = of(parsed(init(), line, result()), "raw")
    assert (raw["format"], raw["reason"]) == ("claude", reason)
    assert raw["data"] == (line["message"]["content"][0] if "block" in reason else line)


def test_the_result_s_type_may_come_last() -> None:
    line = result()
    assert list(line)[-1] == "type"
    assert of(parsed(line), "run_iteration")[0]["ok"] is True


def test_a_rate_limit_event_in_the_middle_of_another_line_is_cut_out_and_both_are_told() -> None:
    limit = json.dumps({"type": "rate_limit_event", "rate_limit_info": {"status": "rejected"}, "session_id": SESSION})
    line = json.dumps(text("hello", uuid="u1"))
    for place in range(1, len(line)):
        events = parsed(init(), line[:place] + limit + line[place:], result())
        assert "raw" not in types(events)
        assert texts(events) == [("msg_1", 0, "hello", True)]
        assert [p["code"] for p in of(events, "error")] == ["rate_limit_rejected"]


def test_a_rate_limit_event_that_broke_a_line_in_two_leaves_the_line_whole() -> None:
    limit = json.dumps({"type": "rate_limit_event", "rate_limit_info": {"status": "rejected"}, "session_id": SESSION})
    line = json.dumps(text("hello", uuid="u1"))
    events = parsed(init(), line[:40] + limit, line[40:], result())
    assert texts(events) == [("msg_1", 0, "hello", True)]
    assert [p["text"] for p in of(events, "raw")] == [line[:40]]  # was told before it was known to be half a line


def test_a_line_with_something_else_in_its_middle_is_kept() -> None:
    broken = '{"type":"assistant","mess{"some":"thing"}age":{}}'
    events = parsed(init(), broken, result())
    assert of(events, "raw") == [{"format": "claude", "reason": "not JSON", "text": broken}]
    assert types(events)[-1] == "run_completed"


@pytest.mark.parametrize("odd", [[], {}, ["tool_result"], None, 7])
def test_a_type_of_the_wrong_kind_is_kept_as_raw(odd: Any) -> None:
    user = {"type": "user", "message": {"role": "user", "content": [{"type": odd, "text": "x"}]}}
    events = parsed(init(), stream({"type": odd}), user, {"type": odd})
    reasons = [payload["reason"] for payload in of(events, "raw")]
    assert reasons == ["unknown stream event ''", "unknown block ''", "unknown type ''"]


@pytest.mark.parametrize(
    ("start", "end", "took_ms"),
    [
        ("2026-11-20T07:00:00.250Z", "2026-11-20T07:00:59.251Z", 59_001),
        ("2026-11-20T07:00:59.999Z", "2026-11-20T07:01:00.001Z", 2),
        ("2026-11-20T07:00:00+0000", "2026-11-20T07:00:09+0000", 9000),
        ("2026-11-20T07:00:00.0001Z", "2026-11-20T07:00:00.0201Z", 20),
    ],
)
def test_how_long_a_call_took_is_told_from_any_form_of_time(start: str, end: str, took_ms: int) -> None:
    lines = wrapped([init(), call("Bash", {"command": "x"}), returned()])
    lines[2]["timestamp"], lines[3]["timestamp"] = start, end
    assert of(parsed(*lines), "agent_tool_result")[0]["duration_ms"] == took_ms


def test_a_question_to_the_user_waits_for_a_human_with_its_text() -> None:
    given = {"questions": [{"question": "Which one?", "options": [{"label": "a"}, {"label": "b"}]}]}
    request = {"subtype": "can_use_tool", "tool_name": "AskUserQuestion", "input": given, "tool_use_id": "t1"}
    events = parsed(init(), call("AskUserQuestion", given), {"type": "control_request", "request": request})
    assert of(events, "agent_tool_call")[0]["title"] == "AskUserQuestion: Which one?"
    assert of(events, "permission_request") == [
        {"name": "AskUserQuestion", "input": given, "tool_use_id": "t1", "reason": "Which one?"}
    ]


def test_the_control_protocol_beside_the_stream_says_nothing() -> None:
    lines: list[Line] = [
        {"type": "control_request", "request_id": "1", "request": {"subtype": "initialize"}},
        {"type": "control_response", "response": {"subtype": "success", "request_id": "1"}},
        {"type": "control_cancel_request", "request_id": "1"},
        {"type": "keep_alive"},
    ]
    assert types(parsed(init(), *lines, result())) == types(parsed(init(), result()))


def test_a_long_input_that_asks_for_permission_is_cut() -> None:
    request = {"subtype": "can_use_tool", "tool_name": "Write", "input": {"content": "word " * 10_000}}
    [asked] = of(parsed(init(), {"type": "control_request", "request": request}), "permission_request")
    assert asked["input"]["content"].endswith(" bytes]")


def test_a_call_that_was_detached_is_answered_again_in_a_later_turn() -> None:
    detached = returned("still running", tool_use_result={"detachedToolCall": True})
    events = parsed(init(), call("mcp__a__b", {}), detached, result(), returned("done"), result())
    assert [(p["name"], p["content"]) for p in of(events, "agent_tool_result")] == [
        ("mcp__a__b", "still running"), ("mcp__a__b", "done"),
    ]  # fmt: skip
    assert of(events, "agent_tool_result")[0]["detail"] == {"detachedToolCall": True}


def test_a_slash_command_that_does_not_exist_is_a_turn_without_anything() -> None:
    """Version 2.0.22: success, an empty result, no usage, no line of the assistant."""
    usage = {"input_tokens": 0, "output_tokens": 0}
    events = parsed(init(), result("", num_turns=0, total_cost_usd=0, usage=usage, modelUsage={}))
    assert types(events) == ["run_started", "usage_update", "run_iteration", "run_completed"]
    assert "result" not in events[-1]["payload"]


def test_a_result_of_which_only_the_first_text_is_repeated_loses_no_text() -> None:
    """anthropics/claude-code issue 78686: the texts themselves have been told."""
    events = parsed(init(), text("one"), text("two"), result("one"))
    assert [found[2] for found in texts(events)] == ["one", "two"]


def test_the_model_is_counted_under_both_of_its_names() -> None:
    models = {
        "opus[1m]": {"inputTokens": 1, "outputTokens": 2},
        "opus-5-20260901": {"inputTokens": 10, "outputTokens": 20},
    }
    assert parsed(init(), result(modelUsage=models))[-1]["payload"]["usage"]["output_tokens"] == 22


def test_several_results_tell_the_last_total_of_the_cost_never_the_sum() -> None:
    events = parsed(init(), result(total_cost_usd=0.5), init(), result(total_cost_usd=0.75))
    assert [p["cost_usd"] for p in of(events, "run_iteration")] == [0.5, 0.25]
    assert events[-1]["payload"]["cost_usd"] == 0.75


def test_an_old_result_without_structure_still_counts_lines() -> None:
    """Versions before 2.1 have no ``tool_use_result``."""
    given = {"file_path": "/w/f", "old_string": "a\nb", "new_string": "a\nc\nd"}
    [found] = change("Edit", given, returned("The file /w/f has been updated."))
    assert (found["added"], found["removed"]) == (2, 1)


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("KillBash", "KillShell", "TaskStop"), "execute"),
        (("BashOutput", "TaskOutput"), "execute"),
        (("SlashCommand", "Skill"), "other"),
        (("Task", "Agent"), "think"),
        (("LS", "Glob"), "search"),
    ],
)
def test_tools_that_were_renamed_over_time_are_of_one_kind(names: tuple[str, ...], kind: str) -> None:
    assert {of(parsed(init(), call(name, {})), "agent_tool_call")[0]["kind"] for name in names} == {kind}


@pytest.mark.parametrize("status", ["async_launched", "remote_launched"])
def test_a_sub_agent_that_was_only_launched_says_so(status: str) -> None:
    given = {"description": "look", "prompt": "x"}
    lines = [call("Task", given), returned("started", tool_use_result={"status": status, "taskId": "k"})]
    assert of(parsed(init(), *lines), "agent_tool_result")[0]["detail"]["status"] == status


def test_a_summary_of_calls_is_logged_and_states_outside_the_published_types_are_silent() -> None:
    [told] = of(
        parsed(init(), {"type": "tool_use_summary", "summary": "read files", "session_id": SESSION}), "agent_log_entry"
    )
    assert told["message"] == "read files"
    silent = [{"type": "active_goal", "session_id": SESSION}, {"type": "autocompact_state", "session_id": SESSION}]
    silent += [system(subtype) for subtype in ("task_summary", "session_metadata", "files_persisted", "hook_progress")]
    assert types(parsed(init(), *silent)) == ["run_started", "run_completed"]
