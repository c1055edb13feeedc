"""One block on one backend: its first message, its last, and what they show. Without I/O: `exchange.drive` and `adrive` carry the messages.

Owns when a connection may still be used, and what a block can have shown at most. The connection in between is the user's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import attrs
from psycopg import errors
from psycopg.pq import TransactionStatus

from causal.core.frontier import Frontier, Position, pack
from causal.engine import Commit
from causal.errors import CommitUnknown, ConfigError, StoreError, Unreachable
from causal.stores.postgres import statements
from causal.stores.postgres.answers import stamped
from causal.stores.postgres.exchange import Cut, failed, first_line, values
from causal.stores.postgres.lineage import Known, at_lsn
from causal.stores.postgres.lsn import parse, rounded

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from psycopg.pq.abc import PGconn, PGresult

    from causal.core.watermark import Watermark
    from causal.stores.postgres.answers import Ground
    from causal.stores.postgres.server import Backend, Server

    Steps = Generator[bytes, list[PGresult], None]

STALE_S: Final = 0.1
"""How old an answer may be for a block's end to go without asking for the timeline again."""
_SNAPSHOT_PLACE: Final = 1
"""Where a message's first answer is: after BEGIN's."""


@attrs.frozen
class Manner:
    """How an engine's blocks run. Thread-safety: immutable."""

    isolation: str = "read committed"
    transaction: bool = True
    """Whether a read block is one transaction; otherwise each of its statements is its own."""


