"""``opencode run --format json`` and its quirks, one test each, by the lines that show them."""

from typing import Any

import pytest

from agentpipe.event import decode
from agentpipe.parse.adapter import Sureness
from agentpipe.parse.agents.apply_patch import Edit
from agentpipe.parse.agents.opencode import OpenCode
from agentpipe.parse.agents.opencode_tools import edits_of
from tests.parse.lines import Line, encoded, of, parsed, parsed_bytes, stage, types, wrapped

SESSION = "ses_1"
T0 = 1_795_161_710_000


def line(kind: str, at: int = 0, **more: Any) -> Line:
    return {"type": kind, "timestamp": T0 + at, "sessionID": SESSION, **more}


def part(kind: str, part_id: str, at: int = 0, **more: Any) -> Line:
    told = {"id": part_id, "messageID": "msg_1", "sessionID": SESSION, "type": kind.replace("_", "-"), **more}
    return line(kind, at, part=told)


START = part("step_start", "prt_s", snapshot="x")


def said(text: str, part_id: str = "prt_t", **more: Any) -> Line:
    return part("text", part_id, text=text, time={"start": T0, "end": T0 + 1}, **more)


def tool(name: str, given: Line, part_id: str = "prt_c", *, output: str = "ok", **state: Any) -> Line:
    told = {"status": "completed", "input": given, "output": output, "title": "t", "metadata": {},
            "time": {"start": T0 + 100, "end": T0 + 350}, **state}  # fmt: skip
    found = part("tool_use", part_id, 400, tool=name, callID=f"call-{part_id}", state=told)
    found["part"]["type"] = "tool"
    return found


def finish(reason: str | None = "stop", part_id: str = "prt_f", cost: float = 0.5, **tokens: Any) -> Line:
    told = {"input": 100, "output": 20, "reasoning": 0, "cache": {"read": 40, "write": 0}, **tokens}
    more = {} if reason is None else {"reason": reason}
    return part("step_finish", part_id, 500, cost=cost, tokens=told, **more)


# ---- calls


def test_a_call_and_its_result_in_one_line_are_two_events_with_their_own_times() -> None:
    events = parsed(START, tool("bash", {"command": "ls -l"}, metadata={"exit": 0}, output="a\n"), finish())
    call, result = (found for found in events if found["type"].startswith("agent_tool"))
    assert (call["timestamp"], result["timestamp"]) == ("2026-11-20T08:01:50.100Z", "2026-11-20T08:01:50.350Z")
    assert call["payload"] == {
        "tool_use_id": "call-prt_c", "name": "bash", "kind": "execute", "input": {"command": "ls -l"},
        "title": "Bash: ls -l",
    }  # fmt: skip
    assert (result["payload"]["exit_code"], result["payload"]["duration_ms"], result["payload"]["ok"]) == (0, 250, True)


def test_a_command_with_another_exit_status_is_a_failed_tool_though_completed() -> None:
    events = parsed(START, tool("bash", {"command": "x"}, metadata={"exit": 3}, output=""), finish())
    assert (of(events, "agent_tool_result")[0]["ok"], of(events, "agent_tool_result")[0]["exit_code"]) == (False, 3)
    assert of(events, "error")[0]["message"] == "exit status 3"
    assert events[-1]["type"] == "run_completed"


def test_a_tool_that_failed_says_why() -> None:
    events = parsed(START, tool("read", {"filePath": "/x"}, status="error", error="File not found: /x"), finish())
    (result,) = of(events, "agent_tool_result")
    assert (result["ok"], result["content"]) == (False, "File not found: /x")
    assert [(told["rank"], told["message"]) for told in of(events, "error")] == [("tool", "File not found: /x")]


def test_a_part_that_is_printed_again_when_it_is_pruned_is_told_once() -> None:
    again = tool("bash", {"command": "x"}, time={"start": T0, "end": T0 + 1, "compacted": T0 + 9})
    events = parsed(START, tool("bash", {"command": "x"}), said("hi"), again, said("hi"), finish())
    assert (types(events).count("agent_tool_call"), types(events).count("agent_output")) == (1, 1)


def test_a_sub_agent_is_one_call_that_names_its_session() -> None:
    events = parsed(START, tool("task", {"description": "Count", "prompt": "p"}, metadata={"sessionId": "ses_2"}))
    assert (of(events, "agent_tool_call")[0]["kind"], of(events, "agent_tool_call")[0]["title"]) == (
        "think", "Task: Count",
    )  # fmt: skip
    assert of(events, "agent_tool_result")[0]["detail"] == {"sessionId": "ses_2"}


