"""The proxy of the fault laboratory does what its words say; else nothing that is proved through it is proved."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from tests.faults.lab.proxy import Proxy

PATIENCE_S = 30.0


class Echo:
    """A server that sends back what it gets, in capitals when it is the *loud* one; ``got`` is all it ever got."""

    def __init__(self, *, loud: bool = False, reads: bool = True) -> None:
        self.got = b""
        self.ended = threading.Event()  # a client closed in order
        self.broken = threading.Event()  # a client went with a reset
        self._loud, self._reads = loud, reads
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._clients: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._clients.append(client)
            if self._reads:
                threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        try:
            while data := client.recv(65536):
                self.got += data
                client.sendall(data.upper() if self._loud else data)
            self.ended.set()
            client.close()
        except OSError:
            self.broken.set()

    def drop(self) -> None:
        """Reset every connection of the moment."""
        for one in self._clients:
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for one in (self._listener, *self._clients):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    with contextlib.closing(Echo()) as server:
        yield server


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.port) as found:
        yield found


def client(proxy: Proxy) -> socket.socket:
    link = socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE_S)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return link


def exactly(link: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = link.recv(count - len(data))
        assert piece, f"the end came after {data!r}"
        data += piece
    return data


def silent_for(link: socket.socket, seconds: float) -> bool:
    link.settimeout(seconds)
    try:
        return link.recv(1) is None
    except TimeoutError:
        return True
    finally:
        link.settimeout(PATIENCE_S)


def test_a_healthy_line_hands_on_everything_and_each_end(proxy: Proxy, echo: Echo) -> None:
    data = bytes(range(256)) * 4096
    with client(proxy) as link:
        sender = threading.Thread(target=link.sendall, args=(data,))
        sender.start()
        assert exactly(link, len(data)) == data
        sender.join()
        link.shutdown(socket.SHUT_WR)
        assert link.recv(1) == b""
    assert echo.ended.wait(PATIENCE_S)


def test_a_delay_holds_every_piece_back_and_jitter_never_reorders(proxy: Proxy) -> None:
    proxy.behave(delay_s=0.1, jitter_s=0.08, ways=("up",))
    with client(proxy) as link:
        started = time.monotonic()
        for number in range(20):
            link.sendall(b"%02d" % number)
            time.sleep(0.005)
        assert exactly(link, 40) == b"".join(b"%02d" % number for number in range(20))
        assert time.monotonic() - started >= 0.02


def test_a_stall_reads_nothing_until_it_is_over(proxy: Proxy, echo: Echo) -> None:
    with client(proxy) as link:
        link.sendall(b"before")
        assert exactly(link, 6) == b"before"
        proxy.behave(stall=True, ways=("up",))
        link.settimeout(0.3)
        with pytest.raises(TimeoutError):  # the buffers between us fill up
            link.sendall(bytes(64 << 20))
        assert echo.got == b"before"
        link.settimeout(PATIENCE_S)
        proxy.behave()
        exactly(link, 1 << 16)


@pytest.mark.parametrize("reset", [True, False])
def test_a_cut_ends_both_sides(proxy: Proxy, echo: Echo, reset: bool) -> None:
    with client(proxy) as link:
        link.sendall(b"x")
        exactly(link, 1)
        proxy.cut(reset=reset)
        if reset:
            with pytest.raises(ConnectionResetError):
                link.recv(1)
            assert echo.broken.wait(PATIENCE_S)
        else:
            assert link.recv(1) == b""
            assert echo.ended.wait(PATIENCE_S)
    assert proxy.open == 0


def test_it_survives_both_ends_going_in_the_same_instant(proxy: Proxy, echo: Echo) -> None:
    for _ in range(30):
        links = [client(proxy) for _ in range(5)]
        for link in links:
            link.sendall(b"x")
        proxy.behave(stall=True)  # it looks at nobody until both ends are gone
        for link in links:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            link.close()
        echo.drop()
        proxy.behave()
    with client(proxy) as link:
        link.sendall(b"y")
        assert exactly(link, 1) == b"y"


def test_a_line_that_goes_silent_takes_everything_gives_nothing_and_does_not_end(proxy: Proxy, echo: Echo) -> None:
    with client(proxy) as link:
        link.sendall(b"x")
        exactly(link, 1)
        proxy.behave(silent=True)
        link.sendall(b"lost")
        assert silent_for(link, 0.2)
        proxy.behave()  # a line that went silent stays so
        link.sendall(b"lost too")
        assert silent_for(link, 0.2)
        with client(proxy) as other:  # a new one is well
            other.sendall(b"y")
            assert exactly(other, 1) == b"y"
        assert echo.got == b"xy"
        link.shutdown(socket.SHUT_WR)
        assert silent_for(link, 0.1)
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            link.recv(1)


def test_a_black_hole_accepts_and_never_calls_the_target(proxy: Proxy, echo: Echo) -> None:
    proxy.behave(black_hole=True)
    with client(proxy) as link:
        link.sendall(b"hello?")
        assert silent_for(link, 0.2)
        assert echo.got == b""


@pytest.mark.parametrize("step_s", [0.0, 0.005])
def test_a_trickle_comes_byte_by_byte(proxy: Proxy, step_s: float) -> None:
    proxy.behave(trickle_s=step_s, ways=("down",))
    with client(proxy) as link:
        started = time.monotonic()
        link.sendall(b"0123456789")
        assert exactly(link, 10) == b"0123456789"
        assert time.monotonic() - started >= 9 * step_s


def test_a_limit_cuts_after_so_many_bytes(proxy: Proxy, echo: Echo) -> None:
    proxy.behave(limit_bytes=7, ways=("up",))
    with client(proxy) as link:
        link.sendall(b"0123456789")
        with pytest.raises(ConnectionResetError):
            exactly(link, 10)
    assert echo.broken.wait(PATIENCE_S)
    assert b"0123456".startswith(echo.got)  # a reset may overtake what was sent before it


def test_refusing_and_accepting_again_keep_the_port_and_whoever_is_connected(proxy: Proxy) -> None:
    with client(proxy) as old:
        old.sendall(b"x")
        exactly(old, 1)
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            client(proxy)
        proxy.accept()
        for link in (old, client(proxy)):
            with link:
                link.sendall(b"x")
                assert exactly(link, 1) == b"x"


def test_it_can_be_pointed_to_another_target(proxy: Proxy) -> None:
    with contextlib.closing(Echo(loud=True)) as other, client(proxy) as old:
        proxy.point(other.port)
        with client(proxy) as new:
            new.sendall(b"x")
            assert exactly(new, 1) == b"X"
        old.sendall(b"x")  # who is connected stays where it is
        assert exactly(old, 1) == b"x"


def test_a_target_that_is_down_ends_the_client(proxy: Proxy, echo: Echo) -> None:
    echo.close()
    with pytest.raises(ConnectionResetError), client(proxy) as link:
        link.recv(1)
