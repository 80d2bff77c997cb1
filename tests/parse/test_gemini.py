"""Gemini CLI's quirks, one test each, by the lines that show them."""

from typing import Any

import pytest

from agentpipe.event import decode
from agentpipe.parse.adapter import Sureness
from agentpipe.parse.gemini.stream import Gemini
from tests.parse.lines import Line, encoded, of, parsed, parsed_bytes, stage, types, wrapped

SESSION = "ge-10"


def line(kind: str, second: int = 0, **more: Any) -> Line:
    return {"type": kind, "timestamp": f"2026-11-20T08:00:{second:02}.000Z", **more}


def init(**more: Any) -> Line:
    return line("init", session_id=SESSION, model="auto", **more)


def said(text: str, second: int = 1) -> Line:
    return line("message", second, role="assistant", content=text, delta=True)


def user(text: str) -> Line:
    return line("message", role="user", content=text)


def call(name: str, given: Line, call_id: str = "c1", second: int = 1) -> Line:
    return line("tool_use", second, tool_name=name, tool_id=call_id, parameters=given)


def returned(output: Any = None, call_id: str = "c1", second: int = 2, status: str = "success", **more: Any) -> Line:
    given = {} if output is None else {"output": output}
    return line("tool_result", second, tool_id=call_id, status=status, **given, **more)


def stats(**more: Any) -> Line:
    counts = {"total_tokens": 1145, "input_tokens": 1000, "output_tokens": 40, "cached": 200, "input": 800}
    return {**counts, "duration_ms": 900, "tool_calls": 0, "models": {"flash": {"total_tokens": 1145}}, **more}


def result(status: str = "success", **more: Any) -> Line:
    return line("result", 9, status=status, stats=stats(), **more)


def texts(events: list[Line]) -> list[tuple[str, str, bool]]:
    return [(p["message_id"], p["text"], p["final"]) for p in of(events, "agent_output")]


# ---- who and what


def test_the_run_is_the_session_and_the_model_is_told() -> None:
    events = parsed(init(), user("hi"), result())
    assert {event["run_id"] for event in events} == {SESSION}
    assert of(events, "run_started")[0] == {
        "schema": "agentpipe/1",
        "agent": "gemini",
        "session_id": SESSION,
        "model": "auto",
    }
    assert types(events)[-1] == "run_completed"


def test_plain_warnings_before_the_first_line_are_kept_in_their_place() -> None:
    events = parsed("Warning: 256-color support not detected.", init(), said("hi"), result())
    assert types(events)[:3] == ["run_started", "raw", "agent_output"]
    assert of(events, "raw")[0]["text"].startswith("Warning")


@pytest.mark.parametrize(
    "found", [init(), said("x"), call("glob", {}), returned("x"), result(), {"response": "x", "stats": {"models": {}}}]
)
def test_own_lines_are_sure(found: Line) -> None:
    assert Gemini.recognises(found) is Sureness.SURE


@pytest.mark.parametrize(
    "found",
    [
        user("x"),
        line("error", severity="warning", message="x"),
        line("result", status="error", error={"type": "unknown", "message": "x"}),
        {"session_id": SESSION, "error": {"type": "Error", "message": "x", "code": 1}},
    ],
)
def test_words_that_others_use_too_are_likely(found: Line) -> None:
    assert Gemini.recognises(found) is Sureness.LIKELY


@pytest.mark.parametrize(
    "found",
    [
        {"type": "result", "subtype": "success", "is_error": False, "session_id": "s"},
        {"type": "tool_use", "timestamp": 1763625600000, "sessionID": "s", "part": {}},
        {"type": "error", "message": "Reconnecting"},
        {"type": "result", "timestamp": "2026-11-20T08:00:00.000Z", "sessionId": "s", "exitCode": 0},
        {"type": ["init"], "timestamp": {}},
        {"error": {"message": "x"}},
        {},
    ],
)
def test_lines_of_others_are_not_its_own(found: Line) -> None:
    assert Gemini.recognises(found) is Sureness.NO


# ---- texts


