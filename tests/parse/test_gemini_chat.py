"""Gemini CLI's saved chats and their quirks, one test each."""

import json
from typing import Any

import pytest

from agentpipe.parse.adapter import Sureness
from agentpipe.parse.gemini.chat import GeminiChat
from tests.parse.lines import Line, encoded, of, parsed, parsed_bytes, stage, types

SESSION = "ch-10"
PNG = "iVBORw0KGgo="


def at(second: int) -> str:
    return f"2026-11-20T08:00:{second:02}.000Z"


def header(**more: Any) -> Line:
    return {"sessionId": SESSION, "projectHash": "d6", "startTime": at(0), "lastUpdated": at(0), "kind": "main", **more}


def user(content: Any, message: str = "u1", **more: Any) -> Line:
    return {"id": message, "timestamp": at(1), "type": "user", "content": content, **more}


def gemini(content: Any = "", message: str = "g1", **more: Any) -> Line:
    return {"id": message, "timestamp": at(2), "type": "gemini", "content": content, "model": "flash", **more}


def record(name: str, given: Line, call: str = "c1", status: str = "success", **more: Any) -> Line:
    return {"id": call, "name": name, "args": given, "status": status, "timestamp": at(5), **more}


def response(answer: Line, call: str = "c1", name: str = "glob") -> Line:
    return {"functionResponse": {"id": call, "name": name, "response": answer}}


def touched(second: int = 2) -> Line:
    return {"$set": {"lastUpdated": at(second)}}


# ---- who and what


def test_the_chat_is_a_second_teller_of_the_session() -> None:
    events = parsed(header(), user("hi"), gemini("hello"))
    assert {event["run_id"] for event in events} == {f"{SESSION}/transcript"}
    assert {event["agent_id"] for event in events} == {"gemini"}
    assert of(events, "run_started")[0]["session_id"] == SESSION
    assert of(events, "agent_state_update") == [{"state": "initialized", "changed": {"model": "flash"}}]
    assert types(events)[-1] == "run_completed"
    assert "incomplete" not in events[-1]["payload"]


@pytest.mark.parametrize("found", [header(), touched(), {"$rewindTo": "u1"}, gemini("x")])
def test_own_lines_are_sure(found: Line) -> None:
    assert GeminiChat.recognises(found) is Sureness.SURE


def test_messages_of_the_user_may_be_others() -> None:
    assert GeminiChat.recognises(user("x")) is Sureness.LIKELY


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"type": "user", "uuid": "u", "sessionId": "s", "timestamp": at(1), "message": {}},
        {"type": "user", "id": "u", "timestamp": 17, "content": "x"},
        {"type": {}, "content": 1},
        {"projectHash": 1},
        {"$set": 1},
    ],
)
def test_lines_of_others_are_not_its_own(found: Line) -> None:
    assert GeminiChat.recognises(found) is Sureness.NO


def test_a_chat_that_starts_in_the_middle_is_recognised() -> None:
    parse = stage()
    parsed_bytes(encoded([touched(), user("x"), gemini("y")]), parse)
    assert list(parse.report()["formats"].values()) == ["gemini-chat"]


# ---- messages that grow


def test_a_message_that_is_written_again_is_told_once() -> None:
    calls = [record("glob", {"pattern": "*"}, result=[response({"output": "a.txt"})])]
    events = parsed(header(), gemini("Look."), touched(), gemini("Look.", toolCalls=calls), touched(5))
    assert [(p["message_id"], p["text"], p["final"]) for p in of(events, "agent_output")] == [("g1", "Look.", True)]
    assert [p["title"] for p in of(events, "agent_tool_call")] == ["glob: *"]
    assert [(p["content"], p["duration_ms"]) for p in of(events, "agent_tool_result")] == [("a.txt", 3000)]


def test_a_result_that_is_also_given_to_the_model_is_told_once() -> None:
    calls = [record("glob", {}, result=[response({"output": "a.txt"})])]
    events = parsed(header(), gemini("", toolCalls=calls), user([response({"output": "a.txt"})], "u2"))
    assert len(of(events, "agent_tool_result")) == 1
    assert of(events, "agent_output") == []


def test_a_result_that_only_the_model_was_told_is_told() -> None:
    calls = [record("glob", {}, status="executing")]
    events = parsed(header(), gemini("", toolCalls=calls), user([response({"error": "no such folder"})], "u2"))
    [told] = of(events, "agent_tool_result")
    assert (told["ok"], told["content"], told["name"]) == (False, "no such folder", "glob")


