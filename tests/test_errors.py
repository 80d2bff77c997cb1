"""The exception tree is the one its module draws, and each leaf has a status."""

import inspect
import pickle
import re

import pytest

from agentpipe import errors
from agentpipe.errors import AgentpipeError, CallerError, InputError, PeerError

CLASSES = [value for name, value in vars(errors).items() if name in errors.__all__]
LEAVES = [cls for cls in CLASSES if cls not in (AgentpipeError, CallerError, PeerError)]


def test_every_class_is_drawn_in_the_tree_with_its_status() -> None:
    drawn = dict(re.findall(r"(\w+) +(\d+)", (errors.__doc__ or "").split("::")[1]))
    assert {cls.__name__: str(cls.status) for cls in LEAVES} == {
        k: v for k, v in drawn.items() if k != "AgentpipeError"
    }
    assert drawn["AgentpipeError"] == str(AgentpipeError.status)


def test_the_tree_has_two_families_and_nothing_else() -> None:
    assert set(AgentpipeError.__subclasses__()) == {CallerError, PeerError}
    assert all(issubclass(cls, CallerError | PeerError) for cls in LEAVES)
    assert all(cls in LEAVES for cls in [*CallerError.__subclasses__(), *PeerError.__subclasses__()])


@pytest.mark.parametrize("cls", LEAVES, ids=lambda cls: cls.__name__)
def test_fields_are_stored_and_the_text_is_made_of_them(cls: type[AgentpipeError]) -> None:
    names = [name for name in inspect.signature(cls.__init__).parameters if name not in ("self", "args", "kwargs")]
    values = {name: 7 if name in ("line", "column", "count") else f"<{name}>" for name in names}
    error = cls(**values)
    assert {name: getattr(error, name) for name in names} == values
    assert all(str(value) in str(error) for value in values.values())
    assert str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_an_input_error_reads_as_editors_expect() -> None:
    assert str(InputError("stdin", 3, 9, "no JSON")) == "stdin:3:9: no JSON"
