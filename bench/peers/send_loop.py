"""The plain way to publish: websocket-client, one event a frame, until the hub has acknowledged the last."""

import json
import sys
import threading

import websocket

url, token = sys.argv[1:]
link = websocket.create_connection(url, header=[f"Authorization: Bearer {token}"])
sent = [line.decode().rstrip("\n") for line in sys.stdin.buffer]


def read() -> None:
    """Until the hub has acknowledged everything."""
    while True:
        message = json.loads(link.recv())
        if message["type"] == "ack" and message["count"] >= len(sent):
            return


reader = threading.Thread(target=read)
reader.start()
for line in sent:
    link.send('{"type":"publish","events":[' + line + "]}")
reader.join(120)
