"""Goose's quirks, one test each, by the lines that show them."""

import json
from typing import Any

from agentpipe.parse.adapter import Sureness
from agentpipe.parse.agents.goose import Goose
from tests.parse.counts.goose import counted
from tests.parse.lines import Line, encoded, of, parsed, types, wrapped
from tests.parse.sessions import check

CREATED = 1_784_710_802


def body(*blocks: Line, role: str = "assistant", message_id: str | None = "m1", **more: Any) -> Line:
    return {"id": message_id, "role": role, "created": CREATED, "content": list(blocks), **more}


def message(*blocks: Line, **more: Any) -> Line:
    return {"type": "message", "message": body(*blocks, **more)}


def text(said: str) -> Line:
    return {"type": "text", "text": said}


def asked(name: str, given: Line, call_id: str = "t1") -> Line:
    call = {"status": "success", "value": {"name": name, "arguments": given}}
    return {"type": "toolRequest", "id": call_id, "toolCall": call}


def back(said: str = "ok", call_id: str = "t1", **more: Any) -> Line:
    value = {"content": [text(said)], "isError": False, **more}
    return {"type": "toolResponse", "id": call_id, "toolResult": {"status": "success", "value": value}}


def failed(said: str, call_id: str = "t1") -> Line:
    return {"type": "toolResponse", "id": call_id, "toolResult": {"status": "error", "error": said}}


def complete(**more: Any) -> Line:
    return {"type": "complete", "total_tokens": None, **more}


def ran(name: str, given: Line, response: Line) -> list[Line]:
    return parsed(message(asked(name, given)), message(response, role="user", message_id="m2"), complete())


def texts(events: list[Line], kind: str = "agent_output") -> list[tuple[str, bool]]:
    return [(p["text"], p["final"]) for p in of(events, kind) if p.get("role") != "user"]


def test_its_lines_are_its_own() -> None:
    own = [message(text("x")), complete(), {"type": "notification", "extension_id": "developer", "message": "hm"}]
    assert [Goose.recognises(line) for line in own] == [Sureness.SURE] * 3
    assert Goose.recognises({"type": "error", "error": "no"}) is Sureness.LIKELY
    others = [
        {"type": "message", "role": "user", "content": "x"},
        {"type": "error", "message": "x"},
        {"type": "complete"},
    ]
    assert [Goose.recognises(line) for line in others] == [Sureness.NO] * 3


def test_lines_of_one_message_are_its_parts() -> None:
    events = parsed(message(text("Hel")), message(text("lo")), message(text("Bye"), message_id="m2"), complete())
    assert texts(events) == [("Hel", False), ("lo", False), ("Hello", True), ("Bye", False), ("Bye", True)]
    assert len({p["message_id"] for p in of(events, "agent_output")}) == 2


def test_parts_without_an_id_are_one_message_until_something_else_comes() -> None:
    events = parsed(message(text("a"), message_id=None), message(text("b"), message_id=None), complete())
    assert texts(events)[-1] == ("ab", True)


def test_a_message_that_calls_between_its_texts_has_two() -> None:
    events = parsed(
        message(text("look")), message(asked("shell", {"command": "ls"})), message(text("done")), complete()
    )
    finals = [(p["message_id"], p["text"]) for p in of(events, "agent_output") if p["final"]]
    assert [text for _, text in finals] == ["look", "done"]
    assert len({name for name, _ in finals}) == 2


def test_thinking() -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    events = parsed(message(thought), message({"type": "redactedThinking", "data": "x"}, text("hi")), complete())
    assert texts(events, "agent_thinking") == [("hm", False), ("hm", True)]
    assert "raw" not in types(events)


def test_a_request_pairs_with_its_response() -> None:
    done = back("out", structuredContent={"stdout": "out", "stderr": "", "exit_code": 0})
    events = ran("developer__shell", {"command": "ls"}, done)
    (made,), (told,) = of(events, "agent_tool_call"), of(events, "agent_tool_result")
    assert (made["name"], made["kind"], made["title"]) == ("developer__shell", "execute", "developer__shell: ls")
    assert (told["tool_use_id"], told["ok"], told["content"], told["exit_code"]) == ("t1", True, "out", 0)


def test_what_failed_has_failed() -> None:
    for response in (failed("boom"), back("boom", isError=True), back("boom", structuredContent={"exit_code": 1})):
        events = ran("shell", {"command": "x"}, response)
        assert of(events, "agent_tool_result")[0]["ok"] is False
        assert [(p["rank"], p["message"]) for p in of(events, "error")] == [("tool", "boom")]
        assert types(events)[-1] == "run_completed"  # a failed tool is no failed run


