"""The protocol over real sockets, with a memory store and with SQLite."""

import json
from collections.abc import Callable

import pytest

from agentpipe import wire
from tests.io.serve.hubs import Client, Hub, event, sequences

Connect = Callable[..., Client]


def test_welcome_tells_everything_a_client_may_rely_on(hub: Hub):
    client = Client(hub)
    welcome = client.receive()
    assert (welcome.type, welcome.protocol, welcome.heartbeat_s) == ("welcome", "agentpipe.v1", 0.2)
    assert welcome.scopes == ["publish", "subscribe", "admin"]
    assert welcome.limits == wire.limits()
    assert welcome.epoch
    assert welcome.head is not None
    assert client.socket.getsubprotocol() == "agentpipe.v1"
    client.close()


def test_the_page_path_is_a_websocket_too(hub: Hub, connect: Connect):
    connect(hub, path="").send({"type": "ping"})


def test_what_is_published_reaches_a_subscriber_as_its_bytes(hub: Hub, connect: Connect):
    reader, writer = connect(hub), connect(hub)
    reader.subscribe(filter={"runs": ["bytes"]})
    lines = [
        b'{"run_id" : "bytes","type":"x", "sequence":1,"big":123456789012345678901234567890,"t":"\\u00e9\\ud83d"}',
        '{"type":"x","run_id":"bytes","sequence":2,"t":"é\u2028"}'.encode(),
    ]
    writer.publish(*lines)
    assert reader.read(2) == lines


def test_bare_ndjson_is_published(hub: Hub, connect: Connect):
    reader, writer = connect(hub), connect(hub)
    reader.subscribe(filter={"runs": ["nd"]})
    writer.send(b"\n".join(event(number, "nd") for number in (1, 2, 3)) + b"\n")
    assert sequences(reader.read(3)) == [1, 2, 3]
    writer.send(event(4, "nd"))
    assert sequences(reader.read(4)) == [1, 2, 3, 4]


def test_the_acknowledgement_is_cumulative_and_counts_in_order_of_sending(hub: Hub, connect: Connect):
    writer = connect(hub)
    writer.send(b'{"type":"publish","events":[%b,%b]}' % (event(1, "ack"), event(2, "ack")))
    found = writer.next("ack")
    assert (found.run_id, found.sequence, found.count) == ("ack", 2, 2)
    writer.send(b'{"type":"publish","events":[%b,%b,7]}' % (event(2, "ack"), event(3, "ack")))
    found = writer.next("ack")
    assert (found.run_id, found.sequence, found.count) == ("ack", 3, 5)
    assert [message.code for message in writer.others if message.type == "error"] == ["bad_json"]


def test_a_batch_of_nothing_good_is_settled_too(hub: Hub, connect: Connect):
    writer = connect(hub)
    writer.send(b'{"type":"publish","events":[{},{}]}')
    assert writer.next("ack").count == 2
    assert [message.code for message in writer.others if message.type == "error"] == ["bad_event"] * 2


def test_a_subscriber_starts_where_it_asks(hub: Hub, connect: Connect):
    writer = connect(hub)
    writer.publish(*[event(number, "since") for number in range(1, 11)])
    only = {"filter": {"runs": ["since"]}}
    beginning = connect(hub)
    beginning.subscribe(since="start", **only)
    assert sequences(beginning.read(10)) == list(range(1, 11))
    assert beginning.position is not None
    for since, first in [({"last": 3}, 8), ({"epoch": beginning.epoch, "offset": beginning.position - 2}, 9)]:
        reader = connect(hub)
        assert reader.subscribe(since=since, **only).recovered is True
        assert sequences(reader.read(11 - first)) == list(range(first, 11))
    live = connect(hub)
    live.subscribe(**only)
    late = connect(hub)
    late.subscribe(since={"last": 0}, **only)
    writer.publish(event(11, "since"))
    assert sequences(live.read(1)) == sequences(late.read(1)) == [11]


