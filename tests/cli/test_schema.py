"""``agentpipe schema`` prints a schema that says yes to what the other commands print."""

import json

import jsonschema

from agentpipe.payload import PAYLOADS, event_schema
from tests.conftest import Run


def test_the_whole_schema_is_printed(agentpipe: Run) -> None:
    done = agentpipe("schema")
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout) == json.loads(json.dumps(event_schema()))
    jsonschema.Draft202012Validator.check_schema(json.loads(done.stdout))


def test_the_schema_of_one_type_is_printed(agentpipe: Run) -> None:
    schema = json.loads(agentpipe("schema", "heartbeat").stdout)
    assert schema["properties"]["type"] == {"const": "heartbeat"}


def test_the_types_are_listed(agentpipe: Run) -> None:
    assert agentpipe("schema", "--list").stdout.decode().split() == sorted(PAYLOADS)


def test_an_unknown_type_is_a_usage_error_that_says_where_to_look(agentpipe: Run) -> None:
    done = agentpipe("schema", "hartbeat")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"--list" in done.stderr
