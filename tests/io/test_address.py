"""URL forms and where the token comes from."""

import os

import pytest

from agentpipe.errors import InputMissing, OptionError
from agentpipe.io.address import address, default_token_file


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """An account without a token yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("AGENTPIPE_TOKEN_FILE", raising=False)
    return tmp_path


def token_at(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    return str(path)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("ws://h:1", "ws://h:1/ws"),
        ("ws://h", "ws://h:80/ws"),
        ("wss://h/", "wss://h:443/ws"),
        ("http://h:8765/", "ws://h:8765/ws"),
        ("https://h/hub/ws", "wss://h:443/hub/ws"),
        ("h:8765", "ws://h:8765/ws"),
        ("127.0.0.1:8765", "ws://127.0.0.1:8765/ws"),
        ("[::1]:8765", "ws://[::1]:8765/ws"),
        ("ws://h:1/ws?dialect=adw", "ws://h:1/ws?dialect=adw"),
        ("http://127.0.0.1:8765/#token=secret", "ws://127.0.0.1:8765/ws"),
    ],
)
def test_every_form_of_a_url_is_understood(given, url):
    assert address(given).url == url


@pytest.mark.parametrize("given", ["", "ftp://h", "ws://", "h:port", "ws://h:99999", "ws://h:0", "ws://[::1"])
def test_what_is_no_url_of_a_hub_is_refused(given):
    with pytest.raises(OptionError):
        address(given)


def test_credentials_in_a_url_are_refused_and_not_repeated():
    with pytest.raises(OptionError) as refused:
        address("ws://me:s3cret@h")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.9.9.9"])
def test_a_hub_on_this_machine_gets_the_accounts_own_token(host):
    assert address(f"ws://{host}:1").token is None
    token_at(default_token_file(), "own-token\n")
    assert address(f"ws://{host}:1").token == "own-token"


@pytest.mark.parametrize("host", ["example.org", "10.0.0.1", "127.0.0.1.example.org", "localhost.example.org"])
def test_another_machine_never_gets_the_accounts_own_token(host):
    token_at(default_token_file(), "own-token")
    assert address(f"ws://{host}:1").token is None


def test_a_named_token_goes_before_the_variable_and_that_before_the_accounts_own(tmp_path, monkeypatch):
    token_at(default_token_file(), "own")
    monkeypatch.setenv("AGENTPIPE_TOKEN_FILE", token_at(tmp_path / "b", "variable"))
    assert address("ws://example.org").token == "variable"
    assert address("ws://127.0.0.1", token_file=token_at(tmp_path / "a", "named")).token == "named"


@pytest.mark.parametrize("text", ["", "two\nlines", "x" * 5000, "caf\u00e9"])
def test_a_file_that_holds_no_token_is_refused_without_showing_it(tmp_path, text):
    with pytest.raises(InputMissing) as refused:
        address("ws://h", token_file=token_at(tmp_path / "t", text))
    assert text == "" or text not in str(refused.value)


def test_files_that_are_not_there_are_said(tmp_path):
    with pytest.raises(InputMissing):
        address("ws://h", token_file=str(tmp_path / "none"))
    with pytest.raises(InputMissing):
        address("wss://h", ca_file=str(tmp_path / "none"))


def test_no_text_form_shows_the_token_or_the_query(tmp_path):
    found = address("ws://h/ws?key=s3cret", token_file=token_at(tmp_path / "t", "s3cret"))
    assert str(found) == "ws://h:80/ws"
    assert "token" not in repr(found)