def test_an_attached_image_is_handed_on_whole() -> None:
    attached = [{"type": "file", "mime": "image/png", "url": "data:image/png;base64,aGVsbG8h", "filename": "a.png"},
                {"type": "file", "mime": "text/plain", "url": "file:///w/b.txt", "filename": "b.txt"}]  # fmt: skip
    events = parsed(START, tool("read", {"filePath": "a.png"}, attachments=attached, output="Image read"))
    assert of(events, "content")[0]["base64"] == "aGVsbG8h"
    expected = "Image read\n[image/png, 6 bytes]\n[text/plain b.txt]"
    assert of(events, "agent_tool_result")[0]["content"] == expected


def test_a_tool_that_has_not_ended_is_kept() -> None:
    assert of(parsed(START, tool("bash", {}, status="running")), "raw")[0]["reason"] == "a tool that has not ended"


def test_a_todo_list_is_the_plan() -> None:
    todos = [{"content": "Read", "status": "completed"}, {"content": "Run", "status": "in_progress"},
             {"content": "Stop", "status": "cancelled"}]  # fmt: skip
    events = parsed(START, tool("todowrite", {"todos": todos}, metadata={"todos": todos}))
    (told,) = of(events, "progress_update")
    assert (told["done"], told["total"], told["current"]) == (1, 2, "Run")
    assert of(events, "agent_tool_call")[0]["title"] == "TodoWrite: 3 items"


# ---- files

DIFF = "Index: /w/a\n=====\n--- /w/a\n+++ /w/a\n@@ -1,2 +1,2 @@\n x\n-y\n+Y\n"
HUNKS = "@@ -1,2 +1,2 @@\n x\n-y\n+Y\n"


@pytest.mark.parametrize(
    ("name", "given", "metadata", "expected"),
    [
        ("write", {"filePath": "/w/a", "content": "1\n2\n"}, {"exists": False}, [Edit("/w/a", "created", (2, 0))]),
        ("write", {"filePath": "/w/a", "content": "1\n2\n"}, {"exists": True}, [Edit("/w/a", "modified")]),
        ("write", {"content": "1"}, {"filepath": "/w/a", "exists": True, "diff": DIFF},
         [Edit("/w/a", "modified", (1, 1), HUNKS)]),
        ("edit", {"filePath": "/w/a"}, {"diff": DIFF}, [Edit("/w/a", "modified", (1, 1), HUNKS)]),
        ("edit", {"filePath": "/w/a"}, {"filediff": {"patch": DIFF}}, [Edit("/w/a", "modified", (1, 1), HUNKS)]),
        ("edit", {"filePath": "/w/a"}, {}, [Edit("/w/a", "modified")]),
        ("edit", {"filePath": "/w/a"}, {"diff": "@@ -0,0 +1,1 @@\n+x\n"},
         [Edit("/w/a", "created", (1, 0), "@@ -0,0 +1,1 @@\n+x\n")]),
        ("multiedit", {"filePath": "/w/a"}, {"results": [{"diff": DIFF}, {"diff": DIFF}]},
         [Edit("/w/a", "modified", (2, 2))]),
        ("apply_patch", {}, {"files": [
            {"filePath": "/w/a", "type": "update", "patch": DIFF, "additions": 9, "deletions": 9},
            {"filePath": "/w/b", "type": "delete", "patch": "", "additions": 0, "deletions": 2},
            {"filePath": "/w/c", "type": "move", "movePath": "/w/d", "additions": 1, "deletions": 0}]},
         [Edit("/w/a", "modified", (1, 1), HUNKS), Edit("/w/b", "deleted"),
          Edit("/w/d", "renamed", (1, 0), "", "/w/c")]),
        ("apply_patch", {"patchText": "*** Begin Patch\n*** Add File: n\n+1\n*** End Patch"}, {},
         [Edit("n", "created", (1, 0))]),
        ("bash", {"command": "x"}, {"diff": DIFF}, []),
    ],
)  # fmt: skip
def test_changed_files_are_counted_from_the_tool_s_own_diff(
    name: str, given: Line, metadata: Line, expected: list[Edit]
) -> None:
    assert edits_of(name, given, metadata) == expected


def test_an_edit_is_a_file_changed_after_its_result_and_a_failed_one_is_not() -> None:
    given = {"filePath": "/w/a", "oldString": "y", "newString": "Y"}
    events = parsed(START, tool("edit", given, metadata={"diff": DIFF}))
    assert types(events)[1:4] == ["agent_tool_call", "agent_tool_result", "file_changed"]
    assert of(events, "file_changed") == [
        {"path": "/w/a", "change": "modified", "source": "tool", "tool_use_id": "call-prt_c", "added": 1,
         "removed": 1, "patch": HUNKS}
    ]  # fmt: skip
    failed = tool("edit", given, status="error", error="no", metadata={"diff": DIFF})
    assert of(parsed(START, failed), "file_changed") == []


# ---- texts


