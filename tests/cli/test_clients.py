"""The command lines of publish, subscribe and replay: help, usage errors, what they say before they do anything."""

import os
import pty

import pytest


@pytest.mark.parametrize("command", ["publish", "subscribe", "replay"])
def test_help_starts_with_an_example_and_says_the_defaults(agentpipe, command):
    done = agentpipe(command, "--help")
    assert done.returncode == 0
    assert f"agentpipe {command}".encode() in done.stdout
    assert b"[default: " in done.stdout


@pytest.mark.parametrize(
    "args",
    [
        ("publish",),
        ("publish", "ftp://h"),
        ("publish", "--batch", "21", "ws://h"),
        ("publish", "--batch-bytes", "2MiB", "ws://h"),
        ("publish", "--drain-timeout", "soon", "ws://h"),
        ("publish", "ws://me:pw@h"),
        ("subscribe",),
        ("subscribe", "--since", "yesterday", "ws://h"),
        ("replay",),
        ("replay", "--from", "0", "f"),
        ("replay", "--speed", "fast", "f"),
        ("replay", "--loop", "-"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(agentpipe, args):
    done = agentpipe(*args, input=b"")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr
    assert b"Traceback" not in done.stderr
    assert b":pw@" not in done.stderr


def test_publish_on_a_terminal_says_what_it_needs(agentpipe):
    master, terminal = pty.openpty()
    try:
        done = agentpipe("publish", "ws://127.0.0.1:1", stdin=terminal)
        assert done.returncode == 2
        assert b"reads NDJSON from a pipe" in done.stderr
    finally:
        os.close(master)
        os.close(terminal)


@pytest.mark.parametrize("command", ["publish", "subscribe"])
def test_a_token_file_that_is_not_there_is_66(agentpipe, command, tmp_path):
    done = agentpipe(command, "--token-file", str(tmp_path / "none"), "ws://127.0.0.1:1", input=b"")
    assert done.returncode == 66


def test_strict_ends_at_the_first_malformed_line_with_65(agentpipe):
    done = agentpipe("publish", "--strict", "--drain-timeout", "0s", "127.0.0.1:1", input=b'{"type":"t"}\nno json\n')
    assert done.returncode == 65
    assert b"stdin:2:" in done.stderr
