"""Cursor's quirks, one test each, by the lines that show them."""

from pathlib import Path
from typing import Any

import pytest

from agentpipe.event import decode
from agentpipe.parse.adapter import Sureness
from agentpipe.parse.agents.cursor import Cursor
from tests.parse.counts.cursor import counted
from tests.parse.lines import Line, assistant, call, of, parsed, parsed_bytes, stage, types, wrapped
from tests.parse.lines import init as claude_init
from tests.parse.lines import result as claude_result
from tests.parse.lines import text as claude_text
from tests.parse.sessions import check

S = "c0ffee-1"
T0 = 1_787_030_681_000


def init(**more: Any) -> Line:
    return {
        "type": "system", "subtype": "init", "apiKeySource": "login", "cwd": "/w", "session_id": S, "model": "Auto",
        "permissionMode": "default", **more,
    }  # fmt: skip


def user(said: str = "do it") -> Line:
    return {"type": "user", "message": _message("user", said), "session_id": S}


def _message(role: str, said: str) -> Line:
    return {"role": role, "content": [{"type": "text", "text": said}]}


def says(said: str, **more: Any) -> Line:
    return {"type": "assistant", "message": _message("assistant", said), "session_id": S, **more}


def part(said: str) -> Line:
    return says(said, timestamp_ms=T0)


def recap(said: str) -> Line:
    return says(said, timestamp_ms=T0, model_call_id="mc-1")


def thinks(said: str) -> Line:
    return {"type": "thinking", "subtype": "delta", "text": said, "session_id": S, "timestamp_ms": T0}


THOUGHT: Line = {"type": "thinking", "subtype": "completed", "session_id": S, "timestamp_ms": T0}


def started(key: str, given: Line, call_id: str = "c1", **more: Any) -> Line:
    body = {key: {"args": given}, "toolCallId": call_id, "startedAtMs": "1787030681000", "hookAdditionalContexts": []}
    return {"type": "tool_call", "subtype": "started", "call_id": call_id, "tool_call": body, "session_id": S, **more}


def completed(key: str, wrapper: Any, call_id: str = "c1", **more: Any) -> Line:
    body = {"hookAdditionalContexts": [], key: {"args": {}, "result": wrapper}, "toolCallId": call_id}
    return {"type": "tool_call", "subtype": "completed", "call_id": call_id, "tool_call": body, "session_id": S, **more}


def ran(key: str, given: Line, wrapper: Any, **options: Any) -> list[Line]:
    return parsed(init(), started(key, given), completed(key, wrapper), **options)


def ended(said: str = "done", **more: Any) -> Line:
    return {
        "type": "result", "subtype": "success", "is_error": False, "duration_ms": 1200, "duration_api_ms": 1200,
        "result": said, "session_id": S, "request_id": "r-1", **more,
    }  # fmt: skip


def texts(events: list[Line], kind: str = "agent_output") -> list[tuple[str, bool]]:
    return [(p["text"], p["final"]) for p in of(events, kind) if p.get("role") != "user"]


# ---- who it is


def test_it_is_known_by_its_first_line() -> None:
    events = parsed(init(), user(), says("hi"), ended())
    assert (events[0]["agent_id"], events[0]["run_id"]) == ("cursor", S)
    facts = events[0]["payload"]
    assert (facts["model"], facts["cwd"]) == ("Auto", "/w")


@pytest.mark.parametrize("source", ["login", "env", "flag"])
def test_an_init_without_tools_is_its_own(source: str) -> None:
    assert Cursor.recognises(init(apiKeySource=source)) is Sureness.SURE
    assert Cursor.recognises(init(tools=["Bash"])) is Sureness.NO
    assert Cursor.recognises(claude_init(apiKeySource="none")) is Sureness.NO


def test_a_log_that_begins_in_the_middle_is_known_all_the_same() -> None:
    shell = started("shellToolCall", {"command": "ls"})
    for lines in ([shell, says("x")], [says("x"), shell], [user(), says("x"), ended()], [thinks("hm")], [part("x")]):
        events = parsed(*lines)
        assert {event["agent_id"] for event in events} == {"cursor"}, lines
        assert "raw" not in types(events)


