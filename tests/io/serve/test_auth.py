"""Who may: the token in each of its forms, the Host, the Origin; before anything else is said."""

import http.client
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import websocket

from tests.io.serve.hubs import Client, Hub, event

Connect = Callable[..., Client]
Start = Callable[..., Hub]

PROTECTED = ["api/runs", "api/runs/r", "api/runs/r/events", "api/agents", "api/events/r:1", "api/nothing"]


@pytest.mark.parametrize("path", PROTECTED)
@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic dXNlcjp0b2tlbg==", "Bearer", "", "Bearer \xff\xfe"])
def test_the_api_needs_the_token(hub: Hub, path: str, header: str | None):
    more = {} if header is None else {"Authorization": header}
    status, headers, body = hub.request(path, token=None, **more)
    assert status == 401
    assert headers["WWW-Authenticate"].startswith("Bearer")
    assert json.loads(body)["code"] == "auth_failed"


def test_posting_needs_the_token(hub: Hub):
    assert hub.request("api/events", event(1, "unauthorised"), token=None)[0] == 401
    assert hub.request("api/session", b"", token=None)[0] == 401
    assert hub.request("api/runs/unauthorised")[0] == 404


@pytest.mark.parametrize("path", ["healthz", "readyz", ""])
def test_health_and_page_are_open(hub: Hub, path: str):
    assert hub.request(path, token=None)[0] == 200


def test_the_token_is_not_taken_from_the_query(hub: Hub):
    assert hub.request(f"api/runs?token={hub.token}&access_token={hub.token}", token=None)[0] == 401


def test_the_token_is_exchanged_for_a_cookie(hub: Hub, connect: Connect):
    status, headers, _ = hub.request("api/session", b"")
    assert status == 204
    cookie = headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert hub.token not in cookie
    pair = cookie.split(";")[0]
    assert hub.request("api/runs", token=None, Cookie=pair)[0] == 200
    assert hub.request("api/runs", token=None, Cookie=pair[:-1] + "x")[0] == 401
    assert hub.request("api/runs", token=None, Cookie=pair[:-1] + "\xff")[0] == 401
    assert hub.request("api/session", b"", token=None, Cookie=pair)[0] == 401
    client = connect(hub, token=None, header=[f"Cookie: {pair}"])
    assert client.next("welcome").connection_id


def test_the_token_may_be_the_first_message(hub: Hub, connect: Connect):
    client = connect(hub, token=None)
    client.send({"type": "auth", "token": hub.token})
    assert client.receive().type == "welcome"
    client.send({"type": "ping"})
    client.next("pong")


@pytest.mark.parametrize(
    "first",
    [
        {"type": "auth", "token": "wrong"},
        b'{"type":"auth","token":"\\ud800"}',
        {"type": "auth"},
        {"type": "subscribe", "id": 1},
        b"{",
        b'{"run_id":"r"}',
    ],
)
def test_any_other_first_message_ends_it(hub: Hub, connect: Connect, first: object):
    client = connect(hub, token=None)
    client.send(first)
    assert client.closed_with() == 4401
    assert [(message.type, message.code) for message in client.others] == [("error", "auth_failed"), ("bye", 4401)]
    assert client.others[-1].reconnect is False


def test_a_wrong_token_in_the_upgrade_ends_it(hub: Hub, connect: Connect):
    assert connect(hub, token="wrong").closed_with() == 4401


def test_whoever_says_nothing_is_told_nothing_and_sent_away(start: Start, connect: Connect):
    hub = start("--heartbeat", "50ms")
    client = connect(hub, token=None)
    assert client.closed_with() == 4401
    assert [message.type for message in client.others] == ["error", "bye"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:{port}", 200), ("localhost:{port}", 200), ("LOCALHOST", 200), ("[::1]:{port}", 200),
        ("localhost:9", 200), ("evil.example", 403), ("127.0.0.1.evil.example", 403), ("localhost.evil.example", 403),
        ("evil.example:{port}", 403), ("127.0.0.2", 403), ("", 403), ("user@localhost", 403), ("localhost/x", 403),
        ("localhost:99999", 403), ("localhost:x", 403),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/healthz", "/", "/api/runs"])
def test_only_our_own_names_are_answered(hub: Hub, host: str, status: int, path: str):
    connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=30)
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", host.format(port=hub.port))
    connection.putheader("Authorization", f"Bearer {hub.token}")
    connection.endheaders()
    assert connection.getresponse().status == status
    connection.close()


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://127.0.0.1:{port}", True), ("HTTP://127.0.0.1:{port}", True), ("https://127.0.0.1:{port}", True),
        ("http://localhost:{port}", False), ("http://127.0.0.1", False), ("http://127.0.0.1:1", False), ("null", False),
        ("https://evil.example", False), ("http://127.0.0.1:{port}.evil.example", False), ("", False),
        ("http://127.0.0.1:{port}/path", False), ("file://", False),
    ],
)  # fmt: skip
def test_only_our_own_page_may_connect(hub: Hub, origin: str, allowed: bool):
    shown = origin.format(port=hub.port)
    assert (hub.request("api/runs", Origin=shown)[0] == 200) is allowed
    assert (hub.request("api/session", b"", Origin=shown)[0] == 204) is allowed
    header = [f"Authorization: Bearer {hub.token}", f"Origin: {shown}"]
    url = hub.url.replace("http", "ws") + "ws"
    if allowed:
        websocket.create_connection(url, header=header, suppress_origin=True, timeout=30).shutdown()
    else:
        with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
            websocket.create_connection(url, header=header, suppress_origin=True, timeout=30)


def test_further_names_and_pages_are_allowed_by_name(start: Start):
    hub = start("--allow-host", "hub.example,[fd00::1]", "--allow-origin", "https://page.example:8443")
    assert hub.request("healthz", Host="hub.example:80")[0] == 200
    assert hub.request("healthz", Host="[fd00::1]:80")[0] == 200
    assert hub.request("healthz", Host="sub.hub.example")[0] == 403
    assert hub.request("healthz", Origin="https://page.example:8443")[0] == 200
    assert hub.request("healthz", Origin="https://page.example")[0] == 403


def test_a_token_that_was_changed_is_refused_at_once(start: Start):
    hub = start()
    before = hub.token
    assert hub.request("api/runs")[0] == 200
    path = hub.folder / "token"
    path.unlink()
    path.write_text("another-token\n")
    assert hub.request("api/runs", token=before)[0] == 401
    assert hub.request("api/runs", token="another-token")[0] == 200


def test_the_token_file_is_for_its_owner_and_its_content_is_only_in_the_url(start: Start):
    hub = start()
    assert os.stat(hub.folder / "token").st_mode & 0o777 == 0o600
    assert hub.stderr.count(hub.token) == 1
    assert f"{hub.url}#token={hub.token}" in hub.stderr
    assert hub.token not in Path(f"/proc/{hub.process.pid}/cmdline").read_text()
