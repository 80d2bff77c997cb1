"""The quirks of the Agent Client Protocol, one test each, by the lines that show them."""

from base64 import b64encode
from typing import Any

from agentpipe.parse.adapter import Sureness
from agentpipe.parse.agents.acp import Acp
from tests.parse.counts.acp import counted
from tests.parse.lines import Line, of, parsed, types, wrapped
from tests.parse.sessions import check

S = "sess-1"


def request(method: str, number: int | str | None = 1, /, **params: Any) -> Line:
    line: Line = {"jsonrpc": "2.0", "method": method, "params": params}
    return line if number is None else {**line, "id": number}


def answer(number: int | str = 1, **result: Any) -> Line:
    return {"jsonrpc": "2.0", "id": number, "result": result}


def refusal(number: int | str = 1, said: str = "no", **more: Any) -> Line:
    return {"jsonrpc": "2.0", "id": number, "error": {"code": -32603, "message": said, **more}}


def update(kind: str, /, **fields: Any) -> Line:
    return request("session/update", None, sessionId=S, update={"sessionUpdate": kind, **fields})


def text(said: str) -> Line:
    return {"type": "text", "text": said}


def says(said: str, **more: Any) -> Line:
    return update("agent_message_chunk", content=text(said), **more)


def thinks(said: str) -> Line:
    return update("agent_thought_chunk", content=text(said))


def tool(call_id: str = "t1", title: str = "Run ls", kind: str = "execute", **more: Any) -> Line:
    return update("tool_call", toolCallId=call_id, title=title, kind=kind, **more)


def change(call_id: str = "t1", **more: Any) -> Line:
    return update("tool_call_update", toolCallId=call_id, **more)


def prompt(said: str = "do it", number: int = 3) -> Line:
    return request("session/prompt", number, sessionId=S, prompt=[text(said)])


def content(said: str) -> Line:
    return {"type": "content", "content": text(said)}


def texts(events: list[Line], kind: str = "agent_output") -> list[tuple[str, bool]]:
    return [(p["text"], p["final"]) for p in of(events, kind) if p.get("role") != "user"]


STOP = answer(3, stopReason="end_turn")


# ---- who it is


def test_the_protocol_s_own_methods_are_surely_its_own() -> None:
    for line in (
        says("x"),
        prompt(),
        STOP,
        request("fs/read_text_file", path="x"),
        request("initialize", protocolVersion=1),
    ):
        assert Acp.recognises(line) is Sureness.SURE, line
    assert Acp.recognises(answer(1)) is Sureness.LIKELY


def test_other_protocols_over_json_rpc_are_not() -> None:
    others = [
        request("initialize", protocolVersion="2025-06-18"), request("initialize", processId=1),
        request("textDocument/didOpen"), request("tools/call"), {"method": "item/started", "params": {}},
        request("item/completed", None), request("codex/event", None),
    ]  # fmt: skip
    assert [Acp.recognises(line) for line in others] == [Sureness.NO] * len(others)


def test_lines_of_a_codex_app_server_are_kept() -> None:
    strange = request("item/started", None, item={})
    assert of(parsed(says("x"), strange), "raw")[0]["data"] == strange


def test_both_directions_tell_who_runs_where() -> None:
    events = parsed(
        request("initialize", 0, protocolVersion=1),
        answer(0, protocolVersion=1, agentInfo={"name": "gem", "version": "1.2"}),
        request("session/new", 1, cwd="/w", mcpServers=[]),
        answer(1, sessionId=S, models={"currentModelId": "m-1"}),
        prompt(), says("hi"), STOP,
    )  # fmt: skip
    assert events[0]["run_id"] == S
    facts = events[0]["payload"]
    assert (facts["agent"], facts["agent_version"], facts["model"], facts["cwd"]) == ("gem", "1.2", "m-1", "/w")


