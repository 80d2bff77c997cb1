"""Qwen Code's session files and their quirks, one test each."""

from typing import Any

import pytest

from agentpipe.parse.adapter import Sureness
from agentpipe.parse.agents.qwen_transcript import QwenTranscript
from agentpipe.parse.detect import surely
from tests.parse.lines import Line, encoded, of, parsed, parsed_bytes, stage, types

SESSION = "qs-10"


def record(kind: str, second: int = 0, **more: Any) -> Line:
    return {
        "uuid": f"r-{kind}-{second}",
        "parentUuid": None,
        "sessionId": SESSION,
        "timestamp": f"2026-11-20T08:00:{second:02}.000Z",
        "type": kind,
        "cwd": "/w",
        "version": "0.15.10",
        **more,
    }


def user(*parts: Line, **more: Any) -> Line:
    return record("user", message={"role": "user", "parts": list(parts)}, **more)


def assistant(*parts: Line, second: int = 1, **more: Any) -> Line:
    return record("assistant", second, model="coder", message={"role": "model", "parts": list(parts)}, **more)


def text(said: str) -> Line:
    return {"text": said}


def call(name: str, given: Line, call_id: str = "c1") -> Line:
    return {"functionCall": {"id": call_id, "name": name, "args": given}}


def returned(answer: str | None, call_id: str = "c1", status: str = "success", second: int = 3, **more: Any) -> Line:
    response = {"output": answer} if status == "success" else {"error": answer}
    part = {"functionResponse": {"id": call_id, "name": "glob", "response": response}}
    kept = {"callId": call_id, "status": status, **more}
    return record("tool_result", second, message={"role": "user", "parts": [part]}, toolCallResult=kept)


def system(subtype: str, second: int = 2, **payload: Any) -> Line:
    return record("system", second, subtype=subtype, systemPayload=payload)


# ---- who and what


def test_the_file_is_a_second_teller_of_the_session() -> None:
    events = parsed(user(text("hi")), assistant(text("hello")))
    assert {event["run_id"] for event in events} == {f"{SESSION}/transcript"}
    assert of(events, "run_started")[0] == {
        "schema": "agentpipe/1",
        "agent": "qwen",
        "session_id": SESSION,
        "cwd": "/w",
        "agent_version": "0.15.10",
    }
    assert of(events, "agent_state_update") == [{"state": "initialized", "changed": {"model": "coder"}}]
    assert "incomplete" not in events[-1]["payload"]


def test_a_sub_agent_s_own_file_is_a_run_of_its_own() -> None:
    side = {"isSidechain": True, "agentId": "explore-7f3c"}
    events = parsed(user(text("count"), **side), assistant(text("three"), **side))
    assert {event["run_id"] for event in events} == {f"{SESSION}/agent-explore-7f3c"}


@pytest.mark.parametrize("found", [user(text("x")), assistant(), returned("x"), system("ui_telemetry"), system("new")])
def test_own_records_are_sure_and_nobody_else_s(found: Line) -> None:
    assert QwenTranscript.recognises(found) is Sureness.SURE
    assert surely(found) == surely({**found, "isSidechain": True}) == "qwen-transcript"


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"type": []},
        record("user", message={"role": "user", "content": "x"}),
        record("system", subtype="compact_boundary"),
        {"type": "user", "message": {"parts": []}, "uuid": "u", "session_id": "s"},
    ],
)
def test_records_of_others_are_not_its_own(found: Line) -> None:
    assert QwenTranscript.recognises(found) is Sureness.NO


def test_a_file_that_starts_in_the_middle_is_recognised() -> None:
    whole = [user(text("x")), system("ui_telemetry"), assistant(call("glob", {})), returned("x"), assistant(text("y"))]
    for first in range(1, len(whole)):
        parse = stage()
        parsed_bytes(encoded(["noise", *whole[first:]]), parse)
        assert set(parse.report()["formats"].values()) == {"qwen-transcript"}


# ---- texts


def test_thoughts_text_and_calls_are_parts_of_one_message() -> None:
    parts = [{"text": "hm", "thought": True}, text("Look"), text("ing."), call("glob", {"pattern": "*"})]
    events = parsed(assistant(*parts))
    assert [(p["text"], p["index"]) for p in of(events, "agent_thinking", "agent_output")] == [
        ("hm", 0),
        ("Looking.", 1),
    ]
    assert [p["title"] for p in of(events, "agent_tool_call")] == ["glob: *"]


