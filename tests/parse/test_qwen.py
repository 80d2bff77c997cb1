"""Qwen Code's quirks, one test each, by the lines that show them."""

from typing import Any

import pytest

from agentpipe.parse.adapter import Sureness
from agentpipe.parse.agents.qwen import Qwen
from agentpipe.parse.claude.stream import Claude
from tests.parse import lines as claude
from tests.parse.lines import Line, encoded, of, parsed, parsed_bytes, stage, types, wrapped
from tests.parse.logs import EXAMPLES, LOGS, Log

SESSION = "qw-10"


def line(kind: str, number: int = 1, **more: Any) -> Line:
    return {"type": kind, "uuid": f"u-{number}", "session_id": SESSION, "parent_tool_use_id": None, **more}


def init() -> Line:
    more = {"cwd": "/w", "tools": ["edit"], "model": "coder", "permission_mode": "yolo", "qwen_code_version": "0.15.10"}
    return {"type": "system", "subtype": "init", "uuid": SESSION, "session_id": SESSION, **more}


def assistant(*blocks: Line, number: int = 1, usage: Line | None = None, **more: Any) -> Line:
    body = {"id": f"u-{number}", "type": "message", "role": "assistant", "model": "coder", "content": list(blocks)}
    return line(
        "assistant", number, message={**body, "usage": usage or {"input_tokens": 0, "output_tokens": 0}}, **more
    )


def said(text: str, number: int = 1, **more: Any) -> Line:
    return assistant({"type": "text", "text": text}, number=number, **more)


def call(name: str, given: Line, call_id: str = "c1", **more: Any) -> Line:
    return assistant({"type": "tool_use", "id": call_id, "name": name, "input": given}, number=7, **more)


def returned(content: str = "ok", call_id: str = "c1", *, failed: bool = False, **more: Any) -> Line:
    block = {"type": "tool_result", "tool_use_id": call_id, "is_error": failed, "content": content}
    return line("user", 8, message={"role": "user", "content": [block]}, **more)


def result(text: str = "done", **more: Any) -> Line:
    facts = {"subtype": "success", "is_error": False, "duration_ms": 100, "duration_api_ms": 50, "num_turns": 1}
    used = {"input_tokens": 2000, "output_tokens": 80, "cache_read_input_tokens": 400, "total_tokens": 2080}
    return line("result", 9, **{**facts, "result": text, "usage": used, "permission_denials": [], **more})


def event(kind: str, **more: Any) -> Line:
    return line("stream_event", 3, event={"type": kind, **more})


def start(message: str = "u-1") -> Line:
    return event("message_start", message={"id": message, "role": "assistant", "model": "coder", "content": []})


def opened(kind: str = "text") -> Line:
    return event("content_block_start", index=0, content_block={"type": kind, kind: ""})


def part(text: str, kind: str = "text") -> Line:
    return event("content_block_delta", index=0, delta={"type": f"{kind}_delta", kind: text})


def texts(events: list[Line], *kinds: str) -> list[tuple[str, int, str, bool]]:
    found = of(events, *(kinds or ("agent_output",)))
    return [(p["message_id"], p["index"], p["text"], p["final"]) for p in found]


# ---- who and what


def test_the_run_is_the_session_with_its_version_model_and_tools() -> None:
    events = parsed(init(), said("hi"), result())
    assert {event["run_id"] for event in events} == {SESSION}
    assert of(events, "run_started")[0] == {
        "schema": "agentpipe/1",
        "agent": "qwen",
        "session_id": SESSION,
        "cwd": "/w",
        "agent_version": "0.15.10",
        "model": "coder",
        "tools": ["edit"],
    }


@pytest.mark.parametrize("found", [init(), said("x"), start(), result(), line("system", subtype="ui_log", data={})])
def test_its_marks_are_not_claude_code_s(found: Line) -> None:
    assert (Qwen.recognises(found), Claude.recognises(found)) == (Sureness.SURE, Sureness.NO)


@pytest.mark.parametrize("found", [returned(), part("x"), event("message_stop")])
def test_without_a_mark_the_id_before_the_body_tells_it(found: Line) -> None:
    assert (Qwen.recognises(found), Claude.recognises(found)) == (Sureness.LIKELY, Sureness.NO)
    by_name = dict(sorted(found.items()))
    assert (Qwen.recognises(by_name), Claude.recognises(by_name)) == (Sureness.LIKELY, Sureness.LIKELY)


@pytest.mark.parametrize(
    "found",
    [
        claude.init(uuid="u"),
        claude.text("x", uuid="u"),
        claude.returned(uuid="u", tool_use_result={}),
        claude.returned(uuid="u", timestamp="2026-11-20T07:00:00.000Z"),
        claude.result(uuid="u"),
        claude.stream({"type": "message_start", "message": {"id": "m", "usage": {}}}, uuid="u"),
        claude.stream({"type": "message_stop"}, uuid="u", api_message_id="m"),
    ],
)
def test_claude_code_s_marks_are_not_its_own(found: Line) -> None:
    assert (Qwen.recognises(found), Claude.recognises(found)) == (Sureness.NO, Sureness.SURE)