def test_the_agent_s_side_alone_is_enough() -> None:
    events = parsed(answer(0, protocolVersion=1), answer(1, sessionId=S), says("hi"), answer(2, stopReason="end_turn"))
    assert (events[0]["run_id"], events[0]["agent_id"]) == (S, "acp")
    assert [p["result"] for p in of(events, "run_iteration")] == ["hi"]


def test_two_sessions_of_one_connection_are_two_runs() -> None:
    other = request("session/update", None, sessionId="sess-2", update={"sessionUpdate": "plan", "entries": []})
    assert [e["run_id"] for e in parsed(says("a"), other, says("b")) if e["type"] == "run_started"] == [S, "sess-2"]


# ---- texts


def test_chunks_have_no_end_so_a_message_ends_with_what_comes_next() -> None:
    events = parsed(thinks("h"), thinks("m"), says("he"), says("llo"), tool(status="in_progress"), says("bye"), STOP)
    assert texts(events, "agent_thinking") == [("h", False), ("m", False), ("hm", True)]
    assert texts(events) == [("he", False), ("llo", False), ("hello", True), ("bye", False), ("bye", True)]
    assert len({p["message_id"] for p in of(events, "agent_output")}) == 2


def test_updates_that_are_no_message_do_not_end_one() -> None:
    between = [update("available_commands_update", availableCommands=[]), update("usage_update", used=1, size=2)]
    assert texts(parsed(says("a"), *between, says("b"), STOP)) == [("a", False), ("b", False), ("ab", True)]


def test_a_message_id_tells_messages_apart() -> None:
    events = parsed(says("a", messageId="m1"), says("b", messageId="m2"), says("c", messageId="m1"))
    finals = [(p["message_id"], p["text"]) for p in of(events, "agent_output") if p["final"]]
    assert finals == [("m1", "a"), ("m2", "b"), ("m1~1", "c")]


def test_what_the_agent_repeats_of_the_prompt_is_told_once() -> None:
    echo = update("user_message_chunk", content=text("do it"))
    told = [p for p in of(parsed(prompt(), echo, says("ok"), STOP), "agent_output") if p.get("role") == "user"]
    assert [p["text"] for p in told] == ["do it"]
    replayed = [update("user_message_chunk", content=text(part)) for part in ("ol", "d")]
    told = [p for p in of(parsed(*replayed, says("ok")), "agent_output") if p.get("role") == "user"]
    assert [(p["text"], p["final"]) for p in told] == [("old", True)]


def test_images_and_resources_are_named_and_images_handed_on() -> None:
    image = {"type": "image", "data": "aGVsbG8=", "mimeType": "image/png"}
    link = {"type": "resource_link", "name": "notes", "uri": "file:///n"}
    events = parsed(update("agent_message_chunk", content=image), update("agent_message_chunk", content=link), STOP)
    assert texts(events)[-1] == ("[image/png, 5 bytes][notes file:///n]", True)
    assert of(events, "content")[0]["base64"] == "aGVsbG8="


def test_a_stream_cut_by_the_end_is_told_whole_as_aborted() -> None:
    events = parsed(says("I wa"))
    assert of(events, "agent_output")[-1]["aborted"] is True
    assert of(events, "run_completed")[0]["incomplete"] == "no result from the agent"


# ---- tools


def test_an_update_names_only_what_changed() -> None:
    events = parsed(
        tool(status="pending", rawInput={"command": "ls"}), change(status="in_progress"),
        change(content=[content("a\nb")]), change(status="completed", rawOutput={"exit_code": 0}), STOP,
    )  # fmt: skip
    (made,), (back,) = of(events, "agent_tool_call"), of(events, "agent_tool_result")
    assert (made["kind"], made["title"], made["input"]) == ("execute", "Run ls", {"command": "ls"})
    assert (back["ok"], back["content"], back["exit_code"]) == (True, "a\nb", 0)