def test_what_was_shown_of_the_user_s_words_is_told() -> None:
    shown = {"displayText": "see @a", "hookContext": "secret"}
    events = parsed(user(text("see @a"), text("content of a"), systemPayload=shown))
    assert [p["text"] for p in of(events, "agent_output")] == ["see @a"]


@pytest.mark.parametrize("subtype", ["notification", "cron", "mid_turn_user_message"])
def test_words_that_no_human_may_have_written_say_where_they_are_from(subtype: str) -> None:
    [told] = of(parsed(user(text("done"), subtype=subtype)), "agent_output")
    assert (told["role"], told["origin"]) == ("user", subtype)


def test_an_image_is_named_and_travels_beside() -> None:
    picture = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}
    events = parsed(user(text("look"), picture))
    assert of(events, "agent_output")[0]["text"] == "look\n[image/png, 8 bytes]"
    assert of(events, "content")[0]["media_type"] == "image/png"
    assert of(parsed(user(text("look"), picture), no_contents=True), "content") == []


# ---- calls


def test_a_result_is_paired_and_timed_by_the_records() -> None:
    events = parsed(assistant(call("glob", {})), returned("long report", resultDisplay="Found 1"))
    [told] = of(events, "agent_tool_result")
    assert (told["name"], told["content"], told["duration_ms"]) == ("glob", "Found 1", 2000)


def test_the_exit_status_of_every_command_is_in_what_the_model_was_told() -> None:
    def ended(status: int) -> Line:
        answer = f"Command: x\nOutput: Exit Code: 7\nError: (none)\nExit Code: {status}\nSignal: 0"
        [told] = of(
            parsed(
                assistant(call("run_shell_command", {"command": "x"})), returned(answer, resultDisplay="Exit Code: 7")
            ),
            "agent_tool_result",
        )
        return told

    assert (ended(0)["ok"], ended(0)["exit_code"]) == (True, 0)
    assert (ended(1)["ok"], ended(1)["exit_code"]) == (False, 1)


@pytest.mark.parametrize("status", ["error", "cancelled"])
def test_a_failed_call_says_why(status: str) -> None:
    events = parsed(assistant(call("glob", {})), returned("no", status=status, errorType="invalid_tool_params"))
    [told] = of(events, "agent_tool_result")
    assert (told["ok"], told["content"], told["detail"]) == (False, "no", {"error_type": "invalid_tool_params"})
    assert of(events, "error")[0]["rank"] == "tool"


def changes(display: Line, given: Line | None = None, name: str = "edit") -> list[Line]:
    given = given or {"file_path": "/w/a", "old_string": "x", "new_string": "y"}
    return of(parsed(assistant(call(name, given)), returned("ok", resultDisplay=display)), "file_changed")


def test_the_diff_that_was_shown_tells_the_change() -> None:
    [told] = changes({"fileDiff": "@@ -1,1 +1,2 @@\n-x\n+y\n+z\n", "originalContent": "x\n"})
    assert (told["change"], told["added"], told["removed"], told["patch"][:2]) == ("modified", 2, 1, "@@")


@pytest.mark.parametrize("before", ["", None])
def test_a_file_that_had_no_content_is_new(before: str | None) -> None:
    [told] = changes({"fileDiff": "@@ -0,0 +1,1 @@\n+x\n", "originalContent": before}, name="write_file")
    assert (told["change"], told["added"], told["removed"]) == ("created", 1, 0)


def test_a_diff_that_was_cut_in_the_file_is_not_counted_but_its_numbers_are() -> None:
    cut = {
        "fileDiff": "@@ -1 +1 @@\n-Full diff omitted\n+Preview only",
        "fileDiffTruncated": True,
        "originalContent": "x",
    }
    stat = {"model_added_lines": 900, "model_removed_lines": 3, "user_added_lines": 1, "user_removed_lines": 0}
    [told] = changes({**cut, "diffStat": stat})
    assert (told["added"], told["removed"]) == (901, 3)
    assert "patch" not in told


def test_todos_are_the_plan() -> None:
    todos = [
        {"id": "1", "content": "Read", "status": "completed"},
        {"id": "2", "content": "Go", "status": "in_progress"},
    ]
    [told] = of(parsed(assistant(call("todo_write", {"todos": todos})), returned("ok")), "progress_update")
    assert (told["percent"], told["current"]) == (50.0, "Go")


# ---- tokens and ends