def test_it_begins_a_run_in_the_middle_of_another_agent_s_output() -> None:
    lines = [claude_init(), claude_text("a"), claude_result(), init(), user(), says("b"), ended()]
    starts = [(e["agent_id"], e["run_id"]) for e in parsed(*lines) if e["type"] == "run_started"]
    assert starts == [("claude", "5e55-10"), ("cursor", S)]


def test_a_line_of_claude_is_never_its_own() -> None:
    for line in (claude_init(), claude_text("x"), call("Bash", {}), claude_result(), assistant(None, uuid="u")):
        assert Cursor.recognises(line) is Sureness.NO, line


SHARED = Path(__file__).parents[3] / "shared"
CLAUDE_LOGS = sorted([*SHARED.glob("recordings/claude*/**/*.jsonl"), *SHARED.glob("fixtures/claude-*/**/*.jsonl")])


@pytest.mark.skipif(not CLAUDE_LOGS, reason="the saved logs (../shared) are not here")
def test_no_log_of_claude_is_taken_for_its_own() -> None:
    for path in CLAUDE_LOGS:
        parse = stage()
        parsed_bytes(path.read_bytes(), parse)
        assert "cursor" not in parse.report()["formats"].values(), path


def test_lines_of_another_session_are_another_run() -> None:
    second = [{**line, "session_id": "c0ffee-2"} for line in (init(), says("b"), ended())]
    runs = [e["run_id"] for e in parsed(init(), says("a"), ended(), *second) if e["type"] == "run_started"]
    assert runs == [S, "c0ffee-2"]


# ---- texts


def test_without_parts_a_line_with_a_model_call_is_the_text() -> None:
    assert texts(parsed(init(), recap("one"), started("lsToolCall", {"path": "."}), says("two"), ended())) == [
        ("one", True), ("two", True),
    ]  # fmt: skip


def test_with_parts_a_recap_is_the_end_and_not_a_second_text() -> None:
    events = parsed(
        init(), part("he"), part("llo"), recap("hello"), started("lsToolCall", {}), part("bye"), says("bye")
    )
    assert texts(events) == [("he", False), ("llo", False), ("hello", True), ("bye", False), ("bye", True)]
    assert len({p["message_id"] for p in of(events, "agent_output")}) == 2


def test_a_text_that_is_recapped_twice_is_told_once() -> None:
    events = parsed(init(), part("Hel"), part("lo"), recap("Hello"), says("Hello"), ended("Hello"))
    assert texts(events) == [("Hel", False), ("lo", False), ("Hello", True)]


def test_a_recap_of_the_whole_turn_ends_only_the_last_text() -> None:
    events = parsed(init(), part("one "), recap("one "), started("lsToolCall", {}), part("two"), says("one two"))
    assert texts(events)[-1] == ("two", True)
    late = parsed(init(), part("one "), started("lsToolCall", {}), part("two"), thinks("hm"), says("one two"))
    assert [text for text, final in texts(late) if final] == ["one ", "two"]


def test_equal_parts_are_parts() -> None:
    assert texts(parsed(init(), part("ha"), part("ha"), says("haha")))[-1] == ("haha", True)


def test_a_recap_of_what_was_never_told_is_not_lost() -> None:
    assert texts(parsed(init(), part("a"), recap("a"), says("something else")))[-1] == ("something else", True)


def test_a_text_in_parts_ends_with_the_next_call() -> None:
    events = parsed(init(), part("look"), started("lsToolCall", {}))
    assert types(events)[1:4] == ["agent_output", "agent_output", "agent_tool_call"]
    assert texts(events) == [("look", False), ("look", True)]


def test_thinking_is_told_though_the_documents_say_it_is_not_printed() -> None:
    events = parsed(init(), thinks("h"), thinks("m"), THOUGHT, thinks("so"), says("x"))
    assert texts(events, "agent_thinking") == [("h", False), ("m", False), ("hm", True), ("so", False), ("so", True)]


def test_a_stream_cut_by_the_end_is_told_whole_as_aborted() -> None:
    events = parsed(init(), part("I was"), part(" about"))
    last = of(events, "agent_output")[-1]
    assert (last["text"], last["final"], last["aborted"]) == ("I was about", True, True)
    assert of(events, "run_completed")[0]["incomplete"] == "no result from the agent"


# ---- tools


