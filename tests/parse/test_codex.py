"""``codex exec --json`` and its quirks, one test each, by the lines that show them."""

from pathlib import Path
from typing import Any

import pytest

from agentpipe.event import decode
from agentpipe.parse.adapter import Sureness
from agentpipe.parse.agents.apply_patch import Edit, patched, scripted
from agentpipe.parse.codex.changes import listed, mapped
from agentpipe.parse.codex.stream import Codex
from agentpipe.parse.codex.words import problem_of, unwrapped
from tests.parse.lines import Line, encoded, of, parsed, parsed_bytes, stage, types, wrapped

THREAD = "01a1-thread"
STARTED: Line = {"type": "thread.started", "thread_id": THREAD}
TURN: Line = {"type": "turn.started"}


def usage(given: int, cached: int, output: int, **more: int) -> Line:
    told = {"input_tokens": given, "cached_input_tokens": cached, "output_tokens": output, **more}
    return {"type": "turn.completed", "usage": told}


DONE = usage(1000, 400, 50)


def item(kind: str, phase: str = "completed", item_id: str = "item_0", **more: Any) -> Line:
    return {"type": f"item.{phase}", "item": {"id": item_id, "type": kind, **more}}


def said(text: str, item_id: str = "item_0", **more: Any) -> Line:
    return item("agent_message", "completed", item_id, text=text, **more)


def command(phase: str = "completed", item_id: str = "item_1", **more: Any) -> Line:
    told: Line = {
        "command": "/bin/bash -lc 'ls -l'",
        "aggregated_output": "",
        "exit_code": None,
        "status": "in_progress",
    }
    if phase == "completed":
        told |= {"aggregated_output": "a\n", "exit_code": 0, "status": "completed"}
    return item("command_execution", phase, item_id, **{**told, **more})


def run(*lines: Line | str, **options: Any) -> list[Line]:
    return parsed(STARTED, TURN, *lines, **options)


# ---- the thread, its turns and its end


def test_the_thread_is_the_run_and_no_model_cwd_or_cost_is_made_up() -> None:
    events = run(said("hi"), DONE)
    assert events[0]["run_id"] == THREAD
    assert events[0]["payload"] == {"schema": "agentpipe/1", "agent": "codex", "session_id": THREAD}
    assert of(events, "run_completed")[0].keys() == {"duration_ms", "reason", "turns", "result", "usage"}


def test_a_turn_s_end_tells_its_last_text_as_result() -> None:
    (turn,) = of(run(said("first"), said("last", "item_1"), DONE), "run_iteration")
    assert (turn["turn"], turn["ok"], turn["result"]) == (1, True, "last")


def test_input_tokens_of_the_wire_include_the_cached_ones() -> None:
    (told,) = of(run(usage(1000, 400, 50, cache_write_input_tokens=100)), "usage_update")
    assert told == {
        "input_tokens": 500, "output_tokens": 50, "cache_read_tokens": 400, "cache_write_tokens": 100,
        "cumulative": True,
    }  # fmt: skip


def test_usage_is_the_thread_s_running_total_and_never_summed() -> None:
    events = run(usage(1000, 400, 50), TURN, usage(1500, 400, 80))
    assert [turn["usage"] for turn in of(events, "run_iteration")] == [
        {"input_tokens": 600, "output_tokens": 50, "cache_read_tokens": 400},
        {"input_tokens": 500, "output_tokens": 30, "cache_read_tokens": 0},
    ]
    expected = {"input_tokens": 1100, "output_tokens": 80, "cache_read_tokens": 400}
    assert of(events, "run_completed")[0]["usage"] == expected


def test_a_resumed_thread_goes_on_with_its_total_in_the_next_process() -> None:
    events = parsed(STARTED, TURN, usage(1000, 0, 50), STARTED, TURN, usage(1800, 0, 90))
    assert types(events).count("run_started") == 1
    assert of(events, "run_iteration")[1]["usage"] == {"input_tokens": 800, "output_tokens": 40, "cache_read_tokens": 0}
    assert of(events, "run_completed")[0]["usage"]["input_tokens"] == 1800


