"""The quirks of the Copilot CLI, one test each, by the lines that show them."""

from itertools import count
from typing import Any

from agentpipe.parse.adapter import Sureness
from agentpipe.parse.agents.copilot import Copilot
from agentpipe.parse.agents.copilot_tools import exit_code_of
from tests.parse.counts.copilot import counted
from tests.parse.lines import Line, call, of, parsed, types, wrapped
from tests.parse.lines import init as claude_init
from tests.parse.sessions import check

_NUMBERS = count()


def line(kind: str, data: Line | None = None, **more: Any) -> Line:
    number = next(_NUMBERS)
    return {
        "type": kind, "data": data or {}, "id": f"e{number}", "timestamp": "2026-04-28T04:11:00.000Z",
        "parentId": f"e{number - 1}", **more,
    }  # fmt: skip


def start(session: str = "s-1") -> Line:
    context = {"cwd": "/w"}
    return line(
        "session.start",
        {"sessionId": session, "copilotVersion": "1.0.40", "selectedModel": "gpt-5", "context": context},
    )


def message(content: str = "", message_id: str = "m1", **data: Any) -> Line:
    return line("assistant.message", {"messageId": message_id, "content": content, "toolRequests": [], **data})


def started(name: str, given: Any, call_id: str = "t1", **data: Any) -> Line:
    return line("tool.execution_start", {"toolCallId": call_id, "toolName": name, "arguments": given, **data})


def done(content: str = "ok", call_id: str = "t1", detailed: str = "", **data: Any) -> Line:
    result = {"content": content, "detailedContent": detailed}
    return line("tool.execution_complete", {"toolCallId": call_id, "success": True, "result": result, **data})


def failed(said: str, call_id: str = "t1", code: str = "failure") -> Line:
    problem = {"message": said, "code": code}
    return line("tool.execution_complete", {"toolCallId": call_id, "success": False, "error": problem})


def result(status: int = 0, **usage: Any) -> Line:
    return {
        "type": "result", "timestamp": "2026-04-28T04:11:09.000Z", "sessionId": "s-1", "exitCode": status,
        "usage": {"premiumRequests": 1, "totalApiDurationMs": 700, "sessionDurationMs": 900, **usage},
    }  # fmt: skip


# ---- who it is


def test_a_dotted_type_with_data_and_a_parent_is_surely_its_own() -> None:
    assert Copilot.recognises(line("assistant.turn_start")) is Sureness.SURE
    assert Copilot.recognises(line("never.seen_before")) is Sureness.SURE
    assert Copilot.recognises(result()) is Sureness.SURE
    assert Copilot.recognises({"type": "item.completed", "item": {}}) is Sureness.NO
    cloud = {"type": "com.example.thing", "data": {}, "id": "1", "specversion": "1.0", "parentId": "x"}
    assert Copilot.recognises(cloud) is Sureness.NO


def test_the_result_is_flat_and_known_by_its_exit_code() -> None:
    assert Copilot.recognises({"type": "result", "subtype": "success", "is_error": False}) is Sureness.NO


def test_a_log_that_names_its_session_first_has_its_id() -> None:
    events = parsed(start(), message("hi"), result())
    assert events[0]["run_id"] == "s-1"
    facts = events[0]["payload"]
    assert (facts["agent_version"], facts["model"], facts["cwd"]) == ("1.0.40", "gpt-5", "/w")


def test_the_session_id_may_come_with_the_result_alone() -> None:
    events = parsed(line("session.tools_updated", {"model": "gpt-4.1"}), message("hi"), result())
    assert events[0]["run_id"] == "fresh-1"
    assert events[0]["payload"]["model"] == "gpt-4.1"
    assert of(events, "agent_state_update") == [{"state": "initialized", "changed": {"session_id": "s-1"}}]


def test_two_logs_in_one_input_are_two_runs_by_their_starts() -> None:
    second = {**result(), "sessionId": "s-2"}
    events = parsed(start(), message("a"), result(), start("s-2"), message("b"), second)
    assert [event["run_id"] for event in events if event["type"] == "run_iteration"] == ["s-1", "s-2"]