def test_calls_of_one_message_come_before_all_their_results() -> None:
    calls = [record("glob", {}, call, result=[response({"output": call}, call)]) for call in "ab"]
    kinds = [kind for kind in types(parsed(header(), gemini("", toolCalls=calls))) if "tool" in kind]
    assert kinds == ["agent_tool_call"] * 2 + ["agent_tool_result"] * 2


def test_a_rewritten_history_tells_only_what_is_new() -> None:
    again = {"$set": {"messages": [user([{"text": "hi"}]), gemini([{"text": "[masked]"}]), gemini("new", "g2")]}}
    events = parsed(header(), user("hi"), gemini("hello"), again)
    assert [p["text"] for p in of(events, "agent_output")] == ["hi", "hello", "new"]


def test_calls_that_stand_only_in_the_parts_are_told() -> None:
    call = {"functionCall": {"id": "c1", "name": "read_file", "args": {"file_path": "/w/a"}}}
    [told] = of(parsed(header(), gemini([{"text": "x"}, call])), "agent_tool_call")
    assert (told["tool_use_id"], told["kind"]) == ("c1", "read")


def test_calls_without_an_id_are_all_told() -> None:
    calls = [record("glob", {"pattern": pattern}, "", result=[response({"output": pattern}, "")]) for pattern in "ab"]
    events = parsed(header(), gemini("", toolCalls=calls))
    assert [p["tool_use_id"] for p in of(events, "agent_tool_call")] == ["g1:0", "g1:1"]
    assert [(p["tool_use_id"], p["content"]) for p in of(events, "agent_tool_result")] == [("g1:0", "a"), ("g1:1", "b")]


def test_going_back_takes_back_what_was_said_after() -> None:
    events = parsed(
        header(), user("a", "u1"), gemini("b", "g1"), user("c", "u2"), gemini("d", "g2"), {"$rewindTo": "u2"}
    )
    assert [p["message_id"] for p in of(events, "agent_output") if p.get("retracted")] == ["u2", "g2"]
    assert of(events, "agent_log_entry")[0]["source"] == "rewind"


# ---- texts


def test_thoughts_are_thinking() -> None:
    thoughts = [{"subject": "Plan", "description": "read first"}, {"subject": "", "description": "then write"}]
    events = parsed(header(), gemini("Go.", thoughts=thoughts))
    [told] = of(events, "agent_thinking")
    assert (told["text"], told["index"]) == ("Plan: read first\nthen write", 0)
    assert of(events, "agent_output")[0]["index"] == 1


def test_the_context_before_the_first_words_is_not_the_user_s() -> None:
    told = of(parsed(header(), user([{"text": "<session_context>\nToday"}]), user("hi", "u2")), "agent_output")
    assert [p.get("origin") for p in told] == ["synthetic", None]
    assert {p["role"] for p in told} == {"user"}


def test_what_was_shown_of_the_user_s_words_is_told() -> None:
    long = user([{"text": "see @a.txt"}, {"text": "--- content of a.txt ---"}], displayContent="see @a.txt")
    assert [p["text"] for p in of(parsed(header(), long), "agent_output")] == ["see @a.txt"]


def test_an_image_is_named_and_travels_beside() -> None:
    picture = {"inlineData": {"mimeType": "image/png", "data": PNG}}
    events = parsed(header(), user([{"text": "look"}, picture]))
    [told] = of(events, "agent_output")
    assert told["text"] == "look\n[image/png, 8 bytes]"
    assert of(events, "content")[0]["base64"] == PNG
    assert of(parsed(header(), user([{"text": "look"}, picture]), no_contents=True), "content") == []


def test_notices_of_the_program_keep_their_ranks() -> None:
    notices = [
        {"id": kind, "timestamp": at(3), "type": kind, "content": f"an {kind}"} for kind in ("info", "warning", "error")
    ]
    events = parsed(header(), *notices, *notices)
    assert [(p["level"], p["message"]) for p in of(events, "agent_log_entry")] == [("info", "an info")]
    assert [(p["rank"], p["message"]) for p in of(events, "error")] == [
        ("warning", "an warning"),
        ("agent", "an error"),
    ]


def test_a_chat_whose_last_word_is_an_error_has_failed() -> None:
    problem = {"id": "e1", "timestamp": at(3), "type": "error", "content": "[API Error: overloaded]"}
    [end] = of(parsed(header(), user("hi"), problem), "run_failed")
    assert end["error"] == "[API Error: overloaded]"
    whole = {"$set": {"messages": [user("hi"), problem]}}  # the same told once more
    assert types(parsed(header(), user("hi"), problem, whole))[-1] == "run_failed"
    assert types(parsed(header(), user("hi"), problem, user("again", "u2"), gemini("hello")))[-1] == "run_completed"


