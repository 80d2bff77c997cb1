"""Hubs and clients that end with their test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.io.serve.hubs import Client, Hub


@pytest.fixture(scope="module", params=["memory", "hub.db"])
def hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """One hub a module and kind of store: tests use runs of their own."""
    made = Hub(tmp_path_factory.mktemp("hub"), "--heartbeat", "200ms", store=request.param)
    yield made
    made.stop()
    assert "Traceback" not in made.stderr
    assert "Exception" not in made.stderr


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Hub]]:
    """Start a hub of one's own: ``start("--window", "64KiB", store="hub.db")``."""
    hubs: list[Hub] = []

    def begin(*options: str, **more: Any) -> Hub:
        hubs.append(Hub(tmp_path, *options, **more))
        return hubs[-1]

    yield begin
    for made in hubs:
        made.stop()
        assert "Traceback" not in made.stderr


@pytest.fixture
def connect() -> Iterator[Callable[..., Client]]:
    """Connect a client to a hub: ``connect(hub)``."""
    clients: list[Client] = []

    def begin(hub: Hub, **options: Any) -> Client:
        client = Client(hub, **options)
        clients.append(client)
        client.next("welcome") if options.get("token", "") == "" else None
        return client

    yield begin
    for client in clients:
        client.close()