def test_texts_and_reasoning_of_one_message_have_its_id_and_their_place() -> None:
    events = parsed(START, part("reasoning", "prt_r", text="hm"), said("hi"), said("", "prt_e"), said("ho", "prt_u"))
    assert [(told["message_id"], told["index"], told["text"]) for told in of(events, "agent_thinking")] == [
        ("msg_1", 0, "hm")
    ]
    assert [(told["index"], told["text"], told["final"]) for told in of(events, "agent_output")] == [
        (1, "hi", True), (3, "ho", True),
    ]  # fmt: skip


# ---- steps, turns, tokens


def test_the_steps_tokens_and_cost_are_added_up() -> None:
    events = parsed(
        START, tool("bash", {"command": "x"}), finish("tool-calls", "f1"), START, finish("stop", "f2", 0.25)
    )
    assert [told["cumulative"] for told in of(events, "usage_update")] == [False, False, True]
    assert of(events, "usage_update")[0] == {
        "input_tokens": 100, "output_tokens": 20, "cache_read_tokens": 40, "cache_write_tokens": 0,
        "cumulative": False, "cost_usd": 0.5, "context_used": 140,
    }  # fmt: skip
    total = {"input_tokens": 200, "output_tokens": 40, "cache_read_tokens": 80, "cache_write_tokens": 0}
    (turn,) = of(events, "run_iteration")
    assert (turn["usage"], turn["cost_usd"], turn["stop_reason"]) == (total, 0.75, "stop")
    assert (events[-1]["payload"]["usage"], events[-1]["payload"]["cost_usd"]) == (total, 0.75)


def test_output_tokens_hold_the_reasoning_where_the_total_shows_that_they_do_not() -> None:
    apart = finish(total=165, reasoning=5)
    within = finish(total=160, reasoning=5)
    assert of(parsed(START, apart), "usage_update")[0]["output_tokens"] == 25
    assert of(parsed(START, within), "usage_update")[0]["output_tokens"] == 20
    assert of(parsed(START, finish(reasoning=5)), "usage_update")[0]["output_tokens"] == 20


def test_a_step_without_tokens_and_cost_tells_none() -> None:
    assert of(parsed(START, part("step_finish", "f", reason="stop")), "usage_update") == []


def test_a_step_without_a_reason_ends_the_turn_when_it_called_no_tool() -> None:
    again = part("step_start", "prt_s2")
    events = parsed(START, tool("bash", {"command": "x"}), finish(None, "f1"), again, said("hi"), finish(None, "f2"))
    assert [turn["result"] for turn in of(events, "run_iteration")] == ["hi"]


def test_an_answer_that_ended_with_an_error_is_a_failed_turn() -> None:
    events = parsed(START, said("h"), finish("error"))
    assert (of(events, "error")[0]["rank"], events[-1]["type"]) == ("turn", "run_failed")


def test_a_killed_run_is_incomplete() -> None:
    assert parsed(START, said("hi"))[-1]["payload"]["incomplete"] == "no result from the agent"
    second = parsed(START, finish(), part("step_start", "prt_s2"))
    assert second[-1]["payload"]["incomplete"] == "the last turn has no end"


def test_no_model_provider_or_cwd_is_made_up() -> None:
    assert parsed(START)[0]["payload"] == {"schema": "agentpipe/1", "agent": "opencode", "session_id": SESSION}


def test_done_after_the_last_step_says_nothing_more_and_without_it_ends_the_turn() -> None:
    done = line("done", 600, reason="idle", rejected=[])
    assert types(parsed(START, said("hi"), finish(), done)).count("run_iteration") == 1
    events = parsed(START, said("hi"), done)
    assert [turn["result"] for turn in of(events, "run_iteration")] == ["hi"]
    assert "incomplete" not in events[-1]["payload"]


# ---- errors


def test_an_error_of_the_session_is_the_agents_failure_and_fails_the_turn() -> None:
    problem = {"name": "APIError", "data": {"message": "overloaded", "statusCode": 529, "isRetryable": True}}
    events = parsed(START, line("error", 1, error=problem))
    assert of(events, "error") == [
        {"rank": "agent", "message": "overloaded", "code": "APIError", "status": 529},
        {"rank": "turn", "message": "overloaded", "code": "APIError"},
    ]
    assert of(events, "run_iteration") == [{"turn": 1, "ok": False, "error": "overloaded"}]
    assert (events[-1]["type"], events[-1]["payload"]["error"]) == ("run_failed", "overloaded")


def test_an_error_after_a_good_turn_fails_the_run() -> None:
    events = parsed(START, finish(), line("error", 1, error={"name": "UnknownError", "data": {}}))
    assert (events[-1]["type"], events[-1]["payload"]["error"]) == ("run_failed", "UnknownError")
    assert types(events).count("run_iteration") == 1