# ---- results


def test_the_exit_status_of_a_command_is_in_what_the_model_was_told() -> None:
    answer = (
        "<untrusted_context>\nOutput: Exit Code: 9\noh no\nExit Code: 1\nProcess Group PGID: 7\n</untrusted_context>"
    )
    shell = record("run_shell_command", {"command": "x"}, result=[response({"output": answer})], resultDisplay="oh no")
    [told] = of(parsed(header(), gemini("", toolCalls=[shell])), "agent_tool_result")
    assert (told["ok"], told["exit_code"], told["content"]) == (False, 1, "oh no")


def test_a_cancelled_call_is_no_success() -> None:
    given = {"file_path": "/w/a", "content": "x"}
    call = record("write_file", given, status="cancelled", result=[response({"error": "[Operation Cancelled] Reason"})])
    events = parsed(header(), gemini("", toolCalls=[call]))
    [told] = of(events, "agent_tool_result")
    assert (told["ok"], told["detail"]) == (False, {"cancelled": True})
    assert of(events, "file_changed") == []


def test_the_diff_that_is_shown_tells_the_change() -> None:
    shown = {"fileDiff": "Index: a\n--- a\tOld\n+++ a\tNew\n@@ -1,1 +1,2 @@\n-x\n+y\n+z\n", "isNewFile": False}
    given = {"file_path": "/w/a", "old_string": "x", "new_string": "y"}
    [told] = of(parsed(header(), gemini("", toolCalls=[record("replace", given, resultDisplay=shown)])), "file_changed")
    assert (told["change"], told["added"], told["removed"]) == ("modified", 2, 1)
    assert told["patch"] == "@@ -1,1 +1,2 @@\n-x\n+y\n+z\n"


def test_a_new_file_is_called_new() -> None:
    shown = {"fileDiff": "@@ -0,0 +1,1 @@\n+x\n", "isNewFile": True}
    given = {"file_path": "/w/a", "content": "x\n"}
    [told] = of(
        parsed(header(), gemini("", toolCalls=[record("write_file", given, resultDisplay=shown)])), "file_changed"
    )
    assert (told["change"], told["added"], told["removed"]) == ("created", 1, 0)


def test_tokens_of_each_message_are_told_once_and_added_up() -> None:
    used = {"input": 1300, "output": 40, "cached": 300, "thoughts": 5, "tool": 0, "total": 1345}
    events = parsed(header(), gemini("a", tokens=used), gemini("a", tokens=used), gemini("b", "g2", tokens=used))
    assert (
        of(events, "usage_update")
        == [
            {
                "model": "flash",
                "input_tokens": 1000,
                "output_tokens": 45,
                "cache_read_tokens": 300,
                "cumulative": False,
                "context_used": 1300,
            }
        ]
        * 2
    )
    assert of(events, "run_completed")[0]["usage"]["output_tokens"] == 90


# ---- the older document, and what nobody knows


@pytest.mark.parametrize("indent", [None, 2])
def test_the_document_of_older_versions_gives_the_same_events(indent: int | None) -> None:
    calls = [record("glob", {"pattern": "*"}, result=[response({"output": "a.txt"})])]
    messages = [user("hi"), gemini("Look.", toolCalls=calls)]
    apart = parsed(header(), *messages)
    whole = json.dumps(header(messages=messages), indent=indent)
    together = [event for event in parsed(*whole.split("\n")) if event["type"] != "agent_state_update"]
    assert {event["run_id"] for event in together} == {f"{SESSION}/transcript"}
    said = [event["payload"] for event in apart if event["type"] not in ("agent_state_update", "run_started")]
    assert [event["payload"] for event in together[1:]] == said
    assert together[0]["payload"]["model"] == "flash"


def test_what_is_not_known_is_kept_and_nothing_raises() -> None:
    strange = [
        {"id": "x", "timestamp": at(1), "type": "hologram", "content": ""},
        {"$set": {"messages": [1, {"type": "gemini"}]}},
        gemini(None, "g9", toolCalls=[{}, 1], tokens=[], thoughts={}),
        gemini([{"functionCall": 1}], "g10"),
        user([{"functionResponse": None}, {"inlineData": {"data": 1}}], "u9"),
        {"$rewindTo": "nowhere"},
    ]
    events = parsed(header(), *strange, format="gemini-chat")
    assert len(of(events, "raw")) == 3
    assert types(events)[-1] == "run_completed"
