"""`causal audit`, as a user calls it, on what stores have really recorded: what was kept is said to be kept, and what was not, not."""

import asyncio
import json
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner, Result

from causal import AsyncCausalStore, CausalStore, CommitUnknown, Guarantee, Keyring, ReadPolicy, Recorder, WriteLost
from causal.cli.main import main
from causal.errors import GateError, StoreError
from causal.lab.auditing import audit as judged
from causal.stores.memory import MemoryEngine
from causal.stores.sqlite import SQLiteEngine

SITES = ("eu", "us", "ap")
KEYS = Keyring.generate()
START_S = 1_700_000_000


class Planet:
    """Three sites of the memory engine that replicate when told to, a recorder at each, and users who go from one to another."""

    def __init__(self, folder: Path, seed: int, policy: ReadPolicy, **settings: Any) -> None:
        self.random, self.now_s = random.Random(seed), 0.0
        self.engine = MemoryEngine(
            SITES,
            shards=("main", "other"),
            monotonic=self.monotonic,
            wall=lambda: int(self.wall() * 1e9),
            sleep=lambda s: None,
        )
        self.pause()
        self.paths = [str(folder / f"{site}.jsonl") for site in SITES]
        kept = settings.pop("recorder", {})
        self.recorders = [Recorder(path, **kept) for path in self.paths]
        clocks: Any = {"monotonic": self.monotonic, "wall": self.wall, "sleep": lambda s: None}
        self.stores = [
            CausalStore(
                self.engine.at(site),
                keyring=KEYS,
                audience="shop",
                policy=policy,
                history=recorder,
                **clocks,
                **settings,
            )
            for site, recorder in zip(SITES, self.recorders, strict=True)
        ]
        self.tokens: dict[str, list[str]] = {}
        self.written = 0

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return START_S + self.now_s

    def pause(self) -> None:
        for site in SITES:
            self.engine.pause(site)

    def live(self, requests: int, faults: Callable[["Planet"], object] = lambda planet: None) -> list[str]:
        """Let users come and go; return where it was recorded."""
        for _ in range(requests):
            self.request()
            if self.random.random() < 0.15:
                self.engine.catch_up(self.random.choice(SITES))
            faults(self)
        for recorder in self.recorders:
            recorder.close()
        return self.paths

    def request(self) -> None:
        """One request, of a user who brings the newest token, an old one, two, or none."""
        r, user = self.random, f"user {self.random.randrange(4)}"
        held = self.tokens.setdefault(user, [])
        brought = r.choice([held[-1:], held[-1:], held[-1:], held[-2:], held[:1], []])
        session = r.choice(self.stores).session(*brought, subject=user)
        for _ in range(r.randrange(1, 4)):
            self.now_s += r.random()
            try:
                self.operation(session)
            except WriteLost as error:
                if r.random() < 0.7:
                    session.forget(error.lost)
            except CommitUnknown as error:
                session.forget(error.lost)
            except (GateError, StoreError):
                pass
            if r.random() < 0.2:
                self.give(session, held)
        self.give(session, held)
        del held[:-3]

    def give(self, session: Any, held: list[str]) -> None:
        text = session.token()
        if text is not None:
            held.append(text)

    def operation(self, session: Any) -> None:
        r, kind = self.random, self.random.random()
        key, shard = f"k{r.randrange(3)}", r.choice(("main", "other"))
        self.written += 1
        if kind < 0.35:
            with session.write(shard=shard) as tx:
                tx.get(key)
                if r.random() < 0.3:
                    dict(tx.scan())
                if r.random() < 0.3:
                    with session.read(shard=r.choice(("main", "other"))) as db:
                        db.get(key)
                tx.put("k0", self.written)
                if r.random() < 0.2:
                    tx.delete(key)
                else:
                    tx.put(key, self.written)
        elif kind < 0.45:
            with session.read(shard=shard) as slow:
                slow.get(key)
                with session.write(shard=shard) as tx:
                    tx.put(key, self.written)
                with session.read(shard=shard) as fast:
                    fast.get(key)
                slow.get("k0")
        elif kind < 0.55:
            with session.read(shard=shard, policy=ReadPolicy.eventual()) as db:
                db.get(key)
        else:
            with session.read(shard=shard) as db:
                db.get(key)
                dict(db.scan("k1"))


def fail(planet: Planet) -> None:
    """Now and then a site crashes and loses what nobody else has, or a commit stays without an answer."""
    site, x = planet.random.choice(SITES), planet.random.random()
    if x < 0.03:
        for other in SITES:
            planet.engine.resume(other)
        planet.engine.cluster.fail_over(site)
        planet.pause()
    elif x < 0.06:
        planet.engine.cluster.lose_answer(site, committed=x < 0.045)