def test_an_aborted_message_is_a_cancelled_turn() -> None:
    problem = {"name": "MessageAbortedError", "data": {"message": "Aborted"}}
    events = parsed(START, line("error", 1, error=problem))
    assert (of(events, "error")[0]["rank"], events[-1]["type"]) == ("turn", "run_cancelled")


@pytest.mark.parametrize("problem", [None, "text", [], {"message": "m"}, {"name": 1}])
def test_an_error_of_any_shape_is_told(problem: Any) -> None:
    assert of(parsed(START, line("error", 1, error=problem)), "error")[0]["rank"] == "agent"


def test_a_permission_that_is_rejected_is_a_warning_once() -> None:
    text = "\x1b[93m\x1b[1m!\x1b[0m permission requested: bash (rm -rf *); auto-rejecting"
    done = line("done", 600, reason="idle", rejected=["bash", "edit"])
    events = parsed(START, text, finish(), done)
    assert [(told["rank"], told["code"], told["message"]) for told in of(events, "error")] == [
        ("warning", "permission_denied", "permission requested: bash (rm -rf *); auto-rejecting"),
        ("warning", "permission_denied", "edit was denied"),
    ]


# ---- telling it apart


def test_two_sessions_in_one_pipe_are_two_runs_and_one_process_is_one() -> None:
    other = {**said("two", "prt_2"), "sessionID": "ses_2"}
    events = parsed(START, said("one"), other)
    told = [(found["run_id"], found["payload"]["text"]) for found in events if found["type"] == "agent_output"]
    assert told == [(SESSION, "one"), ("ses_2", "two")]
    assert types(parsed(*wrapped([START, said("one"), other]))).count("run_started") == 1


@pytest.mark.parametrize(
    ("found", "sureness"),
    [
        (START, Sureness.SURE),
        (said("x"), Sureness.SURE),
        (line("error", error={}), Sureness.SURE),
        (line("done", reason="idle"), Sureness.SURE),
        (line("hologram"), Sureness.LIKELY),
        ({"type": "text", "sessionID": "s"}, Sureness.NO),
        ({"type": "text", "part": {}}, Sureness.NO),
        ({"type": "user", "sessionId": "s"}, Sureness.NO),
        ({"type": [], "sessionID": "s"}, Sureness.NO),
        ({}, Sureness.NO),
    ],
)
def test_what_is_its_own(found: Line, sureness: Sureness) -> None:
    assert OpenCode.recognises(found) is sureness


def test_an_unknown_type_is_kept() -> None:
    assert of(parsed(START, line("hologram")), "raw")[0]["reason"] == "unknown type 'hologram'"


@pytest.mark.parametrize("broken", [line("text", part=5), part("text", "p", text=None)])
def test_a_broken_part_is_kept(broken: Line) -> None:
    assert of(parsed(START, broken), "raw")[0]["reason"].endswith("that is none")


@pytest.mark.parametrize("odd", [None, -1, 1e300, 10**30, "x", [], {}, [[]], {"a": {}}])
def test_no_shape_of_json_makes_it_raise(odd: Any) -> None:
    state = {"input": odd, "output": odd, "error": odd, "metadata": odd, "time": odd, "attachments": odd}
    deep = {
        "input": {"filePath": "/w", "content": odd, "todos": odd, "patchText": odd},
        "time": {"start": odd},
        "metadata": {"diff": odd, "exists": odd, "files": [odd], "results": [odd], "exit": odd, "todos": [odd]},
    }
    lines = [
        tool(name, {}, f"{name}{number}{status}", **{**given, "status": status})
        for name in ("bash", "edit", "write", "multiedit", "apply_patch", "todowrite", "task")
        for number, given in enumerate((state, deep))
        for status in ("completed", "error")
    ]
    lines += [part(kind, f"p-{kind}", text=odd, tokens=odd, cost=odd, reason=odd, state=odd, tool=odd, messageID=odd)
              for kind in ("text", "reasoning", "tool_use", "step_finish", "step_start")]  # fmt: skip
    lines += [part("step_finish", "q", tokens={"input": odd, "cache": odd, "total": odd}), line("done", rejected=odd)]
    lines += [{**said("x", "z"), "timestamp": odd}, line("error", error={"data": odd, "name": odd})]
    events = [decode(found.line) for found in parsed_bytes(encoded([START, *lines]), stage())]
    assert types(events)[-1].startswith("run_")


def test_an_error_that_says_nothing_is_told_by_its_name() -> None:
    events = parsed(START, line("error", error={"name": "MessageOutputLengthError", "data": {}}))
    name = "MessageOutputLengthError"
    assert [(p["rank"], p["message"]) for p in of(events, "error")] == [("agent", name), ("turn", name)]
    assert events[-1]["type"] == "run_failed"