def test_two_threads_in_one_process_of_run_are_added_up() -> None:
    other = {"type": "thread.started", "thread_id": "other"}
    events = parsed(*wrapped([STARTED, TURN, usage(1000, 0, 50), other, TURN, usage(300, 0, 10)]))
    assert of(events, "run_completed")[0]["usage"] == {
        "input_tokens": 1300, "output_tokens": 60, "cache_read_tokens": 0,
    }  # fmt: skip


def test_two_threads_in_one_pipe_are_two_runs() -> None:
    other = {"type": "thread.started", "thread_id": "other"}
    events = run(said("one"), DONE, other, TURN, said("two"), DONE)
    told = [(event["run_id"], event["payload"]["text"]) for event in events if event["type"] == "agent_output"]
    assert told == [(THREAD, "one"), ("other", "two")]
    assert types(events).count("run_completed") == 2


def test_a_killed_run_leaves_its_items_open_and_is_incomplete() -> None:
    events = run(said("wait"), command("started"))
    assert types(events)[-2:] == ["agent_tool_call", "run_completed"]
    assert events[-1]["payload"]["incomplete"] == "no result from the agent"


def test_a_second_turn_without_an_end_is_incomplete() -> None:
    assert run(DONE, TURN, said("hm"))[-1]["payload"]["incomplete"] == "the last turn has no end"


def test_an_interrupted_process_is_cancelled() -> None:
    events = parsed(*wrapped([STARTED, TURN, command("started")], exit_code=1, signal=None, reason="signal"))
    assert events[-1]["type"] == "run_cancelled"


def test_an_error_before_the_thread_does_not_start_the_run_without_its_id() -> None:
    events = parsed({"type": "error", "message": "config is odd"}, STARTED, TURN, DONE)
    assert {event["run_id"] for event in events} == {THREAD}
    assert types(events)[:2] == ["run_started", "error"]


# ---- errors by rank


def test_reconnecting_is_a_warning_with_its_attempt_and_not_the_end() -> None:
    line = {"type": "error", "message": "Reconnecting... 2/5 (exceeded retry limit, last status: 429)"}
    events = run(line, said("Recovered."), DONE)
    assert of(events, "error") == [
        {"rank": "warning", "message": line["message"], "code": "reconnecting", "attempt": 2}
    ]
    assert events[-1]["type"] == "run_completed"


def test_reconnecting_without_a_count_is_a_warning_too() -> None:
    (told,) = of(run({"type": "error", "message": "Reconnecting... waiting for network (no route)"}), "error")
    assert (told["rank"], "attempt" in told) == ("warning", False)


def test_a_retry_of_an_old_version_tells_how_long_it_waits() -> None:
    line = {"type": "error", "message": "stream error: cut off; retrying 1/5 in 187ms…"}
    (told,) = of(run(line), "error")
    assert (told["rank"], told["attempt"], told["retry_in_ms"]) == ("warning", 1, 187)


def test_an_item_error_is_a_warning() -> None:
    (told,) = of(run(item("error", message="Model metadata not found."), DONE), "error")
    assert told == {"rank": "warning", "message": "Model metadata not found."}


def test_the_same_text_in_error_and_turn_failed_is_the_agents_failure_and_the_turns() -> None:
    text = "You've hit your usage limit."
    events = run({"type": "error", "message": text}, {"type": "turn.failed", "error": {"message": text}})
    assert of(events, "error") == [{"rank": "agent", "message": text}, {"rank": "turn", "message": text}]
    assert of(events, "run_iteration") == [{"turn": 1, "ok": False, "error": text}]
    assert (events[-1]["type"], events[-1]["payload"]["error"]) == ("run_failed", text)


def test_a_turn_that_failed_without_an_error_line_is_told() -> None:
    events = run({"type": "turn.failed", "error": {"message": "no"}})
    assert of(events, "error") == [{"rank": "turn", "message": "no"}]


