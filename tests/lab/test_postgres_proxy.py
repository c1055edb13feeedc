"""The proxy against plain sockets and real servers."""

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from causal.errors import ConfigError, StoreError
from causal.lab.postgres import PostgresCluster, Proxy


class Echo:
    """A server that answers with its name, then with what it is sent."""

    def __init__(self, name: bytes, path: Path | None = None) -> None:
        self.name = name
        self.accepted: list[socket.socket] = []
        self.got = b""
        if path is None:
            self.listener = socket.create_server(("127.0.0.1", 0))
            self.address: str | tuple[str, int] = self.listener.getsockname()
        else:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(str(path))
            self.listener.listen()
            self.address = str(path)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                each = self.listener.accept()[0]
                self.accepted.append(each)
                threading.Thread(target=self.answer, args=(each,), daemon=True).start()

    def answer(self, each: socket.socket) -> None:
        with contextlib.suppress(OSError), each:
            each.sendall(self.name)
            while data := each.recv(1 << 16):
                self.got += data
                each.sendall(data)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for each in self.accepted:
            each.close()


@pytest.fixture
def echoes(tmp_path: Path) -> Iterator[list[Echo]]:
    made = [Echo(b"a"), Echo(b"b"), Echo(b"c", tmp_path / "c")]
    yield made
    for echo in made:
        echo.close()


def eventually(condition: Callable[[], bool], timeout_s: float = 20) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=20)


