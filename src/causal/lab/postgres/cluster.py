"""A primary and its standbys from real programs: started together in a second or so, and gone with the block, the test or the process.

Owns the servers of one cluster and their common folder. HAZARD: durability is off by default (`fsync=True` turns it on): a killed server
keeps what it wrote, since the operating system does; a machine that loses power does not.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

from causal.errors import ConfigError, StoreError
from causal.lab.postgres import watchdog
from causal.lab.postgres.binaries import INSTALL, Binaries
from causal.lab.postgres.layout import Common
from causal.lab.postgres.postmaster import wait_until
from causal.lab.postgres.server import Server
from causal.lab.postgres.template import SUPERUSER, USER, copy_as_new, copy_tree, reset_databases, write_private
from causal.lab.postgres.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType
    from typing import Self

_SETTINGS: Final[dict[str, object]] = {
    "wal_level": "replica",
    "max_wal_senders": 10,
    "hot_standby": True,
    "wal_keep_size": "512MB",  # a standby that was away for a test still finds what it missed
    "wal_retrieve_retry_interval": "100ms",  # a standby asks again soon; the default is 5 s
    "max_connections": 100,
    "shared_buffers": "32MB",
    "dynamic_shared_memory_type": "mmap",  # in the data directory, and so gone with it
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %a ",
    "jit": False,
}
_ATTEMPTS: Final = 8


class PostgresCluster:
    """A primary and `replicas` streaming standbys, as a context manager.

    `lag_s` is every standby's lag at the start. `settings` are PostgreSQL's, for all servers. `directory` is a folder to work below (a
    temporary one by default, which goes with the cluster either way). `tcp` listens on 127.0.0.1 instead of a socket. `hba` are lines of
    pg_hba.conf in place of trusting everybody, `password` is the application role's, and `ssl` makes a certificate (`certificate`).
    `binaries` is the folder of the programs, see `Binaries.find`; `initdb` are further options for it.

    It also has the words of `causal.controls.Controls`, by the servers' names. Thread-safety: one caller at a time, but each server's
    `query` any thread.
    """

    def __init__(
        self,
        replicas: int = 2,
        *,
        lag_s: float = 0.0,
        settings: Mapping[str, object] | None = None,
        directory: str | os.PathLike[str] | None = None,
        tcp: bool = False,
        fsync: bool = False,
        hba: Iterable[str] = (),
        password: str | None = None,
        ssl: bool = False,
        binaries: str | os.PathLike[str] | None = None,
        initdb: Iterable[str] = (),
    ) -> None:
        if not 0 <= replicas <= 8:
            raise ConfigError(f"a cluster has 0 to 8 replicas, not {replicas}")
        if importlib.util.find_spec("psycopg") is None:  # said before anything is started
            raise ConfigError(f"the cluster's controls need psycopg: {INSTALL}")
        self.binaries = Binaries.find(binaries)
        self.servers: dict[str, Server] = {}
        """Every server by its name: `primary`, `replica-1` and so on. The names stay, whoever leads."""
        self.certificate: Path | None = None
        """Of the authority to trust, with `ssl`: what a client names as sslrootcert."""
        self._replicas = replicas
        self._lag_s = lag_s
        self._settings = {**_SETTINGS, "fsync": fsync, **(settings or {})}
        self._directory = None if directory is None else Path(directory)
        self._tcp = tcp or ssl
        self._hba = tuple(hba)
        self._password = password
        self._ssl = ssl
        self._initdb = tuple(initdb)
        self._common: Common | None = None
        self._process = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def primary(self) -> Server:
        """The server that was the primary at the start."""
        return self.servers["primary"]

    @property
    def replicas(self) -> list[Server]:
        """The servers that were standbys at the start, or were added as such."""
        return [server for name, server in self.servers.items() if name != "primary"]

    def start(self) -> None:
        """Make the servers, start them, and return when the standbys stream and have everything. Raises: ConfigError, StoreError."""
        if self._common is not None:
            raise ConfigError("the cluster is started already")
        self._process = os.getpid()
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        workspace = Workspace.current()
        folder = workspace.folder(self._directory)
        common = self._common = Common(
            workspace.runnable(self.binaries),
            workspace.account,
            folder,
            workspace.socket_folder(folder),
            self._tcp,
            self._settings,
            self._access(),
            self._password,
        )
        write_private(common.account, folder / "pg_hba.conf", common.hba)
        template = workspace.template(common.binaries, self._initdb)
        primary = self._server("primary")
        copy_as_new(common.binaries, common.account, template, primary.data)
        if self._ssl:
            self._make_certificate(common)
        for nth in range(1, self._replicas + 1):
            # A primary that was shut down cleanly is its own base backup.
            replica = self._server(f"replica-{nth}")
            copy_tree(primary.data, replica.data)
            self._configure_replica(replica)
        self._start(primary)
        for replica in self.replicas:
            self._start(replica, wait=False)
        for replica in self.replicas:
            self._start(replica)
        if self._password is not None:
            primary.query(f"ALTER ROLE {USER} PASSWORD '{self._password.replace(chr(39), chr(39) * 2)}'")
        self._wait_streaming()
        self.wait_caught_up(30 + self._lag_s)

    def _server(self, name: str) -> Server:
        assert self._common is not None
        port = free_port() if self._tcp else 5432 + len(self.servers)
        server = self.servers[name] = Server(name, self._common, port)
        return server

    def _configure_replica(self, replica: Server) -> None:
        replica.follow_at_start(self.primary)
        replica.set_lag(self._lag_s)
        replica.note_settings()

    def _start(self, server: Server, *, wait: bool = True) -> None:
        """Start a server for the first time; on TCP, at another port when somebody was faster."""
        for attempt in range(_ATTEMPTS):
            try:
                server.start(wait=wait)
            except StoreError as error:
                if not self._tcp or "Address already in use" not in str(error) or attempt == _ATTEMPTS - 1:
                    raise
                server.port = free_port()
                for standby in self.replicas:
                    if standby.upstream is server:
                        standby.follow_at_start(server)
            else:
                return

    def _access(self) -> str:
        lines = self._hba or ("local all all trust", "host all all 127.0.0.1/32 trust")
        # The superuser comes first and over the socket alone: a test's own lines cannot lock the cluster out, and TCP, where everybody
        # on the machine may knock, gives nobody the right to run programs.
        first = (
            f"local all {SUPERUSER} trust",
            f"local replication {SUPERUSER} trust",
            f"host all {SUPERUSER} all reject",
        )
        return "".join(f"{line}\n" for line in (*first, *lines))

    def _make_certificate(self, common: Common) -> None:
        from causal.lab.postgres.certificate import self_signed

        command = [common.binaries.program("postgres"), "-C", "ssl_library", "-D", self.primary.data]
        write_private(common.account, self.primary.folder / "server.conf", "")
        if not common.account.run(command, "postgres -C ssl_library").strip():
            raise ConfigError(f"{self.binaries.directory} is built without TLS: name other programs with binaries=")
        certificate, key = self_signed()
        write_private(common.account, common.folder / "server.key", key)
        self.certificate = common.folder / "server.crt"
        write_private(common.account, self.certificate, certificate)
        self.certificate.chmod(0o644)
        self._settings |= {
            "ssl": True,
            "ssl_cert_file": self.certificate,
            "ssl_key_file": common.folder / "server.key",
        }

    def add_replica(self, name: str | None = None) -> Server:
        """Take a base backup of the primary while it runs, and start a standby from it. Raises: ConfigError, StoreError."""
        if self._common is None:
            raise ConfigError("the cluster is not started")
        name = name or f"replica-{len(self.servers)}"
        if name in self.servers or not name.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(f"{name!r} is taken, or not a name of letters, digits, - and _")
        replica = self._server(name)
        replica.reshaped = True
        try:
            command = [
                self._common.binaries.program("pg_basebackup"),
                "-D",
                replica.data,
                "--checkpoint=fast",
                "--no-sync",
            ]
            self._common.account.run(
                [*command, "-d", self.primary._admin_dsn("postgres")], f"the base backup of {name}"
            )
            self._configure_replica(replica)
            self._start(replica)
            self._wait_streaming()
        except BaseException:
            del self.servers[name]
            replica.kill()
            shutil.rmtree(replica.folder, ignore_errors=True)
            raise
        return replica

    def _wait_streaming(self, timeout_s: float = 30) -> None:
        names = {server.name for server in self.replicas if server.upstream is self.primary}

        def streaming() -> bool:
            for name in names:
                if not self.servers[name].running:
                    raise StoreError(f"{name} has ended:\n{self.servers[name]._postmaster.said()}")
            rows = self.primary.query("SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'")
            return names <= {name for (name,) in rows}

        wait_until(
            streaming,
            timeout_s,
            lambda: "standbys do not stream:\n" + "\n".join(self.servers[n]._postmaster.said() for n in names),
        )

    def wait_caught_up(self, timeout_s: float = 10) -> None:
        """Wait until every standby that runs has replayed what its upstream has now. Raises: StoreError, naming those that have not."""
        for server in list(self.servers.values()):
            if server.running and server.upstream is not None and server.upstream.running and server.in_recovery:
                target = server.upstream.flushed()
                self._wait_reached(server, target, timeout_s)

    @staticmethod
    def _wait_reached(server: Server, target: str, timeout_s: float) -> None:
        def otherwise() -> str:
            said = f"{server.name} has replayed {server.wal()} and not {target} after {timeout_s:g} s"
            if server.paused:
                return f"{said}: replay is paused"
            if server.lag_s:
                return f"{said}: its lag is {server.lag_s:g} s"
            return f"{said}. It says:\n{server._postmaster.said()}"

        wait_until(lambda: server.reached(target), timeout_s, otherwise)

    # The words of causal.controls.Controls.

    def _at(self, endpoint: str) -> Server:
        if endpoint not in self.servers:
            raise ConfigError(f"no server {endpoint!r}: there are {', '.join(self.servers)}")
        return self.servers[endpoint]

    def pause(self, endpoint: str) -> None:
        """Stop replay at a standby; it stays readable and falls behind. A primary replays nothing: nothing happens."""
        self._at(endpoint).pause()

    def resume(self, endpoint: str) -> None:
        """Undo `pause`."""
        self._at(endpoint).resume()

    def catch_up(self, endpoint: str) -> None:
        """Replay now, at a standby, everything its upstream has, whatever the lag or pause; return when done. Both are then as before."""
        server = self._at(endpoint)
        if not server.in_recovery:
            return
        upstream = server.upstream
        reachable = upstream is not None and upstream.running and not upstream._frozen
        target = upstream.flushed() if upstream is not None and reachable else server.received()
        lag_s, paused = server.lag_s, server.paused
        try:
            if lag_s:
                server.set_lag(0)
            server.resume()
            self._wait_reached(server, target, 30)
        finally:
            if lag_s:
                server.set_lag(lag_s)
            if paused:
                server.pause()

    def cut_off(self, site: str) -> None:
        """Freeze a server: nobody gets an answer from it, as behind a network that hangs, and no log goes in or out.

        HAZARD: a server that is cut off takes no local writes either. Where two sides must both write, put a `Proxy` before one.
        """
        self._at(site).freeze()

    def rejoin(self, site: str) -> None:
        """Undo `cut_off`."""
        self._at(site).thaw()

    def reset(self) -> bool:
        """Undo what a test did: data, roles, lag, pauses, settings, stopped servers. Return False where only a new cluster can."""
        import psycopg

        if self._common is None or len(self.servers) != self._replicas + 1:
            return False
        if any(server.reshaped for server in self.servers.values()):
            return False
        try:
            for server in self.servers.values():
                server.thaw()
                server.restore_settings()
                server.start()
                server.resume()
            with self.primary._connect("postgres") as connection:
                reset_databases(connection)
            self._wait_streaming(20)
            self.wait_caught_up(20 + self._lag_s)
        except (StoreError, ConfigError, psycopg.Error):
            return False
        return all(server.running for server in self.servers.values())

    def close(self) -> None:
        """End all servers and remove their files. Idempotent; does nothing in a process that was forked, whose parent they serve."""
        common, self._common = self._common, None
        if common is None or self._process != os.getpid():
            return
        for server in self.servers.values():
            if server.running:
                server.thaw()
                server._postmaster.stop_soon()
        for server in self.servers.values():
            with contextlib.suppress(StoreError):
                server.stop("immediate")
            server.kill()
        watchdog.end_all(common.folder)
        shutil.rmtree(common.folder, ignore_errors=True)
        shutil.rmtree(common.sockets, ignore_errors=True)


def free_port() -> int:
    """Return a TCP port that nobody listens at, below those that the system hands out to clients: a stopped server finds it free again."""
    for _ in range(100):
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise StoreError("no free TCP port found on 127.0.0.1")
