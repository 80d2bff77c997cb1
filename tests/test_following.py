"""A reader of the log: what it takes, what it asks for, when it ends."""

import json

import pytest

from agentpipe.errors import AuthError, ProtocolError
from agentpipe.following import Following, since
from agentpipe.history import EVERYTHING, Filter
from agentpipe.wire import parse_hub_message


def said(**fields):
    return parse_hub_message(json.dumps(fields).encode())


def asked(following):
    requests = [json.loads(request) for request in following.requests]
    following.requests.clear()
    return [request for request in requests if request["type"] == "subscribe"]


def line(number, kind="agent_output"):
    return f'{{"type":"{kind}","run_id":"r","sequence":{number}, "odd" : 1.50}}'


def events(own_id, prev, pos, *lines):
    return parse_hub_message(
        f'{{"type":"events","id":{own_id},"prev":{prev},"pos":{pos},"events":[{",".join(lines)}]}}'.encode()
    )


def connected(following, *, head=10, at=0, epoch="e"):
    """The hub welcomes and confirms; the subscription's id."""
    following.hear(said(type="welcome", epoch=epoch, head=head))
    request = asked(following)[-1]
    following.hear(
        said(type="subscription_confirmed", id=request["id"], position={"epoch": epoch, "offset": at}, recovered=True)
    )
    return request["id"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("start", "start"),
        ("live", "live"),
        ("last:100", {"last": 100}),
        ("9f:4700", {"epoch": "9f", "offset": 4700}),
        ("a:b:7", {"epoch": "a:b", "offset": 7}),
    ],
)
def test_where_to_start_is_written_as_people_write_it(text, value):
    assert since(text) == value


@pytest.mark.parametrize("text", ["", "now", "last:", "last:x", ":7", "9f:-1", "100"])
def test_what_names_no_place_is_refused(text):
    with pytest.raises(ValueError, match="is not start, live"):
        since(text)


def test_events_are_the_bytes_that_were_published():
    following = Following("start", EVERYTHING, endless=True)
    own = connected(following)
    assert following.hear(events(own, 0, 2, line(1), line(2))) == f"{line(1)}\n{line(2)}\n".encode()
    assert following.report()["position"] == "e:2"


@pytest.mark.parametrize("endless", [True, False])
def test_an_escaped_lone_surrogate_is_carried_as_it_is(endless):
    cut = '{"type":"t","run_id":"r","sequence":1,"payload":{"text":"\\ud83d"}}'
    following = Following("start", Filter(runs=frozenset({"r"})), endless=endless)
    own = connected(following, head=2)
    assert following.hear(events(own, 0, 2, cut, line(2))) == f"{cut}\n{line(2)}\n".encode()


def test_what_is_known_is_not_taken_twice():
    following = Following("start", EVERYTHING, endless=True)
    own = connected(following)
    following.hear(events(own, 0, 2, line(1), line(2)))
    assert following.hear(events(own, 0, 2, line(1), line(2))) == b""
    assert asked(following) == []


@pytest.mark.parametrize(("prev", "pos"), [(3, 5), (1, 5)])
def test_events_that_do_not_start_where_we_stand_make_us_ask_again_from_there(prev, pos):
    following = Following("start", EVERYTHING, endless=True)
    own = connected(following)
    following.hear(events(own, 0, 2, line(1), line(2)))
    assert following.hear(events(own, prev, pos, line(4), line(5))) == b""
    assert json.loads(following.requests[0]) == {"type": "unsubscribe", "id": own}
    request = asked(following)[0]
    assert request["since"] == {"epoch": "e", "offset": 2}
    assert request["id"] != own
    assert following.hear(events(own, 2, 3, line(3))) == b"", "what was on its way for the old one is not taken"
    assert following.notes


def test_a_new_connection_goes_on_from_the_position_also_when_nothing_was_seen_yet():
    following = Following({"last": 5}, EVERYTHING, endless=True)
    connected(following, at=7)
    following.hear(said(type="welcome", epoch="e", head=10))
    assert len(following.requests) == 1, "there is nothing to unsubscribe on a new connection"
    assert asked(following)[0]["since"] == {"epoch": "e", "offset": 7}


def test_empty_events_move_the_position():
    following = Following("start", Filter(types=frozenset({"error"})), endless=True)
    own = connected(following)
    assert following.hear(events(own, 0, 8)) == b""
    assert following.report()["position"] == "e:8"