def test_history_and_what_comes_meanwhile_have_no_hole(hub: Hub, connect: Connect):
    writer = connect(hub)
    writer.publish(*[event(number, "join") for number in range(1, 200)])
    reader = connect(hub)
    reader.send({"type": "subscribe", "id": 1, "since": "start", "filter": {"runs": ["join"]}})
    writer.publish(*[event(number, "join") for number in range(200, 400)])
    assert sequences(reader.read(399)) == list(range(1, 400))


def test_filters_and_preferences_choose(hub: Hub, connect: Connect):
    writer, reader = connect(hub), connect(hub)
    reader.subscribe("w", workOrderId="work", includeOutput=False)
    writer.publish(
        event(1, "f", work_id="work"),
        event(2, "f", type_="error", work_id="work"),
        event(3, "f", type_="error", work_id="other"),
        event(4, "f", type_="gap", work_id="work"),
    )
    assert [json.loads(line)["sequence"] for line in reader.read(2)] == [2, 4]


def test_positions_advance_while_a_filter_skips(hub: Hub, connect: Connect):
    reader, writer = connect(hub), connect(hub)
    before = reader.subscribe(filter={"runs": ["nobody"]}).position
    assert before is not None
    writer.publish(event(1, "skipped"))
    found = reader.next("events")
    assert (found.lines, found.prev) == ([], before.offset)
    assert found.pos is not None
    assert found.pos > before.offset
    beat = reader.next("heartbeat")
    assert (beat.head, beat.connections) == (reader.position, 2)


def test_an_old_or_foreign_position_is_not_recovered(hub: Hub, connect: Connect):
    connect(hub).publish(event(1, "epoch"))
    for since in (
        {"epoch": "other", "offset": 3},
        {"epoch": hub.json("api/runs")["position"]["epoch"], "offset": 10**9},
    ):
        reader = connect(hub)
        confirmed = reader.subscribe(since=since, filter={"runs": ["epoch"]})
        assert confirmed.recovered is False
        gap = reader.next("gap")
        assert (gap.first, gap.reason) == (0, "epoch")
        snapshot = reader.next("snapshot")
        assert "epoch" in [run["run_id"] for run in snapshot.runs or ()]
        assert sequences(reader.read(1)) == [1]


def test_a_snapshot_holds_the_state_and_its_position(hub: Hub, connect: Connect):
    writer, reader = connect(hub), connect(hub)
    writer.publish(event(1, "snap", type_="run_started"), event(2, "snap", type_="agent_tool_call"))
    reader.send({"type": "snapshot", "id": 1})
    found = reader.next("snapshot")
    assert found.position is not None
    assert found.position.offset >= 2
    (run,) = [run for run in found.runs or () if run["run_id"] == "snap"]
    assert (run["state"], run["tool_calls"]) == ("running", 1)
    assert "agent-snap" in [agent["agent_id"] for agent in found.agents or ()]
    reader.subscribe(snapshot=True)
    assert reader.next("snapshot").position is not None


def test_unsubscribing_ends_it_and_an_id_used_again_replaces(hub: Hub, connect: Connect):
    reader, writer = connect(hub), connect(hub)
    reader.subscribe("one", filter={"runs": ["gone"]})
    reader.subscribe("one", filter={"runs": ["new"]})
    writer.publish(event(1, "gone"), event(1, "new"))
    assert json.loads(reader.read(1)[0])["run_id"] == "new"
    reader.send({"type": "unsubscribe", "id": "one"})
    assert reader.next("unsubscribed").id == "one"
    writer.publish(event(2, "new"))
    reader.send({"type": "unsubscribe", "id": "one"})
    assert reader.next("error").in_reply_to == "one"
    assert len(reader.lines) == 1


