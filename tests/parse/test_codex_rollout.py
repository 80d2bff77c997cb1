"""Rollouts of Codex and their quirks, one test each, by the lines that show them."""

import json
from typing import Any

import pytest

from agentpipe.event import decode
from agentpipe.parse.adapter import Sureness
from agentpipe.parse.codex.output import Output, output_of
from agentpipe.parse.codex.rollout import CodexRollout
from tests.parse.lines import Line, encoded, of, parsed, parsed_bytes, stage, types

SESSION = "01a1-session"
T = "2026-11-20T07:00:0{}.000Z"


def line(kind: str, payload: Line, second: int = 1) -> Line:
    return {"timestamp": T.format(second), "type": kind, "payload": payload}


def meta(**more: Any) -> Line:
    told = {"id": SESSION, "cwd": "/w", "originator": "codex_exec", "cli_version": "0.169.0", "source": "exec"}
    return line("session_meta", {**told, **more}, 0)


CONTEXT = line("turn_context", {"cwd": "/w", "model": "gpt-5.5", "approval_policy": "never"}, 0)


def item(kind: str, second: int = 1, **more: Any) -> Line:
    return line("response_item", {"type": kind, **more}, second)


def event(kind: str, second: int = 1, **more: Any) -> Line:
    return line("event_msg", {"type": kind, **more}, second)


def message(text: str, role: str = "assistant", **more: Any) -> Line:
    part = {"type": "output_text" if role == "assistant" else "input_text", "text": text}
    return item("message", role=role, content=[part], **more)


def function(name: str, arguments: Any, call_id: str = "c1", **more: Any) -> Line:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return item("function_call", name=name, arguments=text, call_id=call_id, **more)


def output(value: Any, call_id: str = "c1", second: int = 3) -> Line:
    return item("function_call_output", second, call_id=call_id, output=value)


def noted(kind: str, **more: Any) -> Line:
    return event("item_completed", 2, thread_id=SESSION, item={"type": kind, "id": "c1", **more})


def total(given: int, cached: int, out: int, last: int = 7) -> Line:
    told = {"input_tokens": given, "cached_input_tokens": cached, "output_tokens": out}
    return event("token_count", info={"total_token_usage": told, "last_token_usage": {"input_tokens": last}})


def run(*lines: Line | str, **options: Any) -> list[Line]:
    return parsed(meta(), CONTEXT, *lines, **options)


def texts(events: list[Line], type_: str = "agent_output") -> list[str]:
    return [told["text"] for told in of(events, type_)]


# ---- the session


def test_it_is_a_second_teller_of_its_session() -> None:
    events = run(message("hi"))
    assert {found["run_id"] for found in events} == {f"{SESSION}/transcript"}
    assert events[0]["payload"] == {
        "schema": "agentpipe/1", "agent": "codex", "session_id": SESSION, "agent_version": "0.169.0", "cwd": "/w",
        "model": "gpt-5.5",
    }  # fmt: skip
    assert events[0]["timestamp"] == T.format(0)


def test_the_model_is_that_of_the_turn_and_may_change() -> None:
    events = run(message("hi"), line("turn_context", {"cwd": "/w", "model": "gpt-6"}), message("ho"))
    assert of(events, "agent_state_update") == [{"state": "initialized", "changed": {"model": "gpt-6"}}]


def test_a_head_may_name_its_session_alone() -> None:
    head = line("session_meta", {"session_id": "s9", "cwd": "/w", "cli_version": "0.145.0"}, 0)
    assert parsed(head, CONTEXT, message("hi"))[0]["run_id"] == "s9/transcript"


def test_a_sub_agent_s_rollout_is_known_by_its_own_id_and_not_by_its_parent_s() -> None:
    assert parsed(meta(session_id="p1"), CONTEXT)[0]["payload"]["session_id"] == SESSION


def test_a_sub_agent_s_rollout_names_its_parent() -> None:
    source = {"subagent": {"thread_spawn": {"parent_thread_id": "p1", "depth": 1}}}
    assert parsed(meta(source=source), CONTEXT)[0]["payload"]["parent_session_id"] == "p1"
    assert parsed(meta(parent_thread_id="p2"), CONTEXT)[0]["payload"]["parent_session_id"] == "p2"


def test_a_forked_session_that_repeats_its_origin_s_head_is_one_run() -> None:
    events = parsed(meta(forked_from_id="old"), meta(id="old"), CONTEXT, message("hi"))
    assert {found["run_id"] for found in events} == {f"{SESSION}/transcript"}


