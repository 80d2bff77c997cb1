# What `agentpipe parse` makes of Claude Code's stream-json, as a jq program: the same events with the same numbers.
# `jq -n -c -f parse.jq < log`. A test holds its events against ours (tests/test_bench_peers.py); left out are only the
# ETA of plans and its telling anew every 5 s, the ids of texts in a message that is cut and starts anew, and whatever
# no recorded session has.

def one_line: gsub("[ \\t\\n\\r]+"; " ") | if length > 120 then .[0:119] + "…" else . end;

def kind: {
  "Agent": "think", "Bash": "execute", "BashOutput": "execute", "Edit": "edit", "Glob": "search", "Grep": "search",
  "KillShell": "execute", "LS": "search", "MultiEdit": "edit", "NotebookEdit": "edit", "Read": "read", "Task": "think",
  "TaskCreate": "think", "TaskList": "think", "TaskUpdate": "think", "TodoWrite": "think", "ToolSearch": "search",
  "WebFetch": "fetch", "WebSearch": "fetch", "Write": "edit"}[.] // "other";

def title($name; $in):
  (if $name == "TodoWrite" then "\($in.todos | length) items"
   elif $name == "TaskUpdate" then "#\($in.taskId) \($in.status // "")"
   else ($in.command // $in.file_path // $in.notebook_path // $in.pattern // $in.url // $in.query // $in.description
         // $in.subject // $in.skill // $in.path // $in.prompt // "" | tostring | one_line) end) as $said
  | if $said == "" then $name else "\($name): \($said)" end;

def seconds: if . == null then null else (.[0:19] + "Z" | fromdateiso8601) + (.[19:23] | tonumber? // 0) end;

def short($limit): if type == "string" and length > $limit then .[0:$limit] + "… [+\(length - $limit) bytes]" else . end;

def capped($limit): if ([.. | strings | length] | add // 0) <= $limit then . else walk(short($limit)) end;

def flat:
  if type == "string" then .
  elif type == "array" then map(if type == "string" then . elif .type == "text" then .text
    elif .type == "image" or .type == "document" then "[\(.source.media_type), \((.source.data | length) * 3 / 4 | floor) bytes]"
    elif .type == "tool_reference" then "[tool \(.tool_name)]" else tojson end) | join("\n")
  elif . == null then "" else tojson end;

def counts: {
  input_tokens: (.input_tokens // 0), output_tokens: (.output_tokens // 0),
  cache_read_tokens: (.cache_read_input_tokens // 0), cache_write_tokens: (.cache_creation_input_tokens // 0)};

# Make the events of drafts [type, payload]: number them.
def tell($drafts; $at; $scope):
  reduce $drafts[] as $draft (.;
    .sequence += 1
    | .out += [
        {type: $draft[0], run_id, agent_id: "claude"}
        + (if $scope == null then {} else {parent_id: $scope} end)
        + {sequence, timestamp: $at, event_id: "\(.run_id):\(.sequence)", payload: $draft[1]}]);

def steps: {
  percent: ((map(select(.status == "completed")) | length) * 1000 / ([length, 1] | max) | round / 10),
  done: (map(select(.status == "completed")) | length), total: length, basis: "plan", items: .};

def hunks: map(.lines[]) as $lines
  | {added: ($lines | map(select(startswith("+"))) | length), removed: ($lines | map(select(startswith("-"))) | length),
     patch: (map("@@ -\(.oldStart),\(.oldLines) +\(.newStart),\(.newLines) @@", .lines[]) | join("\n"))};

def written($call; $structured; $id):
  {path: ($call.input.file_path // $call.input.notebook_path),
   change: (if $structured.type == "create" then "created" else "modified" end), source: "tool", tool_use_id: $id}
  + (if ($structured.structuredPatch | length) > 0 then $structured.structuredPatch | hunks
     elif $call.name == "Write" then {added: ($call.input.content | rtrimstr("\n") | split("\n") | length), removed: 0} else {} end);

def planned($call; $structured; $text; $scope):
  ($scope // "") as $board
  | (.plans[$board] // []) as $before
  | (if $call.name == "TodoWrite" then ($call.input.todos // []) | map({text: .content, status, id: null})
     elif $call.name == "TaskCreate" then $before + [{id: ($structured.task.id // ($text | capture("Task #(?<id>\\S+)").id)), text: $call.input.subject, status: "pending"}]
     elif $call.name == "TaskUpdate" then $before | map(if .id == $call.input.taskId then .status = ($call.input.status // .status) else . end)
     else $before end) as $after
  | if $after == $before then . else .plans[$board] = $after end
  | {state: ., drafts: (if $after == $before then [] else [["progress_update", ($after | map(del(.id)) | steps)]] end)};

def call($block; $line; $at):
  .calls[$block.id] = {name: $block.name, kind: ($block.name | kind), input: $block.input, at: $line.timestamp}
  | tell([["agent_tool_call", {tool_use_id: $block.id, name: $block.name, kind: ($block.name | kind),
      input: ($block.input | capped(16384)), title: title($block.name; $block.input)}
      + (if $block.input.run_in_background == true then {background: true} else {} end)]]; $at; $line.parent_tool_use_id);

def result($block; $line; $at):
  (.calls[$block.tool_use_id] // {name: "unknown", kind: "other"}) as $call
  | del(.calls[$block.tool_use_id])
  | ($block.content | flat) as $text
  | ($block.is_error != true) as $ok
  | (($line.tool_use_result | objects) // {}) as $structured
  | ($structured | with_entries(select((.value | type == "number" or . == true or (type == "string" and length <= 200 and . != ""))
      and (.key | IN("content", "filePath", "newString", "oldString", "originalFile", "prompt", "result", "stderr", "stdout", "type") | not)))) as $detail
  | tell([["agent_tool_result",
      {tool_use_id: $block.tool_use_id, name: $call.name, kind: $call.kind, ok: $ok, content: $text[0:16384],
       bytes: ($text | utf8bytelength), truncated: ($text | length > 16384)}
      + (if $ok then {} else ($text | capture("^(Error: )?Exit code (?<exit_code>[0-9]+)") // {} | del(.["0"]) | map_values(tonumber)) end)
      + (if $detail == {} then {} else {detail: $detail} end)
      + (if $call.at != null and $line.timestamp != null then {duration_ms: ((($line.timestamp | seconds) - ($call.at | seconds)) * 1000 | round)} else {} end)]]
      + (if $ok then [] else [["error", {rank: "tool", message: $text[0:500], tool_use_id: $block.tool_use_id, name: $call.name}]] end);
      $at; $line.parent_tool_use_id)
  | if $ok and ($call.name | IN("Write", "Edit", "MultiEdit", "NotebookEdit")) then
      tell([["file_changed", written($call; $structured; $block.tool_use_id)]]; $at; $line.parent_tool_use_id)
    elif $ok and ($call.name | IN("TodoWrite", "TaskCreate", "TaskUpdate", "TaskList")) then
      planned($call; $structured; $text; $line.parent_tool_use_id) as $plan
      | $plan.state | tell($plan.drafts; $at; $line.parent_tool_use_id)
    else . end;

def text($type; $text; $line; $at):
  ($line.message.id) as $id
  | (.open[$id] // [] | map(select(.type == $type)) | first) as $streamed
  | (if $streamed then $streamed.index else .next[$id] // 0 end) as $index
  | (if $streamed then .open[$id] |= map(select(.index != $index)) else .next[$id] = $index + 1 end)
  | if $text == "" then . else tell([[$type, {message_id: $id, index: $index, text: $text, final: true}]]; $at; $line.parent_tool_use_id) end;

def assistant($line; $at):
  reduce $line.message.content[] as $block (.;
    if $block.type == "text" then text("agent_output"; $block.text; $line; $at)
    elif $block.type == "thinking" then text("agent_thinking"; $block.thinking; $line; $at)
    elif $block.type == "tool_use" then .next[$line.message.id] = (.next[$line.message.id] // 0) + (if .streams[$line.message.id] then 0 else 1 end) | call($block; $line; $at)
    else tell([["raw", {format: "claude", reason: "unknown block", data: $block}]]; $at; $line.parent_tool_use_id) end)
  | if .counted[$line.message.id] or .streams[$line.message.id] or $line.message.usage == null then .
    else .counted[$line.message.id] = true
      | ($line.message.usage | counts) as $used
      | tell([["usage_update", {model: $line.message.model} + $used + {context_used: ($used.input_tokens + $used.cache_read_tokens + $used.cache_write_tokens), cumulative: false, provisional: true}]]; $at; $line.parent_tool_use_id) end;

def user($line; $at):
  reduce ($line.message.content | if type == "string" then [{type: "text", text: .}] else . end | to_entries[]) as $entry (.;
    if $entry.value.type == "tool_result" then result($entry.value; $line; $at)
    else tell([["agent_output", {message_id: $line.uuid, index: $entry.key, text: ([$entry.value] | flat), final: true, role: "user"}
      + (if $line.isSynthetic then {origin: "synthetic"} elif $line.parent_tool_use_id then {origin: "subagent_prompt"} else {} end)]]; $at; $line.parent_tool_use_id) end);

def streamed($line; $at):
  $line.event as $event
  | ($line.parent_tool_use_id // "") as $scope
  | if $event.type == "message_start" then .current[$scope] = $event.message.id | .streams[$event.message.id] = true | .models[$event.message.id] = $event.message.model
    elif $event.type == "content_block_start" then
      .current[$scope] as $id | .next[$id] = $event.index + 1
      | if $event.content_block.type == "tool_use" then . else .open[$id] += [{index: $event.index, type: (if $event.content_block.type == "text" then "agent_output" else "agent_thinking" end)}] end
    elif $event.delta.type == "text_delta" and $event.delta.text != "" then
      tell([["agent_output", {message_id: .current[$scope], index: $event.index, text: $event.delta.text, final: false}]]; $at; $line.parent_tool_use_id)
    elif $event.delta.type == "thinking_delta" and $event.delta.thinking != "" then
      tell([["agent_thinking", {message_id: .current[$scope], index: $event.index, text: $event.delta.thinking, final: false}]]; $at; $line.parent_tool_use_id)
    elif $event.type == "message_delta" then
      .current[$scope] as $id | ($event.usage | counts) as $used
      | tell([["usage_update", {model: .models[$id]} + $used + {context_used: ($used.input_tokens + $used.cache_read_tokens + $used.cache_write_tokens), cumulative: false}]]; $at; $line.parent_tool_use_id)
    else . end;

def ended($line; $at):
  .turns += 1 | .cost = ($line.total_cost_usd // .cost) | .spent += ($line.duration_ms // 0)
  | ($line.is_error != true and ($line.subtype | startswith("error") | not)) as $ok
  | .last = {ok: $ok, result: $line.result, error: (if $ok then null else $line.result // ($line.errors // [$line.subtype] | join("; ")) end)}
  | ([$line.modelUsage[]?] | {input_tokens: (map(.inputTokens) | add), output_tokens: (map(.outputTokens) | add), cache_read_tokens: (map(.cacheReadInputTokens) | add), cache_write_tokens: (map(.cacheCreationInputTokens) | add)}) as $total
  | tell((if $ok then [] else [["error", {rank: "turn", message: .last.error, code: $line.subtype}]] end)
      + [["usage_update", $total + {cumulative: true, cost_usd: .cost}],
         ["run_iteration", {turn: .turns, ok: $ok} + (if $ok then {result: ($line.result | short(16384))} else {error: .last.error} end)
           + {usage: ($line.usage | counts), cost_usd: .cost, duration_ms: $line.duration_ms, num_turns: $line.num_turns, subtype: $line.subtype}]]; $at; null);

def said($line; $at):
  if $line.subtype == "api_retry" then tell([["error", {rank: "warning", message: "the API failed: \($line.error); attempt \($line.attempt) of \($line.max_retries)", code: $line.error, retry_in_ms: $line.retry_delay_ms, attempt: $line.attempt}]]; $at; null)
  elif $line.subtype == "permission_denied" then tell([["error", {rank: "warning", message: $line.message, code: "permission_denied", tool_use_id: $line.tool_use_id}]]; $at; null)
  elif $line.subtype == "task_started" then tell([["agent_log_entry", {level: "info", message: "task started: \($line.description)", source: "task", task_id: $line.task_id, tool_use_id: $line.tool_use_id}]]; $at; null)
  elif $line.subtype == "task_notification" then tell([["agent_log_entry", {level: "info", message: "task \($line.status): \($line.summary)", source: "task", task_id: $line.task_id, tool_use_id: $line.tool_use_id}]]; $at; null)
  elif $line.subtype == "informational" then tell([["agent_log_entry", {level: $line.level, message: $line.content, source: "claude"}]]; $at; null)
  elif $line.subtype == "compact_boundary" then tell([["agent_log_entry", {level: "info", message: "context compacted", source: "compact"}]]; $at; null)
  else . end;

def finish:
  if .run_id == null then . else
    (if .turns == 0 then {incomplete: "no result from the agent"} elif .last.ok then {result: .last.result} else {error: .last.error} end) as $account
    | tell([[(if .turns == 0 or .last.ok then "run_completed" else "run_failed" end), {duration_ms: .spent, reason: "input_ended", turns, cost_usd: .cost} + $account]]; .at; null) end;

def begin($line):
  {run_id: $line.session_id, sequence: 0, out: [], at: (now | todateiso8601), calls: {}, plans: {}, open: {}, next: {},
   streams: {}, models: {}, current: {}, counted: {}, turns: 0, spent: 0, cost: null, last: null};

def started($line):
  tell([["run_started", {schema: "agentpipe/1", agent: "claude", session_id: $line.session_id, agent_version: $line.claude_code_version, model: $line.model, cwd: $line.cwd, tools: $line.tools}]]; .at; null);

foreach ((inputs | if type == "array" then .[] else . end), null) as $line ({run_id: null, out: []};
  .out = []
  | if $line == null then finish
    else
      (if $line.session_id != .run_id then (finish | .out) as $ended | begin($line) | .fresh = true | .out = $ended else . end)
      | (if .fresh and $line.type == "system" and $line.subtype == "init" then .fresh = false | started($line) else . end)
      | .at = ($line.timestamp // .at) | .at as $at
      | if $line.type == "stream_event" then streamed($line; $at)
        elif $line.type == "assistant" then assistant($line; $at)
        elif $line.type == "user" then user($line; $at)
        elif $line.type == "result" then ended($line; $at)
        elif $line.type == "system" then said($line; $at)
        else tell([["raw", {format: "claude", reason: "unknown type", data: $line}]]; $at; null) end
    end;
  .out[])
