"""What docs/operating.md tells people to run is what there is: its compose file, and the commands in it."""

import re
from pathlib import Path
from typing import Any

import click
import pytest

from agentpipe.io.serve.options import ServeOptions
from agentpipe_cli.main import cli

TEXT = (Path(__file__).parents[1] / "docs" / "operating.md").read_text()


class Broken(ValueError):
    """A line that is no YAML, or more of it than a compose file needs."""


def parse(text: str) -> Any:
    """YAML, as far as compose files go: mappings, lists, plain and quoted scalars, blocks of text, anchors. No library
    of the project's reads YAML.
    """
    lines = [line for line in text.split("\n") if line.strip()]
    found, rest = _value(lines, 0, {})
    if rest:
        raise Broken(rest[0])
    return found


def _value(lines: list[str], indent: int, anchors: dict[str, Any]) -> tuple[Any, list[str]]:
    if lines[0].lstrip().startswith("- "):
        items: list[Any] = []
        while lines and _depth(lines[0]) == indent and lines[0].lstrip().startswith("- "):
            item = lines[0].lstrip()[2:]
            if re.match(r"[\w.-]+: ", item):
                one, lines = _value([" " * (indent + 2) + item, *lines[1:]], indent + 2, anchors)
            else:
                one, lines = _scalar(item), lines[1:]
            items.append(one)
        return items, lines
    mapping: dict[str, Any] = {}
    while lines and _depth(lines[0]) == indent:
        matched = re.fullmatch(r"([\w.-]+):(?: &(\w+))?(?: (.+))?", lines[0].strip())
        if matched is None or matched[1] in mapping:
            raise Broken(lines[0])
        key, anchor, inline = matched.groups()
        lines = lines[1:]
        if inline == "|":
            kept = lines[: _deeper(lines, indent)]
            lines = lines[len(kept) :]
            mapping[key] = "\n".join(line[indent + 2 :] for line in kept)
        elif inline is None:
            mapping[key], lines = _value(lines, indent + 2, anchors)
        else:
            mapping[key] = anchors[inline[1:]] if inline.startswith("*") else _scalar(inline)
        if anchor:
            anchors[anchor] = mapping[key]
    if lines and _depth(lines[0]) > indent:
        raise Broken(lines[0])
    return mapping, lines


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _deeper(lines: list[str], indent: int) -> int:
    for place, line in enumerate(lines):
        if _depth(line) <= indent:
            return place
    return len(lines)


def _scalar(text: str) -> Any:
    if text == "{}":
        return {}
    if text.startswith('"') and text.endswith('"'):
        return text[1:-1]
    if re.search(r": |[{}\[\]&*#]|^['%@`]", text):
        raise Broken(text)
    return {"yes": True, "no": False}.get(text, text)


def compose() -> dict[str, Any]:
    (block,) = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    found: dict[str, Any] = parse(block)
    return found


def test_the_compose_file_names_only_what_it_defines():
    found = compose()
    services = found["services"]
    assert {"redis", "hub-a", "hub-b", "proxy"} == set(services)
    for service in services.values():
        assert "image" in service or "build" in service
        assert set(service.get("depends_on", ())) <= set(services)
        assert set(service.get("secrets", ())) <= set(found["secrets"])
        assert all(isinstance(word, str) for word in service.get("command", ()))
        for mount in service.get("volumes", ()):
            assert mount.split(":")[0] in found["volumes"]
    assert services["hub-a"] == services["hub-b"]


def test_the_hubs_of_the_compose_file_are_started_with_options_that_exist():
    name, *words = compose()["services"]["hub-a"]["command"]
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    given = command.make_context(name, list(words)).params
    options = ServeOptions(**{key: value for key, value in given.items() if key in ("store", "retain", "host", "port")})
    assert options.limits == (30 * 86_400, 2 << 30, 0)
    redis_link = pytest.importorskip("agentpipe.io.redis_link")
    assert redis_link.Address.of(options.store).prefix == "agentpipe"


def test_the_proxy_leads_to_the_hubs_and_asks_whether_they_can_store():
    found = compose()
    text = found["configs"]["haproxy"]["content"]
    port = found["services"]["hub-a"]["command"][found["services"]["hub-a"]["command"].index("--port") + 1]
    assert re.findall(r"^ +server (\S+) (\S+)$", text, re.MULTILINE) == [(hub, f"{hub}:{port}") for hub in ("hub-a", "hub-b")]
    assert "uri /readyz hdr Host localhost" in text  # any other name is refused by the hub
    assert "shutdown-sessions" not in text


def test_redis_is_told_to_keep_everything():
    words = compose()["services"]["redis"]["command"]
    told = dict(zip(words[1::2], words[2::2], strict=True))
    assert (told["--appendonly"], told["--appendfsync"], told["--maxmemory-policy"]) == ("yes", "always", "noeviction")


@pytest.mark.parametrize(
    "text", ["a: b: c\n", "a:\n    b: c\n", "a: 1\na: 2\n", "- x\nb: c\n", "a: [x\n", "just words\n"]
)
def test_what_is_no_yaml_is_noticed(text: str):
    with pytest.raises((Broken, IndexError)):
        parse(text)