def test_two_rollouts_in_one_pipe_are_two_runs() -> None:
    events = run(message("one"), meta(id="other"), CONTEXT, message("two"))
    told = [(found["run_id"], found["payload"]["text"]) for found in events if found["type"] == "agent_output"]
    assert told == [(f"{SESSION}/transcript", "one"), ("other/transcript", "two")]


# ---- texts, which are there twice


@pytest.mark.parametrize("first", ["item", "event"])
def test_assistant_text_is_there_twice_and_told_once(first: str) -> None:
    pair = [message("hi"), event("agent_message", message="hi")]
    events = run(*(pair if first == "item" else pair[::-1]), message("hi"), event("agent_message", message="hi"))
    assert texts(events) == ["hi", "hi"]


def test_a_rollout_whose_events_are_missing_tells_its_text() -> None:
    events = run(
        message("go", "user"), message("hi"), item("reasoning", summary=[{"type": "summary_text", "text": "hm"}])
    )
    assert (texts(events), texts(events, "agent_thinking")) == (["go", "hi"], ["hm"])


def test_a_rollout_whose_items_are_missing_tells_its_text() -> None:
    events = run(event("user_message", message="go"), event("agent_reasoning", text="hm"),
                 event("agent_message", message="hi"))  # fmt: skip
    assert (texts(events), texts(events, "agent_thinking")) == (["go", "hi"], ["hm"])


def test_user_text_is_there_twice_and_told_once() -> None:
    events = run(message("go", "user"), event("user_message", message="go"))
    assert of(events, "agent_output") == [
        {"message_id": "user-1", "index": 0, "text": "go", "final": True, "role": "user"}
    ]


def test_reasoning_in_several_parts_is_there_twice_and_told_once() -> None:
    parts = [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}]
    events = run(event("agent_reasoning", text="a"), event("agent_reasoning", text="b"),
                 item("reasoning", summary=parts, content=None, encrypted_content="x"))  # fmt: skip
    assert texts(events, "agent_thinking") == ["a", "b"]


def test_encrypted_reasoning_says_nothing() -> None:
    assert types(run(item("reasoning", summary=[], content=None, encrypted_content="x"))) == [
        "run_started", "run_completed",
    ]  # fmt: skip


def test_the_newest_versions_pair_texts_by_id_though_they_differ() -> None:
    part = {"type": "Text", "text": "hi"}
    seen = event("item_completed", item={"type": "AgentMessage", "id": "m1", "content": [part]})
    events = run(seen, message("hi <cite/>", id="m1", phase="final_answer"))
    assert [(told["message_id"], told["text"]) for told in of(events, "agent_output")] == [("m1", "hi")]


def test_the_phase_of_a_message_is_kept_whoever_tells_it() -> None:
    events = run(event("agent_message", message="a", phase="commentary"), message("b", phase="final_answer"))
    assert [told["phase"] for told in of(events, "agent_output")] == ["commentary", "final_answer"]


def test_what_agents_write_to_each_other_and_their_sleep_are_log_entries() -> None:
    part = {"type": "input_text", "text": "look"}
    events = run(item("agent_message", author="/root", recipient="/root/a", content=[part]),
                 event("item_completed", item={"type": "Sleep", "id": "s", "duration_ms": 5}))  # fmt: skip
    assert [told["message"] for told in of(events, "agent_log_entry")] == ["/root → /root/a: look", "slept 5 ms"]


def test_what_the_program_says_in_the_user_s_name_is_synthetic() -> None:
    told = {"content_item_metadata": [{"provenance": {"type": "harness"}}]}
    events = run(message("<environment_context>\n  <cwd>/w</cwd>\n</environment_context>", "user"),
                 message("anything", "user", internal_chat_message_metadata_passthrough=told),
                 message("rules", "developer"))  # fmt: skip
    assert [found["origin"] for found in of(events, "agent_output")] == ["synthetic", "synthetic"]


def test_an_image_of_the_user_is_handed_on_whole_and_its_message_told_once() -> None:
    content = [
        {"type": "input_text", "text": "<image name=a>"},
        {"type": "input_image", "image_url": "data:image/png;base64,aGVsbG8h"},
        {"type": "input_text", "text": "</image>"},
        {"type": "input_text", "text": "look"},
    ]
    events = run(item("message", role="user", content=content), event("user_message", message="look", images=["x"]))
    assert of(events, "content")[0]["base64"] == "aGVsbG8h"
    (told,) = of(events, "agent_output")
    assert "[image/png, 6 bytes]" in told["text"]