def test_an_error_text_that_is_json_is_told_by_its_message() -> None:
    text = '{"type":"error","status":400,"error":{"type":"invalid_request_error","message":"upgrade"}}'
    events = run({"type": "error", "message": text}, {"type": "turn.failed", "error": {"message": text}})
    assert of(events, "error") == [
        {"rank": "agent", "message": "upgrade", "code": "invalid_request_error", "status": 400},
        {"rank": "turn", "message": "upgrade", "code": "invalid_request_error"},
    ]
    assert of(events, "run_iteration")[0]["error"] == events[-1]["payload"]["error"] == "upgrade"


def test_an_error_after_which_nothing_comes_fails_the_run() -> None:
    events = run({"type": "error", "message": "gone"})
    assert (events[-1]["type"], events[-1]["payload"]["error"]) == ("run_failed", "gone")
    assert events[-1]["payload"]["incomplete"] == "no result from the agent"


# ---- commands


def test_a_command_has_its_exit_code_and_no_wrapper_in_its_title() -> None:
    events = run(command("started"), command(), DONE)
    (call,), (result,) = of(events, "agent_tool_call"), of(events, "agent_tool_result")
    assert (call["kind"], call["title"], call["input"]) == (
        "execute", "Shell: ls -l", {"command": "/bin/bash -lc 'ls -l'"},
    )  # fmt: skip
    assert (result["ok"], result["exit_code"], result["content"]) == (True, 0, "a\n")


def test_a_failed_command_is_a_failed_tool_and_the_run_goes_on() -> None:
    events = run(command("started"), command(exit_code=2, status="failed", aggregated_output=""), DONE)
    assert (of(events, "agent_tool_result")[0]["ok"], of(events, "agent_tool_result")[0]["exit_code"]) == (False, 2)
    assert [(told["rank"], told["message"]) for told in of(events, "error")] == [("tool", "exit status 2")]
    assert events[-1]["type"] == "run_completed"


def test_a_command_that_was_cut_off_has_no_exit_code() -> None:
    (result,) = of(run(command("started"), command(exit_code=None)), "agent_tool_result")
    assert "exit_code" not in result
    assert result["detail"] == {"status": "completed"}


def test_a_declined_command_is_a_failed_tool() -> None:
    events = run(command("started"), command(exit_code=None, status="declined", aggregated_output=""))
    assert (of(events, "agent_tool_result")[0]["detail"], of(events, "error")[0]["message"]) == (
        {"status": "declined"}, "the command was declined",
    )  # fmt: skip


def test_items_complete_out_of_order() -> None:
    events = run(command("started", "a"), command("started", "b"), command("completed", "b"), command("completed", "a"))
    assert [result["tool_use_id"] for result in of(events, "agent_tool_result")] == ["b", "a"]
    assert types(events).count("agent_tool_call") == 2


def test_a_command_that_is_only_completed_is_a_call_and_its_result() -> None:
    assert types(run(command(), DONE))[1:3] == ["agent_tool_call", "agent_tool_result"]


def test_ids_restart_in_every_process() -> None:
    lines = [STARTED, TURN, command("started"), STARTED, TURN, command("started"), command(), DONE]
    events = parsed(*lines)
    assert [call["tool_use_id"] for call in of(events, "agent_tool_call")] == ["item_1", "item_1~2"]
    assert [result["tool_use_id"] for result in of(events, "agent_tool_result")] == ["item_1~2"]


@pytest.mark.parametrize(
    ("command_", "shown"),
    [
        ("/bin/zsh -lc 'git status --short'", "git status --short"),
        ("bash -lc \"sed -n '1,200p' calc.py\"", "sed -n '1,200p' calc.py"),
        ("/bin/bash -lc \"echo \\\"a\\\" \\$HOME\"", 'echo "a" $HOME'),
        ("/bin/bash -c 'it'\"'\"'s'", "it's"),
        ("/bin/bash -lc ls", "ls"),
        ("pwsh.exe -Command 'Get-Item x'", "Get-Item x"),
        ("powershell -NoProfile -Command \"dir\"", "dir"),
        ("cmd.exe /c dir", "dir"),
        ("python -c 'print(1)'", "python -c 'print(1)'"),
        ("bashful run", "bashful run"),
        (["bash", "-lc", "cat README.md"], "cat README.md"),
        (["git", "status"], "git status"),
        (None, ""),
    ],
)  # fmt: skip
def test_shell_wrappers_are_taken_off_for_people(command_: Any, shown: str) -> None:
    assert unwrapped(command_) == shown


