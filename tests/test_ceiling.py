"""The durable bound: its file, damage, failing disks, and many processes on one file that never repeat a timestamp."""

import contextlib
import copy
import errno
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from causal.ceiling import FileCeiling
from causal.clock import HybridLogicalClock
from causal.core.hlc import MAX_TIMESTAMP, Timestamp
from causal.errors import ClockError, ConfigError
from tests.fake_clock import T0_MS, MemoryCeiling, PatientClock, Wall

ROOT = Path(__file__).parent.parent
SOME = Timestamp.from_parts(T0_MS, 3)

# -- the file --


def test_a_bound_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "ceiling"
    assert FileCeiling(path).load() is None
    assert FileCeiling(path).reserve(SOME) == 0
    assert FileCeiling(str(path)).load() == SOME
    assert path.read_text() == "causal-ceiling 1 018bcfe56800.0003 374d5432\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ceiling", "ceiling.lock"]


@pytest.mark.spec("C-25")
def test_a_bound_rises_with_every_reserve(tmp_path: Path) -> None:
    ceiling = FileCeiling(tmp_path / "ceiling")
    assert ceiling.reserve(100) == 0
    assert ceiling.reserve(200) == 100
    assert ceiling.reserve(150) == 200  # another process reserved less
    assert ceiling.load() == 201
    assert ceiling.reserve(201) == 201
    assert ceiling.load() == 202


@pytest.mark.spec("C-26")
def test_a_bound_is_lowered_only_by_the_last_who_raised_it(tmp_path: Path) -> None:
    ceiling = FileCeiling(tmp_path / "ceiling")
    ceiling.reserve(100)
    ceiling.release(99, 7)
    assert ceiling.load() == 100
    ceiling.release(100, 7)
    assert ceiling.load() == 7


@given(st.integers(0, 48), st.integers(0, 255))
def test_a_changed_byte_is_damage(tmp_path_factory: pytest.TempPathFactory, at: int, byte: int) -> None:
    path = tmp_path_factory.mktemp("ceiling") / "ceiling"
    FileCeiling(path).reserve(SOME)
    data = bytearray(path.read_bytes())
    at %= len(data)
    if data[at] == byte:
        return
    data[at] = byte
    path.write_bytes(data)
    with pytest.raises(ClockError, match="damaged"):
        FileCeiling(path).load()


@pytest.mark.parametrize("length", [*range(0, 43, 6), 42])
def test_a_shortened_file_is_damage(tmp_path: Path, length: int) -> None:
    path = tmp_path / "ceiling"
    FileCeiling(path).reserve(SOME)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ClockError, match="damaged"):
        FileCeiling(path).load()


def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ceiling"
    for garbage in (b"", b"0\n", b"\x00" * 44, b"x" * 1_000_000):
        path.write_bytes(garbage)
        with pytest.raises(ClockError, match="damaged") as caught:
            HybridLogicalClock(ceiling=path)
        assert str(path) in str(caught.value)
        with pytest.raises(ClockError, match="damaged"):
            FileCeiling(path).reserve(SOME)
        with pytest.raises(ClockError, match="damaged"):
            FileCeiling(path).release(SOME, 0)
        assert path.read_bytes() == garbage


def test_damage_while_the_clock_runs_is_found_by_the_next_reserve(tmp_path: Path) -> None:
    path, wall = tmp_path / "ceiling", Wall()
    clock = PatientClock(wall=wall, ceiling=path)
    clock.now()
    path.write_bytes(b"")
    clock.now()
    wall.ms = wall.ms + 1000
    with pytest.raises(ClockError, match="damaged"):
        clock.now()


def test_a_missing_directory_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        HybridLogicalClock(ceiling=tmp_path / "missing" / "ceiling")


def test_a_directory_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClockError, match="cannot be read"):
        HybridLogicalClock(ceiling=tmp_path)


def test_a_system_without_file_locks_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("causal.ceiling.fcntl", None)
    with pytest.raises(ConfigError, match="file locks"):
        FileCeiling(tmp_path / "ceiling")


@pytest.mark.spec("C-27")
def test_the_end_of_the_range_fits_no_reserve(tmp_path: Path) -> None:
    ceiling = FileCeiling(tmp_path / "ceiling")
    ceiling.reserve(MAX_TIMESTAMP)
    with pytest.raises(ClockError):
        ceiling.reserve(MAX_TIMESTAMP)
    assert ceiling.load() == MAX_TIMESTAMP


# -- disks that fail --


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_write_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    path, wall = tmp_path / "ceiling", Wall()
    clock = PatientClock(wall=wall, ceiling=path)
    before = clock.now()
    stored = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    wall.ms = T0_MS + 1000
    with monkeypatch.context() as broken:
        broken.setattr(os if failing == "fsync" else Path, failing, full)
        with pytest.raises(ClockError, match="No space left"):
            clock.now()
    assert path.read_bytes() == stored
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ceiling", "ceiling.lock"]
    assert clock.last == before
    assert clock.now() == Timestamp.from_parts(T0_MS + 1000)


