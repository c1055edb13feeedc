"""Nothing shows a token or a key: no log line at any level, no error nor what it was raised from, no receipt, no repr."""

import asyncio
import base64
import json
import logging
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from causal import (
    AsyncCausalStore,
    CausalError,
    CausalStore,
    CommitUnknown,
    ConfigError,
    Frontier,
    GateTimeout,
    Key,
    KeyFile,
    Keyring,
    NoEndpoint,
    Overloaded,
    Position,
    ReadPolicy,
    StoreError,
    Token,
    TokenError,
    WriteLost,
)
from causal.core import cose
from causal.core.cose import MACS
from causal.core.keyring import derive
from causal.core.policy import Limits
from causal.keyfile import add_key, create_key_file, drop_key, promote_key, read_key_file
from causal.stores.memory import MemoryEngine
from causal.stores.sqlite import SQLiteEngine

NOW = 1_700_000_000.0
CLAIMS = Token(Frontier((Position(9 << 16, 1, 123_456_789),)), expires_at=int(NOW) + 9000)


class Secrets:
    """What must not be shown, in every spelling, nor any longer part of it; and what was shown."""

    def __init__(self) -> None:
        self.parts: dict[str, str] = {}
        self.shown: list[str] = []

    def key(self, key: Key) -> Key:
        hours = (None, int(NOW) // 3600, CLAIMS.expires_at // 3600)
        derived = [derive(key.secret, alg) for alg in MACS] + [derive(key.secret, 3, hour) for hour in hours]
        for what, data in (("a key", key.secret), *(("what is derived from a key", one) for one in derived)):
            self._bytes(what, data)
        return key

    def token(self, text: str) -> str:
        self._windows("a token", text, 12)
        with suppress(TokenError):
            self._bytes("what a token is made of", cose.from_text(text)[-24:])
        return text

    def _bytes(self, what: str, data: bytes) -> None:
        self._windows(f"{what} in hex", data.hex(), 16)
        self._windows(f"{what} in base64url", base64.urlsafe_b64encode(data).decode().rstrip("="), 12)
        self._windows(f"{what} in base64", base64.b64encode(data).decode().rstrip("="), 12)
        for at in range(len(data) - 8):
            self.parts[repr(data[at : at + 8])[2:-1]] = f"{what} as Python writes bytes"
            self.parts[str([*data[at : at + 8]])[1:-1]] = f"{what} as numbers"
        self.parts[str(int.from_bytes(data, "big"))] = f"{what} as a number"

    def _windows(self, what: str, text: str, size: int) -> None:
        for at in range(max(1, len(text) - size + 1)):
            self.parts[text[at : at + size].lower()] = what

    # --- what is shown -----------------------------------------------------------------------------------------------

    def show(self, *things: object) -> None:
        for thing in things:
            self.shown += [str(thing), repr(thing)]
            if isinstance(thing, BaseException):
                self._error(thing, set())
            if hasattr(thing, "as_dict"):
                self.shown.append(json.dumps(thing.as_dict()))

    def _error(self, error: BaseException, known: set[int]) -> None:
        """And everything it was raised from, whether or not that is printed with it."""
        if id(error) in known:
            return
        known.add(id(error))
        self.shown += [str(error), repr(error), repr(error.args), *traceback.format_exception(error)]
        if isinstance(error, CausalError):
            self.shown.append(repr(vars(error)))
            if getattr(error, "receipt", None) is not None:
                self.show(error.receipt)  # type: ignore[attr-defined]
        for other in (error.__cause__, error.__context__):
            if other is not None:
                self._error(other, known)

    def found(self) -> list[str]:
        """What shows a secret, and which."""
        found = []
        for shown in {*self.shown}:
            text = shown.lower()
            what = next((what for part, what in self.parts.items() if part.lower() in text), None)
            if what is not None:
                found.append(f"{what}: {shown}")
        return found


class _Listener(logging.Handler):
    def __init__(self, secrets: Secrets) -> None:
        super().__init__(logging.DEBUG)
        self.secrets = secrets
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.secrets.shown += [self.format(record), repr(record.args), repr(vars(record))]
        if record.exc_info is not None and isinstance(record.exc_info[1], BaseException):
            self.secrets.show(record.exc_info[1])


@pytest.fixture
def secrets() -> Secrets:
    return Secrets()


@pytest.fixture
def log(secrets: Secrets) -> Iterator[list[logging.LogRecord]]:
    """Everything that anybody logs during a test, at any level; what was shown by then holds no secret."""
    root, listener = logging.getLogger(), _Listener(secrets)
    ours = [root, logging.getLogger("causal"), logging.getLogger("asyncio")]
    levels = [logger.level for logger in ours]
    root.addHandler(listener)
    for logger in ours:
        logger.setLevel(logging.DEBUG)
    try:
        yield listener.records
    finally:
        root.removeHandler(listener)
        for logger, level in zip(ours, levels, strict=True):
            logger.setLevel(level)
    assert not secrets.found()


@pytest.fixture
def keys(secrets: Secrets) -> Keyring:
    return Keyring([secrets.key(Key.generate(7))])


def failing(secrets: Secrets, call: Callable[[], object], *errors: type[BaseException]) -> None:
    with pytest.raises(errors or CausalError) as caught:
        call()
    secrets.show(caught.value)


def test_the_search_finds_what_it_is_for(secrets: Secrets) -> None:
    key = secrets.key(Key.generate(7))
    text = secrets.token(Keyring([key]).seal(CLAIMS, subject="alice", audience="shop"))
    leaks: list[object] = [
        key.to_text(),
        key.secret,
        key.secret[4:20].hex().upper(),
        [*key.secret],
        int.from_bytes(key.secret, "big"),
        f"token {text[5:25]}...",
        cose.from_text(text),
        ValueError(text),
        {"key": base64.b64encode(key.secret)},
    ]
    for leak in leaks:
        secrets.shown = []
        secrets.show(leak)
        assert secrets.found(), leak
    secrets.shown = []
    try:
        try:
            raise ValueError(text)
        except ValueError:
            raise LookupError from None
    except LookupError as error:
        secrets.show(error)
    assert secrets.found()
    secrets.shown = []
    secrets.show(key, Keyring([key]), CLAIMS)
    assert not secrets.found()


# --- tokens ----------------------------------------------------------------------------------------------------------


def bad_tokens(keys: Keyring, secrets: Secrets) -> list[str]:
    """Every way in which a token may not open."""
    good = secrets.token(keys.seal(CLAIMS, subject="alice", audience="shop"))
    encrypted = Keyring([secrets.key(Key.generate(7))], profile="encrypted")
    foreign = Keyring([secrets.key(Key.generate(8))])
    made = [
        keys.seal(CLAIMS, subject="bob", audience="shop"),
        keys.seal(CLAIMS, subject="alice", audience="bank"),
        foreign.seal(CLAIMS, subject="alice", audience="shop"),
        encrypted.seal(CLAIMS, subject="alice", audience="shop"),
        keys.seal(Token(CLAIMS.own, expires_at=int(NOW) - 9000), subject="alice", audience="shop"),
    ]
    damaged = [
        good[:-5],
        good + "=",
        good + "\n",
        f" {good}",
        good[:20] + ("A" if good[20] != "A" else "B") + good[21:],
        good[:-1] + "é",
        good[:10] + "\udcff" + good[11:],
        good[:10] + "\x00" + good[11:],
        good * 200,
        good + good,
        good.upper(),
        f"Bearer {good}",
    ]
    return [secrets.token(text) for text in (*made, *damaged)]


@pytest.mark.parametrize("bad_token", ["leader", "ignore", "raise"])
def test_tokens_that_do_not_open(log: list[logging.LogRecord], secrets: Secrets, keys: Keyring, bad_token: Any) -> None:
    store = CausalStore[Any, Any](
        MemoryEngine(), keyring=keys, audience="shop", policy=ReadPolicy(bad_token=bad_token), wall=lambda: NOW
    )
    for text in bad_tokens(keys, secrets):
        try:
            session = store.session(text, subject="alice")
            session.join(text)
        except TokenError as error:
            assert bad_token == "raise"
            secrets.show(error)
            continue
        secrets.show(session, session._state, *session.rejected, session.seen, session.own)
        with session.read() as db:
            db.get("k")
        with (block := session.read()), session.write() as tx:
            tx.put("k", 1)
        secrets.show(block.receipt, block, block._request, session.rejected)
        made = session.token()
        assert made is not None
        secrets.token(made)
    secrets.show(store, store._state, keys)
    assert any("could not be opened" in record.getMessage() for record in log)
    for odd in (b"bytes", 17, ["list"]):
        failing(secrets, lambda: keys.open(odd, subject="alice", audience="shop", now=NOW))  # type: ignore[arg-type]  # noqa: B023


def test_generated_keys_that_meet_tokens_from_elsewhere(log: list[logging.LogRecord], secrets: Secrets) -> None:
    keys = Keyring.generate()
    for text in bad_tokens(Keyring([secrets.key(Key.generate(3))]), secrets):
        failing(secrets, lambda: keys.open(text, subject="alice", audience="shop", now=NOW))  # noqa: B023
    assert any("Keyring.generate()" in record.getMessage() for record in log)


# --- gates -----------------------------------------------------------------------------------------------------------


def test_reads_and_writes_that_are_refused(log: list[logging.LogRecord], secrets: Secrets, keys: Keyring) -> None:
    def told(receipt: object) -> None:
        secrets.show(receipt)
        raise RuntimeError(f"whoever listens says {session.token()}")

    cluster_engine = MemoryEngine(lag_s=0.0)
    cluster = cluster_engine.cluster
    limits = Limits(waiters_per_endpoint=0, leader_reads=0)
    given: dict[str, Any] = {"keyring": keys, "audience": "shop", "on_receipt": told}
    eu = CausalStore[Any, Any](cluster_engine, **given).__enter__()
    us = CausalStore[Any, Any](cluster_engine.at("us"), **given).__enter__()
    full = CausalStore[Any, Any](cluster_engine.at("us"), limits=limits, **given).__enter__()
    session = eu.session(subject="alice")
    with session.write() as tx:
        tx.put("k", 1)
    cluster.pause("us")
    with session.write() as tx:
        tx.put("k", 2)
    token = secrets.token(session.token() or "")

    def read(store: CausalStore[Any, Any], policy: ReadPolicy | None = None, text: str = token) -> Callable[[], None]:
        def call() -> None:
            with store.session(text, subject="alice").read(policy=policy):
                pass

        return call

    def written(store: CausalStore[Any, Any], text: str = token) -> None:
        with store.session(text, subject="alice").write(wait_s=0.0) as tx:
            tx.put("k", 3)

    failing(secrets, read(us, ReadPolicy(0.0, then="error")), GateTimeout)
    failing(secrets, lambda: written(us), GateTimeout)
    failing(secrets, read(full), Overloaded)
    failing(secrets, read(us, ReadPolicy.quorum(3)), NoEndpoint)
    cluster.lose_answer("eu", committed=True)
    failing(secrets, lambda: written(eu), CommitUnknown)
    cluster.forget_tail("eu", 1)
    failing(secrets, read(eu), WriteLost)
    cluster.stop("eu")
    cluster.stop("us")
    failing(secrets, read(us))
    failing(secrets, lambda: eu.session().read(shard="none").__enter__(), ConfigError)
    failing(secrets, lambda: eu.head())
    secrets.show(eu, eu._state, eu.view, session, session._state)
    assert any("refused" in record.getMessage() for record in log)
    assert any("on_receipt raised RuntimeError" in record.getMessage() for record in log)
    assert any("cannot be used" in record.getMessage() for record in log)


def test_reads_of_tasks_that_fail_or_are_cancelled(
    log: list[logging.LogRecord], secrets: Secrets, keys: Keyring
) -> None:
    async def main() -> None:
        engine = MemoryEngine(lag_s=0.0)
        given: dict[str, Any] = {"keyring": keys, "audience": "shop", "on_receipt": secrets.show}
        async with AsyncCausalStore(engine, **given) as eu, AsyncCausalStore(engine.at("us"), **given) as us:
            engine.pause("us")
            async with (alice := eu.session(subject="alice")).write() as tx:
                tx.put("k", 1)
            token = secrets.token(alice.token() or "")
            session = us.session(token, token[:-3], subject="alice")
            tasks = [asyncio.create_task(session.run_read(lambda db: asyncio.sleep(0, db.get("k")))) for _ in range(3)]
            tasks.append(asyncio.create_task(session.route(policy=ReadPolicy(60.0))))
            await asyncio.sleep(0)
            tasks[0].cancel()
            engine.cluster.stop("us")
            engine.cluster.stop("eu")
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            secrets.show(*ended, *tasks, us, us._state, session, session._state)
            with pytest.raises(CausalError) as caught:
                await us.head()
            secrets.show(caught.value)

    asyncio.run(main(), debug=True)
    assert any(record.name == "asyncio" for record in log)


# --- keys ------------------------------------------------------------------------------------------------------------


def test_keys_badly_written(log: list[logging.LogRecord], secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = secrets.key(Key.generate(7)), secrets.key(Key.generate(9))
    good, secret = one.to_text(), one.to_text().partition(":")[2]
    for text in (
        good + "=",
        good[:-1],
        good + "A",
        good[:-1] + "é",
        good[:10] + "\udcff" + good[11:],
        good.replace(":", ";"),
        f"{secret}:7",
        f"999:{secret}",
        f"-7:{secret}",
        f"7:7:{secret}",
        f"7:{one.secret.hex()}",
        f"7: {secret}",
        f"{good},{good}",
        f"{good} {two.to_text()}",
        f"{good},",
        f'"{good}"',
    ):
        for call in (
            lambda: Keyring.parse(text),  # noqa: B023
            lambda: Keyring.from_env("KEYS", environ={"KEYS": text}),  # noqa: B023
        ):
            failing(secrets, call, ConfigError)
        with suppress(ConfigError):
            secrets.show(Key.parse(text))
    for wrong in (one.secret.decode("latin-1"), one.secret + b"x", bytearray(one.secret), secret):
        failing(secrets, lambda: Key(7, wrong), ConfigError)  # type: ignore[arg-type]  # noqa: B023
    failing(secrets, lambda: Key(one.secret, one.secret), ConfigError)  # type: ignore[arg-type]
    keys = Keyring([one, two])
    for call in (
        lambda: keys.add(one),
        lambda: keys.drop(7),
        lambda: keys.drop(99),
        lambda: keys.promote(99),
        lambda: Keyring([one, one]),
        lambda: Keyring([one], primary=9),
        lambda: Keyring([one], profile="plain"),  # type: ignore[arg-type]
    ):
        failing(secrets, call, ConfigError)
    secrets.show(one, [one], keys, keys._ring, keys._ring.primary, {"keys": keys}, keys._ring.keys)


def test_key_files_that_cannot_be_used(log: list[logging.LogRecord], secrets: Secrets, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    (first,) = create_key_file(path).keys
    secrets.key(first)
    secrets.key(add_key(path))
    good = path.read_text()
    stored = read_key_file(path)
    now = 0.0
    keys = KeyFile(path, monotonic=lambda: now)
    token = secrets.token(keys.seal(CLAIMS, subject="alice", audience="shop"))
    secrets.show(stored, keys)
    secret = first.to_text().partition(":")[2]

    def changed(**what: Any) -> str:
        return json.dumps({**json.loads(good), **what})

    for text in (
        "",
        good[:-9],
        good + secret,
        good.replace(secret, secret + "="),
        good.replace(secret, secret[:-2]),
        good.replace('"', "'"),
        good.replace('"secret"', f'"{secret}"'),
        changed(version=2),
        changed(version=secret),
        changed(primary=secret),
        changed(primary=999),
        changed(keys=secret),
        changed(keys=[secret]),
        changed(keys=[{"id": secret, "secret": secret}]),
        changed(keys=[{"id": 1, "secret": [secret]}]),
        changed(keys=[{"id": 1, "secret": secret}] * 2, primary=1),
        changed(keys=[{"id": 1, "secret": secret + "\udcff"}]),
        json.dumps(secret),
        json.dumps([secret]),
        "[" * 100_000 + secret,
    ):
        path.write_text(text, errors="surrogatepass")
        os.utime(path, ns=(time.time_ns(), int(now * 1e9) + 1))
        now += 2.0
        keys.open(token, subject="alice", audience="shop", now=NOW)  # follows the file, and complains
        for call in (
            lambda: read_key_file(path),
            lambda: KeyFile(path),
            keys.reload,
            lambda: keys.add(first),
            lambda: keys.promote(first.id),
            lambda: add_key(path, first),
            lambda: drop_key(path, first.id),
            lambda: promote_key(path, first.id),
        ):
            failing(secrets, call, ConfigError)
    assert sum("stay in use" in record.getMessage() for record in log) == 20
    path.write_text(good)
    path.chmod(0o644)
    failing(secrets, keys.reload, ConfigError)
    path.chmod(0o600)
    for call in (lambda: keys.add(first), lambda: keys.drop(first.id), lambda: keys.drop(99), lambda: keys.promote(99)):
        failing(secrets, call, ConfigError)
    path.unlink()
    failing(secrets, keys.reload, ConfigError)
    secrets.show(keys, repr(keys))


# --- stores ----------------------------------------------------------------------------------------------------------


def test_a_store_whose_files_are_damaged(
    log: list[logging.LogRecord], secrets: Secrets, keys: Keyring, tmp_path: Path
) -> None:
    store = CausalStore[Any, Any](SQLiteEngine(tmp_path, site="eu"), keyring=keys, audience="shop")
    with store:
        with (session := store.session(subject="alice")).write() as tx:
            tx.put("k", 1)
        token = secrets.token(session.token() or "")
    (file,) = tmp_path.glob("eu*.sqlite")
    file.write_bytes(b"not a database " * 1000)
    with pytest.raises(StoreError) as caught, store, store.session(token, subject="alice").read():
        pass
    secrets.show(caught.value, store, store._state, session, session._state)
