"""Whatever comes in, by either door: the hub goes on, answers, stores what is good, and can be started again."""

import random
from pathlib import Path

import pytest
import websocket

from tests.io.serve.hubs import Client, Hub, event

SEEDS = [
    event(1),
    event(None),
    b'{"type":"publish","events":[%b]}' % event(2),
    b'{"type":"subscribe","id":1,"since":"start"}',
    b'{"type":"subscribe","id":"x","since":{"last":50},"filter":{"types":["agent_output"]}}',
    b'{"type":"subscribe","id":2,"since":{"epoch":"another","offset":3}}',
    b'{"type":"unsubscribe","id":1}',
    b'{"type":"snapshot"}',
    b'{"type":"gap","run_id":"r","sequence":3,"event_id":"r:gap:1-3"}',
    b'{"type":"publish","events":[{"type":"gap","run_id":"r"},{"run_id":"","type":"x"},{"run_id":5}]}',
    b'{"type":"usage_update","run_id":"q","sequence":1,"payload":{"cumulative":true,"input_tokens":%d}}' % 10**22,
    b'{"type":"agent_output","run_id":"z","sequence":9007199254740993}',
]
BITS = [b"\\ud800", b"\n", b"\r\n", b"{", b"]", b"null", b'"', b"\xff", b"1e400", b"-0", b"\\u0000", b"[" * 600]


def spoiled(chance: random.Random, data: bytes) -> bytes:
    found = bytearray(data)
    for _ in range(chance.randrange(6)):
        place = chance.randrange(len(found) + 1)
        match chance.randrange(4):
            case 0:
                found[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                found[place:place] = chance.choice(BITS)
            case 2:
                del found[place : place + chance.randrange(8)]
            case 3:
                found[place:place] = chance.choice(SEEDS)
    return bytes(found)


@pytest.mark.parametrize("store", ["memory", "hub.db"])
@pytest.mark.parametrize("seed", [5, 77])
def test_hostile_input_harms_nobody(tmp_path: Path, store: str, seed: int):
    chance = random.Random(seed)
    hub = Hub(tmp_path, "--window", "64KiB", "--heartbeat", "100ms", "--retain", "500ev", store=store)
    for _ in range(15):
        client = Client(hub)
        client.next("welcome")
        try:
            for _ in range(60):
                client.send_quickly(spoiled(chance, chance.choice(SEEDS)))
        except (OSError, websocket.WebSocketException):
            pass  # closed, as it may be: the next one comes
        client.socket.shutdown()
        body = b"\n".join(spoiled(chance, chance.choice(SEEDS)) for _ in range(5))
        assert hub.request("api/events", body, method="POST")[0] in {200, 400}
        for path in ("api/runs", "api/agents", "readyz"):
            hub.json(path)
        hub.request("api/runs/r/events?after=3")
    for _ in range(2):
        good = Client(hub)
        good.next("welcome")
        line = event(None, "good")
        good.subscribe(filter={"runs": ["good"]})
        good.publish(line)
        assert good.read(1)[0].endswith(line[1:])
        good.close()
        assert hub.stop() in {-15, 143}
        assert "Traceback" not in hub.stderr
        hub.start()
    hub.stop()