def test_a_call_is_told_when_it_is_known_what_it_is_given() -> None:
    events = parsed(
        tool(status="pending", rawInput={}), tool("t2", status="pending"), change(rawInput={"command": "x"})
    )
    assert [(p["tool_use_id"], p["input"]) for p in of(events, "agent_tool_call")] == [
        ("t1", {"command": "x"}),
        ("t2", {}),
    ]


def test_a_tool_call_id_may_hold_a_newline() -> None:
    call_id = "call_1\nfc_2"
    events = parsed(tool(call_id, status="in_progress"), change(call_id, status="completed"))
    assert [p["tool_use_id"] for p in of(events, "agent_tool_call", "agent_tool_result")] == [call_id, call_id]


def test_an_end_that_is_said_twice_is_one_result() -> None:
    events = parsed(
        tool(status="in_progress"), change(status="completed"), change(status="completed"), change(title="x")
    )
    assert len(of(events, "agent_tool_result")) == 1


def test_a_result_without_its_call_tells_both() -> None:
    events = parsed(change(status="failed", kind="read", content=[content("no such file")]))
    assert types(events)[1:4] == ["agent_tool_call", "agent_tool_result", "error"]
    assert of(events, "error")[0] | {"rank": "tool", "message": "no such file"} == of(events, "error")[0]


def test_a_command_that_failed_is_not_ok_whatever_the_status() -> None:
    (back,) = of(parsed(tool(status="completed", rawOutput={"exitCode": 2, "stdout": "bad"})), "agent_tool_result")
    assert (back["ok"], back["exit_code"], back["content"]) == (False, 2, "bad")


def test_a_diff_is_a_changed_file_with_its_counts() -> None:
    diffs = [
        {"type": "diff", "path": "/w/a", "oldText": "1\n2\n", "newText": "1\n3\n4\n"},
        {"type": "diff", "path": "/w/new", "oldText": None, "newText": "x\n"},
    ]
    events = parsed(tool(kind="edit", title="Edit", status="in_progress", content=diffs), change(status="completed"))
    assert [(p["path"], p["change"], p["added"], p["removed"]) for p in of(events, "file_changed")] == [
        ("/w/a", "modified", 2, 1), ("/w/new", "created", 1, 0),
    ]  # fmt: skip
    assert of(parsed(tool(kind="edit", status="failed", content=diffs)), "file_changed") == []


def test_a_deletion_without_a_diff_names_its_places() -> None:
    events = parsed(tool(kind="delete", status="completed", locations=[{"path": "/w/old"}]))
    assert [(p["path"], p["change"]) for p in of(events, "file_changed")] == [("/w/old", "deleted")]


def test_a_terminal_of_the_client_gives_output_and_status() -> None:
    events = parsed(
        tool(status="in_progress", content=[{"type": "terminal", "terminalId": "term-1"}]),
        request("terminal/output", 7, sessionId=S, terminalId="term-1"), answer(7, output="one\n", truncated=False),
        request("terminal/wait_for_exit", 8, sessionId=S, terminalId="term-1"), answer(8, exitCode=3, signal=None),
        change(status="completed"),
    )  # fmt: skip
    (back,) = of(events, "agent_tool_result")
    assert (back["content"], back["exit_code"], back["ok"]) == ("one\n", 3, False)


def test_the_bridge_of_claude_code_tells_names_and_sub_agents() -> None:
    meta = {"claudeCode": {"toolName": "Bash", "parentToolUseId": "task-1"}}
    events = parsed(
        tool(status="in_progress", rawInput={"command": "ls"}, _meta=meta), change(status="completed"), STOP
    )
    assert of(events, "agent_tool_call")[0]["name"] == "Bash"
    assert [e.get("parent_id") for e in events[1:]] == ["task-1", "task-1", None, None]


def test_a_long_input_is_cut_though_a_short_line_makes_it_known() -> None:
    events = parsed(tool(status="pending", rawInput={}), change(rawInput={"text": "x" * 9000}), max_content=1000)
    assert len(of(events, "agent_tool_call")[0]["input"]["text"]) < 1100
    assert of(events, "content")[0]["bytes"] > 9000