def test_the_tool_is_the_key_and_its_siblings_are_not() -> None:
    events = ran("shellToolCall", {"command": "pytest -q"}, {"success": {"exitCode": 0, "stdout": "ok\n"}})
    (made,) = of(events, "agent_tool_call")
    assert (made["name"], made["kind"], made["title"]) == ("shell", "execute", "shell: pytest -q")
    (back,) = of(events, "agent_tool_result")
    assert (back["tool_use_id"], back["ok"], back["exit_code"], back["content"]) == ("c1", True, 0, "ok")


def test_a_call_id_may_hold_a_newline() -> None:
    call_id = "call_abc\nfc_123"
    events = parsed(
        init(),
        started("readToolCall", {"path": "a"}, call_id),
        completed("readToolCall", {"success": {"content": "x"}}, call_id),
    )
    assert of(events, "agent_tool_call")[0]["tool_use_id"] == call_id
    assert of(events, "agent_tool_result")[0]["tool_use_id"] == call_id
    assert of(events, "agent_tool_result")[0]["name"] == "read"


@pytest.mark.parametrize(
    ("wrapper", "said"),
    [
        ({"error": {"error": "Path does not exist"}}, "Path does not exist"),
        ({"error": {"errorMessage": "no"}}, "no"),
        ({"rejected": {"command": "rm -r x", "reason": ""}}, "rejected: rm -r x"),
        ({"rejected": {"reason": "not now"}}, "not now"),
        ({"failure": {"command": "false", "exitCode": 1, "stdout": "", "stderr": "bad"}}, "bad"),
        ({"timeout": {"command": "sleep 9", "timeoutMs": 30}}, "timeout: sleep 9"),
        ({"fileNotFound": {"path": "x"}}, "fileNotFound"),
        ({"success": {"exitCode": 2, "stdout": "", "stderr": "boom"}}, "boom"),
        ({"success": {"isError": True, "content": [{"text": {"text": "server said no"}}]}}, "server said no"),
    ],
)
def test_what_is_not_a_success_has_failed(wrapper: Line, said: str) -> None:
    events = ran("shellToolCall", {"command": "x"}, wrapper)
    assert of(events, "agent_tool_result")[0]["ok"] is False
    assert [(p["rank"], p["message"]) for p in of(events, "error")] == [("tool", said)]
    assert of(events, "file_changed") == []


def test_an_edit_is_a_changed_file() -> None:
    diff = "--- a/f\n+++ b/f\n@@ -1 +1,2 @@\n-a\n+b\n+c"
    done = {"success": {"path": "/w/f", "linesAdded": 2, "linesRemoved": 1, "diffString": diff, "message": "Updated"}}
    (told,) = of(ran("editToolCall", {"path": "f"}, done), "file_changed")
    assert (told["path"], told["change"], told["added"], told["removed"]) == ("/w/f", "modified", 2, 1)
    assert told["patch"] == diff
    counted = {"success": {"path": "/w/f", "diffString": diff.replace("a/f", "/dev/null", 1)}}
    (told,) = of(ran("editToolCall", {"path": "f"}, counted), "file_changed")
    assert (told["change"], told["added"], told["removed"]) == ("created", 2, 1)
    whole = {"success": {"path": "/w/f", "beforeFullFileContent": "a\n", "afterFullFileContent": "a\nb\n"}}
    (told,) = of(ran("editToolCall", {"path": "f"}, whole), "file_changed")
    assert (told["added"], told["removed"]) == (1, 0)
    (told,) = of(ran("editToolCall", {"path": "f"}, {"success": {"path": "/w/f"}}), "file_changed")
    assert "added" not in told


def test_a_written_file_is_new_unless_the_run_had_met_it() -> None:
    done = {"success": {"path": "/w/new", "linesCreated": 3, "fileSize": 9}}
    wrote = [started("writeToolCall", {"path": "/w/new", "fileText": "a\nb\nc\n"}), completed("writeToolCall", done)]
    first, second = of(parsed(init(), *wrote, *wrote), "file_changed")
    assert (first["change"], first["added"], first["removed"]) == ("created", 3, 0)
    assert (second["change"], second.get("added")) == ("modified", None)


