"""The rules of a hub's client, case by case: `cases.json`, which the client in TypeScript is held to as well."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from agentpipe.errors import AuthError, HubUnreachable, PeerError, ProtocolError
from agentpipe.event import peek
from agentpipe.following import Following, Gap
from agentpipe.history import EVERYTHING
from agentpipe.io.connect import STAY_AWAY_S
from agentpipe.wire import parse_hub_message
from tests.io.test_link import Pair

TABLE = json.loads((Path(__file__).parent / "cases.json").read_text())
OUTCOMES = ("asks", "events", "gaps", "refused", "new_log")


class Client:
    """A `Following`, and what came of the last step."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.at = 1000.0
        self.came: dict[str, Any] = {}
        self.following = Following(
            case["since"], EVERYTHING, endless=True, chance=lambda: 0.99, accumulate=case.get("accumulate", False)
        )

    def step(self, step: dict[str, Any]) -> None:
        self.came = {}
        if "hear" in step:
            self._hear(step["hear"])
        elif "lost" in step:
            self.following.lost()
        else:
            self.at += step["pass_s"]
            self.following.wake(self.at)
        if self.following.requests:
            self.came["asks"] = [json.loads(request) for request in self.following.requests]
            self.following.requests.clear()

    def _hear(self, message: dict[str, Any]) -> None:
        if message["type"] == "events":
            whole = [{"type": "t", "run_id": "r", "agent_id": "a", "event_id": name} for name in message["events"]]
            message = {**message, "events": whole}
        before = self.following.position
        try:
            found = self.following.hear(parse_hub_message(json.dumps(message).encode()), self.at)
        except PeerError as error:
            code = (
                "forbidden" if isinstance(error, AuthError) else error.code if isinstance(error, ProtocolError) else ""
            )
            self.came["refused"] = code
            return
        gaps = [item for item in found if isinstance(item, Gap)]
        names = [peek(line).event_id for item in found if not isinstance(item, Gap) for line in item.lines]
        if names:
            self.came["events"] = names
        if gaps:
            self.came["gaps"] = [
                {"from": gap.first, "to": gap.last, "count": gap.count, "reason": gap.reason} for gap in gaps
            ]
        after = self.following.position
        if before and after and (after.epoch != before.epoch or after.offset < before.offset):
            self.came["new_log"] = True


@pytest.mark.parametrize("case", TABLE["cases"], ids=lambda case: case["name"])
def test_case(case: dict[str, Any]) -> None:
    client = Client(case)
    for number, step in enumerate(case["steps"]):
        client.step(step)
        assert client.came == {name: step[name] for name in OUTCOMES if name in step}, f"step {number}: {step}"
        if "position" in step:
            assert client.following.position is not None
            assert client.following.position.offset == step["position"], f"step {number}: {step}"


def sorted_out(error: PeerError, *, at_once: bool) -> str:
    if isinstance(error, HubUnreachable):
        return "at_once" if at_once else "backoff"
    return "auth" if isinstance(error, AuthError) else "stop"


@pytest.mark.parametrize("ending", TABLE["endings"], ids=lambda ending: ending["name"])
def test_ending(ending: dict[str, Any]) -> None:
    """What the end of a connection tells us to do."""
    pair = Pair()
    try:
        if ending["bye"] is not None:
            pair.tells(**ending["bye"])
        pair.says(0x8, b"" if ending["code"] is None else ending["code"].to_bytes(2, "big") + b"because")
        if ending["bye"] is not None:
            assert [message.type for message in pair.link.receive()] == ["bye"]
        with pytest.raises(PeerError) as caught:
            pair.link.receive()
    finally:
        pair.link.drop()
        pair.hub.close()
    assert sorted_out(caught.value, at_once=pair.link.at_once) == ending["verdict"]
    if ending["verdict"] in ("at_once", "backoff"):
        assert min(pair.link.stay_away_s, STAY_AWAY_S) == ending["stay_away_s"]


def test_no_two_cases_have_one_name() -> None:
    names = [case["name"] for case in TABLE["cases"]] + [ending["name"] for ending in TABLE["endings"]]
    assert len(names) == len(set(names))
    assert all(re.search(r"\w", name) for name in names)