def audit(*argv: object) -> Result:
    return CliRunner().invoke(main, ["audit", *map(str, argv)])


def records(result: Result) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    return rows[0], {row["guarantee"]: row for row in rows[1:]}


# --- kept, and broken ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_what_the_gate_promised_is_found_kept(seed: int, tmp_path: Path) -> None:
    paths = Planet(tmp_path, seed, ReadPolicy(0.0)).live(100, fail)
    found = judged(paths)
    assert not found.broken, [answer for answer in found.answers if answer.state == "broken"]
    counts = found.joined.counts
    assert counts.reads > 100
    assert counts.writes > 40
    assert counts.branches > 0
    assert counts.requests > counts.sessions


def test_losses_are_met_on_the_way(tmp_path: Path) -> None:
    lost = told = 0
    for seed in range(6):
        folder = tmp_path / str(seed)
        folder.mkdir()
        found = judged(Planet(folder, seed, ReadPolicy(0.0)).live(100, fail))
        lost, told = lost + found.joined.losses.lost, told + found.joined.counts.lost
    assert lost > 5
    assert told > 5


@pytest.mark.parametrize("seed", range(3))
def test_what_nobody_promised_is_found_broken_where_all_reads_are_judged(seed: int, tmp_path: Path) -> None:
    paths = Planet(tmp_path, seed, ReadPolicy.eventual()).live(150)
    result = audit("--json", "--all", *paths)
    assert result.exit_code == 1
    summary, promises = records(result)
    broken = {name for name, row in promises.items() if row["state"] == "broken"}
    assert {"read-your-writes", "causal convergence (CCv)"} <= broken
    write, read = promises["read-your-writes"]["operations"]
    assert (write["op"], read["op"]) == ("write", "read")
    assert (write["key"], write["session"]) == (read["key"], read["session"])
    file, line = write["recorded"].rsplit(":", 1)
    assert json.loads(Path(file).read_text().splitlines()[int(line) - 1])["version"] == write["version"]
    assert summary["unheld"] > 50
    assert not any("promised less" in line for line in summary["not_judged"])

    result = audit("--json", *paths)
    summary, promises = records(result)
    assert (result.exit_code, {row["state"] for row in promises.values()}) == (0, {"kept"})
    assert f"{summary['unheld']:,} reads whose policy promised less (judged with --all)" in summary["not_judged"]


def test_a_gate_that_does_not_hold_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planet = Planet(tmp_path, 1, ReadPolicy(0.0))
    planet.live(1)
    # Whatever is asked of the snapshot, it says that it has it.
    monkeypatch.setattr("causal.request.covered", lambda demand, view, *_: _first(demand, view))
    monkeypatch.setattr("causal.request.bears_out", lambda *_: True)
    monkeypatch.setattr("causal.blocks.bears_out", lambda *_: True)
    result = audit("--json", *planet.live(150))
    assert result.exit_code == 1
    _, promises = records(result)
    assert promises["read-your-writes"]["state"] == "broken"


def _first(demand: Any, view: Any) -> Any:
    from causal.core.decision import Serve

    first = view.endpoints[0]
    return Serve(first.name, "covered", demand.need, first)


def test_a_session_that_is_not_told_of_its_loss_is_found(tmp_path: Path) -> None:
    def loses(planet: Planet) -> None:
        fail(planet)
        for store in planet.stores:  # the view that tells of ends, and the heads that show them, are lost on the way
            store._state.view = store._state.view

    planet = Planet(tmp_path, 2, ReadPolicy(0.0))
    paths = planet.live(60, loses)
    rows = [json.loads(line) for path in paths for line in Path(path).read_text().splitlines()]
    ended = next(row for row in rows if row["op"] == "end")
    written = next(row for row in rows if row["op"] == "write" and row.get("version"))
    session, (origin, offset) = written["session"], written["version"]
    after = max(row["seq"] for row in rows if row.get("session") == session)
    assert ended
    served = {**written, "op": "read", "seq": after + 1, "key": "other", "value": None, "at": 2 * START_S}
    served["watermark"] = {str(origin): offset - 1}
    for field in ("version", "stamp", "delete"):
        served.pop(field, None)
    extra = tmp_path / "extra.jsonl"
    lost = {"op": "end", "shard": written["shard"], "origin": origin, "offset": offset - 1}
    extra.write_text("".join(json.dumps(row) + "\n" for row in (lost, served)))
    _, promises = records(audit("--json", *paths, extra))
    answer = promises["lost writes told"]
    assert answer["state"] == "broken"
    assert [row["op"] for row in answer["operations"]] == ["write", "read"]
    assert "before it was told" in answer["sentence"]
    told = {"op": "lost", "session": session, "seq": after + 1, "shard": written["shard"], "version": [origin, offset]}
    extra.write_text("".join(json.dumps(row) + "\n" for row in (lost, told, served | {"seq": after + 2})))
    _, promises = records(audit("--json", *paths, extra))
    assert promises["lost writes told"]["state"] == "kept"


