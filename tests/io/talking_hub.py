"""A hub that says what a test tells it to, message by message, for what a real hub does only now and then."""

import json
import queue

from tests.io.hubs import PATIENCE_S
from tests.io.raw_hub import RawHub


class TalkingHub(RawHub):
    """Welcomes a subscriber (epoch ``e``, head 0); what it asks for is taken with `asked`, in order."""

    def __init__(self):
        self._asked = queue.Queue()
        super().__init__(acks=None)

    def asked(self):
        """The next `subscribe`."""
        while (message := self._asked.get(timeout=PATIENCE_S))["type"] != "subscribe":
            pass
        return message

    def says(self, message):
        self._say(self._client, message)

    def confirms(self, offset, *, own_id=1, recovered=True):
        """Confirm what is asked for."""
        assert self.asked()["id"] == own_id
        position = {"epoch": "e", "offset": offset}
        self.says({"type": "subscription_confirmed", "id": own_id, "position": position, "recovered": recovered})

    def sends(self, prev, pos, *names, own_id=1):
        """Events by name."""
        whole = [{"type": "t", "run_id": "r", "agent_id": "a", "event_id": name} for name in names]
        self.says({"type": "events", "id": own_id, "prev": prev, "pos": pos, "events": whole})

    def _keep(self, payload):
        self._asked.put(json.loads(payload))
        return 0
