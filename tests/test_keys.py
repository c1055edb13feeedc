"""Where keys come from: the environment, and a file that is followed, edited by many and read by nobody else."""

import itertools
import json
import logging
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from causal import BadSignature, ConfigError, Frontier, Key, KeyFile, Keyring, Token, UnknownKey
from causal import keys as keys_module
from causal.keyfile import add_key, create_key_file, drop_key, promote_key, read_key_file

TOKEN = Token(Frontier.of({1: 5}), expires_at=1_800_000_000)


def seal(keys: Keyring) -> str:
    return keys.seal(TOKEN, subject="alice", audience="shop")


def unseal(keys: Keyring, text: str) -> Token:
    return keys.open(text, subject="alice", audience="shop", now=0)


class Time:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    create_key_file(path)
    return path


@pytest.fixture
def time() -> Time:
    return Time()


# --- the environment ---------------------------------------------------------------------------------------------------


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = Key.generate(1), Key.generate(2)
    monkeypatch.setenv("CAUSAL_KEYS", f"{two.to_text()},{one.to_text()}")
    keys = Keyring.from_env()
    assert keys.primary_id == 2
    assert keys.key_ids == (1, 2)
    assert not keys.generated
    assert unseal(keys, seal(Keyring([one]))) == TOKEN
    assert isinstance(keys, Keyring)
    again = Keyring.from_env("OTHER", environ={"OTHER": one.to_text()}, profile="encrypted", cache=0)
    assert unseal(keys, seal(again)) == TOKEN


@pytest.mark.parametrize("value", [None, "", "  ", "rubbish", "1:tooshort"])
def test_a_missing_or_broken_variable_is_named_and_its_value_never_shown(value: str | None) -> None:
    with pytest.raises(ConfigError, match="THE_KEYS") as caught:
        Keyring.from_env("THE_KEYS", environ={} if value is None else {"THE_KEYS": value})
    if value and value.strip():
        assert value not in str(caught.value)
        assert "tooshort" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


# --- generated keys ------------------------------------------------------------------------------------------------------


def test_generated_keys_warn_of_tokens_from_elsewhere_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, time: Time
) -> None:
    monkeypatch.setattr(keys_module.time, "monotonic", time)
    keys, text = Keyring.generate(), seal(Keyring.generate())

    def fail(times: int) -> None:
        for _ in range(times):
            with pytest.raises((UnknownKey, BadSignature)):
                unseal(keys, text)

    with caplog.at_level(logging.WARNING, "causal"):
        fail(5)
        assert [record.getMessage()[:8] for record in caplog.records] == ["1 tokens"]
        time.now += 59.9
        fail(1)
        assert len(caplog.records) == 1
        time.now += 0.2
        fail(1)
        assert caplog.records[-1].getMessage().startswith("6 tokens")
    assert "KeyFile" in caplog.text
    assert text[:20] not in caplog.text


def test_other_keys_do_not_warn(caplog: pytest.LogCaptureFixture, path: Path) -> None:
    text = seal(Keyring.generate())
    for keys in (Keyring([Key(1, bytes(32))]), KeyFile(path)):
        with pytest.raises((UnknownKey, BadSignature)):
            unseal(keys, text)
    assert not caplog.records


