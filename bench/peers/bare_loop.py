"""The least a JSON filter can do: decode and encode each line with orjson."""

import sys

import orjson

for line in sys.stdin.buffer:
    sys.stdout.buffer.write(orjson.dumps(orjson.loads(line)) + b"\n")