# ---- files


def changed(phase: str, *changes: Line, **more: Any) -> Line:
    status = {"started": "in_progress", "completed": "completed"}[phase]
    return item("file_change", phase, "item_2", changes=list(changes), **{"status": status, **more})


def test_a_file_change_without_content_has_no_counts() -> None:
    change = {"path": "/w/a.py", "kind": "update"}
    events = run(changed("started", change), changed("completed", change))
    assert of(events, "file_changed") == [
        {"path": "/w/a.py", "change": "modified", "source": "tool", "tool_use_id": "item_2"}
    ]
    assert (of(events, "agent_tool_call")[0]["kind"], of(events, "agent_tool_call")[0]["title"]) == (
        "edit", "Edit: /w/a.py",
    )  # fmt: skip


def test_a_file_change_with_its_diff_is_counted() -> None:
    diff = "@@ -1,2 +1,2 @@\n a\n-b\n+B\n"
    (told,) = of(run(changed("completed", {"path": "a", "kind": "update", "diff": diff})), "file_changed")
    assert (told["added"], told["removed"], told["patch"]) == (1, 1, diff)


def test_an_old_version_tells_a_file_change_only_when_it_is_completed() -> None:
    events = run(changed("completed", {"path": "a", "kind": "add"}, {"path": "b", "kind": "delete"}))
    assert types(events)[1:5] == ["agent_tool_call", "agent_tool_result", "file_changed", "file_changed"]
    assert [told["change"] for told in of(events, "file_changed")] == ["created", "deleted"]


def test_a_failed_file_change_changed_nothing() -> None:
    events = run(changed("completed", {"path": "a", "kind": "add"}, status="failed"))
    assert of(events, "file_changed") == []
    assert of(events, "error")[0]["message"] == "the change failed"


def test_a_moved_file_is_renamed() -> None:
    kind = {"type": "update", "move_path": "/w/new"}
    assert listed([{"path": "/w/old", "kind": kind}]) == [Edit("/w/new", "renamed", None, "", "/w/old")]


def test_changes_as_a_map_of_today_and_of_2025() -> None:
    assert mapped({"/a": {"type": "add", "content": "1\n2\n"}}) == [Edit("/a", "created", (2, 0))]
    assert mapped({"/a": {"delete": {"content": "1\n"}}}) == [Edit("/a", "deleted", (0, 1))]
    diff = "@@ -1 +1 @@\n-a\n+b\n"
    assert mapped({"/a": {"update": {"unified_diff": diff, "move_path": None}}}) == [
        Edit("/a", "modified", (1, 1), diff)
    ]


PATCH = """*** Begin Patch
*** Add File: new.txt
+one
+two
*** Update File: src/a.py
*** Move to: src/b.py
@@ def f():
 same
-old
+new
+more
*** Delete File: /abs/gone.txt
*** End Patch
"""


def test_the_text_of_an_apply_patch_is_counted_by_file() -> None:
    assert patched(PATCH, "/w") == [
        Edit("/w/new.txt", "created", (2, 0)),
        Edit("/w/src/b.py", "renamed", (2, 1), "", "/w/src/a.py"),
        Edit("/abs/gone.txt", "deleted", None),
    ]


def test_a_patch_in_a_shell_command_is_an_edit_and_other_commands_are_none() -> None:
    heredoc = f"apply_patch <<'EOF'\n{PATCH}EOF\n"
    assert scripted(["bash", "-lc", heredoc])[0].path == "new.txt"
    assert scripted(f"cd /x && {heredoc}")[0].path == "/x/new.txt"
    assert scripted(["apply_patch", PATCH])[0].path == "new.txt"
    assert scripted(f"cat > note <<'EOF'\n{PATCH}EOF") == []


# ---- other items