# ---- calls and results


def test_a_call_and_its_result_are_paired_by_call_id() -> None:
    events = run(function("exec_command", {"cmd": "ls"}, "a"), function("exec_command", {"cmd": "pwd"}, "b"),
                 output("x", "b"), output("y", "a"))  # fmt: skip
    assert [told["tool_use_id"] for told in of(events, "agent_tool_result")] == ["b", "a"]
    assert of(events, "agent_tool_call")[0]["title"] == "Shell: ls"
    assert of(events, "agent_tool_result")[0]["duration_ms"] == 2000


OUTPUTS = [
    ('{"output":"a\\n","metadata":{"exit_code":1,"duration_seconds":0.5}}', Output("a\n", False, 1, 500)),
    (
        "Chunk ID: 1\nWall time: 2.8552 seconds\nProcess exited with code 0\nOriginal token count: 6\nOutput:\na\nb",
        Output("a\nb", True, 0, 2855),
    ),
    ("Exit code: 0\nWall time: 0 seconds\nOutput:\nSuccess", Output("Success", True, 0, 0)),
    ("Chunk ID: 1\nWall time: 1 seconds\nProcess running with session ID 3\nOutput:\n", Output("", None, None, 1000)),
    ("Wall time: 2.3 seconds\naborted by user", Output("aborted by user", False, None, 2300)),
    ("Plan updated", Output("Plan updated")),
    ("unsupported call: update_plan", Output("unsupported call: update_plan", False)),
    ('{"output": 5}', Output('{"output": 5}')),
    ('{"output": broken', Output('{"output": broken')),
    ("Output:\nmine", Output("mine")),
    ("first\nOutput:\nmine", Output("first\nOutput:\nmine")),
    ("Exit code: many\nOutput:\nx", Output("x")),
    ("", Output("")),
    (None, Output("")),
    ({"content": "x", "success": False}, Output("x", False)),
    (
        [{"type": "input_text", "text": "Wall time: 0.0017 seconds\nOutput:"}, {"type": "input_text", "text": "echo"}],
        Output("echo", None, None, 2),
    ),
    ([{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}], Output("a\nb")),
]


@pytest.mark.parametrize(("value", "expected"), OUTPUTS)
def test_outputs_are_strings_json_in_strings_lists_and_objects(value: Any, expected: Output) -> None:
    assert output_of(value) == expected


def test_an_image_in_an_output_is_handed_on_whole() -> None:
    found = output_of([{"type": "input_image", "image_url": "data:image/png;base64,aGVsbG8h"}])
    assert (found.text, [(whole.media_type, whole.data) for whole in found.whole]) == (
        "[image/png, 6 bytes]", [("image/png", "aGVsbG8h")],
    )  # fmt: skip


def test_a_failed_command_has_its_exit_code() -> None:
    events = run(function("shell", {"command": ["bash", "-lc", "false"]}),
                 output('{"output":"","metadata":{"exit_code":1,"duration_seconds":0.0}}'))  # fmt: skip
    (result,) = of(events, "agent_tool_result")
    assert (result["ok"], result["exit_code"]) == (False, 1)
    assert [(told["rank"], told["message"]) for told in of(events, "error")] == [("tool", "exit status 1")]


def test_arguments_that_are_no_json_are_kept_as_they_are() -> None:
    (call,) = of(run(function("shell", "[redacted]")), "agent_tool_call")
    assert call["input"] == {"arguments": "[redacted]"}


def test_what_the_program_noted_makes_the_result_better() -> None:
    events = run(function("exec_command", {"cmd": "x"}),
                 noted("CommandExecution", command=["bash", "-lc", "x"], status="failed", exit_code=3,
                       aggregated_output="all of it", duration={"secs": 1, "nanos": 0}),
                 output("Process exited with code 3\nOutput:\nall …"))  # fmt: skip
    (result,) = of(events, "agent_tool_result")
    assert (result["content"], result["exit_code"], result["ok"], result["duration_ms"]) == (
        "all of it", 3, False, 1000,
    )  # fmt: skip