def test_another_agent_in_the_same_pipe_is_another_run() -> None:
    events = parsed(claude_init(uuid="u"), call("Bash", {}, uuid="u"), line("user.message", {"content": "hi"}))
    starts = [event["agent_id"] for event in events if event["type"] == "run_started"]
    assert starts == ["claude", "copilot"]


# ---- texts


def test_the_full_message_replaces_its_deltas() -> None:
    delta = [line("assistant.message_delta", {"messageId": "m1", "deltaContent": part}) for part in ("po", "ng")]
    events = parsed(start(), *delta, message("pong!"))
    assert [(p["text"], p["final"]) for p in of(events, "agent_output")] == [
        ("po", False), ("ng", False), ("pong!", True),
    ]  # fmt: skip


def test_a_thought_that_two_lines_repeat_is_told_once() -> None:
    parts = [line("assistant.reasoning_delta", {"reasoningId": "r1", "deltaContent": part}) for part in ("h", "m")]
    whole = line("assistant.reasoning", {"reasoningId": "r1", "content": "hm"})
    for lines in ([message("x", reasoningText="hm"), whole], [whole, message("x", reasoningText="hm")]):
        thoughts = of(parsed(start(), *parts, *lines), "agent_thinking")
        assert [(p["message_id"], p["text"], p["final"]) for p in thoughts] == [
            ("r1", "h", False), ("r1", "m", False), ("r1", "hm", True),
        ]  # fmt: skip
    assert len(of(parsed(start(), message("x", reasoningText="hm"), whole), "agent_thinking")) == 1
    assert len(of(parsed(start(), whole, message("x", reasoningText="hm")), "agent_thinking")) == 1


def test_encrypted_thoughts_say_nothing() -> None:
    hidden = line("assistant.reasoning", {"reasoningId": "opaque", "content": ""})
    events = parsed(start(), message("x", reasoningOpaque="abc", encryptedContent="def"), hidden)
    assert types(events) == ["run_started", "agent_output", "run_completed"]


def test_a_stream_cut_by_the_end_is_told_whole_as_aborted() -> None:
    events = parsed(start(), line("assistant.message_delta", {"messageId": "m1", "deltaContent": "I was"}))
    last = of(events, "agent_output")[-1]
    assert (last["text"], last["final"], last["aborted"]) == ("I was", True, True)


def test_what_the_cli_says_to_the_model_is_synthetic() -> None:
    spoken = line("user.message", {"content": "do it", "transformedContent": "<x>do it"})
    pushed = line("user.message", {"content": "", "transformedContent": "keep going"})
    told = of(parsed(start(), spoken, pushed), "agent_output")
    assert [(p["role"], p["text"], p.get("origin")) for p in told] == [
        ("user", "do it", None), ("user", "keep going", "synthetic"),
    ]  # fmt: skip


# ---- tools


def test_a_command_has_its_exit_code_and_fails_by_it() -> None:
    events = parsed(
        start(), started("bash", {"command": "false"}), done("oops\n<exited with exit code 2>"),
        started("bash", {"command": "true"}, "t2"), done("<exited with exit code 0>", "t2"),
    )  # fmt: skip
    assert [(p["kind"], p["ok"], p["exit_code"]) for p in of(events, "agent_tool_result")] == [
        ("execute", False, 2), ("execute", True, 0),
    ]  # fmt: skip
    assert [p["rank"] for p in of(events, "error")] == ["tool"]
    assert of(events, "agent_tool_call")[0]["title"] == "bash: false"


def test_only_a_command_s_last_line_is_read_as_its_status() -> None:
    assert exit_code_of("read", "<exited with exit code 2>") is None
    assert exit_code_of("execute", "<exited with exit code 2>\nmore") is None
    assert exit_code_of("execute", "<exited with exit code x>") is None
    assert exit_code_of("execute", "<exited with exit code -9>\n") == -9