@pytest.mark.parametrize(("total", "output"), [(1540, 40), (1545, 45)])
def test_thoughts_are_output_unless_the_total_shows_that_they_are_in_it(total: int, output: int) -> None:
    used = {"promptTokenCount": 1500, "candidatesTokenCount": 40, "thoughtsTokenCount": 5,
            "totalTokenCount": total, "cachedContentTokenCount": 400}  # fmt: skip
    events = parsed(assistant(text("a"), usageMetadata=used), assistant(text("b"), second=2, usageMetadata=used))
    assert of(events, "usage_update")[0] == {
        "model": "coder",
        "input_tokens": 1100,
        "output_tokens": output,
        "cache_read_tokens": 400,
        "cumulative": False,
        "context_used": 1500,
    }
    assert of(events, "run_completed")[0]["usage"]["input_tokens"] == 2200


def test_newer_versions_say_how_a_turn_ended() -> None:
    good = system("turn_result", promptId="p", state="completed", resultText="done", startedAt=1000, endedAt=3500)
    bad = system("turn_result", promptId="q", state="error", error={"message": "quota", "code": "429"}, endedAt=1)
    events = parsed(user(text("x")), good, bad)
    assert of(events, "run_iteration") == [
        {"turn": 1, "ok": True, "result": "done", "duration_ms": 2500},
        {"turn": 2, "ok": False, "error": "quota"},
    ]
    assert of(events, "run_failed")[0]["error"] == "quota"
    cancelled = system("turn_result", promptId="p", state="cancelled", endedAt=1)
    assert types(parsed(user(text("x")), cancelled))[-1] == "run_cancelled"


def test_an_api_that_failed_is_a_warning_because_it_may_be_asked_again() -> None:
    event = {"event.name": "qwen-code.api_error", "error_message": "429 slow down", "status_code": 429}
    [told] = of(parsed(user(text("x")), system("ui_telemetry", uiEvent=event)), "error")
    assert told == {"rank": "warning", "message": "the API failed: 429 slow down", "code": "429"}


def test_a_file_that_ends_with_a_failure_of_the_api_has_failed() -> None:
    event = {"event.name": "qwen-code.api_error", "error_message": "429 slow down", "status_code": 429}
    failure = system("ui_telemetry", uiEvent=event)
    assert of(parsed(user(text("x")), failure), "run_failed")[0]["error"] == "the API failed: 429 slow down"
    assert types(parsed(user(text("x")), failure, assistant(text("ok"))))[-1] == "run_completed"


def test_small_records_are_told_or_silent() -> None:
    events = parsed(
        user(text("x")),
        system("attribution_snapshot", snapshot={}),
        system("ui_telemetry", uiEvent={"event.name": "qwen-code.api_response"}),
        system("chat_compression", info={"originalTokenCount": 900, "newTokenCount": 90}),
        system("slash_command", phase="invocation", rawCommand="/stats"),
        system("slash_command", phase="result", outputHistoryItems=[{"type": "info", "text": "3 calls"}, {}]),
        system("at_command", filesRead=["a", "b"], status="success"),
        system("at_command", filesRead=[], status="error", message="no a"),
        system("notification", displayText="tests ended", backgroundTask={"taskId": "t", "status": "failed"}),
        system("rewind", truncatedCount=4),
        system("session_model", modelId="coder-2"),
    )
    assert [(p["level"], p["message"], p["source"]) for p in of(events, "agent_log_entry")] == [
        ("info", "context compacted: 900 → 90 tokens", "compact"),
        ("info", "/stats", "command"),
        ("info", "3 calls", "command"),
        ("info", "read a, b", "command"),
        ("warning", "tests ended", "task"),
        ("info", "went back by 4 messages", "rewind"),
    ]
    assert [(p["rank"], p["message"]) for p in of(events, "error")] == [("warning", "no a")]
    assert of(events, "raw") == []


def test_what_is_not_known_is_kept_and_nothing_raises() -> None:
    strange = [
        system("hologram"),
        record("hologram"),
        record("assistant", message=None, usageMetadata=[]),
        record("tool_result", toolCallResult=None, message={"parts": [{"functionResponse": 1}, 7]}),
        record("tool_result"),
        record("user", message={"parts": [{"functionCall": []}]}),
        system("turn_result", state=[], error=1, startedAt="x"),
        system("slash_command", outputHistoryItems=3),
    ]
    events = parsed(user(text("x")), *strange, format="qwen-transcript")
    assert len(of(events, "raw")) == 2
    assert len(of(events, "agent_tool_result")) == 2
