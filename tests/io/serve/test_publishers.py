"""Publishers at the hub: who has been overtaken by a newer self, and what was left out."""

from collections.abc import Callable

from agentpipe.event import peek
from tests.io.serve.hubs import Client, Hub, event, sequences

Connect = Callable[..., Client]
Start = Callable[..., Hub]

OWN = "publisher-0123456789"


def hello(client: Client, generation: int, own_id: str = OWN) -> None:
    client.send({"type": "publisher", "id": own_id, "generation": generation})


def test_an_older_connection_is_told_that_it_is_fenced_when_a_newer_says_who_it_is(hub: Hub, connect: Connect):
    old, new = connect(hub), connect(hub)
    hello(old, 1)
    old.publish(event(1, "fence-a"))
    hello(new, 2)
    assert old.closed_with() == 4409
    assert [message.code for message in old.others[-2:]] == ["fenced", 4409]
    new.publish(event(1, "fence-a"), event(2, "fence-a"))
    assert [each["sequence"] for each in hub.events("fence-a")] == [1, 2]


def test_an_older_connection_that_comes_late_is_refused_and_nothing_of_it_is_stored(hub: Hub, connect: Connect):
    new = connect(hub)
    hello(new, 7)
    new.publish(event(1, "fence-b"))
    late = connect(hub)
    hello(late, 6)
    late.publish(event(2, "fence-b"), wait=False)
    assert late.closed_with() == 4409
    assert late.settled == 0
    assert [each["sequence"] for each in hub.events("fence-b")] == [1]
    new.publish(event(2, "fence-b"))


def test_who_wrote_last_is_known_after_a_restart_of_the_hub(start: Start, connect: Connect):
    hub = start(store="hub.db")
    new = connect(hub)
    hello(new, 7)
    new.publish(event(1))
    hub.kill()
    hub.start()
    late = connect(hub)
    hello(late, 6)
    late.publish(event(2), wait=False)
    assert late.closed_with() == 4409


def test_publishing_a_log_again_under_another_name_hurts_nobody(hub: Hub, connect: Connect):
    first, second = connect(hub), connect(hub)
    hello(first, 1)
    first.publish(event(1, "twice"), event(2, "twice"))
    hello(second, 1, "somebody-else-0123456789")
    second.publish(event(1, "twice"), event(2, "twice"))
    first.publish(event(3, "twice"))
    assert [each["sequence"] for each in hub.events("twice")] == [1, 2, 3]


def test_a_publisher_that_does_not_say_properly_who_it_is_gets_an_error(hub: Hub, connect: Connect):
    client = connect(hub)
    for wrong in ({}, {"id": "short", "generation": 1}, {"id": OWN}, {"id": OWN, "generation": True}, {"id": 5}):
        client.send({"type": "publisher", **wrong})
        assert client.next("error").code == "bad_message"
    client.publish(event(1, "unnamed"))


def test_numbers_that_a_publisher_left_out_are_declared_to_everybody_before_the_run_ends(hub: Hub, connect: Connect):
    reader, writer = connect(hub), connect(hub)
    reader.subscribe(filter={"runs": ["holes"]})
    writer.publish(event(3, "holes"), event(4, "holes"))
    writer.publish(event(9, "holes", "run_completed"))
    found = [peek(line) for line in reader.read(4)]
    assert sequences(reader.lines) == [3, 4, 8, 9]
    declared = found[2]
    assert (declared.type, declared.event_id, declared.agent_id) == ("gap", "holes:gap:1-8", "agent-holes")
    assert declared.payload == {"ranges": [[1, 2], [5, 8]], "count": 6, "reason": "source"}
    writer.publish(event(3, "holes"), event(9, "holes", "run_completed"))
    assert len(hub.events("holes")) == 4


def test_holes_that_were_open_when_the_hub_died_are_declared_by_the_next_one(start: Start, connect: Connect):
    hub = start(store="hub.db")
    connect(hub).publish(event(5))
    hub.kill()
    hub.start()
    reader = connect(hub)
    reader.subscribe(since="start")
    connect(hub).publish(event(6), event(7, type_="run_failed"))
    assert sequences(reader.read(4)) == [5, 6, 4, 7]
