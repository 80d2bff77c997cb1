"""pi's quirks, one test each, by the lines that show them."""

from typing import Any

from agentpipe.parse.adapter import Sureness
from agentpipe.parse.agents.pi import Pi
from tests.parse.counts.pi import counted
from tests.parse.lines import Line, of, parsed, types, wrapped
from tests.parse.sessions import check

T0 = 1_767_401_000_000
START: Line = {"type": "agent_start"}
SESSION: Line = {"type": "session", "version": 3, "id": "pi-1", "timestamp": "2026-01-03T00:43:20.000Z", "cwd": "/w"}


def message(*blocks: Line, role: str = "assistant", **more: Any) -> Line:
    told = {"role": role, "content": list(blocks), "timestamp": T0, **more}
    return told | {"model": "gpt-5", "stopReason": "stop", **more} if role == "assistant" else told


def text(said: str) -> Line:
    return {"type": "text", "text": said}


def begin(**more: Any) -> Line:
    return {"type": "message_start", "message": message(**more)}


def end(*blocks: Line, **more: Any) -> Line:
    return {"type": "message_end", "message": message(*blocks, **more)}


def new(kind: str, said: str, index: int = 0, so_far: str = "NOT LOOKED AT") -> Line:
    field = "content" if kind.endswith("_end") else "delta"
    event = {"type": kind, "contentIndex": index, field: said, "partial": message(text(so_far))}
    return {"type": "message_update", "message": message(text(so_far)), "assistantMessageEvent": event}


def call(name: str, given: Line, call_id: str = "t1") -> Line:
    return {"type": "tool_execution_start", "toolCallId": call_id, "toolName": name, "args": given}


def back(name: str, said: str = "ok", call_id: str = "t1", *, failed: bool = False, **details: Any) -> Line:
    result = {"content": [text(said)], "details": details}
    return {
        "type": "tool_execution_end", "toolCallId": call_id, "toolName": name, "result": result, "isError": failed,
    }  # fmt: skip


DONE: Line = {"type": "agent_end", "messages": []}


def retry(attempt: int = 1) -> Line:
    return {
        "type": "auto_retry_start", "attempt": attempt, "maxAttempts": 3, "delayMs": 2000, "errorMessage": "overloaded",
    }  # fmt: skip


def texts(events: list[Line], kind: str = "agent_output") -> list[tuple[int, str, bool]]:
    return [(p["index"], p["text"], p["final"]) for p in of(events, kind) if p.get("role") != "user"]


def test_its_types_are_surely_its_own() -> None:
    for line in (SESSION, START, begin(), end(), new("text_delta", "x"), call("read", {}), DONE, retry()):
        assert Pi.recognises(line) is Sureness.SURE, line
    for line in ({"type": "message_start"}, {"type": "session", "id": "x"}, {"type": "agent_end"}, {"type": "message"}):
        assert Pi.recognises(line) is Sureness.NO, line


def test_the_session_line_names_the_run() -> None:
    events = parsed(SESSION, START, begin(), end(text("hi")), DONE)
    assert (events[0]["run_id"], events[0]["agent_id"]) == ("pi-1", "pi")
    assert events[0]["payload"]["cwd"] == "/w"
    assert events[0]["timestamp"] == "2026-01-03T00:43:20.000Z"
    assert of(events, "agent_state_update")[0]["changed"] == {"model": "gpt-5"}


def test_two_sessions_are_two_runs() -> None:
    events = parsed(SESSION, START, end(text("a")), DONE, {**SESSION, "id": "pi-2"}, START, end(text("b")), DONE)
    assert [(e["run_id"], e["payload"]["result"]) for e in events if e["type"] == "run_iteration"] == [
        ("pi-1", "a"), ("pi-2", "b"),
    ]  # fmt: skip


def test_an_update_repeats_the_whole_message_and_only_what_is_new_is_told() -> None:
    events = parsed(
        START, begin(), new("thinking_delta", "hm"), new("thinking_end", "hm!"), new("text_delta", "he", 1),
        new("text_delta", "llo", 1), new("text_end", "hello", 1),
        end({"type": "thinking", "thinking": "hm!"}, text("hello")), DONE,
    )  # fmt: skip
    assert texts(events, "agent_thinking") == [(0, "hm", False), (0, "hm!", True)]
    assert texts(events) == [(1, "he", False), (1, "llo", False), (1, "hello", True)]


def test_a_message_without_the_end_of_a_block_is_whole_at_its_own_end() -> None:
    events = parsed(START, begin(), new("text_delta", "he"), end(text("hello")), DONE)
    assert texts(events) == [(0, "he", False), (0, "hello", True)]
    assert texts(parsed(START, end(text("at once")), DONE)) == [(0, "at once", True)]