def test_a_todo_list_is_the_plan_and_its_repeat_says_nothing() -> None:
    steps = [{"text": "Read", "completed": True}, {"text": "Run", "completed": False}]
    events = run(item("todo_list", "started", items=steps), item("todo_list", "completed", items=steps))
    (told,) = of(events, "progress_update")
    assert (told["done"], told["total"], told["percent"]) == (1, 2, 50.0)
    assert told["items"] == [{"text": "Read", "status": "completed"}, {"text": "Run", "status": "pending"}]


def test_an_mcp_call_reads_as_claude_s() -> None:
    told = {"server": "demo", "tool": "echo", "arguments": {"text": "hi"}}
    done = {**told, "status": "completed", "error": None,
            "result": {"content": [{"type": "text", "text": "echo: hi"}], "structured_content": None}}  # fmt: skip
    events = run(item("mcp_tool_call", "started", **told, result=None), item("mcp_tool_call", **done))
    (call,), (result,) = of(events, "agent_tool_call"), of(events, "agent_tool_result")
    assert (call["name"], call["title"]) == ("mcp__demo__echo", "demo/echo: hi")
    assert (result["ok"], result["content"]) == (True, "echo: hi")


def test_an_mcp_call_that_codex_could_not_make_says_why() -> None:
    events = run(item("mcp_tool_call", server="d", tool="x", error={"message": "no server"}, status="failed"))
    assert of(events, "error")[0]["message"] == "no server"


def test_an_image_of_an_mcp_tool_is_handed_on_whole() -> None:
    block = {"type": "image", "data": "aGVsbG8h", "mimeType": "image/png"}
    events = run(item("mcp_tool_call", server="d", tool="x", result={"content": [block]}, status="completed"))
    assert of(events, "content")[0]["base64"] == "aGVsbG8h"
    assert of(events, "agent_tool_result")[0]["content"] == "[image/png, 6 bytes]"


def test_a_web_search_with_its_id_twice_is_paired_by_the_last() -> None:
    started = (
        '{"type":"item.started","item":{"id":"item_2","type":"web_search","id":"ws_1","query":"",'
        '"action":{"type":"other"}}}'
    )
    ended = (
        '{"type":"item.completed","item":{"id":"item_3","type":"web_search","id":"ws_1","query":"rust",'
        '"action":{"type":"search","query":"rust"}}}'
    )
    events = run(started, ended)
    assert [call["tool_use_id"] for call in of(events, "agent_tool_call")] == ["ws_1"]
    (result,) = of(events, "agent_tool_result")
    assert (result["tool_use_id"], result["content"], result["kind"]) == ("ws_1", "rust", "fetch")


def test_a_sub_agent_is_a_call_in_the_background() -> None:
    told = {"tool": "spawn_agent", "prompt": "count files", "receiver_thread_ids": ["t2"], "agents_states": {}}
    states = {"t2": {"status": "completed", "message": "3 files"}}
    waited = {"tool": "wait", "receiver_thread_ids": ["t2"], "agents_states": states, "status": "completed"}
    events = run(item("collab_tool_call", "started", **told), item("collab_tool_call", **told, status="completed"),
                 item("collab_tool_call", "completed", "item_5", **waited))  # fmt: skip
    spawn, wait = of(events, "agent_tool_call")
    assert (spawn["kind"], spawn["title"], spawn["background"]) == ("think", "spawn_agent: count files", True)
    assert "background" not in wait
    assert of(events, "agent_tool_result")[1]["content"] == "t2: completed: 3 files"


def test_a_question_of_the_model_waits_for_a_human() -> None:
    asked = [{"id": "q", "question": "Which one?", "options": []}]
    (told,) = of(
        run({"type": "request_user_input", "id": "1", "call_id": "c", "questions": asked}), "permission_request"
    )
    assert told == {
        "name": "request_user_input", "input": {"questions": asked}, "tool_use_id": "c", "reason": "Which one?",
    }  # fmt: skip


def test_a_plan_that_comes_in_parts_is_told_as_chunks_and_a_whole() -> None:
    delta = {"type": "item.plan.delta", "item_id": "item_0", "delta": "1. "}
    events = run(delta, {**delta, "delta": "Read"}, item("plan", text="1. Read"), DONE)
    told = [(text["text"], text["final"]) for text in of(events, "agent_output")]
    assert told == [("1. ", False), ("Read", False), ("1. Read", True)]
    assert of(events, "agent_output")[-1]["plan"] is True