def test_many_subscriptions_on_one_connection_are_told_apart(hub: Hub, connect: Connect):
    reader, writer = connect(hub), connect(hub)
    for number in range(wire.MAX_SUBSCRIPTIONS):
        reader.send({"type": "subscribe", "id": number, "filter": {"runs": [f"many-{number}"]}})
    reader.send({"type": "subscribe", "id": "too many"})
    refusal = reader.next("error")
    assert (refusal.code, refusal.in_reply_to) == ("too_many_subscriptions", "too many")
    writer.publish(*[event(1, f"many-{number}") for number in range(wire.MAX_SUBSCRIPTIONS)])
    seen: dict[object, str] = {}
    while len(seen) < wire.MAX_SUBSCRIPTIONS:
        message = reader.receive()
        if message.type == "events" and message.lines:
            seen[message.id] = json.loads(message.lines[0])["run_id"]
    assert seen == {number: f"many-{number}" for number in range(wire.MAX_SUBSCRIPTIONS)}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"{bad", "bad_json"),
        (b"[1]", "bad_message"),
        ({"type": "nonsense"}, "unknown_type"),
        ({"type": "subscribe", "id": 1, "since": 5}, "bad_message"),
        ({"type": "subscribe", "id": 1, "x": "y" * wire.MAX_MESSAGE_BYTES}, "too_large"),
        ({"type": "auth", "token": "again"}, "bad_message"),
    ],
)
def test_a_malformed_message_hurts_its_sender_alone(hub: Hub, connect: Connect, message: object, code: str):
    reader, writer = connect(hub), connect(hub)
    run = f"bad-{code}-{len(str(message))}"
    reader.subscribe(filter={"runs": [run]})
    writer.send(message)
    assert writer.next("error").code == code
    writer.publish(event(1, run))
    assert sequences(reader.read(1)) == [1]
    assert [found for found in reader.others if found.type == "error"] == []


def test_a_flood_of_bad_events_is_answered_in_a_few_words(hub: Hub, connect: Connect):
    writer = connect(hub)
    writer.send(event(1, "flood") + b"\n" + b"\n".join([b"{"] * 10_000))
    assert writer.next("ack").count == 10_001
    assert len([message for message in writer.others if message.type == "error"]) == 6


def test_binary_frames_are_refused(hub: Hub, connect: Connect):
    client = connect(hub)
    client.socket.send_binary(b"{}")
    assert client.closed_with() == 4403
    assert [message.type for message in client.others if message.type != "heartbeat"][-2:] == ["error", "bye"]


def test_a_message_over_the_limit_is_answered_and_ends_the_connection(hub: Hub, connect: Connect):
    client = connect(hub)
    client.send(event(1, "large", size=wire.MAX_PUBLISH_BYTES))
    assert client.closed_with() == 4413
    bye = client.others[-1]
    assert (bye.type, bye.code, bye.reconnect) == ("bye", 4413, False)


def test_ping_is_answered_and_so_is_a_websocket_ping(hub: Hub, connect: Connect):
    client = connect(hub)
    client.send({"type": "ping"})
    assert client.next("pong").timestamp
    client.socket.ping("hello")
    while True:
        opcode, frame = client.socket.recv_data_frame(control_frame=True)
        if opcode == 0xA:
            assert frame.data == b"hello"
            break


@pytest.mark.parametrize("size", [1, 60, 125, 126, 127, 1000, 65_535, 65_536, 300_000])
def test_frames_of_every_length_are_understood(hub: Hub, connect: Connect, size: int):
    reader, writer = connect(hub), connect(hub)
    run = f"size-{size}"
    reader.subscribe(filter={"runs": [run]})
    line = event(1, run, size=size)
    writer.publish(line)
    assert reader.read(1) == [line]


def test_a_client_that_closes_gets_its_close_back(hub: Hub):
    client = Client(hub)
    client.socket.send_close(1000, b"bye")
    assert client.closed_with() == 1000
    client.close()