class Block:
    """What reading and writing share. Thread-safety: one thread or task at a time."""

    def __init__(self, server: Server, connection: Any, backend: Backend, ground: Ground, manner: Manner) -> None:
        self.server = server
        self.connection = connection
        self.watermarks: Mapping[int, Watermark] = {}
        self.usable = True
        """Whether the connection may go back to its pool."""
        self._backend = backend
        self._ground = ground
        self._manner = manner
        self._known: Known | None = None
        self.ended = False
        """Whether the transaction is over, however it ended."""
        self._seen = Frontier()
        self._untold = False
        """Whether what it showed was asked for in vain."""

    @property
    def pgconn(self) -> PGconn:
        """The connection below cursors."""
        pgconn: PGconn = self.connection.pgconn
        return pgconn

    def seen(self) -> Frontier:
        """Return what the block can have shown at most; known once it has ended."""
        return self._seen

    @property
    def origin(self) -> int | None:
        """The newest origin that the server was known to have when the block began."""
        return None if self._known is None else self._known.origin

    def showed(self, most: Frontier) -> None:
        """Take what somebody else says that was shown at most, where the server itself cannot be asked."""
        self._seen = most

    def blame(self, error: BaseException) -> StoreError | None:
        """Return why the server ended the block, where it was not the block's own statement."""
        why = conflict(error, standby=self._backend.life.standby if self._known is None else self._known.life.standby)
        if why is None:
            return None
        return Unreachable(
            f"{self.server.name} ended this block: {why}; rows that it had fetched may lack the rest. Run it again"
        )

    # --- the first message -----------------------------------------------------------------------------------------

    def begin(self, *, writing: bool) -> Steps:
        """Open the transaction, and learn where the server is before its first snapshot. Raises: Unreachable, StoreError."""
        known, at = self.server.known, time.monotonic()
        light = self._backend.direct and known is not None and known.life == self._backend.life
        message = statements.beginning(
            self._manner.isolation,
            writing=writing,
            light=light,
            installed=self._ground.installed,
            transaction=writing or self._manner.transaction,
        )
        results = yield message
        if (yield from self._prepared_anew(results)):
            results = yield message
        self._check(results)
        if not light:
            facts = self.server.facts(results, _SNAPSHOT_PLACE, self._ground)
            if self._backend.direct and facts.life != self._backend.life:
                self._changed()
            self._known = known = self.server.learn(facts, at)
            self.watermarks = known.marks
            self._leading(known)
            return
        assert known is not None
        pid, standby, lsn = self.server.here(results, _SNAPSHOT_PLACE, self._ground)
        if pid != self._backend.pid or standby != self._backend.life.standby:
            self._changed()
        self._known = known
        self._leading(known)
        # A standby's marks say what its history is proven to hold, which a later LSN alone is not; a primary numbers its own.
        self.watermarks = known.marks if standby and lsn >= known.lsn else at_lsn(self.server.shard, known, lsn)

    def _leading(self, known: Known) -> None:
        """Refuse a primary in a life whose origin is not there yet: a question begins it. Raises: Unreachable."""
        if not known.life.standby and not known.marks[self.server.shard].leads:
            self.usable = False
            raise Unreachable(f"{self.server.name} has begun another life")

    def _changed(self) -> None:
        self.usable = False
        raise Unreachable(f"{self.server.name} has restarted, or changed its role")

    def _check(self, results: list[PGresult]) -> None:
        if failed(results[-1]) is not None:
            self.usable = False  # whatever it is: another connection may do better, and its transaction is of no use
            self.server.refused(results)

    def _prepared_anew(self, results: list[PGresult]) -> Generator[bytes, list[PGresult], bool]:
        """Return whether what blocks execute was gone, and is prepared again.

        DISCARD ALL takes it away, and DEALLOCATE ALL, which psycopg itself sends after a DROP, an ALTER or a ROLLBACK of the user's.
        """
        if not results or not isinstance(failed(results[-1]), errors.InvalidSqlStatementName):
            return False
        if self.pgconn.transaction_status != TransactionStatus.IDLE:
            yield b"ROLLBACK"
        results = yield statements.prepare(installed=self._ground.installed, stamps=self._ground.stamps)
        self._check(results)
        return True

    # --- the last message ------------------------------------------------------------------------------------------

    def _left(self) -> str:
        """Return what ends the transaction, as the user left it. Raises: Unreachable if the connection is of no more use."""
        if self.connection.closed:
            self.usable = False
            raise Unreachable(f"{self.server.name}: the connection was lost")
        status = self.pgconn.transaction_status
        if status == TransactionStatus.INTRANS:
            return "COMMIT"
        if status == TransactionStatus.INERROR:
            return "ROLLBACK"
        if status == TransactionStatus.IDLE:
            return ""
        self.usable = False
        raise Unreachable(f"{self.server.name}: the block left a statement unfinished")

    def account(self, how: str) -> Steps:
        """End the transaction, and learn what it can have shown. Raises: Unreachable if that cannot be learned."""
        known = self._known
        assert known is not None
        self._untold = True
        light = self._backend.direct and known.life == self._backend.life and not known.doubtful
        if light and time.monotonic() - known.at < STALE_S:
            if (yield from self._lightly(how, known)):
                return
            how = ""
        yield from self._fully(how, known)

    def _lightly(self, how: str, known: Known) -> Generator[bytes, list[PGresult], bool]:
        """End the transaction, and learn what it can have shown if nothing has changed since the last question; return whether so."""
        ground, stamps = self._ground, self._ground.stamps and self.server.stamped
        place = 0 if how == "COMMIT" else 2 if how else 1
        results = yield statements.ending(how, light=True, stamps=stamps, installed=ground.installed)
        if (yield from self._prepared_anew(results)):  # a transaction that only read is not missed
            return False
        self._check(results)
        pid, standby, lsn = self.server.here(results, place, ground)
        if pid != self._backend.pid or standby != known.life.standby:
            self._changed()
        seq, some = results[place].get_value(0, 3), results[place].get_value(0, 4)
        if seq is not None and int(seq) != known.seq:
            return False
        if some == b"t" and not stamps:
            self.server.stamped = True
            return False
        self._shown(known, lsn, results[place + 1] if stamps else None)
        return True

    def _fully(self, how: str, before: Known) -> Steps:
        """End the transaction, if it has not ended, and learn what it can have shown by all that the server can tell."""
        ground, at = self._ground, time.monotonic()
        place = 0 if how == "COMMIT" and not ground.stamps else 2 if how else 1
        message = statements.ending(how, light=False, stamps=ground.stamps, installed=ground.installed)
        asks = how == "COMMIT" and not self._backend.direct
        results = yield statements.MARKED + message if asks else message
        self._check(results)
        if asks:
            mark, *results = results
            if mark.get_value(0, 0) != statements.WHOLE.encode():
                raise ConfigError(
                    f"this read block ended its transaction and began another, which {self.server.name}, behind a pooler, may have "
                    "given to another server than the one that was checked: use one block for each transaction"
                )
        facts = self.server.facts(results, place, ground)
        if facts.life != before.life:
            self._changed()
        known = self.server.learn(facts, at)
        if facts.timeline is not None and facts.lsn > known.lsn:
            raise Unreachable(f"{self.server.name} receives a history whose beginning it does not have yet")
        self._shown(known, facts.lsn, results[place + (3 if ground.installed else 2)] if ground.stamps else None)

    def _shown(self, known: Known, lsn: int, stamps: PGresult | None) -> None:
        entries = {} if known.origin is None else {pack(self.server.shard, known.origin): lsn}
        if stamps is not None:
            entries |= stamped(stamps)
        self._seen, self._untold = Frontier.of(entries), False

    def _over(self) -> bool:
        """Whether it has ended. Raises: Unreachable if it has without telling what it showed."""
        if self._untold:
            raise Unreachable(f"{self.server.name} was asked in vain what this block showed")
        return self.ended


class Reading(Block):
    """One read block."""

    def end(self) -> Steps:
        """End the transaction, and learn what it can have shown."""
        if self._over():
            return
        self.ended = True
        yield from self.account(self._left())

    def undo(self) -> Steps:
        """End the transaction, if it has not ended, whatever it has shown. Never raises."""
        if self.ended:
            return
        self.ended = True
        yield from _rolled_back(self)