def test_less_is_held_against_a_store_that_promised_less(tmp_path: Path) -> None:
    paths = Planet(tmp_path, 0, ReadPolicy.eventual(), guarantees=Guarantee.READ_YOUR_WRITES).live(100)
    result = audit("--json", "--all", *paths)
    _, promises = records(result)
    assert {name: row["state"] for name, row in promises.items()} == {
        "read-your-writes": "broken",
        "monotonic reads": "not promised",
        "monotonic writes": "not promised",
        "writes-follow-reads": "not promised",
        "causal (CC)": "not promised",
        "causal convergence (CCv)": "not promised",
        "lost writes told": "kept",
    }


# --- threads and tasks -----------------------------------------------------------------------------------------------


def test_threads_on_the_embedded_store(tmp_path: Path) -> None:
    """Four users, each in a thread that goes from site to site; two threads replicate. One file for both stores."""
    path, done = tmp_path / "history.jsonl", threading.Event()
    engines = [SQLiteEngine(tmp_path / "data", site=site, replicate="manual") for site in ("eu", "us")]
    patient: Any = {"policy": ReadPolicy(60.0)}  # six threads share whatever processor there is
    stores = [
        CausalStore(engine, keyring=KEYS, audience="shop", history=Recorder(path), **patient) for engine in engines
    ]
    with stores[0], stores[1]:

        def replicate(site: str) -> None:
            while not done.is_set():
                engines[0].catch_up(site)

        def live(nth: int) -> None:
            r, token = random.Random(nth), None
            for n in range(30):
                session = r.choice(stores).session(token, subject=f"user {nth}")
                key = f"k{r.randrange(3)}"
                with session.read() as db:
                    db.get(key)
                if n % 3 == 0:
                    with session.write(wait_s=30.0) as tx:
                        tx.get("k0")
                        tx.put(key, n)
                token = session.token()

        replicating = [threading.Thread(target=replicate, args=[site]) for site in ("eu", "us")]
        users = [threading.Thread(target=live, args=[nth]) for nth in range(4)]
        for thread in (*replicating, *users):
            thread.start()
        for thread in users:
            thread.join()
        done.set()
        for thread in replicating:
            thread.join()
    found = judged([str(path)])
    assert not found.broken, [answer for answer in found.answers if answer.state == "broken"]
    assert (found.joined.counts.reads, found.joined.counts.writes) == (160, 40)
    assert (found.joined.counts.damaged, found.joined.counts.strangers) == (0, 0)