def test_a_subscription_that_is_replaced_while_its_start_is_looked_up_stays_replaced(hub: Hub, connect: Connect):
    """Both ask for the last entries, which takes a while to find: the newer one counts."""
    client = connect(hub)
    client.publish(
        *[event(number, "replaced") for number in range(1, 6)], *[event(number, "newer") for number in (1, 2)]
    )
    old = {"type": "subscribe", "id": 7, "since": {"last": 5}, "filter": {"runs": ["replaced"]}}
    new = {"type": "subscribe", "id": 7, "since": {"last": 1}, "filter": {"runs": ["newer"]}}
    for _ in range(20):
        client.send(old, new)
        while client.next("subscription_confirmed").filter != {"runs": ["newer"]}:
            continue  # the older one was quick enough to begin before it was replaced
        client.send({"type": "unsubscribe", "id": 7})
        client.next("unsubscribed")


def test_a_filter_with_half_a_character_is_confirmed_like_any_other(hub: Hub, connect: Connect):
    client = connect(hub)
    client.send(b'{"type":"subscribe","id":"\\ud800","filter":{"types":["\\ud800"]}}')
    client.send({"type": "ping"})
    while b"pong" not in (text := client.socket.recv_data()[1]):
        assert text, "the connection was closed"


def test_who_asks_gets_accumulated_text_and_the_others_the_lines_that_were_published(hub: Hub, connect: Connect):
    writer, plain, late = connect(hub), connect(hub), connect(hub)
    lines = [
        event(number, "accumulated", payload={"message_id": "m", "index": 0, "text": f"{number} ", "final": False})
        for number in range(1, 301)
    ]
    writer.publish(*lines)
    plain.subscribe(since="start", filter={"runs": ["accumulated"]})
    late.subscribe(since="start", filter={"runs": ["accumulated"]}, accumulate=True)
    assert plain.read(300) == lines
    seen: list[int] = []
    text = ""
    while len(seen) < 300:
        late.next("events")
        for found in map(json.loads, late.lines):
            seen += [number for first, last in found.get("covers", []) for number in range(first, last + 1)]
            seen.append(found["sequence"])
            text += found["payload"]["text"]
        assert len(late.lines) < 100
        late.lines = []
    assert seen == list(range(1, 301))
    assert text == "".join(f"{number} " for number in range(1, 301))
    assert late.position == plain.position


def test_a_snapshot_of_many_large_runs_comes_in_parts(hub: Hub, connect: Connect):
    writer = connect(hub)
    for run in range(150):
        ended = {"result": "x" * 500, "reason": "exit", "error": "y" * 500}
        writer.publish(event(1, f"part-{run}", "run_completed", payload=ended))
    writer.send({"type": "snapshot"})
    parts = [writer.next("snapshot")]
    while parts[-1].part != parts[-1].parts:
        parts.append(writer.next("snapshot"))
    assert len(parts) > 1
    runs = [run["run_id"] for part in parts for run in part.runs or []]
    assert len(runs) == len(set(runs))
    assert {f"part-{run}" for run in range(150)} <= set(runs)


def test_over_its_rate_a_reader_gets_every_word_in_fewer_events(hub: Hub, connect: Connect):
    """300 chunks in no time at 20 events/s; and an error that comes between them is not lost in the text."""
    writer, reader = connect(hub), connect(hub)
    reader.subscribe(filter={"runs": ["paced"]}, max_rate=20)
    for number in range(1, 301):
        payload = {"message_id": "m", "index": 0, "text": f"{number} ", "final": False}
        writer.publish(
            event(number, "paced", "error" if number == 150 else "agent_output", payload=payload), wait=False
        )
    while reader.position is None or not reader.lines or sequences(reader.lines[-1:]) != [300]:
        reader.next("events")
    found = [json.loads(line) for line in reader.lines]
    assert len(found) < 150
    assert "".join(each["payload"]["text"] for each in found) == "".join(f"{number} " for number in range(1, 301))
    assert [each["sequence"] for each in found if each["type"] == "error"] == [150]
