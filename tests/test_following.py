"""A reader of the log: what it prints, how it filters, when it ends. Its rules are in tests/clients/cases.json."""

import json
import random

import pytest

from agentpipe.backoff import CEILING_S, ceiling
from agentpipe.errors import AuthError, ProtocolError
from agentpipe.event import encode
from agentpipe.following import Batch, Following, Gap, since
from agentpipe.history import EVERYTHING, Filter, Position
from agentpipe.ndjson import join
from agentpipe.wire import parse_hub_message


def reader(start, wanted, *, endless, chance=lambda: 0.5, **more):
    return Following(start, wanted, endless=endless, chance=chance, **more)


def heard(following, message, at=0.0):
    """The bytes of the events that the message brings, a line each."""
    found = following.hear(message, at)
    return b"".join(join(item.lines) for item in found if isinstance(item, Batch))


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
    heard(following, said(type="welcome", epoch=epoch, head=head))
    request = asked(following)[-1]
    heard(
        following,
        said(type="subscription_confirmed", id=request["id"], position={"epoch": epoch, "offset": at}, recovered=True),
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
    following = reader("start", EVERYTHING, endless=True)
    own = connected(following)
    assert heard(following, events(own, 0, 2, line(1), line(2))) == f"{line(1)}\n{line(2)}\n".encode()
    assert following.report()["position"] == "e:2"


@pytest.mark.parametrize("endless", [True, False])
def test_an_escaped_lone_surrogate_is_carried_as_it_is(endless):
    cut = '{"type":"t","run_id":"r","sequence":1,"payload":{"text":"\\ud83d"}}'
    following = reader("start", Filter(runs=frozenset({"r"})), endless=endless)
    own = connected(following, head=2)
    assert heard(following, events(own, 0, 2, cut, line(2))) == f"{cut}\n{line(2)}\n".encode()


def test_without_following_it_ends_at_the_head_of_the_first_welcome():
    following = reader("start", EVERYTHING, endless=False)
    own = connected(following, head=2)
    assert not following.done
    heard(following, events(own, 0, 2, line(1), line(2)))
    assert following.done


def test_without_following_an_empty_log_is_read_at_once():
    following = reader("start", EVERYTHING, endless=False)
    connected(following, head=0)
    assert following.done


def test_without_following_a_log_that_was_replaced_meanwhile_is_read_to_its_own_head():
    following = reader("start", EVERYTHING, endless=False)
    own = connected(following, head=5)
    heard(following, events(own, 0, 2, line(1), line(2)))
    own = connected(following, head=3, at=0, epoch="f")
    assert not following.done
    heard(following, events(own, 0, 3, line(1), line(2), line(3)))
    assert following.done


def test_without_following_the_filter_is_applied_here_so_that_the_head_is_reached_without_a_heartbeat():
    following = reader("start", Filter(types=frozenset({"error"})), endless=False)
    heard(following, said(type="welcome", epoch="e", head=3))
    request = asked(following)[0]
    assert "filter" not in request
    heard(following, said(type="subscription_confirmed", id=request["id"], position={"epoch": "e", "offset": 0}))
    printed = heard(following, events(request["id"], 0, 3, line(1), line(2, "error"), line(3)))
    assert printed == f"{line(2, 'error')}\n".encode()
    assert following.done


def test_the_last_n_that_match_are_found_by_the_hub_and_read_from_there():
    following = reader({"last": 2}, Filter(runs=frozenset({"r"})), endless=False)
    heard(following, said(type="welcome", epoch="e", head=9))
    first = asked(following)[0]
    assert (first["since"], first["filter"]) == ({"last": 2}, {"runs": ["r"]})
    heard(following, said(type="subscription_confirmed", id=first["id"], position={"epoch": "e", "offset": 6}))
    second = asked(following)[0]
    assert second["since"] == {"epoch": "e", "offset": 6}
    assert "filter" not in second


def test_following_leaves_the_filter_to_the_hub():
    wanted = Filter(runs=frozenset({"b", "a"}), types=frozenset({"error"}))
    following = reader("live", wanted, endless=True)
    heard(following, said(type="welcome", epoch="e", head=3))
    assert asked(following)[0] == {
        "type": "subscribe",
        "id": 1,
        "since": "live",
        "filter": {"runs": ["a", "b"], "types": ["error"]},
    }


@pytest.mark.parametrize(("code", "kind"), [("forbidden", AuthError), ("bad_message", ProtocolError)])
def test_a_refused_subscription_ends_it(code, kind):
    following = reader("start", EVERYTHING, endless=True)
    following.url = "ws://h"
    following.hear(said(type="welcome", epoch="e", head=0), 0.0)
    with pytest.raises(kind, match="no, thanks"):
        following.hear(said(type="error", code=code, message="no, thanks"), 0.0)


def hole(own_id, first, last, count, reason="evicted"):
    return parse_hub_message(
        encode({"type": "gap", "id": own_id, "from": first, "to": last, "count": count, "reason": reason})
    )


def test_a_declared_hole_is_counted_and_said():
    following = reader("start", EVERYTHING, endless=True)
    own = connected(following)
    (gap,) = following.hear(hole(own, 1, 6, 4), 0.0)
    assert gap == Gap(1, 6, 4, "evicted")
    assert str(gap) == "4 events are missing (offsets 1 to 6): evicted"
    following.hear(hole(own, 7, 7, 1), 0.0)
    report = following.report()
    assert (report["missed"], report["gaps"], report["position"]) == (5, 2, "e:7")


def test_another_log_is_not_said_to_miss_nothing():
    assert str(Gap(0, 0, None, "epoch")).startswith("the log is another one than before")


def test_without_following_it_does_not_end_before_a_hole_is_told():
    following = reader(since("e:1"), EVERYTHING, endless=False)
    following.hear(said(type="welcome", epoch="e", head=9), 0.0)
    own = asked(following)[0]["id"]
    following.hear(
        said(type="subscription_confirmed", id=own, position={"epoch": "e", "offset": 9}, recovered=False), 0.0
    )
    assert following.owes
    assert not following.done
    assert following.hear(hole(own, 2, 9, 8), 0.0) == [Gap(2, 9, 8, "evicted")]
    assert following.done


def test_within_a_batch_the_position_is_exact_where_every_offset_has_its_line():
    whole = Batch([b"a", b"b", b"c"], 7, Position("e", 10))
    assert [whole.behind(index).offset for index in range(3)] == [8, 9, 10]
    sparse = Batch([b"a", b"b"], 7, Position("e", 10))
    assert [sparse.behind(index).offset for index in range(2)] == [7, 10]


def test_asking_again_has_full_jitter_under_a_doubling_ceiling():
    """Every wait is spread evenly between nothing and the ceiling of its attempt."""
    chance = random.Random(1).random
    waits = {}
    for _ in range(400):
        following = reader({"last": 4}, EVERYTHING, endless=True, chance=chance)
        following.hear(said(type="welcome", epoch="e", head=9), 0.0)
        at = 0.0
        for attempt in range(1, 8):
            own = asked(following)[-1]["id"]
            following.hear(said(type="error", code="unavailable", message="full", in_reply_to=own), at)
            assert not following.requests, "not at once"
            waits.setdefault(attempt, []).append(following.deadline - at)
            following.wake(following.deadline - 1e-6)
            assert not following.requests, "not before it is time"
            at = following.deadline
            following.wake(at)
    for attempt, found in waits.items():
        top = ceiling(attempt)
        assert 0 <= min(found) < 0.05 * top
        assert 0.95 * top < max(found) <= top
        assert 0.45 * top < sum(found) / len(found) < 0.55 * top
    assert ceiling(7) == CEILING_S