DIFF = (
    "\ndiff --git a/w/a.py b/w/a.py\nindex 0000000..0000000 100644\n--- a/w/a.py\n+++ b/w/a.py\n"
    "@@ -1,2 +1,3 @@\n a\n-b\n+c\n+d\n"
)


def test_an_edit_is_a_changed_file_counted_from_its_diff() -> None:
    given = {"path": "/w/a.py", "old_str": "b", "new_str": "c\nd"}
    (told,) = of(parsed(start(), started("edit", given), done("File updated", detailed=DIFF)), "file_changed")
    assert (told["path"], told["change"], told["added"], told["removed"]) == ("/w/a.py", "modified", 2, 1)
    assert told["patch"].startswith("diff --git")
    (told,) = of(parsed(start(), started("edit", given), done("File updated")), "file_changed")
    assert (told["added"], told["removed"]) == (2, 1)


def test_a_created_file() -> None:
    given = {"path": "/w/new.txt", "file_text": "one\ntwo\n"}
    (told,) = of(parsed(start(), started("create", given), done("Created")), "file_changed")
    assert (told["change"], told["added"], told["removed"]) == ("created", 2, 0)


def test_a_viewed_file_is_shown_as_a_diff_and_is_not_changed() -> None:
    events = parsed(start(), started("view", {"path": "/w/a.py"}), done("1. a", detailed=DIFF))
    assert of(events, "file_changed") == []
    assert of(events, "agent_tool_call")[0]["kind"] == "read"


def test_a_failed_edit_changes_nothing() -> None:
    events = parsed(start(), started("edit", {"path": "/w/a.py", "old_str": "x", "new_str": "y"}), failed("no match"))
    assert of(events, "file_changed") == []
    assert [(p["rank"], p["message"]) for p in of(events, "error")] == [("tool", "no match")]
    assert of(events, "agent_tool_result")[0]["detail"] == {"code": "failure"}


def test_a_patch_given_as_text_is_an_input_and_its_files() -> None:
    patch = (
        "*** Begin Patch\n*** Add File: new.py\n+one\n+two\n"
        "*** Update File: old.py\n*** Move to: moved.py\n@@\n-a\n+b\n"
        "*** Delete File: gone.py\n*** End Patch"
    )
    events = parsed(start(), started("apply_patch", patch), done("Done"))
    assert of(events, "agent_tool_call")[0]["input"] == {"input": patch}
    told = of(events, "file_changed")
    assert [(p["path"], p["change"], p.get("added"), p.get("removed")) for p in told] == [
        ("new.py", "created", 2, 0), ("moved.py", "renamed", 1, 1), ("gone.py", "deleted", None, None),
    ]  # fmt: skip
    assert told[1]["old_path"] == "old.py"


def test_a_to_do_list_is_progress() -> None:
    given = {"todos": "# Plan\n- [x] read\n- [ ] write\n"}
    (told,) = of(parsed(start(), started("update_todo", given), done()), "progress_update")
    assert (told["done"], told["total"], told["percent"]) == (1, 2, 50.0)


def test_a_call_that_was_asked_for_and_never_started_is_told_at_the_end() -> None:
    asked = [{"toolCallId": "t9", "name": "bash", "arguments": {"command": "ls"}}]
    events = parsed(start(), message("", toolRequests=asked))
    assert [p["tool_use_id"] for p in of(events, "agent_tool_call")] == ["t9"]
    both = parsed(start(), message("", toolRequests=asked), started("bash", {"command": "ls"}, "t9"), done("", "t9"))
    assert len(of(both, "agent_tool_call")) == 1


def test_a_server_s_tool_is_named_by_both() -> None:
    events = parsed(start(), started("gh-search", {"query": "x"}, mcpServerName="gh", mcpToolName="search"))
    assert of(events, "agent_tool_call")[0]["name"] == "gh/search"