class Writing(Block):
    """One write block."""

    def end(self) -> Steps:
        """Undo the transaction, and learn what it can have shown."""
        if self._over():
            return
        self.ended = True
        yield from self.account("ROLLBACK" if self._left() else "")

    def undo(self) -> Steps:
        """Undo the transaction, if it has not ended. Never raises."""
        if self.ended:
            return
        self.ended = True
        yield from _rolled_back(self)

    def commit(self, deps: Frontier) -> Generator[bytes, list[PGresult], Commit]:
        """Commit, with what the write depends on in other shards, and learn its position in the same message."""
        if self.ended:
            raise StoreError("this write block has ended")
        how = (
            self._left()
        )  # if the connection is gone, so is what the user may have committed through it: `end` will not know
        self.ended = True
        if how == "ROLLBACK":
            yield from self.account(how)
            raise StoreError("nothing was written: an earlier statement failed, and the transaction with it")
        assert self._known is not None
        origin, ground = self._known.origin, self._ground
        if not how:  # the user has ended the transaction: what they committed is covered by where the log is now
            try:
                yield from self.account("")
            except StoreError:
                return Commit(None, captured=False)
            assert origin is not None
            upto = self._seen.offset(self.server.shard, origin) or 0
            return Commit(Position(self.server.shard, origin, upto), self._seen)
        stamp = self._stamp(deps)
        try:
            results = yield (stamp + statements.committing(stamps=ground.stamps, direct=self._backend.direct)).encode()
        except Cut as cut:
            self.usable = False
            results = list(cut.results)
            if len(results) <= bool(stamp) + 1 or failed(results[bool(stamp) + 1]) is not None:
                raise CommitUnknown(f"{self.server.name} did not answer a commit: {cut}") from cut
        error = failed(results[-1]) if results else None
        place = bool(stamp)
        if error is not None and len(results) <= place + 2:
            if self.usable:
                yield from self.account(self._left() and "ROLLBACK")  # it wrote nothing, but what it showed, it showed
            raise error
        if results[place + 1].command_status != b"COMMIT":
            raise StoreError("nothing was written: the server rolled the transaction back")
        if isinstance(error, errors.InvalidSqlStatementName) and len(results) == place + 4 and self._backend.direct:
            try:  # what was prepared is gone, as for `_prepared_anew`; it is committed, whatever becomes of this
                again = yield statements.STAMPED
            except Cut:
                self.usable = False
            else:
                error = failed(again[-1])
                results[-1] = again[1 if error is None else -1]
        if len(results) < place + 3 + ground.stamps or error is not None or origin is None:
            return Commit(None, captured=False)  # even if it wrote nothing, what it showed, it showed
        settings = values(results, place)
        # If the block has ended a transaction of its own before: what that wrote, and how it committed, nobody tells.
        broken = settings[2] != statements.WHOLE.encode()
        flush, insert = (rounded(parse(v or b"0/0"), ground.segment, ground.page) for v in values(results, place + 2))
        shown = stamped(results[place + 3]) if ground.stamps else {}
        if not (settings[1] == b"t" or broken):
            return Commit(None, Frontier.of({pack(self.server.shard, origin): insert} | shown))
        # An asynchronous commit is not flushed yet; a later insert position covers it. Any other is: and flush waits for nobody else's.
        upto = insert if broken or settings[0] == b"off" else flush
        return Commit(Position(self.server.shard, origin, upto), Frontier.of(shown))

    def _stamp(self, deps: Frontier) -> str:
        if not self._ground.stamps:
            return ""
        others = {
            (key >> 32, key & 0xFFFFFFFF): offset
            for key, offset in deps.entries.items()
            if key >> 32 != self.server.shard and offset < 2**63
        }
        return statements.stamping(others) if others else ""


def _rolled_back(block: Block) -> Steps:
    """Send ROLLBACK where there is something to roll back."""
    try:
        if not block.connection.closed and block.pgconn.transaction_status != TransactionStatus.IDLE:
            yield b"ROLLBACK"
    except StoreError:
        block.usable = False
    if block.connection.closed or block.pgconn.transaction_status != TransactionStatus.IDLE:
        block.usable = False


def conflict(error: BaseException, *, standby: bool) -> str | None:
    """Return why a block failed, where its server is the reason and another may do better; None where its statement is.

    What a server says may be in any language. On a standby nothing but recovery makes a serialization failure.
    """
    if standby and (
        isinstance(error, errors.SerializationFailure)
        or (
            isinstance(error, errors.DeadlockDetected | errors.QueryCanceled) and "conflict with recovery" in str(error)
        )
    ):
        return f"cancelled: {first_line(str(error))}"
    if isinstance(error, errors.AdminShutdown | errors.CrashShutdown | errors.CannotConnectNow):
        return first_line(str(error))
    if isinstance(error, errors.OperationalError) and error.sqlstate is None:
        return first_line(str(error))
    # PgBouncer, of a server that it has lost: FATAL, since the connection ends with it. A statement's own is an ERROR.
    if isinstance(error, errors.ProtocolViolation) and error.diag.severity == "FATAL":
        return first_line(str(error))
    return None