def test_what_the_program_noted_stands_for_a_result_that_never_came() -> None:
    events = run(function("exec_command", {"cmd": "x"}),
                 noted("CommandExecution", command=["x"], exit_code=0, aggregated_output="a"))  # fmt: skip
    (result,) = of(events, "agent_tool_result")
    assert (result["tool_use_id"], result["content"], result["exit_code"]) == ("c1", "a", 0)


def test_what_the_program_noted_of_a_call_that_the_model_did_not_make_is_told() -> None:
    events = run(noted("CommandExecution", command=["bash", "-lc", "ls"], exit_code=0, aggregated_output="a"))
    assert types(events)[1:3] == ["agent_tool_call", "agent_tool_result"]
    assert of(events, "agent_tool_call")[0]["title"] == "Shell: ls"


def test_what_the_program_noted_after_the_result_is_not_told_again() -> None:
    events = run(function("exec_command", {"cmd": "x"}), output("aborted by user"),
                 noted("CommandExecution", command=["x"], exit_code=-1, aggregated_output="a"))  # fmt: skip
    assert types(events).count("agent_tool_result") == 1


def test_an_mcp_failure_is_known_by_what_the_program_noted() -> None:
    told = {"content": [{"type": "text", "text": "no"}], "isError": True}
    events = run(function("fail", {"text": "x"}, namespace="mcp__demo"),
                 noted("McpToolCall", server="demo", tool="fail", arguments={}, status="failed", result=told),
                 output([{"type": "input_text", "text": "no"}]))  # fmt: skip
    assert of(events, "agent_tool_call")[0]["title"] == "demo/fail: x"
    assert of(events, "agent_tool_result")[0]["ok"] is False


def test_a_call_killed_under_way_stays_open() -> None:
    assert types(run(function("exec_command", {"cmd": "x"})))[1:] == ["agent_tool_call", "run_completed"]


def test_a_question_of_the_model_waits_for_a_human() -> None:
    asked = {"questions": [{"id": "q", "question": "Which?"}]}
    events = run(function("request_user_input", asked))
    assert of(events, "permission_request")[0]["reason"] == "Which?"


def test_a_web_search_without_a_call_id_is_a_call_and_its_result_once() -> None:
    action = {"type": "search", "query": "rust"}
    events = run(event("web_search_end", call_id="ws_1", query="rust", action=action),
                 item("web_search_call", status="completed", action=action))  # fmt: skip
    assert [call["title"] for call in of(events, "agent_tool_call")] == ["Web search: rust"]
    assert types(events).count("agent_tool_result") == 1


def test_a_local_shell_call_and_its_output() -> None:
    action = {"type": "exec", "command": ["bash", "-lc", "ls"]}
    events = run(item("local_shell_call", call_id="c1", status="completed", action=action), output("x"))
    assert (of(events, "agent_tool_call")[0]["title"], of(events, "agent_tool_result")[0]["name"]) == (
        "Shell: ls", "local_shell",
    )  # fmt: skip


def test_a_generated_image_is_a_call_and_handed_on_whole() -> None:
    events = run(item("image_generation_call", id="ig", status="completed", revised_prompt="cat", result="aGVsbG8h"))
    assert of(events, "agent_tool_call")[0]["title"] == "Image: cat"
    assert of(events, "content")[0]["base64"] == "aGVsbG8h"


# ---- files and the plan

PATCH = "*** Begin Patch\n*** Update File: a.txt\n@@\n x\n-y\n+Y\n+z\n*** End Patch\n"


def test_an_apply_patch_as_a_custom_tool_is_an_edit_with_counts() -> None:
    events = run(item("custom_tool_call", name="apply_patch", input=PATCH, call_id="c1", status="completed"),
                 item("custom_tool_call_output", call_id="c1", output="Exit code: 0\nOutput:\nSuccess"))  # fmt: skip
    assert of(events, "agent_tool_call")[0]["kind"] == "edit"
    assert of(events, "file_changed") == [
        {"path": "/w/a.txt", "change": "modified", "source": "tool", "tool_use_id": "c1", "added": 2, "removed": 1}
    ]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("apply_patch", {"input": PATCH}),
        ("shell", {"command": ["bash", "-lc", f"apply_patch <<'EOF'\n{PATCH}EOF"]}),
        ("shell", {"command": ["apply_patch", PATCH]}),
        ("exec_command", {"cmd": f"apply_patch <<'EOF'\n{PATCH}EOF"}),
        ("shell_command", {"command": f"cd /w && apply_patch <<'EOF'\n{PATCH}EOF"}),
    ],
)
def test_an_apply_patch_as_a_function_or_a_heredoc_is_an_edit_too(name: str, arguments: Line) -> None:
    events = run(function(name, arguments), output('{"output":"Success","metadata":{"exit_code":0}}'))
    (call,), (told,) = of(events, "agent_tool_call"), of(events, "file_changed")
    assert (call["kind"], call["title"]) == ("edit", "Edit: /w/a.txt")
    assert (told["path"], told["added"], told["removed"]) == ("/w/a.txt", 2, 1)


