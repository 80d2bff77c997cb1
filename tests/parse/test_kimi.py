"""Kimi CLI's quirks, one test each, by the lines that show them."""

import json
from typing import Any

import pytest

from agentpipe.parse.adapter import Sureness
from agentpipe.parse.agents.kimi import Kimi
from tests.parse.counts.kimi import counted
from tests.parse.lines import Line, of, parsed, types, wrapped
from tests.parse.sessions import check


def says(content: Any = "", *calls: Line) -> Line:
    return {"role": "assistant", "content": content, **({"tool_calls": list(calls)} if calls else {})}


def call(name: str, given: Any, call_id: str = "c1") -> Line:
    arguments = given if isinstance(given, str) else json.dumps(given)
    return {"type": "function", "id": call_id, "function": {"name": name, "arguments": arguments}}


def back(content: Any = "ok", call_id: str = "c1") -> Line:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def ran(name: str, given: Any, content: Any = "ok") -> list[Line]:
    return parsed(says("", call(name, given)), back(content), says("done"))


def test_a_role_without_a_type_is_likely_its_own() -> None:
    assert [Kimi.recognises(line) for line in (says("x"), {"role": "user", "content": "x"})] == [Sureness.LIKELY] * 2
    assert [Kimi.recognises(line) for line in (says("", call("Shell", {})), back())] == [Sureness.SURE] * 2
    others = [
        {"type": "message", "role": "user", "content": "x"},
        {"role": "user", "created": 1, "content": []},
        {"role": "x"},
    ]
    assert [Kimi.recognises(line) for line in others] == [Sureness.NO] * 3
    events = parsed(says("hi"))
    assert (events[0]["agent_id"], events[0]["run_id"]) == ("kimi", "fresh-1")


def test_content_is_a_text_or_parts() -> None:
    parts = [{"type": "think", "think": "hm"}, {"type": "text", "text": "hello"}]
    events = parsed(says("hi"), says(parts))
    assert [(p["message_id"], p["index"], p["text"]) for p in of(events, "agent_output")] == [
        ("message-1", 0, "hi"), ("message-2", 1, "hello"),
    ]  # fmt: skip
    assert [p["text"] for p in of(events, "agent_thinking")] == ["hm"]


def test_arguments_are_json_in_a_text() -> None:
    (made,) = of(ran("Shell", {"command": "ls"}), "agent_tool_call")
    assert (made["input"], made["kind"], made["title"]) == ({"command": "ls"}, "execute", "Shell: ls")


@pytest.mark.parametrize("broken", ['{"command": "l', "[1]", '"x"', "7"])
def test_arguments_that_are_broken_are_told_as_they_are(broken: str) -> None:
    assert of(ran("Shell", broken), "agent_tool_call")[0]["input"] == {"arguments": broken}


def test_no_arguments_are_no_input() -> None:
    assert of(ran("Think", ""), "agent_tool_call")[0]["input"] == {}


def test_a_tool_s_answer_pairs_by_its_id_in_any_order() -> None:
    events = parsed(
        says("", call("ReadFile", {"path": "a"}, "c1"), call("Glob", {"pattern": "*"}, "c2")),
        back("b", "c2"), back([{"type": "text", "text": "a"}], "c1"),
    )  # fmt: skip
    assert [(p["tool_use_id"], p["name"], p["content"]) for p in of(events, "agent_tool_result")] == [
        ("c2", "Glob", "b"), ("c1", "ReadFile", "a"),
    ]  # fmt: skip


def test_an_error_is_known_by_what_the_program_tells_the_model() -> None:
    parts = [
        {"type": "text", "text": "<system>ERROR: Command failed with exit code: 2.</system>"},
        {"type": "text", "text": "bad"},
    ]
    events = ran("Shell", {"command": "x"}, parts)
    (told,) = of(events, "agent_tool_result")
    assert (told["ok"], told["exit_code"]) == (False, 2)
    assert [(p["rank"], p["message"]) for p in of(events, "error")] == [("tool", "Command failed with exit code: 2.")]
    good = of(
        ran("Shell", {"command": "x"}, "<system>Command executed successfully.</system>\nout"), "agent_tool_result"
    )[0]
    assert (good["ok"], good["exit_code"]) == (True, 0)
    assert "exit_code" not in of(ran("ReadFile", {"path": "x"}, "<system>ERROR: no</system>"), "agent_tool_result")[0]


def test_a_written_file_that_the_run_has_met_is_modified_and_not_counted() -> None:
    write = call("WriteFile", {"path": "/w/f", "content": "a\n"}, "c2")
    lines = [says("", call("ReadFile", {"path": "/w/f"})), back("x"), says("", write), back("ok", "c2")]
    (told,) = of(parsed(*lines), "file_changed")
    assert (told["change"], told.get("added")) == ("modified", None)