def test_tasks_of_one_session(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"

    async def live() -> None:
        engine = SQLiteEngine(tmp_path / "data", site="eu", replicate="manual")
        async with AsyncCausalStore(engine, keyring=KEYS, audience="shop", history=path) as store:
            session = store.session(subject="alice")

            async def some(n: int) -> None:
                for key in ("a", "b"):
                    async with session.write(wait_s=30.0) as tx:
                        tx.get(key)
                        tx.put(key, n)
                    async with session.read() as db:
                        await asyncio.sleep(0)
                        db.get("a")
                        db.get("b")

            await asyncio.gather(*(some(n) for n in range(8)))

    asyncio.run(live())
    found = judged([str(path)])
    assert not found.broken, [answer for answer in found.answers if answer.state == "broken"]
    assert (found.joined.counts.reads, found.joined.counts.writes) == (48, 16)
    assert any('"after"' in line for line in path.read_text().splitlines())


# --- what it tells a person ------------------------------------------------------------------------------------------


def test_the_joined_history_can_be_checked_by_itself(tmp_path: Path) -> None:
    paths = Planet(tmp_path, 4, ReadPolicy.eventual()).live(80, fail)
    joined = tmp_path / "joined.jsonl"
    assert audit("--write", joined, *paths).exit_code == 0
    for options in ([], ["--held"]):
        result = CliRunner().invoke(main, ["check", "--json", str(joined), *options])
        again = {row["guarantee"]: row for row in map(json.loads, result.stdout.splitlines())}
        _, promises = records(audit("--json", *([] if options else ["--all"]), *paths))
        for name in ("read-your-writes", "monotonic reads", "causal convergence (CCv)"):
            assert (again[name]["state"], again[name]["count"]) == (
                "violated" if promises[name]["state"] == "broken" else "ok",
                promises[name]["count"],
            )
    assert audit("--write", tmp_path / "nowhere" / "at all", *paths).exit_code == 2


def test_how_far_it_is_only_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("causal.lab.joining._OFTEN", 10)
    heard: list[float] = []
    judged(Planet(tmp_path, 0, ReadPolicy(0.0)).live(60), tell=heard.append)
    assert len(heard) > 20
    assert heard[-1] == 1
    assert heard == sorted(heard)


def test_a_person_is_told_what_was_judged(tmp_path: Path) -> None:
    paths = Planet(tmp_path, 0, ReadPolicy(0.0)).live(60)
    result = audit(*paths)
    assert result.exit_code == 0, result.output
    assert "sessions in 60 requests" in result.output
    assert "Every promise that could be judged was kept." in result.output


def test_a_broken_promise_is_a_story(tmp_path: Path) -> None:
    paths = Planet(tmp_path, 0, ReadPolicy.eventual()).live(150)
    result = audit("--all", *paths)
    assert result.exit_code == 1
    assert "of the promises were broken." in result.output
    assert "BROKEN" in result.output
    assert ".jsonl:" in result.output


def test_what_is_not_in_the_files_is_said(tmp_path: Path) -> None:
    drawn = {
        "sample": 0.6,
        "key": b"keeps some users, not all",
    }  # a key of each run's own would keep them all now and then
    planet = Planet(tmp_path, 3, ReadPolicy(0.0), recorder=drawn | {"max_bytes": 20_000})
    paths = planet.live(200, fail)
    Path(paths[0]).write_text(Path(paths[0]).read_text() + '{"op": "rea')
    summary, _ = records(audit("--json", *paths))
    said = " ".join(summary["not_judged"])
    for part in (
        "0.6 of the subjects",
        "lines dropped",
        "1 line that cannot be read",
        "without a token",
        "promised less",
    ):
        assert part in said
    alone, _ = records(audit("--json", paths[1]))
    assert "given out elsewhere" in " ".join(alone["not_judged"])


@pytest.mark.parametrize("content", [None, "", "nonsense"])
def test_what_is_no_history_is_refused(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    if content is not None:
        path.write_text(content)
    result = audit(path)
    assert result.exit_code == 2
    assert str(path) in result.output.replace("\n", "")
    assert audit().exit_code == 2


# --- what other files than a planet's own may hold -------------------------------------------------------------------


def put(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(session: str, seq: int, op: str, offset: int, **fields: Any) -> dict[str, Any]:
    version = {"value": f"1@{offset}", "version": [1, offset]} if offset else {"value": None}
    return {"op": op, "session": session, "seq": seq, "key": "k", "at": 10.0 + seq, **version, **fields}


def test_what_is_promised_along_a_branch_is_judged(tmp_path: Path) -> None:
    trunk = [
        row("w.a", 1, "write", 1),
        {"op": "meta", "session": "w.a", "seq": 1, "token_out": "T1", "at": 12.0},
        row("w.a", 2, "read", 1),
        row("w.a", 3, "read", 1),
        row("w.a", 4, "read", 1),
    ]
    branch = [row("w.b", 1, "write", 2, token_in="T1"), row("w.b", 2, "read", 1, token_in="T1")]
    _, promises = records(audit("--json", put(tmp_path / "a", *trunk), put(tmp_path / "b", *branch)))
    assert promises["read-your-writes"]["state"] == "broken"
    assert [one["recorded"][-3:] for one in promises["read-your-writes"]["operations"]] == ["b:1", "b:2"]


def test_values_are_compared_only_where_all_files_have_them(tmp_path: Path) -> None:
    def meta(source: str, values: bool) -> dict[str, Any]:
        return {"op": "meta", "format": 1, "source": source, "values": values}

    loud = put(tmp_path / "a", meta("a", True), row("w.a", 1, "write", 1, value="new.jpg"))
    quiet = put(tmp_path / "b", meta("b", False), row("w.b", 1, "read", 1))
    assert audit(loud, quiet).exit_code == 0
    other = put(tmp_path / "c", meta("b", True), row("w.b", 1, "read", 1, value="other.jpg"))
    assert audit(loud, other).exit_code == 1


def test_the_joined_history_is_not_written_over_what_was_recorded(tmp_path: Path) -> None:
    planet = Planet(tmp_path, 1, ReadPolicy(0.0))
    planet.live(5)
    before = Path(planet.paths[0]).read_bytes()
    result = CliRunner().invoke(main, ["audit", *planet.paths, "--write", planet.paths[0]])
    assert (result.exit_code, "is read, too" in result.output) == (2, True), result.output
    assert Path(planet.paths[0]).read_bytes() == before


def test_a_file_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    paths = Planet(tmp_path, 1, ReadPolicy(0.0)).live(20)
    (tmp_path / "link.jsonl").symlink_to(paths[0])
    once, again = judged(paths), judged([*paths, paths[1], str(tmp_path / "link.jsonl")])
    assert attrs.asdict(again.joined.counts) == attrs.asdict(once.joined.counts)
    assert again.joined.files == once.joined.files