def test_a_patch_that_failed_changed_nothing() -> None:
    failed = item("custom_tool_call_output", call_id="c1", output="apply_patch verification failed: no")
    events = run(item("custom_tool_call", name="apply_patch", input=PATCH, call_id="c1"), failed)
    assert (of(events, "file_changed"), of(events, "agent_tool_result")[0]["ok"]) == ([], False)


def test_the_diff_that_the_program_noted_is_better_than_the_patch() -> None:
    diff = "@@ -1,2 +1,2 @@\n x\n-y\n+Y\n"
    events = run(item("custom_tool_call", name="apply_patch", input=PATCH, call_id="c1"),
                 event("patch_apply_end", call_id="c1", success=True, stdout="ok", stderr="",
                       changes={"/real/a.txt": {"type": "update", "unified_diff": diff, "move_path": None}}),
                 item("custom_tool_call_output", call_id="c1", output="Success"))  # fmt: skip
    (told,) = of(events, "file_changed")
    assert (told["path"], told["added"], told["removed"], told["patch"]) == ("/real/a.txt", 1, 1, diff)


def test_update_plan_is_the_plan_only_when_it_succeeded() -> None:
    plan = {"plan": [{"step": "Read", "status": "completed"}, {"step": "Run", "status": "in_progress"}]}
    (told,) = of(run(function("update_plan", plan), output("Plan updated")), "progress_update")
    assert (told["done"], told["total"], told["current"]) == (1, 2, "Run")
    assert of(run(function("update_plan", plan), output("unsupported call: update_plan")), "progress_update") == []


# ---- tokens, turns, the rest


def test_the_first_token_count_is_null_and_repeats_say_nothing() -> None:
    events = run(event("token_count", info=None), total(1000, 400, 50), total(1000, 400, 50))
    assert of(events, "usage_update") == [
        {"model": "gpt-5.5", "input_tokens": 600, "output_tokens": 50, "cache_read_tokens": 400, "cumulative": True,
         "context_used": 7}
    ]  # fmt: skip


def test_a_token_usage_record_and_a_token_count_tell_one_total() -> None:
    told = {"input_tokens": 1000, "cached_input_tokens": 400, "output_tokens": 50}
    record = line(
        "token_usage_record", {"thread_id": SESSION, "usage": {"input_tokens": 7}, "thread_token_usage": told}
    )
    other = line("token_usage_record", {"thread_id": "sub", "thread_token_usage": {"input_tokens": 9}})
    assert len(of(run(record, other, total(1000, 400, 50)), "usage_update")) == 1


def test_a_turn_used_what_the_total_grew_by() -> None:
    events = run(event("task_started"), total(1000, 0, 50), event("task_complete", last_agent_message="a"),
                 event("task_started"), total(1500, 0, 80), event("task_complete", last_agent_message="b"))  # fmt: skip
    assert [(turn["result"], turn["usage"]["input_tokens"]) for turn in of(events, "run_iteration")] == [
        ("a", 1000), ("b", 500),
    ]  # fmt: skip
    assert of(events, "run_completed")[0]["usage"]["input_tokens"] == 1500


def test_a_task_s_end_has_its_result_and_its_duration() -> None:
    events = run(message("done"), event("task_complete", last_agent_message=None, duration_ms=176))
    (turn,) = of(events, "run_iteration")
    assert (turn["result"], turn["duration_ms"], events[-1]["payload"]["duration_ms"]) == ("done", 176, 176)


def test_an_aborted_turn_is_cancelled() -> None:
    events = run(event("turn_aborted", reason="interrupted", duration_ms=5))
    assert (events[-1]["type"], of(events, "run_iteration")[0]["error"]) == (
        "run_cancelled",
        "the turn was interrupted",
    )


def test_an_old_rollout_has_no_end_of_a_turn() -> None:
    assert run(message("hi"))[-1]["payload"]["incomplete"] == "no result from the agent"