def exactly(each: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count:
        data = each.recv(count - len(got))
        if not data:
            break
        got += data
    return got


def gone(each: socket.socket) -> bool:
    try:
        return each.recv(1) == b""
    except ConnectionResetError:
        return True


def test_connections_take_the_targets_in_turn(echoes: list[Echo]) -> None:
    with Proxy(*echoes) as proxy:
        got = []
        for _ in range(4):
            with connect(proxy) as each:
                got.append(exactly(each, 1))
        proxy.targets = [echoes[1]]
        with connect(proxy) as each:
            got.append(exactly(each, 1))
    assert got == [b"a", b"b", b"c", b"a", b"b"]


def test_a_lot_goes_through_unchanged_and_a_half_close_travels(echoes: list[Echo]) -> None:
    sent = bytes(range(256)) * 40_000
    with Proxy(echoes[2]) as proxy, connect(proxy) as each:
        assert exactly(each, 1) == b"c"

        def send() -> None:
            each.sendall(sent)
            each.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        assert exactly(each, len(sent)) == sent
        assert gone(each)
        sender.join()


def test_a_delay_is_added_each_way_and_not_once_for_each_message(echoes: list[Echo]) -> None:
    delay_s = 0.2
    with Proxy(echoes[0], delay_s=delay_s) as proxy, connect(proxy) as each:
        begun = time.monotonic()
        assert exactly(each, 1) == b"a"
        assert time.monotonic() - begun >= delay_s
        begun = time.monotonic()
        sender = threading.Thread(target=lambda: [each.sendall(b"x" * 10) or time.sleep(0.001) for _ in range(100)])
        sender.start()
        assert exactly(each, 10) == b"x" * 10
        assert time.monotonic() - begun >= 2 * delay_s
        assert exactly(each, 990) == b"x" * 990
        assert (
            time.monotonic() - begun < 25 * delay_s
        )  # one after the other they would take a hundred, and the way back
        sender.join()
        proxy.delay_s = 0
        each.sendall(b"y")
        assert exactly(each, 1) == b"y"
    with pytest.raises(ConfigError):
        Proxy(echoes[0], delay_s=-1)


def test_a_hung_network_holds_everything_until_it_is_resumed(echoes: list[Echo]) -> None:
    with Proxy(echoes[0]) as proxy, connect(proxy) as old:
        assert exactly(old, 1) == b"a"
        proxy.hang()
        with connect(proxy) as new:
            old.sendall(b"later")
            assert select.select([old, new], [], [], 0.05)[0] == []
            assert eventually(lambda: proxy.connections == 2)
            assert len(echoes[0].accepted) == 1
            proxy.resume()
            assert exactly(old, 5) == b"later"
            assert exactly(new, 1) == b"a"


def test_what_was_under_way_is_held_too(echoes: list[Echo]) -> None:
    with Proxy(echoes[0]) as proxy, connect(proxy) as each:
        assert exactly(each, 1) == b"a"
        proxy.delay_s = 1.0  # time enough to hang before it is over
        each.sendall(b"z")
        assert eventually(lambda: any(flow.held for pair in list(proxy._pairs) for flow in pair.flows))
        proxy.hang()
        assert select.select([each], [], [], 1.2)[0] == []
        assert echoes[0].got == b""
        proxy.resume()
        assert exactly(each, 1) == b"z"


def test_a_cut_resets_old_and_new_connections(echoes: list[Echo]) -> None:
    with Proxy(echoes[0]) as proxy, connect(proxy) as old:
        assert exactly(old, 1) == b"a"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            old.recv(1)
        with contextlib.suppress(ConnectionResetError), connect(proxy) as new:
            assert gone(new)
        proxy.resume()
        with connect(proxy) as new:
            assert exactly(new, 1) == b"a"
            proxy.drop()
            assert gone(new)
        with connect(proxy) as new:
            assert exactly(new, 1) == b"a"


def test_an_answer_that_is_swallowed_was_asked_for(echoes: list[Echo]) -> None:
    with Proxy(echoes[0]) as proxy, connect(proxy) as old:
        assert exactly(old, 1) == b"a"
        proxy.swallow()
        assert select.select([old], [], [], 0.2)[0] == []  # nothing happens until the server speaks
        old.sendall(b"x")
        assert gone(old)
        proxy.resume()
        with connect(proxy) as new:
            new.sendall(b"y")
            assert exactly(new, 2) == b"ay"


def test_a_target_that_is_not_there_resets(echoes: list[Echo], tmp_path: Path) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # it is nobody else's, and takes no connections
        for target in (deaf.getsockname(), str(tmp_path / "nobody")):
            with Proxy(target) as proxy:
                with contextlib.suppress(ConnectionResetError), connect(proxy) as each:
                    assert gone(each)
                proxy.targets = [echoes[0]]
                with connect(proxy) as each:
                    assert exactly(each, 1) == b"a"
    with pytest.raises(ConfigError):
        Proxy()


def test_a_closed_proxy_has_ended_its_connections(echoes: list[Echo]) -> None:
    proxy = Proxy(echoes[0])
    with pytest.raises(StoreError):
        proxy.hang()
    proxy.start()
    with connect(proxy) as each:
        assert exactly(each, 1) == b"a"
        proxy.close()
        proxy.close()
        assert gone(each)
    with pytest.raises(StoreError, match="closed"):
        proxy.resume()
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)


def test_a_balancer_before_real_servers(causal_postgres: PostgresCluster) -> None:
    with Proxy(*causal_postgres.replicas) as proxy:
        found = []
        for _ in range(4):
            with psycopg.connect(proxy.dsn) as connection:
                found.append(connection.execute("SHOW cluster_name").fetchone())
        assert found == [("replica-1",), ("replica-2",)] * 2
        with psycopg.connect(proxy.dsn) as connection:
            proxy.cut()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(proxy.dsn).close()


def test_a_pipeline_pays_one_round_trip(causal_postgres: PostgresCluster) -> None:
    with Proxy(causal_postgres.primary) as proxy, psycopg.connect(proxy.dsn, autocommit=True) as connection:
        proxy.delay_s = 0.1
        begun = time.monotonic()
        with connection.pipeline():
            cursors = [connection.execute("SELECT %s::int", (n,)) for n in range(50)]
        assert [cursor.fetchone() for cursor in cursors] == [(n,) for n in range(50)]
        took_s = time.monotonic() - begun
        assert 2 * 0.1 <= took_s < 50 * 2 * 0.1