def test_a_declared_hole_is_counted_said_and_passed():
    following = Following("start", EVERYTHING, endless=True)
    own = connected(following)
    following.hear(
        parse_hub_message(f'{{"type":"gap","id":{own},"from":1,"to":6,"count":6,"reason":"evicted"}}'.encode())
    )
    assert following.missed == 6
    assert "6 events are missing" in following.notes[0]
    assert following.hear(events(own, 6, 7, line(7))) != b""


def test_another_log_is_not_said_to_miss_nothing():
    following = Following("start", EVERYTHING, endless=True)
    own = connected(following)
    following.hear(parse_hub_message(b'{"type":"gap","id":%d,"from":0,"to":0,"count":null,"reason":"epoch"}' % own))
    assert following.notes[0].startswith("the log is another one than before")


def test_being_behind_for_a_whole_interval_in_which_nothing_came_makes_us_ask_again():
    following = Following("start", EVERYTHING, endless=True)
    own = connected(following)
    following.hear(events(own, 0, 2, line(1), line(2)))
    following.hear(said(type="heartbeat", head=3))
    assert asked(following) == [], "it may be on its way"
    following.hear(said(type="heartbeat", head=3))
    assert asked(following)[0]["since"] == {"epoch": "e", "offset": 2}


def test_at_the_head_heartbeats_change_nothing():
    following = Following("start", EVERYTHING, endless=True)
    own = connected(following)
    following.hear(events(own, 0, 2, line(1), line(2)))
    for _ in range(3):
        following.hear(said(type="heartbeat", head=2))
    assert asked(following) == []


def test_without_following_it_ends_at_the_head_of_the_first_welcome():
    following = Following("start", EVERYTHING, endless=False)
    own = connected(following, head=2)
    assert not following.done
    following.hear(events(own, 0, 2, line(1), line(2)))
    assert following.done


def test_without_following_an_empty_log_is_read_at_once():
    following = Following("start", EVERYTHING, endless=False)
    connected(following, head=0)
    assert following.done


def test_without_following_a_log_that_was_replaced_meanwhile_is_read_to_its_own_head():
    following = Following("start", EVERYTHING, endless=False)
    own = connected(following, head=5)
    following.hear(events(own, 0, 2, line(1), line(2)))
    own = connected(following, head=3, at=0, epoch="f")
    assert not following.done
    following.hear(events(own, 0, 3, line(1), line(2), line(3)))
    assert following.done


def test_without_following_the_filter_is_applied_here_so_that_the_head_is_reached_without_a_heartbeat():
    following = Following("start", Filter(types=frozenset({"error"})), endless=False)
    following.hear(said(type="welcome", epoch="e", head=3))
    request = asked(following)[0]
    assert "filter" not in request
    following.hear(said(type="subscription_confirmed", id=request["id"], position={"epoch": "e", "offset": 0}))
    printed = following.hear(events(request["id"], 0, 3, line(1), line(2, "error"), line(3)))
    assert printed == f"{line(2, 'error')}\n".encode()
    assert following.done


def test_the_last_n_that_match_are_found_by_the_hub_and_read_from_there():
    following = Following({"last": 2}, Filter(runs=frozenset({"r"})), endless=False)
    following.hear(said(type="welcome", epoch="e", head=9))
    first = asked(following)[0]
    assert (first["since"], first["filter"]) == ({"last": 2}, {"runs": ["r"]})
    following.hear(said(type="subscription_confirmed", id=first["id"], position={"epoch": "e", "offset": 6}))
    second = asked(following)[0]
    assert second["since"] == {"epoch": "e", "offset": 6}
    assert "filter" not in second


def test_following_leaves_the_filter_to_the_hub():
    wanted = Filter(runs=frozenset({"b", "a"}), types=frozenset({"error"}))
    following = Following("live", wanted, endless=True)
    following.hear(said(type="welcome", epoch="e", head=3))
    assert asked(following)[0] == {
        "type": "subscribe",
        "id": 1,
        "since": "live",
        "filter": {"runs": ["a", "b"], "types": ["error"]},
    }


@pytest.mark.parametrize(("code", "kind"), [("forbidden", AuthError), ("bad_message", ProtocolError)])
def test_a_refused_subscription_ends_it(code, kind):
    following = Following("start", EVERYTHING, endless=True, url="ws://h")
    with pytest.raises(kind, match="no, thanks"):
        following.hear(said(type="error", code=code, message="no, thanks"))