def test_a_directory_that_goes_away_refuses(tmp_path: Path) -> None:
    directory, wall = tmp_path / "data", Wall()
    directory.mkdir()
    clock = PatientClock(wall=wall, ceiling=directory / "ceiling")
    clock.now()
    shutil.rmtree(directory)
    wall.ms = wall.ms + 1000
    with pytest.raises(ClockError, match="cannot be locked"):
        clock.now()


def run(script: str, *args: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, args)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


def test_a_write_that_the_system_cuts_short_changes_nothing(tmp_path: Path) -> None:
    script = """
        import resource, signal, sys
        from causal.clock import HybridLogicalClock
        from causal.errors import ClockError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))  # as a disk that is full after ten bytes
        try:
            HybridLogicalClock(ceiling=sys.argv[1]).now()
        except ClockError as error:
            print(error)
    """
    path = tmp_path / "ceiling"
    FileCeiling(path).reserve(SOME)
    out, _ = run(script, path).communicate()
    assert "cannot be made durable" in out
    assert FileCeiling(path).load() == SOME


# -- processes --


def test_a_killed_process_leaves_a_bound_above_what_it_handed_out(tmp_path: Path) -> None:
    script = """
        import itertools, sys
        from causal.clock import HybridLogicalClock
        wall = itertools.count(1_700_000_000_000_000_000, 60_000_000).__next__
        clock = HybridLogicalClock(wall=wall, ceiling=sys.argv[1])
        while True:
            print(clock.now(), flush=True)  # each a good part of the reserve: it is written all the time
    """
    path = tmp_path / "ceiling"
    for lines in (1, 3, 10, 30, 100):
        process = run(script, path)
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        process.kill()
        # What came out after the last line that we waited for counts too; a line cut short does not.
        rest = process.communicate()[0].splitlines(keepends=True)
        seen = [Timestamp.parse(line[:-1]) for line in rest if line.endswith("\n")]
        bound = FileCeiling(path).load()
        assert bound is not None
        assert all(stamp < bound for stamp in seen)


def test_many_processes_share_a_ceiling(tmp_path: Path) -> None:
    script = """
        import itertools, sys
        from causal.clock import HybridLogicalClock
        wall = itertools.count(1_700_000_000_000_000_000, 60_000_000).__next__
        for _ in range(4):
            with HybridLogicalClock(wall=wall, ceiling=sys.argv[1]) as clock:
                for _ in range(8):
                    print(int(clock.now()))
    """
    path = tmp_path / "ceiling"
    processes = [run(script, path) for _ in range(4)]
    bound_after = []
    for process in processes:
        stamps = [int(line) for line in process.communicate()[0].split()]
        assert process.returncode == 0
        assert len(stamps) == 32
        assert stamps == sorted(set(stamps))
        bound_after.append((max(stamps), FileCeiling(path).load() or 0))
    assert all(highest < bound for highest, bound in bound_after)


@pytest.mark.spec("C-25", "C-26")
def test_a_bound_given_back_is_not_taken_for_one_that_another_still_holds() -> None:
    wall, ceiling = Wall(), MemoryCeiling()
    b = PatientClock(wall=wall, ceiling=ceiling)
    b.now()
    a = PatientClock(wall=wall, ceiling=ceiling)  # starts at the end of b's reserve, 250 ms ahead
    a.now()
    held_by_a = ceiling.bound
    wall.ms = T0_MS + 250
    highest = [b.now() for _ in range(5)][-1]  # reserves beyond a, and passes it within a's millisecond
    assert a.last is not None
    assert held_by_a is not None
    assert a.last < highest < held_by_a
    b.close()
    a.close()  # must not see its own bound again, and lower it
    assert ceiling.bound is not None
    assert highest < ceiling.bound
    assert PatientClock(wall=wall, ceiling=ceiling).now() > highest


@pytest.mark.spec("C-26")
def test_what_others_reserved_in_between_is_not_given_back() -> None:
    wall, ceiling = Wall(), MemoryCeiling()
    a = PatientClock(wall=wall, ceiling=ceiling)
    a.now()
    highest = PatientClock(wall=wall, ceiling=ceiling).now()
    wall.ms = T0_MS + 130
    assert a.now() < highest  # and reserves once more
    a.close()
    assert ceiling.bound is not None
    assert highest < ceiling.bound


def test_a_clock_closed_twice_gives_nothing_back_that_is_another_s_by_then() -> None:
    wall, ceiling = Wall(), MemoryCeiling()
    with PatientClock(wall=wall, ceiling=ceiling) as closed_twice:
        closed_twice.now()
        held = ceiling.bound
        closed_twice.close()
        other = PatientClock(wall=wall, ceiling=ceiling)
        other.now()
        assert ceiling.bound == held  # the same bound, reserved by another
        highest = other.now()
    assert ceiling.bound is not None
    assert highest < ceiling.bound