def test_what_a_sub_agent_does_has_its_call_as_parent() -> None:
    events = parsed(
        start(), started("task", {"prompt": "look"}),
        line("subagent.started", {"toolCallId": "t1", "agentName": "explore"}, agentId="a1"),
        started("view", {"path": "x"}, "t2", parentToolCallId="t1"),
        {**started("view", {"path": "y"}, "t3"), "agentId": "a1"},
        {**message("found it", "m2"), "agentId": "a1"},
        line("subagent.failed", {"toolCallId": "t1", "agentName": "explore", "error": "boom"}, agentId="a1"),
        result(),
    )  # fmt: skip
    told = [event.get("parent_id") for event in events if event["type"] in ("agent_tool_call", "agent_output")]
    assert told == [None, "t1", "t1", "t1"]
    assert "result" not in of(events, "run_completed")[0]  # what a sub-agent says is not the answer


# ---- the end


def test_a_process_that_exits_with_0_has_failed_by_its_result() -> None:
    lines = [start(), line("session.error", {"errorType": "quota", "message": "No requests left"}), result(1)]
    for events in (parsed(*lines), parsed(*wrapped(lines, exit_code=0))):
        assert types(events)[-1] == "run_failed"
        assert of(events, "run_failed")[0]["error"] == "No requests left"
        assert [(p["rank"], p.get("code")) for p in of(events, "error")] == [("agent", "quota"), ("turn", None)]


def test_code_changes_and_times_of_the_result_are_the_turn_s() -> None:
    changes = {"linesAdded": 4, "linesRemoved": 1, "filesModified": ["/w/a.py"]}
    (turn,) = of(parsed(start(), message("done"), result(codeChanges=changes)), "run_iteration")
    assert (turn["lines_added"], turn["lines_removed"], turn["files_modified"]) == (4, 1, ["/w/a.py"])
    assert (turn["result"], turn["duration_ms"], turn["premium_requests"]) == ("done", 900, 1)


def test_tokens_that_are_missing_are_left_out() -> None:
    events = parsed(start(), message("hi"), result())
    assert of(events, "usage_update") == []
    assert "usage" not in of(events, "run_iteration")[0]


def test_input_counts_the_cache_which_is_taken_off_and_a_premium_request_is_no_money() -> None:
    usage = {
        "model": "m",
        "inputTokens": 110,
        "outputTokens": 5,
        "cacheReadTokens": 60,
        "cacheWriteTokens": 40,
        "cost": 3,
    }
    events = parsed(
        start(), line("session.usage_info", {"currentTokens": 120, "tokenLimit": 1000}),
        line("assistant.usage", usage), line("assistant.usage", usage), result(),
    )  # fmt: skip
    one, _, total = of(events, "usage_update")
    assert (one["input_tokens"], one["cache_read_tokens"], one["cache_write_tokens"]) == (10, 60, 40)
    assert (one["context_used"], one["cumulative"]) == (120, False)
    assert (total["input_tokens"], total["output_tokens"], total["cumulative"]) == (20, 10, True)
    assert not any("cost_usd" in p for p in of(events, "usage_update", "run_iteration", "run_completed"))


def test_a_session_file_ends_with_its_shutdown() -> None:
    metrics = {
        "gpt-5": {"requests": {"cost": 1}, "usage": {"inputTokens": 10, "outputTokens": 2, "cacheReadTokens": 4}}
    }
    end = line("session.shutdown", {"shutdownType": "routine", "modelMetrics": metrics})
    ended = of(parsed(start(), message("bye"), end), "run_completed")[0]
    assert (ended["result"], ended["usage"]["input_tokens"]) == ("bye", 6)
    assert "incomplete" not in ended
    crash = line("session.shutdown", {"shutdownType": "error", "errorReason": "out of memory"})
    assert of(parsed(start(), crash), "run_failed")[0]["error"] == "out of memory"


def test_an_aborted_run_is_cancelled() -> None:
    aborted = line("abort", {"reason": "user initiated"})
    assert types(parsed(start(), message("x"), aborted))[-1] == "run_cancelled"
    assert types(parsed(start(), message("x"), aborted, result()))[-1] == "run_cancelled"


def test_a_log_without_an_end_is_incomplete() -> None:
    ended = of(parsed(start(), message("x")), "run_completed")[0]
    assert ended["incomplete"] == "no result from the agent"


