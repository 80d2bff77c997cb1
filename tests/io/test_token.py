"""The token file: made once, for its owner alone."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agentpipe.errors import InputMissing, OutputError
from agentpipe.io import token


def test_it_is_made_on_first_use_and_read_afterwards(tmp_path: Path):
    path = tmp_path / "state" / "token"
    made = token.read_or_make(str(path))
    assert len(made) >= 43
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(path.parent).st_mode) == 0o700
    assert token.read_or_make(str(path)) == token.read(str(path)) == made


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"\xff\xff", b"x" * 5000])
def test_a_file_that_holds_no_token_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(InputMissing):
        token.read_or_make(str(path))


def test_a_missing_file_and_an_impossible_place_are_told(tmp_path: Path):
    with pytest.raises(InputMissing, match="No such file"):
        token.read(str(tmp_path / "none"))
    (tmp_path / "file").touch()
    with pytest.raises((InputMissing, OutputError), match="Not a directory"):
        token.read_or_make(str(tmp_path / "file" / "token"))


def test_the_state_directory_is_where_xdg_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert token.default_path() == "/somewhere/agentpipe/token"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/one")
    assert token.default_path() == "/home/one/.local/state/agentpipe/token"


def test_who_looks_for_it_while_it_is_made_finds_it_whole_or_not_at_all(tmp_path: Path):
    """A hub and its first publisher start together."""
    seen: set[str] = set()
    for number in range(30):
        path = str(tmp_path / str(number) / "token")
        with ThreadPoolExecutor(4) as pool:
            found = {each.result() for each in [pool.submit(token.read_or_make, path) for _ in range(4)]}
        assert len(found) == 1
        assert os.listdir(os.path.dirname(path)) == ["token"]
        seen |= found
    assert len(seen) == 30
