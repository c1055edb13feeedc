"""One server of a cluster: what a test does to it on purpose, and asks of it.

Owns its data directory, configuration file and address. What concerns its processes is in `postmaster`. Nothing here is for
production: durability is off unless asked for, and whoever can reach the socket is trusted.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causal.errors import ConfigError, StoreError
from causal.lab.postgres.binaries import INSTALL
from causal.lab.postgres.layout import conninfo, quoted
from causal.lab.postgres.postmaster import Postmaster, wait_until
from causal.lab.postgres.template import SUPERUSER, USER, copy_tree, write_private

if TYPE_CHECKING:
    import psycopg

    from causal.lab.postgres.layout import Common

_CONNECT_S = 10


class Server:
    """One PostgreSQL server. Thread-safety: one caller at a time, but `query` and the addresses any thread."""

    def __init__(self, name: str, common: Common, port: int) -> None:
        self.name = name
        self.port = port
        self.upstream: Server | None = None
        """Whom it follows while it is a standby."""
        self.reshaped = False
        """Whether something was done to it that only a new cluster undoes: promoted, rewound, restored, made to follow another."""
        self._common = common
        self._own: dict[str, object] = {}
        self._noted: dict[str, object] = {}
        self._revision = 0
        self._frozen = False
        self.folder = common.folder / name
        self.data = self.folder / "data"
        self.folder.mkdir(mode=0o700)
        common.account.own(self.folder)
        self._postmaster = Postmaster(common.binaries, common.account, self.data, common.folder / f"{name}.log")

    def __repr__(self) -> str:
        return f"<{self.name} at {self.dsn}>"

    # Where it is.

    @property
    def address(self) -> str | tuple[str, int]:
        """Where it listens: a socket's path, or a host and port."""
        return ("127.0.0.1", self.port) if self._common.tcp else str(self._common.sockets / f".s.PGSQL.{self.port}")

    @property
    def dsn(self) -> str:
        """How an application connects: the role and database `app`, which it owns."""
        host = "127.0.0.1" if self._common.tcp else str(self._common.sockets)
        password = {"password": self._common.password} if self._common.password else {}
        return conninfo(host=host, port=self.port, dbname=USER, user=USER, **password)

    @property
    def admin_dsn(self) -> str:
        """How the superuser connects to the same database, always over the socket."""
        return self._admin_dsn(USER)

    def _admin_dsn(self, database: str) -> str:
        return conninfo(host=self._common.sockets, port=self.port, dbname=database, user=SUPERUSER)

    @property
    def log(self) -> str:
        """What it has logged so far."""
        path = self._postmaster.log
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    @property
    def pid(self) -> int | None:
        """The postmaster's process, while it lives."""
        return self._postmaster.pid

    @property
    def running(self) -> bool:
        """Whether its postmaster lives; a frozen one does."""
        return self._postmaster.running

    # Start and end.

    def start(self, *, wait: bool = True) -> None:
        """Start it, and wait until it accepts connections. Raises: StoreError with the end of its log when it does not."""
        if not self.running:
            wait_until(lambda: not self._postmaster.family(), 10, lambda: f"{self.name}: old processes do not end")
            # Left by one that was killed. Its number may be another cluster's by now, which PostgreSQL would take for it.
            for stale in (self.data / "postmaster.pid", self._common.sockets / f".s.PGSQL.{self.port}.lock"):
                stale.unlink(missing_ok=True)
            self._write_configuration()
            self._frozen = False
            self._postmaster.start()
        if wait:
            self._postmaster.wait_ready()

    def stop(self, mode: str = "fast") -> None:
        """Shut it down: `fast` ends sessions and writes a checkpoint, `immediate` leaves it to recover at the next start.

        HAZARD: a fast shutdown waits until standbys that are connected have everything: for one that is frozen, or ahead of a restored
        primary, until `wal_sender_timeout`. `immediate` and `kill` wait for nobody.
        Raises: StoreError.
        """
        self._frozen = False
        self._postmaster.stop(mode)

    def kill(self) -> None:
        """SIGKILL the postmaster and its children, and wait until they are gone. `start` recovers."""
        self._postmaster.kill()
        self._frozen = False

    def freeze(self) -> None:
        """SIGSTOP all its processes: connections stay open, new ones are accepted by the kernel, and nothing answers."""
        self._postmaster.freeze()
        self._frozen = self.running

    def thaw(self) -> None:
        """Undo `freeze`."""
        self._postmaster.thaw()
        self._frozen = False

    def crash_backend(self, timeout_s: float = 30) -> None:
        """SIGKILL one backend: all sessions end and the server recovers from its log, while the postmaster stays. Return when it serves.

        Commits that were not flushed (`synchronous_commit=off`) may be gone: the origin has ended though nothing was restarted.
        """
        with contextlib.ExitStack() as stack:
            victim, witness = (stack.enter_context(self._connect("postgres")) for _ in range(2))
            os.kill(victim.info.backend_pid, signal.SIGKILL)
            # The witness's end says that recovery has begun: until then a new session could still meet the old state.
            if not select.select([witness.pgconn.socket], [], [], timeout_s)[0]:
                raise StoreError(
                    f"{self.name}: the crash of a backend did not end the others:\n{self._postmaster.said()}"
                )
        wait_until(self._answers, timeout_s, lambda: f"{self.name} does not recover:\n{self._postmaster.said()}")

    def _answers(self) -> bool:
        import psycopg

        try:
            return bool(self._ask("SELECT 1"))
        except psycopg.OperationalError:
            return False

    # Ask.

    def query(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        """Run one statement as superuser in the database `app`, on a connection of its own, and return its rows. `%s` takes an argument."""
        return self._ask(sql, *args, database=USER)

    def _ask(self, sql: str, *args: object, database: str = "postgres") -> list[tuple[Any, ...]]:
        with self._connect(database) as connection:
            cursor = connection.execute(sql.encode(), args or None)
            return cursor.fetchall() if cursor.description else []

    def _connect(self, database: str) -> psycopg.Connection[tuple[Any, ...]]:
        try:
            import psycopg
        except ImportError as error:
            raise ConfigError(f"the cluster's controls need psycopg: {INSTALL}") from error
        return psycopg.connect(self._admin_dsn(database), autocommit=True, connect_timeout=_CONNECT_S)

    @property
    def in_recovery(self) -> bool:
        """Whether it is a standby now, as it says itself."""
        return bool(self._ask("SELECT pg_is_in_recovery()")[0][0])

    def wal(self) -> str:
        """Return the place up to which it has replayed, or as a primary inserted; an LSN like `0/3000060`."""
        sql = "SELECT CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_replay_lsn(), '0/0') ELSE pg_current_wal_insert_lsn() END"
        return str(self._ask(sql)[0][0])

    def received(self) -> str:
        """Return the place up to which a standby has the log, replayed or not."""
        return str(
            self._ask("SELECT coalesce(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), '0/0')")[0][0]
        )

    def flushed(self) -> str:
        """Flush the log of a primary, and return the place up to which standbys can get it; of a standby, what it has replayed."""
        if self.in_recovery:
            return self.wal()
        with self._connect("postgres") as connection:
            connection.execute("SET synchronous_commit = local")
            connection.execute("SELECT pg_logical_emit_message(true, 'causal', '')")
            row = connection.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
        assert row is not None
        return str(row[0])

    def reached(self, lsn: str) -> bool:
        """Whether it has replayed everything before a place; as a primary, written it."""
        sql = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END >= %s::pg_lsn"
        return bool(self._ask(sql, lsn)[0][0])

    # Replication.

    def pause(self, timeout_s: float = 10) -> None:
        """Stop replay and return when it has stopped; it stays readable and falls behind. Does nothing on a primary."""
        if not self.in_recovery:
            return
        self._ask("SELECT pg_wal_replay_pause()")
        # A replay that waits out its delay answers after that, but looks for the pause again before it applies what it waited for.
        sql = """SELECT pg_get_wal_replay_pause_state() = 'paused' OR EXISTS
                 (SELECT FROM pg_stat_activity WHERE backend_type = 'startup' AND wait_event = 'RecoveryApplyDelay')"""
        wait_until(lambda: bool(self._ask(sql)[0][0]), timeout_s, lambda: f"{self.name}: replay does not pause")

    def resume(self) -> None:
        """Undo `pause`. Does nothing where replay is not paused."""
        if self.in_recovery:
            self._ask("SELECT pg_wal_replay_resume()")

    @property
    def paused(self) -> bool:
        """Whether replay is paused, or about to."""
        return bool(
            self._ask("SELECT CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() <> 'not paused' END")[
                0
            ][0]
        )

    @property
    def lag_s(self) -> float:
        """How long after its commit a transaction is replayed, at least. Units: seconds."""
        return float(str(self._own.get("recovery_min_apply_delay", "0ms")).removesuffix("ms")) / 1000

    def set_lag(self, seconds: float) -> None:
        """Replay each commit this long after it was made. What waits already waits by the new time."""
        if not (seconds >= 0 and math.isfinite(seconds)):
            raise ConfigError(f"a lag cannot be negative or infinite: {seconds} s")
        self.configure(recovery_min_apply_delay=f"{round(seconds * 1000)}ms")

    def follow(self, other: Server) -> None:
        """Replicate from another server from now on; one that is stopped becomes its standby at the next start.

        It does not wait for the stream: a history that has parted never streams. Raises: ConfigError on a primary that runs.
        """
        if self.running and not self.in_recovery:
            raise ConfigError(f"{self.name} takes writes: stop it, or rewind it, before it can follow {other.name}")
        self.reshaped = self.reshaped or self.upstream is not other
        self.follow_at_start(other)
        self.configure()

    def follow_at_start(self, other: Server) -> None:
        """Write down whom it follows, for the next start."""
        if not self.running:
            write_private(self._common.account, self.data / "standby.signal", "")
        self.upstream = other
        self._own["primary_conninfo"] = f"{other._admin_dsn('postgres')} application_name={self.name}"

    def disconnect(self, timeout_s: float = 10) -> None:
        """Let a standby receive nothing more; return when its stream has ended. It stays readable, and `follow` undoes it."""
        self.reshaped = True
        self.configure(primary_conninfo="")
        sql = "SELECT count(*) FROM pg_stat_wal_receiver"
        wait_until(lambda: self._ask(sql) == [(0,)], timeout_s, lambda: f"{self.name} goes on receiving")

    def promote(self, timeout_s: float = 30) -> None:
        """Make a standby a primary, on a new timeline; return when it takes writes. Raises: StoreError."""
        self.reshaped = True
        self._ask("SELECT pg_promote(true, %s)", math.ceil(timeout_s))
        wait_until(
            lambda: not self.in_recovery, timeout_s, lambda: f"{self.name} is not promoted:\n{self._postmaster.said()}"
        )
        self.upstream = None

    def rewind(self, other: Server) -> None:
        """Undo, with pg_rewind, what this server wrote and `other` does not have, and start it as a standby of it. Raises: StoreError."""
        self.reshaped = True
        self.stop("immediate")  # a fast one waits for standbys; pg_rewind recovers what is not shut down cleanly
        command = [self._common.binaries.program("pg_rewind"), "--target-pgdata", self.data, "--no-sync"]
        self._common.account.run(
            [*command, "--source-server", other._admin_dsn("postgres")], f"pg_rewind of {self.name}"
        )
        self.follow_at_start(other)
        self.start()

    # Files.

    def snapshot(self, path: str | os.PathLike[str]) -> None:
        """Copy the data directory of a stopped or killed server to a path that does not exist yet. Raises: StoreError."""
        self._must_be_down("be copied")
        if Path(path).exists():
            raise ConfigError(f"{path} exists already")
        copy_tree(self.data, Path(path))

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Put a snapshot back in place of the data directory of a stopped or killed server. Raises: StoreError."""
        self._must_be_down("be restored")
        if not (Path(path) / "PG_VERSION").is_file():
            raise ConfigError(f"{path} is not a copy of a data directory")
        self.reshaped = True
        shutil.rmtree(self.data)
        copy_tree(Path(path), self.data)

    def _must_be_down(self, what: str) -> None:
        if self.running:
            raise StoreError(f"{self.name} runs: stop or kill it before it can {what}")

    def configure(self, **settings: object) -> None:
        """Change settings of this server, None for the cluster's own; return when new sessions have them.

        Raises: ConfigError on a setting that is refused, or needs a restart: then stop the server, configure it and start it.
        """
        for name, value in settings.items():
            if value is None:
                self._own.pop(name, None)
            else:
                self._own[name] = value
        self._write_configuration()
        self._postmaster.reload()
        if not self.running or self._frozen:
            return
        # A session that has the new number was born after the postmaster had told all its children to read the file.
        wait_until(
            lambda: self._ask("SELECT current_setting('causal.revision', true)")[0][0] == str(self._revision),
            10,
            lambda: f"{self.name} does not read its settings:\n{self._postmaster.said()}",
        )
        wrong = self._ask("SELECT name, setting, error FROM pg_file_settings WHERE error IS NOT NULL")
        if wrong:
            raise ConfigError(
                f"{self.name}: " + "; ".join(f"{name} = {value}: {error}" for name, value, error in wrong)
            )

    @property
    def settings(self) -> dict[str, object]:
        """What was set for this server alone."""
        return dict(self._own)

    def note_settings(self) -> None:
        """Remember the settings of now, for `restore_settings`."""
        self._noted = dict(self._own)

    def restore_settings(self) -> None:
        """Set what was noted, by a restart where something needs one."""
        automatic = self.data / "postgresql.auto.conf"
        altered = automatic.read_text(encoding="utf-8").count("\n") > 2  # ALTER SYSTEM was used
        if self._own == self._noted and not altered:
            return
        write_private(self._common.account, automatic, "")
        self._own = dict(self._noted)
        try:
            self.configure()
        except ConfigError:
            self.stop()
            self.start()

    def _write_configuration(self) -> None:
        self._revision += 1
        merged = {
            **self._common.settings,
            "port": self.port,
            "unix_socket_directories": self._common.sockets,
            "listen_addresses": "127.0.0.1" if self._common.tcp else "",
            "cluster_name": self.name,
            "hba_file": self._common.folder / "pg_hba.conf",
            **self._own,
            "causal.revision": self._revision,
        }
        text = "".join(f"{name} = {quoted(value)}\n" for name, value in merged.items())
        write_private(self._common.account, self.folder / "server.conf", text)
