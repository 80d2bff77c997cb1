"""How many deliveries a second reach 500 clients when events come in bursts of 20?

A delivery is one event at one client. The load client is a process of its own: it counts a character that stands once
in every event, so it costs little and counts events, not messages. One burst is in flight at a time.
"""

import multiprocessing
import select
import socket
import subprocess
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from bench import hub
from bench.data import WORK, events
from bench.measure import ROOT, Answer, Contender, compare

CLIENTS = 500
BURST = 20
BURSTS = 400
MARK = "~"


def load(
    port: int,
    path: str,
    token: str | None,
    subscribes: bool,
    pipe: Connection,
    clients: int = CLIENTS,
    burst: int = BURST,
) -> None:
    """The subscribers: report when all of them have seen each burst."""
    links = [hub.connect(port, path, token) for _ in range(clients)]
    poll = select.epoll()
    for link in links:
        if subscribes:
            hub.subscribe(link)
        link.setblocking(False)
        poll.register(link.fileno(), select.EPOLLIN)
    by_fd = {link.fileno(): link for link in links}
    room = bytearray(1 << 18)
    settle(poll, by_fd, room)
    pipe.send("ready")
    wanted = clients * burst
    seen = 0
    while True:
        for fd, _ in poll.poll():
            size = by_fd[fd].recv_into(room)
            if not size:
                return
            seen += room.count(b"~", 0, size)
        if seen >= wanted:
            seen -= wanted
            pipe.send("all")


def settle(poll: select.epoll, by_fd: dict[int, socket.socket], room: bytearray) -> None:
    """Read greetings and confirmations until half a second is silent."""
    while ready := poll.poll(0.5):
        for fd, _ in ready:
            by_fd[fd].recv_into(room)


def deliveries(
    port: int, path: tuple[str, str], token: str | None, subscribes: bool, wrap: Callable[[list[bytes]], bytes]
) -> float:
    """Deliveries a second through a running server."""
    mine, theirs = multiprocessing.Pipe()
    child = multiprocessing.Process(target=load, args=(port, path[0], token, subscribes, theirs), daemon=True)
    child.start()
    try:
        mine.recv()
        publisher = hub.connect(port, path[1], token)
        lines = events(BURST * BURSTS, mark=MARK)
        bursts = [wrap(lines[n : n + BURST]) for n in range(0, len(lines), BURST)]
        started = time.perf_counter()
        for burst in bursts:
            publisher.sendall(burst)
            if not mine.poll(30):
                raise RuntimeError("a burst did not arrive")
            mine.recv()
        taken = time.perf_counter() - started
        publisher.close()
    finally:
        child.terminate()
        child.join()
    return CLIENTS * BURST * BURSTS / taken


def agentpipe() -> float:
    with hub.running("memory") as server:
        return deliveries(
            server.port, ("/ws", "/ws"), hub.TOKEN, True, lambda lines: hub.frame(hub.publish_message(lines))
        )


def node_ws() -> float:
    folder = peer_folder()
    with subprocess.Popen(["node", "ws_fanout.mjs"], cwd=folder, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        try:
            port = int(server.stdout.readline())
            return deliveries(
                port, ("/sub", "/pub"), None, False, lambda lines: b"".join(hub.frame(line) for line in lines)
            )
        finally:
            server.terminate()


def peer_folder() -> str:
    """A folder with the ws package installed from npm, made once."""
    folder = WORK / "node-ws"
    if not (folder / "node_modules" / "ws").exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", "ws@8"],
            cwd=folder,
            check=True,
        )
    (folder / "ws_fanout.mjs").write_text((ROOT / "bench" / "peers" / "ws_fanout.mjs").read_text())
    return str(folder)


def answers(repeats: int) -> list[Answer]:
    return [
        compare(
            f"fan-out to {CLIENTS} clients, bursts of {BURST}",
            [Contender("agentpipe serve", agentpipe), Contender("node ws", node_ws, "npm")],
            unit="deliveries/s",
            repeats=repeats,
            goals={"agentpipe serve": "≥ 3,000,000", "node ws": "≥ 10 ×"},
        )
    ]
