"""An agent that prints one assistant line every 5 ms, with the time it was printed."""

import json
import sys
import time

count = int(sys.argv[1])
started = time.monotonic()
for number in range(count):
    due = started + number * 0.005
    time.sleep(max(0.0, due - time.monotonic()))
    text = f"word {number} printed={time.monotonic():.6f} "
    message = {
        "id": f"msg_{number}",
        "role": "assistant",
        "type": "message",
        "model": "mock",
        "content": [{"type": "text", "text": text}],
    }
    print(
        json.dumps({"type": "assistant", "message": message, "session_id": "paced", "parent_tool_use_id": None}),
        flush=True,
    )