def test_a_reserve_stops_at_the_end_of_the_range(tmp_path: Path) -> None:
    wall = Wall(MAX_TIMESTAMP >> 16)
    clock = PatientClock(wall=wall, ceiling=tmp_path / "ceiling")
    assert clock.now().physical_ms == wall.ms
    assert FileCeiling(tmp_path / "ceiling").load() == MAX_TIMESTAMP


def fork(parent: PatientClock, wall: Wall, ceiling: MemoryCeiling) -> PatientClock:
    """What a forked child finds: the parent's clock, copied."""
    child = PatientClock(wall=wall, max_drift_s=parent.max_drift_s, ceiling=ceiling)
    child._last, child._bound, child._soft = parent._last, parent._bound, parent._soft
    child._reserve = copy.copy(parent._reserve)
    child._after_fork_in_child()
    return child


def test_a_forked_child_gives_back_nothing_that_its_parent_uses() -> None:
    wall, ceiling = Wall(), MemoryCeiling()
    parent = PatientClock(wall=wall, ceiling=ceiling)
    parent.now()
    child = fork(parent, wall, ceiling)
    child.now()
    wall.ms = T0_MS + 100
    highest = parent.now()
    child.close()
    assert ceiling.bound is not None
    assert highest < ceiling.bound


class Processes(RuleBasedStateMachine):
    """Processes that start, use a clock, close it or crash, fork, in any order on one ceiling, near one wall.

    Whatever they do, the stored bound is above every timestamp handed out, and a clock that starts is above all of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.wall = Wall()
        self.ceiling = MemoryCeiling()
        self.clocks: list[PatientClock] = []
        self.handed_out = -1
        self.highest_wall_ms = self.wall.ms

    def use(self, clock: PatientClock, remote_ms: int | None = None) -> None:
        before = clock.last
        with contextlib.suppress(ClockError):
            stamp = clock.now() if remote_ms is None else clock.update(Timestamp.from_parts(self.wall.ms + remote_ms))
            assert before is None or stamp > before
            self.handed_out = max(self.handed_out, stamp)

    @precondition(lambda self: len(self.clocks) < 4)
    @rule()
    def start(self) -> None:
        clock = PatientClock(wall=self.wall, max_drift_s=0.01, ceiling=self.ceiling)
        assert self.handed_out <= (-1 if clock.last is None else clock.last)
        self.clocks.append(clock)

    @precondition(lambda self: self.clocks)
    @rule(nth=st.integers(0, 3), times=st.integers(1, 3))
    def now(self, nth: int, times: int) -> None:
        for _ in range(times):
            self.use(self.clocks[nth % len(self.clocks)])

    @precondition(lambda self: self.clocks)
    @rule(nth=st.integers(0, 3), remote_ms=st.integers(0, 12))
    def update(self, nth: int, remote_ms: int) -> None:
        self.use(self.clocks[nth % len(self.clocks)], remote_ms)

    @precondition(lambda self: self.clocks)
    @rule(nth=st.integers(0, 3))
    def close(self, nth: int) -> None:
        self.clocks[nth % len(self.clocks)].close()  # and it may be used again

    @precondition(lambda self: self.clocks)
    @rule(nth=st.integers(0, 3))
    def end(self, nth: int) -> None:
        self.clocks.pop(nth % len(self.clocks)).close()

    @precondition(lambda self: self.clocks)
    @rule(nth=st.integers(0, 3))
    def crash(self, nth: int) -> None:
        self.clocks.pop(nth % len(self.clocks))

    @precondition(lambda self: 0 < len(self.clocks) < 4)
    @rule(nth=st.integers(0, 3))
    def fork_one(self, nth: int) -> None:
        parent = self.clocks[nth % len(self.clocks)]
        child = fork(parent, self.wall, self.ceiling)
        self.clocks.append(child)

    @rule(ms=st.integers(-3, 8))
    def time_passes(self, ms: int) -> None:
        self.wall.ms = self.wall.ms + ms
        self.highest_wall_ms = max(self.highest_wall_ms, self.wall.ms)

    @rule(broken=st.booleans())
    def disk(self, broken: bool) -> None:
        self.ceiling.broken = ClockError("full") if broken else None

    @invariant()
    def the_bound_is_above_all_that_was_handed_out(self) -> None:
        assert self.handed_out < (self.ceiling.bound or 0)

    @invariant()
    def nobody_runs_away(self) -> None:
        # A remote may be 10 ms ahead of the wall; beyond that, each write moves the bound by a millisecond and a tick or two.
        reach_ms = self.highest_wall_ms + 11 + len(self.ceiling.writers)
        assert (self.ceiling.bound or 0) <= (reach_ms + 1) << 16


TestProcesses = Processes.TestCase