def test_a_message_s_phase_is_kept_and_a_reasoning_is_thinking() -> None:
    line = said("done")
    line["item"]["phase"] = "final_answer"
    events = run(line, item("reasoning", text="hm", item_id="item_1"))
    assert of(events, "agent_output")[0]["phase"] == "final_answer"
    assert of(events, "agent_thinking")[0]["text"] == "hm"


def test_an_unknown_item_is_kept() -> None:
    (told,) = of(run(item("hologram", beam=1)), "raw")
    assert (told["reason"], told["data"]["item"]["beam"]) == ("unknown item 'hologram'", 1)


@pytest.mark.parametrize("broken", [item("agent_message", text=5), item("todo_list", items="x")])
def test_a_broken_item_is_kept(broken: Line) -> None:
    assert of(run(broken), "raw")[0]["data"] == broken["item"]


# ---- noise


def test_plain_diagnostics_before_the_first_line_are_log_entries() -> None:
    events = parsed("Reading prompt from stdin...", STARTED, TURN, DONE)
    assert of(events, "agent_log_entry") == [
        {"level": "info", "message": "Reading prompt from stdin...", "source": "codex"}
    ]


def test_the_program_s_log_between_the_lines_is_told_by_its_level() -> None:
    line = "\x1b[2m2026-04-01T10:00:00.000000Z\x1b[0m \x1b[31mERROR\x1b[0m codex_core::exec: exec error"
    (told,) = of(run(line, DONE), "agent_log_entry")
    assert (told["level"], told["message"]) == ("error", "codex_core::exec: exec error")


def test_a_block_of_the_log_with_json_over_many_lines_stands_between_events_unharmed() -> None:
    block = ["2026-04-01T10:00:00.000000Z  WARN codex_core::client: request failed", "{", '  "error": {', '    "a": 1',
             "  }", "}"]  # fmt: skip
    events = run(said("one"), *block, said("two", "item_1"), DONE)
    assert [text["text"] for text in of(events, "agent_output")] == ["one", "two"]
    assert [told["data"] for told in of(events, "raw")] == [{"error": {"a": 1}}]
    assert of(events, "agent_log_entry")[0]["level"] == "warn"
    assert events[-1]["type"] == "run_completed"


def test_a_line_separator_inside_a_text_is_no_line_end() -> None:
    line = '{"type":"item.completed","item":{"id":"item_0","type":"agent_message","text":"a\u2028b"}}'
    assert of(run(line), "agent_output")[0]["text"] == "a\u2028b"


# ---- older shapes


def test_item_type_and_assistant_message_of_early_versions() -> None:
    lines = [
        {"type": "session.created", "session_id": THREAD},
        {"type": "item.completed", "item": {"id": "itm_0", "item_type": "assistant_message", "text": "hi"}},
        {"type": "item.completed", "item": {
            "id": "itm_1", "item_type": "command_execution", "command": "bash -lc ls", "aggregated_output": "",
            "exit_code": 0, "status": "completed"}},
    ]  # fmt: skip
    events = parsed(*lines)
    assert events[0]["run_id"] == THREAD
    assert types(events)[1:4] == ["agent_output", "agent_tool_call", "agent_tool_result"]


def msg(kind: str, **more: Any) -> Line:
    return {"id": "0", "msg": {"type": kind, **more}}