def test_text_is_only_parts_and_ends_with_the_next_call_and_the_result() -> None:
    events = parsed(
        init(), user("go"), said("I "), said("look. "), call("glob", {}), returned("x"), said("Done."), result()
    )
    assert texts(events) == [
        ("message-1", "go", True),
        ("message-2", "I ", False),
        ("message-2", "look. ", False),
        ("message-2", "I look. ", True),
        ("message-3", "Done.", False),
        ("message-3", "Done.", True),
    ]
    kinds = types(events)
    assert kinds.index("agent_tool_call") == 1 + [i for i, kind in enumerate(kinds) if kind == "agent_output"][3]


def test_text_ends_with_the_user_s_next_words() -> None:
    assert texts(parsed(init(), said("a"), user("b"), said("c")))[1:3] == [
        ("message-1", "a", True),
        ("message-2", "b", True),
    ]


def test_a_message_that_is_no_part_is_final_at_once() -> None:
    whole = line("message", role="assistant", content="whole")
    assert texts(parsed(init(), whole)) == [("message-1", "whole", True)]


def test_a_line_separator_in_a_line_is_text() -> None:
    raw = encoded([said("a?b")]).replace(b"?", b"\xe2\x80\xa8")
    events = [decode(event.line) for event in parsed_bytes(encoded([init()]) + raw)]
    assert texts(events)[0] == ("message-1", "a\u2028b", False)


# ---- calls


def test_results_of_a_batch_come_after_all_its_calls() -> None:
    events = parsed(
        init(),
        call("run_shell_command", {"command": "sleep 1"}, "a"),
        call("glob", {"pattern": "*"}, "b"),
        returned("first", "a", 3),
        returned("second", "b", 3),
    )
    assert [(p["tool_use_id"], p["content"], p["duration_ms"]) for p in of(events, "agent_tool_result")] == [
        ("a", "first", 2000),
        ("b", "second", 2000),
    ]


def test_a_result_without_its_call_is_told() -> None:
    [told] = of(parsed(init(), returned("x", "lost")), "agent_tool_result")
    assert (told["tool_use_id"], told["name"], told["content"]) == ("lost", "unknown", "x")


def test_a_failed_call_says_why_and_what_kind_of_failure() -> None:
    problem = {"type": "file_not_found", "message": "File not found: /w/x"}
    events = parsed(
        init(), call("read_file", {"file_path": "/w/x"}), returned("Not found.", status="error", error=problem)
    )
    [told] = of(events, "agent_tool_result")
    assert (told["ok"], told["content"], told["detail"]) == (False, "Not found.", {"error_type": "file_not_found"})
    assert of(events, "error")[0]["message"] == "File not found: /w/x"
    assert of(events, "error")[0]["rank"] == "tool"


def test_a_command_that_failed_is_called_a_success_and_its_status_is_in_the_text() -> None:
    events = parsed(init(), call("run_shell_command", {"command": "false"}), returned("Command exited with code: 3"))
    [told] = of(events, "agent_tool_result")
    assert (told["ok"], told["exit_code"], told["kind"]) == (False, 3, "execute")


def test_a_command_that_prints_says_nothing_of_its_status() -> None:
    events = parsed(init(), call("run_shell_command", {"command": "x"}), returned("no such code: 7"))
    [told] = of(events, "agent_tool_result")
    assert told["ok"] is True
    assert "exit_code" not in told


def test_a_cancelled_call_is_called_a_success_and_changed_nothing() -> None:
    given = {"file_path": "/w/a", "content": "x"}
    events = parsed(init(), call("write_file", given), returned("[Operation Cancelled] Reason: User did not allow"))
    assert of(events, "agent_tool_result")[0]["ok"] is False
    assert of(events, "file_changed") == []


def test_tools_of_servers_and_unknown_ones_are_told() -> None:
    events = parsed(init(), call("mcp_demo_echo", {"text": "x"}), call("update_topic", {"topic": "y"}, "c2"))
    assert [(p["kind"], p["title"]) for p in of(events, "agent_tool_call")] == [
        ("other", "mcp_demo_echo: x"),
        ("think", "update_topic: y"),
    ]


# ---- what calls change


def changes(name: str, given: Line, *before: Line, status: str = "success") -> list[Line]:
    return of(parsed(init(), *before, call(name, given), returned(status=status)), "file_changed")


def test_an_edit_has_no_output_so_the_change_is_taken_from_its_parameters() -> None:
    [told] = changes("replace", {"file_path": "/w/a", "old_string": "one\ntwo", "new_string": "one\nTWO\nthree"})
    assert (told["path"], told["change"], told["added"], told["removed"]) == ("/w/a", "modified", 2, 1)