def test_keys_may_be_changed_from_several_threads() -> None:
    keys = Keyring([Key(255, bytes(32))])
    barrier = threading.Barrier(5)

    def add(first: int) -> None:
        barrier.wait()
        for key_id in range(first, 250, 5):
            keys.add(Key(key_id, bytes(32)))
            keys.promote(key_id)

    threads = [threading.Thread(target=add, args=(first,)) for first in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert keys.key_ids == (*range(250), 255)


# --- the key file ----------------------------------------------------------------------------------------------------------


def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    before = os.umask(0)
    try:
        made = create_key_file(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_key_file(path) == made
    assert list(made.added) == [made.primary]
    assert os.listdir(tmp_path) == ["keys.json"]
    with pytest.raises(ConfigError, match="exists already"):
        create_key_file(path)
    assert read_key_file(path) == made
    assert os.listdir(tmp_path) == ["keys.json"]


def test_rotation_by_file_reaches_every_process_without_a_restart(path: Path, time: Time) -> None:
    fleet = [KeyFile(path, monotonic=time) for _ in range(3)]
    old = seal(fleet[0])
    first = fleet[0].primary_id

    def later() -> None:
        time.now += 1.0
        for text in [old, *(seal(keys) for keys in fleet)]:
            assert all(unseal(keys, text) == TOKEN for keys in fleet)

    new = add_key(path).id
    assert fleet[1].key_ids == (first,)  # not looked yet
    later()
    assert all(keys.key_ids == tuple(sorted((first, new))) and keys.primary_id == first for keys in fleet)
    promote_key(path, new)
    later()
    assert all(keys.primary_id == new for keys in fleet)
    drop_key(path, first)
    time.now += 1.0
    for keys in fleet:
        with pytest.raises(UnknownKey):
            unseal(keys, old)  # although it was opened, and so remembered, before


def test_who_only_seals_follows_the_file_too(path: Path, time: Time) -> None:
    keys = KeyFile(path, monotonic=time)
    old, new = keys.primary_id, add_key(path).id
    promote_key(path, new)
    time.now += 1.0
    text = keys.seal_within(TOKEN, 512, subject="alice", audience="shop", until=0, now=0)
    drop_key(path, old)
    assert unseal(KeyFile(path), text) == TOKEN


def test_the_file_is_looked_at_at_most_once_in_so_many_seconds(
    path: Path, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    keys = KeyFile(path, check_every_s=5.0, monotonic=time)
    look = keys_module.signature
    monkeypatch.setattr(keys_module, "signature", lambda path: looks.append(time.now) or look(path))
    for _ in range(120):
        seal(keys)
        time.now += 0.25
    assert len(looks) == 5  # at 105, 110 ... 125: the file was read at 100, and 129.75 is the last use
    assert all(later - earlier >= 5.0 for earlier, later in itertools.pairwise(looks))


def test_a_key_file_edits_itself(path: Path) -> None:
    keys, other = KeyFile(path), KeyFile(path, check_every_s=0)
    first = keys.primary_id
    keys.add(Key(200 if first != 200 else 201, bytes(32)))
    added = next(i for i in keys.key_ids if i != first)
    keys.promote(added)
    keys.drop(first)
    assert keys.key_ids == other.key_ids == (added,)
    with pytest.raises(ConfigError):
        keys.drop(added)
    with pytest.raises(ConfigError):
        keys.promote(first)
    with pytest.raises(ConfigError):
        keys.add(Key(added, bytes(32)))
    assert read_key_file(path).primary == added


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o777])
def test_a_file_that_others_can_use_is_refused_with_what_to_do(path: Path, mode: int) -> None:
    path.chmod(mode)
    for use in (KeyFile, read_key_file, add_key):
        with pytest.raises(ConfigError, match=f"mode {mode:04o}.*chmod 600"):
            use(path)


def broken(path: Path) -> dict[str, Callable[[], object]]:
    good = json.loads(path.read_text())
    (key,) = good["keys"]
    other = {"id": (key["id"] + 1) % 256, "secret": key["secret"]}

    def write(document: object) -> None:
        path.write_text(document if isinstance(document, str) else json.dumps(document))

    return {
        "missing": path.unlink,
        "empty": lambda: write(""),
        "half": lambda: write(json.dumps(good)[:40]),
        "not text": lambda: path.write_bytes(b"\xff\xfe\x00"),
        "a list": lambda: write([good]),
        "another version": lambda: write(good | {"version": 2}),
        "no keys": lambda: write(good | {"keys": []}),
        "an id twice": lambda: write(good | {"keys": [key, key]}),
        "primary elsewhere": lambda: write(good | {"primary": other["id"]}),
        "primary is text": lambda: write(good | {"primary": str(key["id"])}),
        "short secret": lambda: write(good | {"keys": [key | {"secret": key["secret"][:-2]}]}),
        "secret is a number": lambda: write(good | {"keys": [key | {"secret": 5}]}),
        "id is text": lambda: write(good | {"keys": [key | {"id": "1"}]}),
        "id is large": lambda: write(good | {"keys": [key | {"id": 256}], "primary": 256}),
        "nested": lambda: write("[" * 100_000),
        "large": lambda: write(" " * (1 << 20) + json.dumps(good)),
        "open to others": lambda: path.chmod(0o644),
        "a folder": lambda: (path.unlink(), path.mkdir(mode=0o700)),
        "a pipe": lambda: (path.unlink(), os.mkfifo(path, 0o600)),
        "a loop": lambda: (path.unlink(), path.symlink_to(path.name)),
    }  # fmt: skip


BROKEN = ["missing", "empty", "half", "not text", "a list", "another version", "no keys", "an id twice", "primary elsewhere",
          "primary is text", "short secret", "secret is a number", "id is text", "id is large", "nested", "large",
          "open to others", "a folder", "a pipe", "a loop"]  # fmt: skip


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_file_keeps_the_old_keys_and_is_logged_once(
    path: Path, time: Time, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    keys = KeyFile(path, monotonic=time)
    secret = json.loads(path.read_text())["keys"][0]["secret"]
    good, text = path.read_text(), seal(keys)
    broken(path)[how]()
    for _ in range(3):
        time.now += 1.0
        assert unseal(keys, text) == TOKEN
        assert unseal(keys, seal(keys)) == TOKEN
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert str(path) in record.getMessage()
    with pytest.raises(ConfigError) as caught:
        KeyFile(path)
    with pytest.raises(ConfigError):
        keys.reload()
    for shown in (caplog.text, str(caught.value), repr(caught.value.__cause__)):
        assert secret[:8] not in shown

    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.write_text(good)
    path.chmod(0o600)
    new = add_key(path).id
    time.now += 1.0
    assert new in keys.key_ids  # mended: followed again
    assert len(caplog.records) == 1


def test_every_way_to_break_a_file_is_tried(path: Path) -> None:
    assert list(broken(path)) == BROKEN


def test_a_link_is_followed_for_reading_and_refused_for_editing(path: Path, tmp_path: Path, time: Time) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(path)
    keys = KeyFile(link, monotonic=time)
    with pytest.raises(ConfigError, match="symbolic link"):
        add_key(link)
    other = tmp_path / "other.json"
    made = create_key_file(other)
    (tmp_path / "swap").symlink_to(other)
    os.replace(tmp_path / "swap", link)  # how mounted secrets are updated
    time.now += 1.0
    assert keys.key_ids == (made.primary,)


def test_a_file_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = path.stat().st_uid
    if owner == 0:
        os.chown(path, 4321, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(ConfigError, match="belongs to user"):
        KeyFile(path)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        create_key_file(tmp_path / "nowhere" / "keys.json")
    with pytest.raises(ConfigError, match="No such file"):
        add_key(tmp_path / "nowhere" / "keys.json")


def test_ids_run_on_from_the_highest_and_end_at_256(path: Path) -> None:
    first = read_key_file(path).primary
    assert [add_key(path).id for _ in range(3)] == [(first + i) % 256 for i in (1, 2, 3)]
    add_key(path, Key((first + 9) % 256, bytes(32)))
    for _ in range(251):
        add_key(path)
    assert len(read_key_file(path).keys) == 256
    with pytest.raises(ConfigError, match="256 keys"):
        add_key(path)


def test_an_edit_that_fails_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left"):
        add_key(path)
    assert path.read_bytes() == before
    assert sorted(os.listdir(path.parent)) == ["keys.json", "keys.json.lock"]


ADDER = """
import sys
from causal import Key
from causal.keyfile import add_key
for key_id in range(int(sys.argv[2]), 240, 4):
    add_key(sys.argv[1], Key(key_id, bytes(32)))
"""


def test_edits_of_several_processes_at_once_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    with monkeypatch.context() as patched:
        patched.setattr("causal.core.keyring.secrets.randbelow", lambda _: 240)  # an id that no adder takes
        create_key_file(path)
    workers = [subprocess.Popen([sys.executable, "-c", ADDER, str(path), str(first)]) for first in range(4)]
    assert [worker.wait(timeout=120) for worker in workers] == [0] * 4
    stored = read_key_file(path)
    assert {key.id for key in stored.keys} == {*range(240), stored.primary}
    assert sorted(os.listdir(tmp_path)) == ["keys.json", "keys.json.lock"]


def test_threads_use_a_file_while_it_changes(path: Path) -> None:
    keys = KeyFile(path, check_every_s=0)
    failures: list[BaseException] = []
    done = threading.Event()

    def use() -> None:
        try:
            while not done.is_set():
                assert unseal(keys, seal(keys)) == TOKEN
        except BaseException as error:  # noqa: BLE001 - whatever it is, the main thread must see it
            failures.append(error)

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(15):
        new = add_key(path).id
        promote_key(path, new)
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