def test_the_shape_before_september_2025() -> None:
    command_ = ["bash", "-lc", "ls"]
    change = {"/w/a": {"add": {"content": "x\n"}}}
    counts = {"input_tokens": 100, "cached_input_tokens": 60, "output_tokens": 5, "total_tokens": 105}
    events = parsed(
        {"model": "gpt-5", "workdir": "/w", "provider": "openai", "approval": "never", "sandbox": "read-only"},
        {"prompt": "look"},
        msg("task_started"),
        msg("agent_reasoning", text="hm"),
        msg("agent_message_delta", delta="I"),
        msg("agent_message", message="I look"),
        msg("exec_command_begin", call_id="c1", command=command_, cwd="/w"),
        msg("exec_command_output_delta", call_id="c1", stream="stdout", chunk=[97]),
        msg("exec_command_end", call_id="c1", stdout="a\n", stderr="", exit_code=0, duration={"secs": 1, "nanos": 5}),
        msg("patch_apply_begin", call_id="c2", auto_approved=True, changes=change),
        msg("patch_apply_end", call_id="c2", stdout="Success", stderr="", success=True),
        msg("plan_update", explanation=None, plan=[{"step": "Look", "status": "in_progress"}]),
        msg("token_count", **counts),
        msg("token_count", **counts),
        msg("task_complete", last_agent_message="I look"),
    )
    assert types(events) == [
        "run_started", "agent_output", "agent_thinking", "agent_output", "agent_output", "agent_tool_call",
        "agent_tool_result", "agent_tool_call", "agent_tool_result", "file_changed", "progress_update",
        "run_iteration", "run_completed",
    ]  # fmt: skip
    assert (events[0]["payload"]["model"], events[0]["payload"]["cwd"]) == ("gpt-5", "/w")
    chunk, final = of(events, "agent_output")[1:]
    assert (chunk["message_id"], chunk["final"], final["final"]) == (final["message_id"], False, True)
    assert (of(events, "agent_tool_call")[0]["title"], of(events, "agent_tool_result")[0]["duration_ms"]) == (
        "Shell: ls", 1000,
    )  # fmt: skip
    assert of(events, "file_changed")[0]["added"] == 1
    assert of(events, "run_completed")[0]["usage"] == {
        "input_tokens": 80, "output_tokens": 10, "cache_read_tokens": 120,
    }  # fmt: skip


def test_a_shape_before_september_2025_is_known_by_its_session() -> None:
    events = parsed(msg("session_configured", session_id="s1", model="o3"), msg("mcp_tool_call_begin", call_id="c",
                    invocation={"server": "d", "tool": "x", "arguments": {}}),
                    msg("mcp_tool_call_end", call_id="c", result={"Err": "no"}), msg("web_search_begin", call_id="w"),
                    msg("web_search_end", call_id="w", query="rust"), msg("error", message="gone"))  # fmt: skip
    assert events[0]["run_id"] == "s1"
    assert [(result["name"], result["ok"]) for result in of(events, "agent_tool_result")] == [
        ("mcp__d__x", False), ("web_search", True),
    ]  # fmt: skip
    assert events[-1]["type"] == "run_failed"


def test_a_turn_of_the_old_shape_that_ended_after_an_error_has_failed() -> None:
    lines = [msg("task_started"), msg("error", message="no quota"), msg("task_complete", last_agent_message=None)]
    events = parsed(*lines)
    assert [(p["rank"], p["message"]) for p in of(events, "error")] == [("agent", "no quota"), ("turn", "no quota")]
    assert (of(events, "run_iteration")[0]["ok"], events[-1]["type"]) == (False, "run_failed")


def test_an_approval_of_the_old_shape_waits_for_a_human() -> None:
    events = parsed(msg("exec_approval_request", call_id="c", command=["rm", "x"], cwd="/w", reason="why not"))
    assert of(events, "permission_request") == [
        {"name": "shell", "input": {"command": ["rm", "x"], "cwd": "/w"}, "tool_use_id": "c", "reason": "why not"}
    ]


# ---- one vocabulary

RECORDED = Path(__file__).parents[3] / "shared" / "recordings"


@pytest.mark.skipif(not RECORDED.exists(), reason="the recordings (../shared) are not here")
@pytest.mark.parametrize("name", ["codex/tools", "codex/mcp", "codex-0.55.0/tools", "codex-0.96.0/tools"])
def test_the_stream_and_the_rollout_of_one_session_tell_the_same(name: str) -> None:
    stream, rollout = (
        [decode(event.line) for event in parsed_bytes((RECORDED / f"{name}{end}").read_bytes())]
        for end in (".jsonl", ".transcript.jsonl")
    )
    assert rollout[0]["run_id"] == f"{stream[0]['run_id']}/transcript"
    assert _told(stream) == _told(rollout)
    assert stream[-1]["payload"].get("usage") == rollout[-1]["payload"].get("usage")