def test_the_turn_s_and_the_agent_s_end_repeat_everything_and_say_nothing_twice() -> None:
    answer = message(text("hi"))
    repeated = [{"type": "turn_end", "message": answer, "toolResults": []}, {"type": "agent_end", "messages": [answer]}]
    assert texts(parsed(START, begin(), end(text("hi")), *repeated)) == [(0, "hi", True)]


def test_a_result_that_a_message_repeats_is_told_once() -> None:
    repeated = message(text("x"), role="toolResult", toolCallId="t1", toolName="read", isError=False)
    lines = [{"type": "message_start", "message": repeated}, {"type": "message_end", "message": repeated}]
    assert len(of(parsed(START, call("read", {}), back("read"), *lines), "agent_tool_result")) == 1
    (told,) = of(parsed(START, call("read", {}), *lines), "agent_tool_result")
    assert told["content"] == "x"


def test_partial_results_say_nothing() -> None:
    partial = {**call("bash", {}), "type": "tool_execution_update", "partialResult": {"content": [text("a")]}}
    assert types(parsed(START, call("bash", {}), partial, back("bash")))[1:-1] == [
        "agent_tool_call",
        "agent_tool_result",
    ]


def test_an_image_of_the_user_is_named_and_handed_on() -> None:
    image = {"type": "image", "data": "aGVsbG8=", "mimeType": "image/png"}
    events = parsed(START, end(text("see"), image, role="user"))
    told = of(events, "agent_output")[0]
    assert (told["text"], told["role"]) == ("see\n[image/png, 5 bytes]", "user")
    assert of(events, "content")[0]["base64"] == "aGVsbG8="


def test_a_failed_command_has_its_exit_code() -> None:
    events = parsed(
        START, call("bash", {"command": "x"}), back("bash", "bad\n\nCommand exited with code 3", failed=True)
    )
    (told,) = of(events, "agent_tool_result")
    assert (told["kind"], told["ok"], told["exit_code"]) == ("execute", False, 3)
    assert [p["rank"] for p in of(events, "error")] == ["tool"]


def test_an_edit_is_a_changed_file() -> None:
    given = {"path": "/w/f", "oldText": "a\nb", "newText": "a\nc\nd"}
    (told,) = of(parsed(START, call("edit", given), back("edit")), "file_changed")
    assert (told["path"], told["change"], told["added"], told["removed"]) == ("/w/f", "modified", 2, 1)
    shown = " 1 a\n-2 b\n+2 c\n+3 d"
    (told,) = of(parsed(START, call("edit", {"path": "/w/f"}), back("edit", diff=shown)), "file_changed")
    assert (told["added"], told["removed"]) == (2, 1)
    assert "patch" not in told  # lines with numbers are no patch
    several = {"path": "/w/f", "edits": [{"oldText": "a", "newText": "b"}, {"oldText": "", "newText": "c"}]}
    (told,) = of(parsed(START, call("edit", several), back("edit")), "file_changed")
    assert (told["added"], told["removed"]) == (2, 1)
    assert of(parsed(START, call("edit", given), back("edit", "no match", failed=True)), "file_changed") == []


def test_a_written_file_is_new_unless_the_run_has_met_it() -> None:
    wrote = [call("write", {"path": "/w/n", "content": "a\n"}), back("write")]
    (told,) = of(parsed(START, *wrote), "file_changed")
    assert (told["change"], told["added"], told["removed"]) == ("created", 1, 0)
    (told,) = of(parsed(START, call("read", {"path": "/w/n"}, "t0"), back("read", "x", "t0"), *wrote), "file_changed")
    assert (told["change"], told.get("added")) == ("modified", None)


def test_usage_and_cost_are_per_message_and_added_up() -> None:
    usage = {"input": 10, "output": 2, "cacheRead": 90, "cacheWrite": 5, "totalTokens": 107, "cost": {"total": 0.25}}
    events = parsed(START, end(text("a"), usage=usage), end(text("b"), usage=usage), DONE)
    first = of(events, "usage_update")[0]
    assert (first["input_tokens"], first["cache_read_tokens"], first["cost_usd"], first["cumulative"]) == (
        10,
        90,
        0.25,
        False,
    )
    assert first["context_used"] == 105
    (turn,) = of(events, "run_iteration")
    assert (turn["usage"]["output_tokens"], turn["cost_usd"]) == (4, 0.5)
    ended = of(events, "run_completed")[0]
    assert (ended["usage"]["input_tokens"], ended["cost_usd"]) == (20, 0.5)


def test_a_message_whose_start_was_not_seen_is_no_other_message() -> None:
    events = parsed(SESSION, START, end(text("go"), role="user"), end(text("hi")), end(text("ho")), DONE)
    assert [(p["message_id"], p["text"]) for p in of(events, "agent_output")] == [
        ("message-1", "go"), ("message-2", "hi"), ("message-3", "ho"),
    ]  # fmt: skip


