# A part of what `agentpipe parse` does, as a jq program: calls, results and texts of Claude Code's stream-json.
def event($type; $payload): {type: $type, run_id: .session_id, agent_id: "claude", timestamp: (.timestamp // ""), payload: $payload};
if .type == "assistant" then
  . as $line | .message.content[]? | . as $block | $line |
  if $block.type == "text" then event("agent_output"; {message_id: $line.message.id, text: $block.text, final: true})
  elif $block.type == "thinking" then event("agent_thinking"; {message_id: $line.message.id, text: $block.thinking, final: true})
  elif $block.type == "tool_use" then event("agent_tool_call"; {tool_use_id: $block.id, name: $block.name, input: $block.input})
  else empty end
elif .type == "user" then
  . as $line | (.message.content | if type == "array" then .[] else empty end) | . as $block | $line |
  if $block.type == "tool_result" then
    event("agent_tool_result"; {tool_use_id: $block.tool_use_id, ok: ($block.is_error != true), content: ($block.content | tostring | .[0:16384])})
  else empty end
elif .type == "stream_event" then
  if .event.delta.text? then event("agent_output"; {text: .event.delta.text, final: false}) else empty end
elif .type == "result" then event("run_completed"; {cost_usd: .total_cost_usd, result: .result})
else event("raw"; {format: "claude"}) end