def test_the_old_shapes_of_calls_and_results() -> None:
    request = {"type": "toolRequest", "id": "t1", "toolCall": {"name": "shell", "arguments": {"command": "ls"}}}
    response = {"type": "toolResponse", "id": "t1", "toolResult": [text("a")]}
    wrapped_list = {"type": "toolResponse", "id": "t1", "toolResult": {"status": "success", "value": [text("a")]}}
    for old in (response, wrapped_list):
        events = parsed(message(request), message(old, role="user"))
        assert of(events, "agent_tool_call")[0]["input"] == {"command": "ls"}
        assert of(events, "agent_tool_result")[0]["content"] == "a"


def test_a_call_that_could_not_be_read_is_a_call_and_its_failure() -> None:
    broken = {"type": "toolRequest", "id": "t1", "toolCall": {"status": "error", "error": "bad arguments"}}
    lines = [message(broken), complete()]
    events = parsed(*lines)
    assert types(events)[1:4] == ["agent_tool_call", "agent_tool_result", "error"]
    assert counted(encoded(lines)) == (1, 1)


def test_a_written_file_is_new_unless_the_run_has_met_it() -> None:
    write = {"path": "f", "content": "x\n"}
    (told,) = of(ran("write", write, back()), "file_changed")
    assert (told["change"], told["added"], told["removed"]) == ("created", 1, 0)
    for name, given in (("developer__read", {"path": "f"}), ("text_editor", {"command": "view", "path": "f"})):
        read = [message(asked(name, given, "t0")), message(back("x", "t0"), role="user", message_id="m0")]
        (told,) = of(parsed(*read, message(asked("write", write)), message(back(), role="user")), "file_changed")
        assert (told["change"], told.get("added")) == ("modified", None)


def test_edits_are_changed_files() -> None:
    for given in (
        {"path": "f", "before": "a", "after": "b\nc"},
        {"command": "str_replace", "path": "f", "old_str": "a", "new_str": "b\nc"},
    ):
        (told,) = of(ran("developer__text_editor", given, back()), "file_changed")
        assert (told["path"], told["change"], told["added"], told["removed"]) == ("f", "modified", 2, 1)
    view = ran("developer__text_editor", {"command": "view", "path": "f"}, back())
    assert of(view, "file_changed") == []
    assert of(view, "agent_tool_call")[0]["kind"] == "read"
    assert of(ran("write", {"path": "f"}, failed("no")), "file_changed") == []


def test_a_to_do_list_is_progress() -> None:
    (told,) = of(ran("todo__todo_write", {"content": "- [x] a\n- [ ] b"}, back()), "progress_update")
    assert (told["done"], told["total"]) == (1, 2)


def test_complete_ends_the_turn_with_tokens_without_the_cache() -> None:
    end = complete(
        total_tokens=1290, input_tokens=1234, output_tokens=56, cache_read_input_tokens=1000, cost_usd=0.5,
    )  # fmt: skip
    events = parsed(message(text("done")), end)
    (turn,) = of(events, "run_iteration")
    assert (turn["ok"], turn["result"], turn["cost_usd"]) == (True, "done", 0.5)
    assert turn["usage"] == {"input_tokens": 234, "output_tokens": 56, "cache_read_tokens": 1000}
    assert of(events, "usage_update")[0]["cumulative"] is True


def test_tokens_that_are_null_are_left_out() -> None:
    events = parsed(message(text("x")), complete())
    assert of(events, "usage_update") == []
    assert "usage" not in of(events, "run_completed")[0]


def test_an_error_before_complete_has_failed_the_run() -> None:
    events = parsed(message(text("x")), {"type": "error", "error": "no credit"}, complete())
    assert [(p["rank"], p["message"]) for p in of(events, "error")] == [("agent", "no credit"), ("turn", "no credit")]
    assert types(events)[-1] == "run_failed"


def test_a_failed_api_in_the_agent_s_own_words_has_failed_the_run() -> None:
    said = "Ran into this error: 401 Unauthorized.\n\nPlease retry if you think this is transient."
    assert (
        of(parsed(message(text(said)), complete()), "run_failed")[0]["error"]
        == "Ran into this error: 401 Unauthorized."
    )


