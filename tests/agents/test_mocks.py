"""The mocks of all agents keep to their rules: same request, same answer; failures pass; nothing goes out."""

import json
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.agents.agents import AGENTS
from tests.agents.mock_model import MockModel, pieces

TOOLS = {
    "claude": [{"name": "Bash"}],
    "codex": [{"type": "function", "name": "exec_command"}, {"type": "custom", "name": "apply_patch"}],
}

#: Where each API is asked, and a request as its agent makes it.
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "claude": ("/v1/messages", {"messages": [{"role": "user", "content": "go"}]}),
    "codex": ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": "go"}]}]}),
    "gemini": ("/v1beta/models/m:generateContent", {"contents": [{"role": "user", "parts": [{"text": "go"}]}]}),
    "opencode": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "go"}]}),
    "qwen": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "go"}], "stream": True}),
}


@pytest.fixture(params=sorted(AGENTS))
def agent(request: pytest.FixtureRequest) -> str:
    return request.param


def ask(mock: MockModel, agent: str) -> bytes:
    """One request that begins the conversation, with tools."""
    path, body = REQUESTS[agent]
    body = {"model": "m", "tools": TOOLS.get(agent, [{}]), **body}
    with urllib.request.urlopen(mock.url + path, json.dumps(body).encode(), timeout=20) as reply:
        return reply.read()


def mocked(agent: str, scenario: str) -> MockModel:
    return AGENTS[agent].mock(AGENTS[agent].scenarios[scenario](Path("/somewhere")))


def test_the_same_request_gets_the_same_answer_under_the_ids_that_the_mock_accounts_for(agent: str) -> None:
    with mocked(agent, "tools") as mock:
        first = ask(mock, agent)
        assert ask(mock, agent) == first
        (identity,) = mock.calls()
        assert identity.encode() in first
        assert len(mock.answers) == 2


def test_a_failure_passes(agent: str) -> None:
    with mocked(agent, "overloaded") as mock:
        failures = mock.scenario.main[0].failure
        assert failures is not None
        for _ in range(failures.times):
            with pytest.raises(urllib.error.HTTPError) as failed:
                ask(mock, agent)
            failed.value.close()
            assert failed.value.code == failures.status
        assert b"Recovered" in ask(mock, agent)
        assert [request.status for request in mock.requests] == [failures.status] * failures.times + [200]


def connect(mock: MockModel, wanted: str) -> tuple[socket.socket, bytes]:
    """Asked as a proxy for *wanted*: the connection, and the first line of the answer."""
    address = mock.url.removeprefix("http://")
    host, _, port = address.partition(":")
    link = socket.create_connection((host, int(port)), timeout=20)
    link.sendall(f"CONNECT {wanted} HTTP/1.1\r\nHost: {wanted}\r\nConnection: close\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += link.recv(4096)
    return link, answer.partition(b"\r\n")[0]


def test_whatever_is_not_on_loopback_is_refused_and_remembered() -> None:
    with mocked("claude", "hello") as mock:
        link, answer = connect(mock, "example.com:443")
        link.close()
        assert b"403" in answer
        assert mock.strays == ["example.com:443"]


def test_a_detour_by_the_proxy_leads_to_the_mock() -> None:
    with mocked("claude", "hello") as mock:
        link, answer = connect(mock, mock.url.removeprefix("http://"))
        with link:
            assert b"200" in answer
            link.sendall(b"GET /nothing HTTP/1.1\r\nHost: mock\r\n\r\n")
            assert b"404" in link.recv(4096).partition(b"\r\n")[0]
        assert mock.strays == []


def test_pieces_join_to_the_text_and_cut_no_word() -> None:
    text = "a text of several words, /with/a/rather/long/path/in it\nand two lines "
    assert "".join(pieces(text, None)) == text
    assert any("/with/a/rather/long/path/in" in piece for piece in pieces(text, None))
    assert [len(piece) for piece in pieces(text, 30)] == [30, 30, len(text) - 60]