def test_edits_are_changed_files() -> None:
    edit = {"path": "/w/f", "edit": {"old": "a", "new": "b\nc"}}
    (told,) = of(ran("StrReplaceFile", edit), "file_changed")
    assert (told["path"], told["change"], told["added"], told["removed"]) == ("/w/f", "modified", 2, 1)
    both = {"path": "/w/f", "edit": [{"old": "a", "new": "b"}, {"old": "", "new": "c"}]}
    (told,) = of(ran("StrReplaceFile", both), "file_changed")
    assert (told["added"], told["removed"]) == (2, 1)
    every = {"path": "/w/f", "edit": {"old": "a", "new": "b", "replace_all": True}}
    assert "added" not in of(ran("StrReplaceFile", every), "file_changed")[0]
    appended = {"path": "/w/f", "content": "a\nb\n", "mode": "append"}
    assert of(ran("WriteFile", appended), "file_changed")[0]["added"] == 2
    (told,) = of(ran("WriteFile", {"path": "/w/f", "content": "a\n"}), "file_changed")
    assert (told["change"], told["added"], told["removed"]) == ("created", 1, 0)
    assert of(ran("WriteFile", appended, "<system>ERROR: no</system>"), "file_changed") == []


def test_a_to_do_list_is_progress() -> None:
    todos = [{"title": "read", "status": "Done"}, {"title": "write", "status": "In Progress"}]
    (told,) = of(ran("SetTodoList", {"todos": todos}), "progress_update")
    assert (told["done"], told["total"], told["current"]) == (1, 2, "write")


def test_an_image_in_a_url_is_named_and_handed_on() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}}
    events = ran("ReadMediaFile", {"path": "x"}, [image])
    assert of(events, "agent_tool_result")[0]["content"] == "[image/png, 5 bytes]"
    assert of(events, "content")[0]["base64"] == "aGVsbG8="


def test_there_is_no_end_so_the_account_is_whole_when_no_call_waits() -> None:
    ended = of(ran("Shell", {"command": "ls"}), "run_completed")[0]
    assert ended["result"] == "done"
    assert "incomplete" not in ended
    cut = of(parsed(says("", call("Shell", {"command": "ls"}))), "run_completed")[0]
    assert cut["incomplete"] == "calls without a result: 1"


def test_a_status_of_75_has_failed() -> None:
    events = parsed(*wrapped([says("hm")], exit_code=75))
    assert (types(events)[-1], of(events, "run_failed")[0]["exit_code"]) == ("run_failed", 75)


def test_plans_notifications_and_side_questions_come_in_between() -> None:
    note = {
        "id": "n", "category": "task", "type": "task.failed", "source_kind": "background_task", "source_id": "b",
        "title": "Task failed", "body": "exit 1", "severity": "error", "created_at": 1.0, "payload": {},
    }  # fmt: skip
    aside = [{"id": "q", "question": "why?"}, {"id": "q", "response": "because"}, {"id": "p", "error": "no"}]
    events = parsed(says("a"), {"content": "# Plan", "file_path": "/p.md"}, note, {**note, "severity": "info"}, *aside)
    assert [p["message"] for p in of(events, "agent_log_entry")] == ["# Plan", "Task failed: exit 1"]
    assert [p["rank"] for p in of(events, "error")] == ["warning", "warning"]
    assert [p["text"] for p in of(events, "agent_output")] == ["a", "why?", "because"]


def test_later_versions_name_their_session_at_the_end() -> None:
    version = {"role": "meta", "type": "system.version", "version": "1.2"}
    hint = {"role": "meta", "type": "session.resume_hint", "session_id": "s1", "content": "To resume: kimi -r s1"}
    events = parsed(version, says("hi"), hint)
    assert events[0]["payload"]["agent_version"] == "1.2"
    assert of(events, "agent_state_update")[0]["changed"] == {"session_id": "s1"}


def test_unknown_lines_are_kept() -> None:
    strange = [{"role": "oracle", "content": "x"}, {"role": "meta", "type": "new.thing", "a": 1}]
    assert [p["data"] for p in of(parsed(says("a"), *strange), "raw")] == strange


def test_no_shape_raises() -> None:
    odd = [None, [], {}, 7, "x", [1], [{"type": "image_url"}], [{"function": 3}], {"function": {"arguments": 3}}]
    for value in odd:
        for role in ("assistant", "tool", "user", "system", "meta"):
            line = {"role": role, "content": value, "tool_calls": value, "tool_call_id": value}
            assert parsed(says("a"), line, {**line, "type": value})
        assert parsed(
            says("a"), {"id": value, "response": value}, {"severity": value}, {"content": value, "file_path": value}
        )


def test_a_whole_session() -> None:
    edit = {"path": "/w/f", "edit": {"old": "a", "new": "b"}}
    thought = [{"type": "think", "think": "hm"}, {"type": "text", "text": "looking"}]
    told = check(
        [
            says(thought, call("Shell", {"command": "ls"})),
            back("<system>Command executed successfully.</system>\nf"),
            says("", call("StrReplaceFile", edit, "c2"), call("ReadFile", "{", "c3")),
            back("ok", "c2"), back("<system>ERROR: no path</system>", "c3"), says("done"),
        ],
        "kimi", counted,
    )  # fmt: skip
    assert types(told).count("file_changed") == 1