def test_the_status_of_the_one_object_says_completed_even_when_it_failed() -> None:
    broken = {"type": "error", "kind": "authentication", "message": "bad key"}
    one = {"messages": [body(text("hi")), body(broken)], "metadata": {"total_tokens": None, "status": "completed"}}
    assert types(parsed(one))[-1] == "run_failed"
    good = {"messages": [body(text("hi"))], "metadata": {"total_tokens": 5, "status": "completed"}}
    for line in (good, json.dumps(good, indent=2)):
        events = parsed(line)
        assert (events[0]["agent_id"], of(events, "run_completed")[0]["result"]) == ("goose", "hi")
    assert counted(json.dumps(good, indent=2).encode()) == (0, 0)


def test_a_notification_is_logged_in_each_of_its_shapes() -> None:
    lines = [{"type": "notification", "extension_id": "dev", **more} for more in (
        {"message": "a"}, {"log": {"message": "b"}}, {"progress": {"progress": 1, "total": 2, "message": "c"}},
        {"progress": 0.5, "total": 1.0, "message": "d"}, {"progress": 0.5, "total": 1.0, "message": None},
    )]  # fmt: skip
    told = of(parsed(message(text("x")), *lines), "agent_log_entry")
    assert [(p["message"], p["source"]) for p in told] == [(said, "dev") for said in "abcd"]


def test_a_change_of_model_and_the_model_of_a_message() -> None:
    events = parsed(
        message(text("x"), metadata={"inference": {"requestedModel": "m-1"}}),
        {"type": "model_change", "model": "m-2", "mode": "auto"},
    )
    assert events[0]["payload"]["model"] == "m-1"
    assert of(events, "agent_state_update")[0]["changed"] == {"model": "m-2"}


def test_a_question_waits_for_a_human() -> None:
    question = {
        "type": "toolConfirmationRequest",
        "id": "t1",
        "toolName": "shell",
        "arguments": {"command": "rm x"},
        "prompt": "Sure?",
    }
    (told,) = of(parsed(message(question)), "permission_request")
    assert (told["tool_use_id"], told["name"], told["reason"]) == ("t1", "shell", "Sure?")


def test_a_log_without_its_end_is_incomplete_and_its_text_is_told() -> None:
    events = parsed(*wrapped([message(text("I wa"))], exit_code=0))
    assert (
        of(events, "agent_output")[-1] | {"text": "I wa", "final": True, "aborted": True}
        == of(events, "agent_output")[-1]
    )
    assert of(events, "run_completed")[0]["incomplete"] == "no result from the agent"


def test_time_is_the_source_s() -> None:
    assert parsed(message(text("x")))[0]["timestamp"] == "2026-07-22T09:00:02.000Z"


def test_unknown_lines_and_blocks_are_kept() -> None:
    strange = {"type": "hologram"}
    events = parsed(message(text("x")), strange, message({"type": "new_block"}))
    assert [p["data"] for p in of(events, "raw")] == [strange, {"type": "new_block"}]


def test_no_shape_raises() -> None:
    odd = [None, [], {}, 7, "x", [1], {"status": 3, "value": 4}, {"content": [1]}]
    kinds = [
        "toolRequest",
        "toolResponse",
        "text",
        "thinking",
        "image",
        "error",
        "systemNotification",
        "actionRequired",
    ]
    for value in odd:
        for kind in kinds:
            names = ("id", "toolCall", "toolResult", "text", "thinking", "data", "message", "msg")
            assert parsed(message(text("a")), message({"type": kind, **dict.fromkeys(names, value)}))
        lines = [{"type": "error", "error": value}, {"type": "complete", "total_tokens": value, "input_tokens": value}]
        assert parsed(
            message(text("a")), *lines, {"type": "message", "message": value}, {"messages": [value], "metadata": value}
        )


def test_a_whole_session() -> None:
    told = check(
        [
            message(text("look")), message(text("ing")), message(asked("shell", {"command": "ls"})),
            message(back("f", structuredContent={"exit_code": 0}), role="user", message_id="m2"),
            message(asked("edit", {"path": "f", "before": "a", "after": "b"}, "t2"), message_id="m3"),
            {"type": "notification", "extension_id": "developer", "message": "editing"},
            message(back("ok", "t2"), role="user", message_id="m4"), message(text("done"), message_id="m5"),
            complete(total_tokens=12, input_tokens=10, output_tokens=2),
        ],
        "goose", counted,
    )  # fmt: skip
    assert types(told).count("file_changed") == 1