def test_a_file_that_the_run_has_not_met_is_new_when_it_is_written_whole() -> None:
    [told] = changes("write_file", {"file_path": "/w/a", "content": "1\n2\n"})
    assert (told["change"], told["added"], told["removed"]) == ("created", 2, 0)


def test_a_file_that_was_read_is_overwritten_and_nobody_knows_by_how_much() -> None:
    read = (call("read_file", {"file_path": "/w/a"}, "r"), returned("old", "r"))
    [told] = changes("write_file", {"file_path": "/w/a", "content": "1\n"}, *read)
    assert told["change"] == "modified"
    assert "added" not in told


def test_an_edit_of_nothing_makes_a_file() -> None:
    [told] = changes("replace", {"file_path": "/w/a", "old_string": "", "new_string": "x\n"})
    assert (told["change"], told["added"], told["removed"]) == ("created", 1, 0)


@pytest.mark.parametrize("several", [{"expected_replacements": 2}, {"allow_multiple": True}])
def test_lines_of_an_edit_in_several_places_are_not_counted(several: Line) -> None:
    [told] = changes("replace", {"file_path": "/w/a", "old_string": "a", "new_string": "b", **several})
    assert "added" not in told


def test_a_failed_edit_changes_nothing() -> None:
    assert changes("replace", {"file_path": "/w/a", "old_string": "a", "new_string": "b"}, status="error") == []


def test_todos_are_the_plan_once_they_were_taken() -> None:
    todos = [{"description": "Read", "status": "completed"}, {"description": "Report", "status": "in_progress"}]
    events = parsed(
        init(), call("write_todos", {"todos": todos}), returned("ok"), call("write_todos", {"todos": []}, "x")
    )
    [told] = of(events, "progress_update")
    assert (told["percent"], told["current"], told["total"]) == (50.0, "Report", 2)
    assert of(events, "agent_tool_call")[0]["title"] == "write_todos: 2 items"


def test_a_refused_plan_is_no_plan() -> None:
    todos = [{"description": "Read", "status": "completed"}]
    assert of(parsed(init(), call("write_todos", {"todos": todos}), returned(status="error")), "progress_update") == []


# ---- ends


def test_input_tokens_are_without_the_cached_ones() -> None:
    events = parsed(init(), result())
    used = {"input_tokens": 800, "output_tokens": 40, "cache_read_tokens": 200}
    assert of(events, "usage_update") == [{"model": "flash", **used, "cumulative": True}]
    assert of(events, "run_iteration") == [{"turn": 1, "ok": True, "usage": used, "duration_ms": 900}]
    assert of(events, "run_completed")[0]["usage"] == used


def test_of_several_models_none_is_named() -> None:
    models = {"flash": {"total_tokens": 5}, "pro": {"total_tokens": 6}, "idle": {"total_tokens": 0}}
    events = parsed(init(), line("result", status="success", stats=stats(models=models)))
    assert "model" not in of(events, "usage_update")[0]


def test_a_failure_for_good_is_the_agent_s_and_the_turn_s() -> None:
    problem = {"type": "unknown", "message": "[API Error: 401]"}
    events = parsed(init(), user("x"), result("error", error=problem))
    assert [(p["rank"], p["message"], "code" in p) for p in of(events, "error")] == [
        ("agent", "[API Error: 401]", False),
        ("turn", "[API Error: 401]", False),
    ]
    assert of(events, "run_failed")[0]["error"] == "[API Error: 401]"


def test_too_many_turns_are_an_error_line_and_a_success() -> None:
    events = parsed(init(), line("error", severity="error", message="Maximum session turns exceeded"), result())
    assert [(p["rank"], p["message"]) for p in of(events, "error")] == [("turn", "Maximum session turns exceeded")]
    assert of(events, "run_iteration")[0]["ok"] is False
    assert types(events)[-1] == "run_failed"


def test_an_invalid_answer_is_an_error_line_and_a_result_that_does_not_say_why() -> None:
    events = parsed(init(), line("error", severity="error", message="Invalid stream"), result("error"))
    assert [p["message"] for p in of(events, "error")] == ["Invalid stream"]
    assert of(events, "run_failed")[0]["error"] == "Invalid stream"