def _told(events: list[Line]) -> Line:
    """What both formats of Codex can tell: texts, commands by their title, exit status and output, files."""
    titles = {call["tool_use_id"]: call["title"] for call in of(events, "agent_tool_call")}
    done = [found for found in of(events, "agent_tool_result") if found["name"] != "update_plan"]
    kept = [(titles[found["tool_use_id"]], found["kind"], found["ok"]) for found in done]
    codes = [found.get("exit_code") for found in done if found["kind"] == "execute"]
    said = [found["text"] for found in of(events, "agent_output") if found.get("role") != "user"]
    files = [(found["path"], found["change"]) for found in of(events, "file_changed")]
    thoughts = [found["text"] for found in of(events, "agent_thinking")]
    return {"calls": sorted(kept), "codes": sorted(codes), "texts": said, "files": files, "thoughts": thoughts}


# ---- telling it apart


@pytest.mark.parametrize("line", [STARTED, TURN, DONE, said("x"), {"type": "turn.failed", "error": {}}, msg("error")])
def test_its_own_lines_are_sure(line: Line) -> None:
    assert Codex.recognises(line) is Sureness.SURE


@pytest.mark.parametrize(
    ("line", "sureness"),
    [
        ({"type": "error", "message": "x"}, Sureness.LIKELY),
        ({"type": "error", "message": "x", "severity": "warning"}, Sureness.NO),
        ({"type": "error", "message": {}}, Sureness.NO),
        ({"type": "item.new", "item": {}}, Sureness.LIKELY),
        ({"type": "assistant.turn_start", "data": {}}, Sureness.NO),
        ({"type": []}, Sureness.NO),
        ({"id": 1, "msg": {"type": "error"}}, Sureness.NO),
        ({"id": "1", "msg": {"type": []}}, Sureness.NO),
        ({}, Sureness.NO),
    ],
)
def test_what_others_print_too_is_not(line: Line, sureness: Sureness) -> None:
    assert Codex.recognises(line) is sureness


@pytest.mark.parametrize("odd", [None, 1, "x", [], {}, [[]], {"a": {}}])
def test_no_shape_of_json_makes_it_raise(odd: Any) -> None:
    kinds = ("agent_message", "command_execution", "file_change", "mcp_tool_call", "web_search", "todo_list",
             "collab_tool_call", "error", "plan", "reasoning")  # fmt: skip
    fields = ("text", "command", "aggregated_output", "exit_code", "status", "changes", "server", "tool", "arguments",
              "result", "error", "query", "action", "items", "agents_states", "message", "id")  # fmt: skip
    lines: list[Line] = [{"type": f"item.{phase}", "item": {"type": kind, **dict.fromkeys(fields, odd)}}
                         for kind in kinds for phase in ("started", "updated", "completed")]  # fmt: skip
    lines += [{"type": kind, "item": odd, "usage": odd, "error": odd, "message": odd, "questions": odd, "delta": odd}
              for kind in ("turn.completed", "turn.failed", "error", "item.started", "request_user_input",
                           "item.plan.delta")]  # fmt: skip
    whole = ("call_id", "command", "changes", "result", "invocation", "info", "plan", "message", "duration", "stdout")
    lines += [msg(kind, **dict.fromkeys(whole, odd)) for kind in ("exec_command_begin", "exec_command_end",
              "patch_apply_begin", "patch_apply_end", "mcp_tool_call_begin", "mcp_tool_call_end", "token_count",
              "plan_update", "agent_message", "task_complete", "error", "web_search_end")]  # fmt: skip
    data = encoded([STARTED, TURN, *lines, DONE])
    events = [decode(event.line) for event in parsed_bytes(data, stage())]
    assert types(events)[-1] in ("run_completed", "run_failed")


def test_a_problem_that_only_looks_like_json_stands_as_it_is() -> None:
    assert problem_of("{not json").message == "{not json"
    assert problem_of('{"a": 1}').message == '{"a": 1}'
    assert problem_of('{"error": "short"}').message == "short"
    assert problem_of('{"detail": "long"}').message == "long"
