"""What the guide and the README tell people to run is run here: every ``sh`` block of docs/operating.md, those of the
README's section on losing nothing, the compose file as far as it can be read, and the options of the units.
"""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from agentpipe.io.serve.options import ServeOptions
from agentpipe_cli.main import cli
from tests.hub_process import HubProcess, until

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "operating.md").read_text()
README = (ROOT / "README.md").read_text()

#: A guide's commands, all of them, on a busy machine.
PATIENCE_S = 120.0


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
    redis_link = pytest.importorskip("agentpipe.io.redis.link")
    assert redis_link.Address.of(options.store).prefix == "agentpipe"


def test_the_proxy_leads_to_the_hubs_and_asks_whether_they_can_store():
    found = compose()
    text = found["configs"]["haproxy"]["content"]
    port = found["services"]["hub-a"]["command"][found["services"]["hub-a"]["command"].index("--port") + 1]
    assert re.findall(r"^ +server (\S+) (\S+)$", text, re.MULTILINE) == [
        (hub, f"{hub}:{port}") for hub in ("hub-a", "hub-b")
    ]
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


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def section(text: str, heading: str) -> str:
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


@pytest.fixture
def paste(tmp_path: Path) -> Callable[[list[str]], Mapping[str, str]]:
    """Run blocks as they stand, one after another in one shell, with a free port for 8765; what runs on is ended. Gives
    the environment.
    """
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "AGENTPIPE_SERVE_PORT": port,
    }

    def run(texts: list[str]) -> Mapping[str, str]:
        script = "set -euo pipefail\ntrap 'kill $(jobs -p); wait' EXIT\n" + "\n".join(texts)
        process = subprocess.Popen(
            ["bash", "-c", script.replace("127.0.0.1:8765", f"127.0.0.1:{port}")],
            env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            said = process.communicate(timeout=PATIENCE_S)[0].decode()
        except subprocess.TimeoutExpired:
            process.terminate()  # the trap ends what it started
            said = process.communicate()[0].decode()
            pytest.fail(f"it did not end:\n{said}")
        assert process.returncode == 0, said
        return environment

    return run


def numbers(path: Path, run_id: str) -> list[int]:
    events = [json.loads(line) for line in path.read_text().splitlines()]
    return [event["sequence"] for event in events if event["run_id"] == run_id]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_of_the_guide_do_what_it_says(
    paste: Callable[[list[str]], Mapping[str, str]], tmp_path: Path
) -> None:
    environment = paste(blocks(TEXT, "sh"))
    found = numbers(tmp_path / "all.ndjson", "job-17")
    assert found == list(range(1, len(found) + 1))
    assert len(found) > 20
    assert numbers(tmp_path / "all.ndjson", "note") == [1]
    assert {run["run_id"] for run in json.loads((tmp_path / "runs.json").read_text())["runs"]} == {"job-17", "note"}
    assert_restored(environment, tmp_path, expected=found)


def assert_restored(environment: Mapping[str, str], folder: Path, *, expected: list[int]) -> None:
    """The backup is a store with everything, of another epoch than the one that it was made of."""
    positions = []
    for store in ("state/agentpipe/hub.db", "backup.db"):
        hub = HubProcess(folder, environment, store=store)
        hub.start()
        try:
            positions.append(hub.json("api/runs")["position"])
            events = hub.json("api/runs/job-17/events")["events"]
        finally:
            hub.stop()
        assert [event["sequence"] for event in events] == expected
    assert positions[0]["offset"] == positions[1]["offset"]
    assert positions[0]["epoch"] != positions[1]["epoch"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_of_the_readme_about_losing_nothing_work(
    paste: Callable[[list[str]], Mapping[str, str]], tmp_path: Path
) -> None:
    start = blocks(section(TEXT, "Starting a hub"), "sh")
    paste(start + blocks(section(README, "Nothing lost, nothing twice"), "sh"))
    found = numbers(tmp_path / "events.ndjson", "job-1")
    assert found == list(range(1, len(found) + 1))
    assert len(found) > 20


def test_the_units_start_the_hub_with_options_that_exist() -> None:
    lines = re.findall(r"^ExecStart=(.+)$", TEXT, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        program, name, *words = shlex.split(line)
        assert program.endswith("/agentpipe")
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        command.make_context(name, words)


def test_the_tests_that_the_guide_names_are_there() -> None:
    named = set(re.findall(r"`(tests/[\w/.]+)`", TEXT + README))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_campaigns_that_the_guide_names_can_be_played() -> None:
    (text,) = blocks(section(TEXT, "Trying it yourself"), "console")
    told = subprocess.run(
        [sys.executable, "-m", "tests.faults.lab.campaign", "--help"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    named = set(re.findall(r"--[a-z]+", text))
    assert named
    assert named <= set(re.findall(r"--[a-z]+", told))
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^soak:.*\n.*tests\.faults\.lab\.campaign.*MINUTES.*ARGS", makefile, re.MULTILINE)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_publishers_and_subscribers_get_through_the_proxy_of_the_guide(tmp_path: Path) -> None:
    (block,) = blocks(TEXT, "nginx")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}
    hub = HubProcess(tmp_path, environment, "--allow-host", "hub.example", own_token=False)
    hub.start()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    block = re.sub(r"^ +ssl_.*\n", "", block, flags=re.MULTILINE)
    block = block.replace("listen 443 ssl", f"listen 127.0.0.1:{port}").replace(
        "127.0.0.1:8765", f"127.0.0.1:{hub.port}"
    )
    paths = "".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    head = f"daemon off; pid {tmp_path}/pid; error_log stderr; events {{}} http {{ access_log off; {paths}"
    (tmp_path / "nginx.conf").write_text(f"{head} client_body_temp_path {tmp_path}/body;\n{block}\n}}\n")
    proxy = subprocess.Popen(["nginx", "-p", str(tmp_path), "-c", "nginx.conf"], stdin=subprocess.DEVNULL)
    try:
        until(lambda: _listens(port), "the start of nginx")
        event = b'{"type":"agent_log_entry","run_id":"r","agent_id":"a","sequence":1,"payload":{}}\n'
        url = f"ws://127.0.0.1:{port}"
        agentpipe = [str(Path(sys.executable).with_name("agentpipe"))]
        subprocess.run([*agentpipe, "publish", url], input=event, env=environment, timeout=60, check=True)
        read = [*agentpipe, "subscribe", "--no-follow", url]
        told = subprocess.run(read, env=environment, stdout=subprocess.PIPE, timeout=60, check=True).stdout
        assert told == event
    finally:
        proxy.terminate()
        proxy.wait(20)
        hub.stop()


def _listens(port: int) -> bool:
    with socket.socket() as link:
        return link.connect_ex(("127.0.0.1", port)) == 0