def test_a_compaction_is_told_once() -> None:
    events = run(line("compacted", {"message": "", "replacement_history": []}), event("context_compacted"))
    assert of(events, "agent_log_entry") == [{"level": "info", "message": "context compacted", "source": "compact"}]


@pytest.mark.parametrize(
    "silent",
    [
        line("world_state", {"full": True}),
        event("thread_settings_applied"),
        event("item_completed", item={"type": "Plan", "id": "p", "text": "x"}),
        item("ghost_snapshot", ghost_commit={}),
        item("compaction", encrypted_content="x"),
    ],
)
def test_copies_of_state_say_nothing(silent: Line) -> None:
    assert types(run(silent)) == ["run_started", "run_completed"]


@pytest.mark.parametrize(
    "odd",
    [line("hologram", {}), item("hologram"), event("hologram"), event("item_completed", item={"type": "Hologram"})],
)
def test_what_is_not_known_is_kept(odd: Line) -> None:
    (told,) = of(run(odd), "raw")
    assert "ologram" in told["reason"]


# ---- the shape before September 2025


def test_items_without_an_envelope() -> None:
    events = parsed(
        {"id": SESSION, "timestamp": T.format(0), "instructions": None, "git": {}},
        {"record_type": "state"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "go"}]},
        {"type": "function_call", "name": "shell", "arguments": '{"command":["ls"]}', "call_id": "c1"},
        {"type": "function_call_output", "call_id": "c1",
         "output": '{"output":"a","metadata":{"exit_code":0,"duration_seconds":0.1}}'},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "done"}]},
    )  # fmt: skip
    assert events[0]["run_id"] == f"{SESSION}/transcript"
    assert types(events)[1:-1] == ["agent_output", "agent_tool_call", "agent_tool_result", "agent_output"]


# ---- telling it apart


@pytest.mark.parametrize(
    ("found", "sureness"),
    [
        (meta(), Sureness.SURE),
        (CONTEXT, Sureness.SURE),
        (message("x"), Sureness.SURE),
        (event("token_count"), Sureness.SURE),
        (line("hologram", {}), Sureness.LIKELY),
        ({"type": "session_meta", "payload": {}}, Sureness.LIKELY),
        ({"type": "hologram", "payload": {}}, Sureness.NO),
        ({"type": "message", "role": "user", "content": "x", "timestamp": T.format(0)}, Sureness.NO),
        ({"type": "message", "content": [{"type": "input_text"}]}, Sureness.LIKELY),
        ({"type": "agent_output", "timestamp": T.format(0), "payload": {}, "run_id": "r"}, Sureness.NO),
        ({"type": []}, Sureness.NO),
        ({}, Sureness.NO),
    ],
)
def test_what_is_its_own(found: Line, sureness: Sureness) -> None:
    assert CodexRollout.recognises(found) is sureness


@pytest.mark.parametrize("odd", [None, 1, "x", [], {}, [[]], {"a": {}}])
def test_no_shape_of_json_makes_it_raise(odd: Any) -> None:
    fields = ("role", "content", "name", "arguments", "input", "call_id", "id", "output", "action", "summary", "status",
              "result", "info", "message", "text", "item", "changes", "command", "exit_code", "duration", "reason",
              "last_agent_message", "source", "thread_token_usage", "usage", "model", "cwd")  # fmt: skip
    told = dict.fromkeys(fields, odd)
    kinds = ("message", "reasoning", "function_call", "function_call_output", "custom_tool_call", "local_shell_call",
             "custom_tool_call_output", "web_search_call", "image_generation_call", "tool_search_call",
             "tool_search_output", "agent_message")  # fmt: skip
    events = ("user_message", "agent_message", "agent_reasoning", "token_count", "task_complete", "turn_aborted",
              "patch_apply_end", "exec_command_end", "mcp_tool_call_end", "web_search_end",
              "item_completed")  # fmt: skip
    items_ = ("AgentMessage", "UserMessage", "Reasoning", "CommandExecution", "FileChange", "McpToolCall", "WebSearch")
    lines = [item(kind, **told) for kind in kinds] + [event(kind, **told) for kind in events]
    lines += [event("item_completed", item={**told, "type": kind}) for kind in items_]
    lines += [line(kind, {**told}) for kind in ("session_meta", "turn_context", "compacted", "token_usage_record")]
    data = encoded([meta(), CONTEXT, *lines])
    assert types([decode(found.line) for found in parsed_bytes(data, stage())])[-1].startswith("run_")