def test_an_answer_that_never_came_used_nothing() -> None:
    usage = {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0, "cost": {"total": 0.0}}
    assert of(parsed(START, end(usage=usage, stopReason="aborted")), "usage_update") == []


def test_a_failed_end_that_a_retry_follows_is_a_warning_and_no_turn() -> None:
    broken = end(stopReason="error", errorMessage="overloaded")
    events = parsed(
        START,
        broken,
        DONE,
        retry(),
        START,
        end(text("ok")),
        DONE,
        {"type": "auto_retry_end", "success": True, "attempt": 1},
    )
    assert [(p["rank"], p["attempt"], p["retry_in_ms"]) for p in of(events, "error")] == [("warning", 1, 2000)]
    assert [(p["turn"], p["ok"], p["result"]) for p in of(events, "run_iteration")] == [(1, True, "ok")]


def test_a_failed_end_without_a_retry_is_a_failed_turn() -> None:
    broken = end(stopReason="error", errorMessage="bad key")
    for lines in ([START, broken, DONE], [SESSION, START, broken, DONE, {"type": "agent_settled"}]):
        events = parsed(*lines)
        assert [p["error"] for p in of(events, "run_iteration")] == ["bad key"]
        assert [(p["rank"], p["message"]) for p in of(events, "error")] == [("agent", "bad key"), ("turn", "bad key")]
        assert types(events)[-1] == "run_failed"
    gave_up = {"type": "auto_retry_end", "success": False, "attempt": 3, "finalError": "still overloaded"}
    events = parsed(START, broken, DONE, retry(), START, broken, DONE, gave_up)
    assert [p["rank"] for p in of(events, "error")] == ["warning", "turn", "agent"]
    assert types(events)[-1] == "run_failed"


def test_an_aborted_turn_is_cancelled() -> None:
    assert types(parsed(START, end(text("I wa"), stopReason="aborted"), DONE))[-1] == "run_cancelled"


def test_a_log_cut_in_a_message_is_incomplete() -> None:
    events = parsed(*wrapped([START, begin(), new("text_delta", "I wa")], exit_code=0))
    assert texts(events)[-1] == (0, "I wa", True)
    assert of(events, "agent_output")[-1]["aborted"] is True
    assert of(events, "run_completed")[0]["incomplete"] == "no result from the agent"


def test_compaction_is_logged_and_its_failure_is_a_warning() -> None:
    for prefix in ("auto_", ""):
        done = {"type": f"{prefix}compaction_end", "result": {"tokensBefore": 9}, "aborted": False, "willRetry": False}
        events = parsed(START, {"type": f"{prefix}compaction_start", "reason": "threshold"}, done)
        assert [p["message"] for p in of(events, "agent_log_entry")] == [
            "compacting the conversation: threshold", "compacted the conversation, 9 tokens before",
        ]  # fmt: skip
        failed = {**done, "errorMessage": "too long"}
        assert [p["rank"] for p in of(parsed(START, failed), "error")] == ["warning"]


def test_a_time_that_repeats_does_not_put_the_end_before_its_parts() -> None:
    events = parsed(START, begin(), new("text_delta", "a"), end(text("a")), DONE)
    times = [event["timestamp"] for event in events[1:]]
    assert times == sorted(times)
    assert times[0] == "2026-01-03T00:43:20.000Z"


def test_unknown_lines_and_updates_are_kept() -> None:
    strange = [{"type": "never_seen"}, new("hologram_delta", "x")]
    assert [p["data"] for p in of(parsed(START, *strange), "raw")] == strange
    quiet = [
        new(kind, "x") for kind in ("toolcall_start", "toolcall_delta", "toolcall_end", "text_start", "start", "done")
    ]
    assert types(parsed(START, *quiet)) == ["run_started", "run_completed"]


def test_no_shape_raises() -> None:
    odd = [
        None,
        [],
        {},
        7,
        "x",
        {"role": "assistant", "content": [1], "usage": 3, "timestamp": {}},
        {"type": "text_end"},
    ]
    kinds = [
        "message_start",
        "message_update",
        "message_end",
        "tool_execution_start",
        "tool_execution_end",
        "agent_end",
    ]
    for kind in kinds:
        for value in odd:
            line = {"type": kind, "message": value, "assistantMessageEvent": value, "args": value, "result": value}
            assert parsed(START, {**line, "toolCallId": "t", "messages": []})


def test_a_whole_session() -> None:
    told = check(
        [
            SESSION, START, {"type": "turn_start"}, end(text("do it"), role="user"), begin(), new("text_delta", "look"),
            new("text_end", "looking"), end(text("looking")), call("bash", {"command": "ls"}), back("bash", "f"),
            call("edit", {"path": "/w/f", "oldText": "a", "newText": "b"}, "t2"), back("edit", "ok", "t2"), DONE,
        ],
        "pi", counted,
    )  # fmt: skip
    assert types(told).count("file_changed") == 1