# ---- the small lines


def test_warnings_are_warnings() -> None:
    events = parsed(
        start(), line("session.warning", {"warningType": "policy", "message": "careful"}),
        line("model.call_failure", {"statusCode": 529, "errorMessage": "overloaded"}),
        line("hook.end", {"hookType": "preToolUse", "success": False, "error": {"message": "bad"}}),
        line("session.mcp_server_status_changed", {"serverName": "gh", "status": "failed"}),
        line("session.compaction_complete", {"success": False, "error": "too long"}),
        line("session.task_complete", {"success": False, "summary": "gave up"}),
    )  # fmt: skip
    assert [p["rank"] for p in of(events, "error")] == ["warning"] * 6


def test_what_a_retry_cut_is_told_whole_as_aborted() -> None:
    part = line("assistant.message_delta", {"messageId": "m1", "deltaContent": "I wa"})
    events = parsed(start(), part, line("assistant.turn_retry", {"reason": "stream cut"}), message("I was", "m2"))
    told = [(p["text"], p["final"], p.get("aborted")) for p in of(events, "agent_output")]
    assert told == [("I wa", False, None), ("I wa", True, True), ("I was", True, None)]
    assert [(p["rank"], p["message"]) for p in of(events, "error")] == [("warning", "stream cut")]


def test_the_agent_waits_for_a_human() -> None:
    asked = {"kind": "shell", "toolCallId": "t1", "intention": "List files", "fullCommandText": "ls"}
    events = parsed(
        start(), line("permission.requested", {"requestId": "r", "permissionRequest": asked}),
        line("permission.requested", {"requestId": "s", "permissionRequest": asked, "resolvedByHook": True}),
        line("user_input.requested", {"question": "Which one?"}),
    )  # fmt: skip
    first, second = of(events, "permission_request")
    assert (first["name"], first["tool_use_id"], first["reason"]) == ("shell", "t1", "List files")
    assert (second["name"], second["reason"]) == ("ask_user", "Which one?")


def test_lines_that_say_nothing_say_nothing() -> None:
    quiet = ["session.skills_loaded", "assistant.turn_start", "assistant.turn_end", "tool.execution_partial_result",
             "hook.start", "permission.completed", "session.idle", "system.message"]  # fmt: skip
    assert types(parsed(start(), *(line(kind) for kind in quiet))) == ["run_started", "run_completed"]


def test_an_unknown_type_is_kept() -> None:
    strange = line("session.never_seen", {"a": 1})
    (kept,) = of(parsed(start(), strange), "raw")
    assert kept["data"] == strange


def test_no_shape_raises() -> None:
    kinds = ["assistant.message", "tool.execution_start", "tool.execution_complete", "session.start", "result",
             "assistant.usage", "session.shutdown", "permission.requested", "user.message", "subagent.started",
             "session.info", "abort", "hook.end", "assistant.reasoning_delta", "user_input.requested"]  # fmt: skip
    odd = [None, [], {}, 7, "x", {"content": [1], "toolRequests": [1], "toolCallId": 3, "arguments": [2],
           "error": 5, "result": [1], "usage": 3, "modelMetrics": {"a": 1}, "attachments": [1], "context": 1,
           "timestamp": 5}]  # fmt: skip
    for kind in kinds:
        for data in odd:
            assert types(parsed(start(), line(kind, data), {"type": kind, "data": data}))[0] == "run_started"


def test_a_whole_session() -> None:
    told = check(
        [
            start(), line("user.message", {"content": "do it"}), line("assistant.turn_start"),
            message("looking", toolRequests=[{"toolCallId": "t1", "name": "bash", "arguments": {"command": "ls"}}]),
            started("bash", {"command": "ls"}), done("a.py\n<exited with exit code 0>"),
            started("edit", {"path": "/w/a.py", "old_str": "b", "new_str": "c\nd"}, "t2"), done("ok", "t2", DIFF),
            message("done", "m2"), result(),
        ],
        "copilot", counted,
    )  # fmt: skip
    assert types(told).count("file_changed") == 1