def test_a_file_is_known_by_either_of_its_paths() -> None:
    read = [started("readToolCall", {"path": "new"}), completed("readToolCall", {"success": {"content": "a"}})]
    wrote = started("writeToolCall", {"path": "new", "fileText": "b"})
    done = completed("writeToolCall", {"success": {"path": "/w/new", "linesCreated": 1}})
    (told,) = of(parsed(init(), *read, wrote, done), "file_changed")
    assert (told["path"], told["change"]) == ("/w/new", "modified")


def test_a_deleted_file() -> None:
    done = {"success": {"path": "/w/old", "prevContent": "a\nb\n"}}
    (told,) = of(ran("deleteToolCall", {"path": "/w/old"}, done), "file_changed")
    assert (told["change"], told["added"], told["removed"]) == ("deleted", 0, 2)


def test_a_to_do_list_is_progress_and_a_merge_names_only_what_changed() -> None:
    one = {"id": "1", "content": "read", "status": "TODO_STATUS_COMPLETED"}
    two = {"id": "2", "content": "write", "status": "TODO_STATUS_IN_PROGRESS"}
    done = {"success": {"todos": [one, two]}}
    (told,) = of(ran("updateTodosToolCall", {"merge": True, "todos": [one]}, done), "progress_update")
    assert (told["done"], told["total"], told["current"]) == (1, 2, "write")
    (told,) = of(
        ran("updateTodosToolCall", {"merge": False, "todos": [one, two]}, {"success": True}), "progress_update"
    )
    assert told["total"] == 2
    assert of(ran("updateTodosToolCall", {"merge": True, "todos": [one]}, {"success": True}), "progress_update") == []


def test_a_server_s_tool_is_named_by_its_arguments() -> None:
    given = {"name": "gh-search", "toolName": "search", "providerIdentifier": "gh", "args": {"query": "x"}}
    events = ran("mcpToolCall", given, {"success": {"content": [{"text": {"text": "found"}}], "isError": False}})
    made, back = of(events, "agent_tool_call")[0], of(events, "agent_tool_result")[0]
    assert (made["name"], made["input"], back["content"], back["ok"]) == ("gh/search", {"query": "x"}, "found", True)


def test_a_function_has_its_arguments_as_text_which_may_be_broken() -> None:
    def function(said: str) -> Line:
        body = {"function": {"name": "lookup", "arguments": said}}
        return {"type": "tool_call", "subtype": "started", "call_id": "f1", "tool_call": body, "session_id": S}

    assert of(parsed(init(), function('{"a": 1}')), "agent_tool_call")[0]["input"] == {"a": 1}
    (made,) = of(parsed(init(), function('{"a": ')), "agent_tool_call")
    assert (made["name"], made["input"]) == ("lookup", {"arguments": '{"a": '})


def test_calls_without_an_id_are_paired_by_order() -> None:
    lines = [started("lsToolCall", {}, ""), completed("lsToolCall", {"success": {}}, "")]
    events = parsed(init(), *lines, *lines)
    assert [p["tool_use_id"] for p in of(events, "agent_tool_result")] == ["call-1", "call-2"]


def test_a_result_without_its_call_is_told() -> None:
    (back,) = of(parsed(init(), completed("grepToolCall", {"success": {"x": 1}})), "agent_tool_result")
    assert (back["name"], back["kind"], back["content"]) == ("grep", "search", '{"x":1}')


def test_the_source_s_time_is_the_event_s() -> None:
    events = parsed(
        init(), started("shellToolCall", {"command": "x"}, timestamp_ms=T0),
        completed("shellToolCall", {"success": {"exitCode": 0}}, timestamp_ms=T0 + 1500),
    )  # fmt: skip
    assert of(events, "agent_tool_result")[0]["duration_ms"] == 1500
    assert events[-2]["timestamp"] == "2026-08-18T05:24:42.500Z"


# ---- the end


def test_the_result_ends_the_turn_and_its_tokens_are_without_the_cache() -> None:
    usage = {"inputTokens": 10, "outputTokens": 4, "cacheReadTokens": 900, "cacheWriteTokens": 0}
    events = parsed(init(), says("done"), ended(usage=usage))
    (turn,) = of(events, "run_iteration")
    assert (turn["ok"], turn["result"], turn["duration_ms"]) == (True, "done", 1200)
    assert turn["usage"] == {
        "input_tokens": 10, "output_tokens": 4, "cache_read_tokens": 900, "cache_write_tokens": 0,
    }  # fmt: skip
    assert of(events, "run_completed")[0]["usage"] == turn["usage"]
    assert not any("cost_usd" in p for p in of(events, "usage_update", "run_iteration", "run_completed"))