# ---- turns


def test_the_answer_to_the_prompt_ends_the_turn() -> None:
    usage = {"inputTokens": 10, "outputTokens": 2, "cachedReadTokens": 5, "totalTokens": 17}
    events = parsed(prompt(), says("done"), answer(3, stopReason="end_turn", usage=usage))
    (turn,) = of(events, "run_iteration")
    assert (turn["ok"], turn["result"], turn["stop_reason"]) == (True, "done", "end_turn")
    assert turn["usage"] == {"input_tokens": 10, "output_tokens": 2, "cache_read_tokens": 5}
    included = {**usage, "totalTokens": 12}
    (turn,) = of(parsed(prompt(), answer(3, stopReason="end_turn", usage=included)), "run_iteration")
    assert turn["usage"]["input_tokens"] == 5


def test_only_an_end_of_turn_is_a_success() -> None:
    for reason in ("max_tokens", "max_turn_requests", "refusal"):
        assert types(parsed(prompt(), says("x"), answer(3, stopReason=reason)))[-1] == "run_failed"
    assert types(parsed(prompt(), says("x"), answer(3, stopReason="cancelled")))[-1] == "run_cancelled"


def test_a_prompt_that_is_refused_is_a_failed_turn_of_an_agent_that_failed() -> None:
    events = parsed(prompt(), refusal(3, "Internal error", data={"details": "no credit"}))
    assert [(p["rank"], p["message"], p["code"]) for p in of(events, "error")] == [
        ("agent", "Internal error: no credit", "-32603"),
        ("turn", "Internal error: no credit", "-32603"),
    ]  # fmt: skip
    assert types(events)[-1] == "run_failed"


def test_a_prompt_whose_request_is_cancelled_is_cancelled() -> None:
    cancelled = {"jsonrpc": "2.0", "id": 3, "error": {"code": -32800, "message": "Request cancelled"}}
    assert types(parsed(prompt(), says("x"), cancelled))[-1] == "run_cancelled"


def test_other_refusals_are_no_turns() -> None:
    events = parsed(request("session/new", 1, cwd="/w"), refusal(1, "Authentication required"), says("x"))
    assert [p["rank"] for p in of(events, "error")] == ["agent"]
    events = parsed(says("x"), request("fs/read_text_file", 1, sessionId=S, path="/x"), refusal(1, "no file"))
    assert [p["rank"] for p in of(events, "error")] == ["warning"]


def test_both_sides_count_their_own_questions() -> None:
    events = parsed(
        prompt(number=1), says("x"),
        request("session/request_permission", 1, sessionId=S, toolCall={"toolCallId": "t1"}),
        answer(1, outcome={"outcome": "selected", "optionId": "ok"}), answer(1, stopReason="end_turn"),
    )  # fmt: skip
    assert [p["ok"] for p in of(events, "run_iteration")] == [True]


def test_a_run_holds_several_turns() -> None:
    events = parsed(prompt("a"), says("1"), STOP, prompt("b", 4), says("2"), answer(4, stopReason="end_turn"))
    assert [(p["turn"], p["result"]) for p in of(events, "run_iteration")] == [(1, "1"), (2, "2")]


def test_inside_run_the_process_ends_the_run() -> None:
    assert types(parsed(*wrapped([says("x"), STOP], exit_code=1)))[-1] == "run_failed"


# ---- permissions, plans, usage