@pytest.mark.parametrize(
    "found", [{}, {"type": []}, {"type": "user", "uuid": 1}, {"type": "assistant", "uuid": "u", "session_id": "s"}]
)
def test_strange_lines_are_nobody_s(found: Line) -> None:
    assert Qwen.recognises(found) is Sureness.NO


def test_a_log_that_starts_in_the_middle_after_noise_is_recognised() -> None:
    whole = [init(), start(), opened(), part("hi"), said("hi"), call("glob", {}), returned(), said("b", 2), result()]
    for first in range(1, len(whole)):
        parse = stage()
        parsed_bytes(encoded(["noise", *whole[first:]]), parse)
        assert set(parse.report()["formats"].values()) == {"qwen"}


@pytest.mark.parametrize("log", [log for log in (*EXAMPLES, *LOGS) if log.format in ("claude", "qwen")], ids=str)
def test_no_part_of_a_log_is_taken_for_the_other_agent_s(log: Log) -> None:
    kept = log.path.read_bytes().split(b"\n")[:-1]
    for first in range(0, len(kept), max(1, len(kept) // 8)):
        data = b"\n".join(kept[first:]) + b"\n"
        if len(data) < 200_000:
            parse = stage()
            parsed_bytes(data, parse)
            assert set(parse.report()["formats"].values()) == {log.format}


# ---- texts


def test_each_block_is_a_line_of_its_own_with_its_own_message() -> None:
    events = parsed(init(), assistant({"type": "thinking", "thinking": "hm", "signature": ""}), said("Look.", 2))
    assert texts(events, "agent_thinking") == [("u-1", 0, "hm", True)]
    assert texts(events) == [("u-2", 0, "Look.", True)]


def test_parts_are_replaced_in_their_place_though_the_whole_has_another_message() -> None:
    """The stream starts one message; each finished block is an ``assistant`` line with an id of its own."""
    events = parsed(
        init(),
        start("u-1"),
        opened("thinking"),
        part("h", "thinking"),
        part("m", "thinking"),
        event("content_block_stop", index=0),
        assistant({"type": "thinking", "thinking": "hm"}, number=1),
        opened(),
        part("Lo"),
        part("ok."),
        event("content_block_stop", index=0),
        said("Look.", 2),
        event("message_stop"),
    )
    assert texts(events, "agent_thinking") == [("u-1", 0, "h", False), ("u-1", 0, "m", False), ("u-1", 0, "hm", True)]
    assert texts(events) == [("u-1", 1, "Lo", False), ("u-1", 1, "ok.", False), ("u-1", 1, "Look.", True)]


def test_a_stream_that_starts_anew_takes_back_what_it_said() -> None:
    events = parsed(init(), start("u-1"), opened(), part("Lo"), start("u-2"), opened(), part("Look"), said("Look", 2))
    told = of(events, "agent_output")
    assert (told[1]["message_id"], told[1]["text"], told[1]["retracted"]) == ("u-1", "", True)
    assert texts(events)[-1] == ("u-2", 0, "Look", True)


def test_what_a_cut_stream_leaves_open_is_told_whole() -> None:
    told = of(parsed(init(), start(), opened(), part("Lo"), part("ok")), "agent_output")[-1]
    assert (told["text"], told["final"], told["aborted"]) == ("Look", True, True)


def test_parts_of_a_call_and_its_progress_say_nothing() -> None:
    block = {"type": "tool_use", "id": "c1", "name": "glob", "input": {}}
    delta = {"type": "input_json_delta", "partial_json": "{}"}
    silent = [
        event("content_block_start", index=0, content_block=block),
        event("content_block_delta", index=0, delta=delta),
        event("content_block_stop", index=0),
        event("tool_progress", tool_use_id="c1", content={}),
    ]
    assert types(parsed(init(), *silent)) == ["run_started", "run_completed"]


# ---- calls


def test_several_calls_on_one_line_and_a_line_for_each_result() -> None:
    blocks = [{"type": "tool_use", "id": i, "name": "run_shell_command", "input": {"command": i}} for i in "ab"]
    events = parsed(init(), assistant(*blocks), returned("1", "a"), returned("2", "b"))
    assert [(p["tool_use_id"], p["title"]) for p in of(events, "agent_tool_call")] == [
        ("a", "run_shell_command: a"),
        ("b", "run_shell_command: b"),
    ]
    assert [(p["tool_use_id"], p["content"], p["kind"]) for p in of(events, "agent_tool_result")] == [
        ("a", "1", "execute"),
        ("b", "2", "execute"),
    ]


def test_a_command_that_failed_tells_its_status_when_it_printed_nothing() -> None:
    events = parsed(init(), call("run_shell_command", {"command": "x"}), returned("Command exited with code: 2"))
    [told] = of(events, "agent_tool_result")
    assert (told["ok"], told["exit_code"]) == (False, 2)


def test_a_command_in_the_background_says_so() -> None:
    events = parsed(init(), call("run_shell_command", {"command": "x", "is_background": True}))
    assert of(events, "agent_tool_call")[0]["background"] is True


def test_files_are_those_of_gemini_s_tools() -> None:
    new = {"file_path": "/w/a", "content": "1\n2\n"}
    edit = {"file_path": "/w/a", "old_string": "1", "new_string": "one"}
    events = parsed(
        init(),
        call("write_file", new),
        returned("Successfully created and wrote to new file: /w/a."),
        call("edit", edit),
        returned("The file: /w/a has been updated."),
        call("write_file", new),
        returned("Successfully overwrote file: /w/a."),
        call("edit", edit),
        returned("no such text", failed=True),
    )
    assert [(p["change"], p.get("added"), p.get("removed")) for p in of(events, "file_changed")] == [
        ("created", 2, 0),
        ("modified", 1, 1),
        ("modified", None, None),
    ]


def test_todos_are_the_plan() -> None:
    todos = [{"id": "1", "content": "Read", "status": "completed"}, {"id": "2", "content": "Go", "status": "pending"}]
    [told] = of(parsed(init(), call("todo_write", {"todos": todos}), returned()), "progress_update")
    assert (told["done"], told["total"], [item["text"] for item in told["items"]]) == (1, 2, ["Read", "Go"])


def test_a_sub_agent_is_told_by_its_call() -> None:
    given = {"description": "Count", "prompt": "count"}
    inner = call("glob", {"pattern": "*"}, "c2") | {"parent_tool_use_id": "c1"}
    events = parsed(init(), call("agent", given), inner, returned("3", "c2") | {"parent_tool_use_id": "c1"}, returned())
    assert [event.get("parent_id") for event in events if event["type"].startswith("agent_tool")] == [
        None, "c1", "c1", None,
    ]  # fmt: skip


def test_a_sub_agent_s_failure_is_no_turn_though_it_looks_like_a_result() -> None:
    failure = result(is_error=True, subtype="error_during_execution", duration_ms=0, error={"message": "no tools"})
    events = parsed(init(), call("agent", {"prompt": "x"}), failure, returned("failed", failed=True), result())
    assert [p["message"] for p in of(events, "error") if p["rank"] == "warning"] == ["no tools"]
    assert [p["ok"] for p in of(events, "run_iteration")] == [True]


# ---- tokens and ends


def test_input_counts_the_cached_tokens_and_placeholders_count_nothing() -> None:
    used = {"input_tokens": 1500, "output_tokens": 40, "cache_read_input_tokens": 400, "total_tokens": 1540}
    events = parsed(init(), said("a"), said("b", 2, usage=used))
    assert of(events, "usage_update") == [
        {
            "model": "coder",
            "input_tokens": 1100,
            "output_tokens": 40,
            "cache_read_tokens": 400,
            "cumulative": False,
            "context_used": 1500,
        }
    ]
    assert of(events, "run_completed")[0]["usage"]["input_tokens"] == 1100


def test_the_usage_of_a_result_is_the_session_s_and_never_added_up() -> None:
    more = {"input_tokens": 3000, "output_tokens": 100, "cache_read_input_tokens": 400}
    events = parsed(init(), said("a"), result(), said("b", 2), result(usage=more))
    assert [p["usage"]["input_tokens"] for p in of(events, "run_iteration")] == [1600, 1000]
    assert of(events, "run_completed")[0]["usage"] == {
        "input_tokens": 2600, "output_tokens": 100, "cache_read_tokens": 400,
    }  # fmt: skip
    assert "cost_usd" not in of(events, "run_completed")[0]


def test_an_api_that_failed_for_good_is_a_failure_though_the_result_says_success() -> None:
    text = "[API Error: 401 mock error]"
    none = {"input_tokens": 0, "output_tokens": 0, "cache_read_input_tokens": 0}
    events = parsed(*wrapped([init(), said(text), result(text, usage=none)]))
    assert [(p["rank"], p["message"]) for p in of(events, "error")] == [("agent", text), ("turn", text)]
    assert of(events, "agent_output") == []
    assert of(events, "run_failed")[0]["error"] == text
    assert of(events, "run_failed")[0]["exit_code"] == 0


def test_a_model_that_speaks_of_an_api_error_is_no_failure() -> None:
    text = "[API Error: 401 mock error]"
    events = parsed(init(), said(text, usage={"input_tokens": 9, "output_tokens": 9}), result(text))
    assert of(events, "error") == []
    assert types(events)[-1] == "run_completed"


def test_a_failed_turn_says_why() -> None:
    why = {"type": "FatalTurnLimitedError", "message": "too many turns"}
    events = parsed(init(), result(subtype="error_max_turns", is_error=True, error=why))
    assert of(events, "error") == [{"rank": "turn", "message": "too many turns", "code": "FatalTurnLimitedError"}]
    assert of(events, "run_failed")[0]["error"] == "too many turns"


def test_too_many_turns_are_status_53_without_a_result() -> None:
    events = parsed(*wrapped([init(), said("Step 0."), call("glob", {}), returned()], exit_code=53))
    end = of(events, "run_failed")[0]
    assert (end["exit_code"], end["error"], end["incomplete"]) == (53, "exit status 53", "no result from the agent")


def test_a_run_that_the_user_broke_off_ends_with_a_cancelled_call() -> None:
    stopped = returned("[Operation Cancelled] Reason: User cancelled tool execution.", failed=True)
    assert types(parsed(init(), call("run_shell_command", {"command": "x"}), stopped))[-1] == "run_cancelled"
    assert types(parsed(init(), call("glob", {}), stopped, said("Well."), result()))[-1] == "run_completed"


def test_denied_calls_are_warnings() -> None:
    denial = {"tool_name": "edit", "tool_use_id": "c1", "tool_input": {}}
    events = parsed(init(), result(permission_denials=[denial]))
    assert of(events, "error") == [
        {"rank": "warning", "message": "edit was denied", "code": "permission_denied", "tool_use_id": "c1"}
    ]


# ---- other lines


def test_the_array_of_json_gives_the_same_events_as_its_lines() -> None:
    whole = [init(), said("a"), call("glob", {}), returned(), said("b", 2), result()]
    apart, together = parsed(*whole), parsed(encoded([whole]).decode().rstrip())  # type: ignore[list-item]
    assert [event["payload"] for event in together] == [event["payload"] for event in apart]


def test_small_lines_are_told() -> None:
    def small(subtype: str, **data: Any) -> Line:
        return line("system", subtype=subtype, data=data)

    request = {"subtype": "can_use_tool", "tool_name": "edit", "tool_use_id": "c1", "input": {"file_path": "a"}}
    events = parsed(
        init(),
        small("session_start", cwd="/w"),
        small("ui_log", plugin="mod", text="hello"),
        small("task_notification", task_id="t", status="failed", summary="tests"),
        small("continue_turn_failed", error="gone"),
        {"type": "control_request", "request_id": "r", "request": request},
        {"type": "control_response", "response": {"subtype": "success", "request_id": "r"}},
    )
    assert [(p["level"], p["message"]) for p in of(events, "agent_log_entry")] == [
        ("info", "hello"),
        ("warning", "task failed: tests"),
    ]
    assert [(p["rank"], p["message"]) for p in of(events, "error")] == [("warning", "gone")]
    assert of(events, "permission_request")[0]["name"] == "edit"
    assert of(events, "raw") == []


def test_words_of_the_user_are_told() -> None:
    told = of(parsed(init(), line("user", message={"role": "user", "content": "and now"})), "agent_output")
    assert [(p["text"], p["role"]) for p in told] == [("and now", "user")]


def test_an_image_of_the_user_is_named_and_travels_beside() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    lines = (init(), line("user", message={"role": "user", "content": [image]}))
    assert of(parsed(*lines), "agent_output")[0]["text"] == "[image/png, 8 bytes]"
    assert of(parsed(*lines), "content")[0]["base64"] == "iVBORw0KGgo="
    assert of(parsed(*lines, no_contents=True), "content") == []


def test_what_is_not_known_is_kept_and_nothing_raises() -> None:
    strange = [
        line("system", subtype="new"),
        line("novelty"),
        assistant({"type": "hologram"}),
        event("hologram"),
        event("content_block_delta", delta={"type": "hologram"}),
        line("user", message={"content": [{"type": "hologram"}]}),
        line("user", message={"content": [{"type": ["text"]}]}),
        line("assistant", message=None),
        line("result", usage=[], permission_denials={}, error=3, result=1),
        line("user", message=7),
        line("stream_event", event=None),
    ]
    events = parsed(init(), *strange, format="qwen")
    assert len(of(events, "raw")) == 8


def test_json_of_somebody_else_after_the_user_broke_the_run_off_changes_nothing() -> None:
    lines = [init(), call("run_shell_command", {}), returned("[Operation Cancelled] Reason: User cancelled")]
    assert types(parsed(*lines))[-1] == types(parsed(*lines, {"level": "info", "msg": "bye"}))[-1] == "run_cancelled"