def test_a_failed_turn() -> None:
    events = parsed(init(), ended("no model", is_error=True, subtype="error"))
    assert types(events)[-1] == "run_failed"
    assert [(p["rank"], p["message"]) for p in of(events, "error")] == [("turn", "no model")]


def test_an_interrupt_leaves_no_result_and_exits_with_130() -> None:
    events = parsed(*wrapped([init(), part("I wa")], exit_code=130))
    assert types(events)[-1] == "run_cancelled"


def test_reconnecting_is_a_warning_and_a_retry_tells_anew() -> None:
    connection = {"type": "connection", "subtype": "reconnecting", "session_id": S, "attempt": 1}
    retry = {"type": "retry", "subtype": "starting", "session_id": S, "attempt": 1, "is_resume": False}
    back = {"type": "connection", "subtype": "reconnected", "session_id": S}
    events = parsed(init(), part("cut"), connection, retry, back, part("whole"), says("whole"))
    assert [(p["rank"], p["attempt"]) for p in of(events, "error")] == [("warning", 1), ("warning", 1)]
    assert texts(events) == [("cut", False), ("cut", True), ("whole", False), ("whole", True)]


def test_a_question_that_nobody_can_answer() -> None:
    asked = {"type": "interaction_query", "subtype": "request", "query_type": "webSearchRequestQuery", "session_id": S}
    answer = {
        "type": "interaction_query", "subtype": "response", "query_type": "askQuestion", "session_id": S,
        "response": {"askQuestion": {"result": {"rejected": {"reason": "skipped"}}}},
    }  # fmt: skip
    assert [p["message"] for p in of(parsed(init(), asked, answer), "error")] == ["askQuestion was rejected: skipped"]


def test_the_json_form_is_the_result_alone() -> None:
    old = {name: value for name, value in ended("pong").items() if name != "request_id"}
    for line in (ended("pong"), old):
        events = parsed(line)
        assert types(events) == ["run_started", "run_iteration", "run_completed"]
        assert (events[0]["agent_id"], events[0]["run_id"]) == ("cursor", S)


def test_an_unknown_type_is_kept() -> None:
    for strange in (init(subtype="new"), {"type": "hologram", "session_id": S}, {**THOUGHT, "subtype": "halfway"}):
        assert of(parsed(init(), strange, format="cursor"), "raw")[0]["data"] == strange


def test_no_shape_raises() -> None:
    odd = [None, [], {}, 7, "x", {"args": 3, "result": 4}, {"shellToolCall": 3}, {"shellToolCall": {"result": [1]}}]
    for kind in ("assistant", "user", "tool_call", "result", "system", "thinking", "retry", "interaction_query"):
        for value in odd:
            for subtype in ("started", "completed", "response", None):
                line = {"type": kind, "subtype": subtype, "message": value, "tool_call": value, "usage": value}
                assert parsed(init(), {**line, "response": value, "timestamp_ms": value}, format="cursor")


def test_events_are_valid_json() -> None:
    assert all(
        decode(event.line) for event in parsed_bytes(b'{"type":"thinking","subtype":"delta","text":"\\ud800"}\n')
    )


def test_a_whole_session() -> None:
    edited = {"success": {"path": "/w/f", "linesAdded": 1, "linesRemoved": 0, "diffString": "@@ -0,0 +1 @@\n+x"}}
    told = check(
        [
            init(), user(), thinks("hm"), THOUGHT, part("look"), part("ing"), recap("looking"),
            started("shellToolCall", {"command": "ls"}, "c\n1"),
            completed("shellToolCall", {"success": {"exitCode": 0, "stdout": "f\n"}}, "c\n1"),
            started("editToolCall", {"path": "f"}, "c2"), completed("editToolCall", edited, "c2"),
            part("done"), says("done"), ended("lookingdone"),
        ],
        "cursor", counted,
    )  # fmt: skip
    assert types(told).count("file_changed") == 1