def test_a_permission_is_asked_for_after_its_call_is_told() -> None:
    options = [{"optionId": "no", "name": "Reject", "kind": "reject_once"}]
    call = {"toolCallId": "t1", "title": "Run rm", "kind": "execute", "rawInput": {"command": "rm x"}}
    events = parsed(
        tool(status="pending", title="Run rm"),
        request("session/request_permission", 5, sessionId=S, toolCall=call, options=options),
        answer(5, outcome={"outcome": "selected", "optionId": "no"}),
    )  # fmt: skip
    assert types(events)[1:4] == ["agent_tool_call", "permission_request", "error"]
    (asked,) = of(events, "permission_request")
    assert (asked["tool_use_id"], asked["name"], asked["input"]) == ("t1", "execute", {"command": "rm x"})
    denied = of(events, "error")[0]
    assert (denied["rank"], denied["code"], denied["tool_use_id"]) == ("warning", "permission_denied", "t1")


def test_a_plan_replaces_the_plan() -> None:
    entries = [{"content": "read", "status": "completed"}, {"content": "write", "status": "in_progress"}]
    for line in (
        update("plan", entries=entries),
        update("plan_update", plan={"type": "items", "id": "p", "entries": entries}),
    ):
        (told,) = of(parsed(line), "progress_update")
        assert (told["done"], told["total"], told["current"]) == (1, 2, "write")


def test_the_window_is_told_and_the_cost_by_what_it_has_grown() -> None:
    lines = [
        update("usage_update", used=n, size=9, cost={"amount": c, "currency": "USD"}) for n, c in ((1, 0.5), (2, 0.75))
    ]
    events = parsed(prompt(), *lines, STOP)
    assert [(p["context_used"], p["cost_usd"], p["cumulative"]) for p in of(events, "usage_update")] == [
        (1, 0.5, False), (2, 0.25, False),
    ]  # fmt: skip
    assert (of(events, "run_iteration")[0]["cost_usd"], of(events, "run_completed")[0]["cost_usd"]) == (0.75, 0.75)
    euros = update("usage_update", used=1, size=9, cost={"amount": 1.0, "currency": "EUR"})
    assert "cost_usd" not in of(parsed(euros), "usage_update")[0]


def test_notices_are_warnings_or_logged() -> None:
    lines = [update("notice", severity=severity, title="Careful") for severity in ("error", "warning", "info")]
    events = parsed(*lines, update("compaction_update", compactionId="c", status="failed", error="too long"))
    assert [p["rank"] for p in of(events, "error")] == ["warning"] * 3
    assert [p["message"] for p in of(events, "agent_log_entry")] == ["Careful"]


# ---- version 2


def test_v2_ends_a_turn_by_going_idle_and_its_prompt_is_answered_at_once() -> None:
    events = parsed(
        prompt(), answer(3, messageId="u1"), update("state_update", state="running"), says("hi", messageId="m1"),
        update("state_update", state="idle", stopReason="end_turn"),
    )  # fmt: skip
    assert [(p["ok"], p["result"]) for p in of(events, "run_iteration")] == [(True, "hi")]


def test_v2_a_whole_message_replaces_its_chunks_and_says_nothing_when_it_is_said_again() -> None:
    whole = update("agent_message", messageId="m1", content=[text("hello!")])
    events = parsed(says("hel", messageId="m1"), whole, whole)
    assert texts(events) == [("hel", False), ("hello!", True)]
    assert texts(parsed(whole)) == [("hello!", True)]
    mine = update("user_message", messageId="u1", content=[text("do it")])
    assert len(of(parsed(prompt(), mine), "agent_output")) == 1


def test_v2_makes_a_call_by_its_first_update_and_adds_content_in_chunks() -> None:
    events = parsed(
        change(title="Read", kind="read", status="in_progress"),
        update("tool_call_content_chunk", toolCallId="t1", content=content("one")),
        update("tool_call_content_chunk", toolCallId="t1", content=content("two")), change(status="completed"),
    )  # fmt: skip
    assert [p["content"] for p in of(events, "agent_tool_result")] == ["one\ntwo"]