def test_a_loop_is_a_warning_and_the_run_is_completed() -> None:
    events = parsed(init(), line("error", severity="warning", message="Loop detected, stopping execution"), result())
    assert [p["rank"] for p in of(events, "error")] == ["warning"]
    assert types(events)[-1] == "run_completed"


def test_a_cancelled_run_says_so_in_its_result() -> None:
    problem = {"type": "FatalCancellationError", "message": "Operation cancelled."}
    assert types(parsed(init(), result("error", error=problem)))[-1] == "run_cancelled"


def test_a_run_that_was_interrupted_has_no_result_and_is_not_complete() -> None:
    lines = (init(), user("x"), said("half a"), call("run_shell_command", {"command": "sleep 9"}))
    end = parsed(*lines)[-1]
    assert (end["type"], end["payload"]["incomplete"]) == ("run_completed", "no result from the agent")
    end = parsed(*wrapped(lines, exit_code=130))[-1]
    assert end["type"] == "run_cancelled"


def test_text_that_was_cut_is_told_whole_as_aborted() -> None:
    told = of(parsed(init(), said("half "), said("a")), "agent_output")[-1]
    assert (told["text"], told["final"], told["aborted"]) == ("half a", True, True)


# ---- the report of --output-format json

REPORT = """{
  "session_id": "ge-10",
  "response": "All done.",
  "stats": {
    "models": {
      "flash": {
        "tokens": {"prompt": 1000, "candidates": 40, "cached": 200, "thoughts": 5, "total": 1045}
      }
    },
    "tools": {"totalCalls": 2}
  },
  "warnings": [
    "Loop detected, stopping execution"
  ]
}"""


def test_one_object_over_many_lines_is_the_whole_run() -> None:
    events = parsed("Warning: dumb terminal", *REPORT.split("\n"))
    assert {event["run_id"] for event in events} == {SESSION}
    assert texts(events) == [("message-1", "All done.", True)]
    assert of(events, "error") == [{"rank": "warning", "message": "Loop detected, stopping execution"}]
    used = {"input_tokens": 800, "output_tokens": 45, "cache_read_tokens": 200}
    assert of(events, "usage_update") == [{"model": "flash", **used, "cumulative": True}]
    assert of(events, "run_completed")[0]["result"] == "All done."


def test_a_report_of_a_failure_alone() -> None:
    problem = {"type": "FatalInputError", "message": "no prompt", "code": 42}
    events = parsed({"session_id": SESSION, "error": problem})
    assert of(events, "error") == [{"rank": "turn", "message": "no prompt", "code": "42"}]
    assert types(events)[-1] == "run_failed"


# ---- what nobody knows


def test_what_is_not_known_is_kept_and_nothing_raises() -> None:
    strange = [
        line("thought", subject="x"),
        line("tool_result"),
        line("tool_use", parameters=[1]),
        line("message", role="assistant", content={"text": 1}),
        line("result", status="error", error="x", stats=[1]),
        line("error"),
        {"type": "init", "timestamp": "yesterday"},
    ]
    events = parsed(init(), *strange, format="gemini")
    assert of(events, "raw")[0]["data"] == strange[0]
    assert types(events)[-1] == "run_failed"


def test_a_log_that_starts_in_the_middle_is_recognised() -> None:
    lines = [init(), user("x"), said("a"), call("glob", {}), returned("x"), said("b"), result()]
    for start in range(1, len(lines)):
        parse = stage()
        parsed_bytes(encoded(lines[start:]), parse)
        assert set(parse.report()["formats"].values()) == {"gemini"}


def test_the_result_of_a_turn_is_the_last_text_because_the_end_does_not_say_it() -> None:
    said = [line("message", role="assistant", content=part, delta=True) for part in ("Al", "l done.")]
    events = parsed(init(), *said, result(), line("message", role="user", content="more"), result())
    assert [turn.get("result") for turn in of(events, "run_iteration")] == ["All done.", None]


def test_a_call_that_names_nothing_is_somebody_else_s() -> None:
    lines = [{"type": "tool_use"}, {"type": "tool_result", "message": "x"}]
    events = parsed(init(), *lines)
    assert [p["data"] for p in of(events, "raw")] == lines
    assert "agent_tool_call" not in types(events)