def test_v2_terminals_are_the_agent_s_own() -> None:
    data = b64encode(b"ok\n").decode()
    events = parsed(
        change(kind="execute", status="in_progress", content=[{"type": "terminal", "terminalId": "x"}]),
        update("terminal_update", terminalId="x", command="ls", output={"data": data}),
        update("terminal_output_chunk", terminalId="x", data=data),
        update("terminal_update", terminalId="x", exitStatus={"exitCode": 0}), change(status="completed"),
    )  # fmt: skip
    (back,) = of(events, "agent_tool_result")
    assert (back["content"], back["exit_code"], back["ok"]) == ("ok\nok\n", 0, True)


def test_an_unknown_update_is_kept() -> None:
    strange = update("hologram", content=1)
    assert of(parsed(says("x"), strange), "raw")[0]["data"] == strange


def test_no_shape_raises() -> None:
    kinds = ["agent_message_chunk", "agent_message", "tool_call", "tool_call_update", "plan", "plan_update", "notice",
             "usage_update", "state_update", "terminal_update", "terminal_output_chunk",
             "tool_call_content_chunk"]  # fmt: skip
    odd = [None, [], {}, 7, "x", [1], {"type": 3, "data": 4}]
    for value in odd:
        for kind in kinds:
            names = ("content", "toolCallId", "rawInput", "rawOutput", "locations", "_meta", "cost", "plan", "entries",
                     "status", "kind", "title", "messageId", "exitStatus", "output", "data", "used")  # fmt: skip
            assert parsed(says("a"), update(kind, **dict.fromkeys(names, value)), change(status="completed"))
        for method in ("session/prompt", "session/request_permission", "session/new", "elicitation/create"):
            assert parsed(says("a"), {**request(method), "params": value}, {**answer(), "result": value})
        assert parsed(says("a"), {"jsonrpc": "2.0", "id": value, "error": value}, {**says("x"), "params": value})


def test_a_whole_session() -> None:
    diff = {"type": "diff", "path": "/w/f", "oldText": "a\n", "newText": "b\n"}
    told = check(
        [
            request("initialize", 0, protocolVersion=1), answer(0, protocolVersion=1, agentInfo={"name": "gem"}),
            request("session/new", 1, cwd="/w", mcpServers=[]), answer(1, sessionId=S), prompt(), thinks("hm"),
            says("look"), says("ing"), tool("t\n1", status="pending", rawInput={"command": "ls"}),
            request("session/request_permission", 0, sessionId=S, toolCall={"toolCallId": "t\n1"}, options=[]),
            answer(0, outcome={"outcome": "selected", "optionId": "yes"}),
            change("t\n1", status="completed", content=[content("f")]),
            tool("t2", kind="edit", title="Edit f", status="in_progress", content=[diff]),
            change("t2", status="completed"),
            update("plan", entries=[{"content": "x", "status": "completed", "priority": "high"}]),
            update("usage_update", used=10, size=100), says("done"), STOP,
        ],
        "acp", counted,
    )  # fmt: skip
    assert types(told).count("file_changed") == 1


def test_the_kind_of_a_switch_of_modes_is_none_of_ours() -> None:
    (made,) = of(parsed(prompt(), tool("t9", "Plan mode", "switch_mode", status="completed"), STOP), "agent_tool_call")
    assert (made["kind"], made["name"]) == ("other", "switch_mode")


def test_a_summary_of_a_compaction_is_not_the_agent_s_answer() -> None:
    part = update("compaction_summary_chunk", compactionId="c", content=text("so far"))
    events = parsed(prompt(), says("a"), part, update("compaction_update", compactionId="c", status="completed"), STOP)
    assert texts(events)[-1] == ("a", True)
    assert "raw" not in types(events)


def test_an_api_error_as_ordinary_text_is_what_it_is_told_as() -> None:
    """Seen in the wild: the turn ends well, and nothing but its words says that it did not."""
    events = parsed(prompt(), says("API Error: 529"), STOP)
    assert of(events, "error") == []
    assert of(events, "run_completed")[0]["result"] == "API Error: 529"
