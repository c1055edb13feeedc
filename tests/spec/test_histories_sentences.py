"""Each numbered sentence of docs/spec/guarantees.md: its vectors hold for this library, and notice who violates it."""

import types
from collections.abc import Mapping
from typing import Any

import pytest

from causal.lab.history import HistoryError
from tests.spec.violations import Changes, check


def answers(twin: types.ModuleType, op: str, given: Mapping[str, Any]) -> Any:
    """What a twin answers."""
    try:
        return twin.check(given["history"], given["mode"], given.get("held", False))
    except twin.HistoryError as error:
        raise HistoryError("history", error.args[0], "") from None


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            (("    if len({name for name, _ in pairs}) != len(pairs):", "    if False:"),),
            marks=pytest.mark.spec("S-1"),
            id="S-1: a field twice",
        ),
        pytest.param(
            (("whole(value[0], 32)", "whole(value[0], 64)"),),
            marks=pytest.mark.spec("S-1"),
            id="S-1: origins of 64 bits",
        ),
        pytest.param(
            (("whole(value[1], 64)", "whole(value[1], 65)"),),
            marks=pytest.mark.spec("S-1"),
            id="S-1: offsets of 65 bits",
        ),
        pytest.param(
            (("0 < len(value) <= 1024", "0 < len(value) <= 1025"),),
            marks=pytest.mark.spec("S-1"),
            id="S-1: 1,025 characters",
        ),
        pytest.param(
            (
                (
                    'in {"seq", "after", "stamp"}:\n        return whole(value, 63)',
                    'in {"seq", "after", "stamp"}:\n        return whole(value, 64)',
                ),
            ),
            marks=pytest.mark.spec("S-1"),
            id="S-1: seq of 64 bits",
        ),
        pytest.param(
            (("        allowed = needed = ENDING", '        allowed, needed = ENDING, ENDING - {"shard"}'),),
            marks=pytest.mark.spec("S-1"),
            id="S-1: an end without a shard",
        ),
        pytest.param(
            (("return type(value) in {int, float}", "return type(value) in {int, float, bool}"),),
            marks=pytest.mark.spec("S-1"),
            id="S-1: a truth for a time",
        ),
        pytest.param(
            (('number != 1 or row.get("format", 1) != 1', 'row.get("format", 1) != 1'),),
            marks=pytest.mark.spec("S-2"),
            id="S-2: meta lines anywhere",
        ),
        pytest.param(
            (('number != 1 or row.get("format", 1) != 1', "number != 1"),),
            marks=pytest.mark.spec("S-2"),
            id="S-2: any format",
        ),
        pytest.param(
            (('row["after"] >= row["seq"]', 'row["after"] > row["seq"]'),),
            marks=pytest.mark.spec("S-3"),
            id="S-3: after itself",
        ),
        pytest.param(
            (('(op == "read" or row["value"] is not None)', 'op == "read"'),),
            marks=pytest.mark.spec("S-3"),
            id="S-3: a deletion of a value",
        ),
        pytest.param(
            (('        if any(other["seq"] == row["seq"] for other in before):', "        if False:"),),
            marks=pytest.mark.spec("S-4"),
            id="S-4: a seq twice",
        ),
        pytest.param(
            (('        if any(after(other) == row["seq"] for other in before):', "        if False:"),),
            marks=pytest.mark.spec("S-4"),
            id="S-4: answered after what started then",
        ),
        pytest.param(
            (('if other["seq"] == after(row) and any', "if False and any"),),
            marks=pytest.mark.spec("S-4"),
            id="S-4: not the highest",
        ),
        pytest.param(
            (('and rows[i]["seq"] <= after(rows[b])]', "]"),),
            marks=pytest.mark.spec("S-5"),
            id="S-5: requests at once follow each other",
        ),
        pytest.param(
            (('heard != [] and a <= max(heard, key=lambda i: rows[i]["seq"])', 'rows[a]["seq"] <= after(rows[b])'),),
            marks=pytest.mark.spec("S-5"),
            id="S-5: by numbers, not by answers",
        ),
        pytest.param(
            (
                (
                    "places if self.is_write(w) and self.key(w) == self.key(r) and self.version(w) == version]",
                    "places if w < r and self.is_write(w) and self.key(w) == self.key(r) and self.version(w) == version]",
                ),
            ),
            marks=pytest.mark.spec("S-6"),
            id="S-6: a read before its write in the file",
        ),
        pytest.param(
            (
                (
                    "heard = [i for i in range(b) if rows",
                    "heard = [i for i in range(b) if self.ok(i) is not False and rows",
                ),
            ),
            marks=pytest.mark.spec("S-7"),
            id="S-7: what was refused was not answered",
        ),
        pytest.param(
            (("self.ok(i) is True or (self.ok(i) is None", "self.ok(i) is not None or (self.ok(i) is None"),),
            marks=pytest.mark.spec("S-7"),
            id="S-7: a refused read counts",
        ),
        pytest.param(
            ((" or self.ok(a) is None:\n            return False", ":\n            return False"),),
            marks=pytest.mark.spec("S-8"),
            id="S-8: a doubt obliges",
        ),
        pytest.param(
            (("(self.ok(i) is None and i in seen)", "self.ok(i) is None"),),
            marks=pytest.mark.spec("S-8"),
            id="S-8: a doubt that nobody read",
        ),
        pytest.param(
            (("w = self.saw[r] = made[-1]", "w = self.saw[r] = made[0]"),),
            marks=pytest.mark.spec("S-9"),
            id="S-9: the first line counts",
        ),
        pytest.param(
            (("self.saw[r] = NOTHING if value is None else UNSAID", "self.saw[r] = NOTHING"),),
            marks=pytest.mark.spec("S-9"),
            id="S-9: a value without a version is nothing",
        ),
        pytest.param(
            (
                (
                    "        if self.is_write(i) and self.white and self.version(i) is None:\n            return False\n",
                    "",
                ),
            ),
            marks=pytest.mark.spec("S-9"),
            id="S-9: a write without a version obliges",
        ),
        pytest.param(
            (("return isinstance(value, bool), value", "return value"),),
            marks=pytest.mark.spec("S-10"),
            id="S-10: true is 1",
        ),
        pytest.param(
            (("return isinstance(value, bool), value", "return type(value), value"),),
            marks=pytest.mark.spec("S-10"),
            id="S-10: 1 is not 1.0",
        ),
        pytest.param(
            (("wrote is not None and likened(value) != likened(wrote)", "False"),),
            marks=pytest.mark.spec("S-11"),
            id="S-11: any value",
        ),
        pytest.param(
            (("            if same:\n                self.thin_air.add(r)\n", ""),),
            marks=pytest.mark.spec("S-11"),
            id="S-11: what was refused",
        ),
        pytest.param(
            (("self.saw[r] = self.absent[name]", "self.saw[r] = UNSAID"),),
            marks=pytest.mark.spec("S-12"),
            id="S-12: no version without its write",
        ),
        pytest.param(
            ((' or bool(self.meta.get("dropped"))', ""),), marks=pytest.mark.spec("S-13"), id="S-13: what was dropped"
        ),
        pytest.param(
            (
                (
                    "            return key, version\n        stamps",
                    "            return key, -version[1]\n        stamps",
                ),
            ),
            marks=pytest.mark.spec("S-14"),
            id="S-14: the lower offset",
        ),
        pytest.param(
            (("if all(self.version(j) in stamps for j in with_version):", "if version in stamps:"),),
            marks=pytest.mark.spec("S-15"),
            id="S-15: stamps of some",
        ),
        pytest.param(
            (("return key, (stamps[version], *version)", "return key, (stamps[version], -version[0], version[1])"),),
            marks=pytest.mark.spec("S-15"),
            id="S-15: the lower origin of two",
        ),
        pytest.param(
            (("value is not None and wrote is not None and likened", "likened"),),
            marks=pytest.mark.spec("S-11"),
            id="S-11: a value that is not told is another",
        ),
        pytest.param(
            (("        if len(origins) == 1:\n            return key, version\n", ""),),
            marks=pytest.mark.spec("S-14"),
            id="S-14: stamps of one origin",
        ),
        pytest.param(
            (
                (
                    'for j in with_version if "stamp" in self.rows[j]}',
                    'for j in with_version if "stamp" in self.rows[j] and self.is_write(j)}',
                ),
            ),
            marks=pytest.mark.spec("S-15"),
            id="S-15: stamps of writes alone",
        ),
        pytest.param(
            (("        return (key, version[0]), version", "        return (key, version), version"),),
            marks=pytest.mark.spec("S-17"),
            id="S-17: not even one origin's",
        ),
        pytest.param(
            (
                (
                    "if all((key[0], origin) in self.ends for origin in origins[:-1]):",
                    "if any((key[0], origin) in self.ends for origin in origins[:-1]):",
                ),
            ),
            marks=pytest.mark.spec("S-16"),
            id="S-16: ends of some",
        ),
        pytest.param(
            (("        return (key, version[0]), version", "        return key, version"),),
            marks=pytest.mark.spec("S-17"),
            id="S-17: the higher origin",
        ),
        pytest.param(
            (("return (mine, theirs) in self.co and mine != theirs", "return False"),),
            marks=pytest.mark.spec("S-18"),
            id="S-18: nobody knows",
        ),
        pytest.param(
            (("        return not self.lost(i)\n", "        return True\n"),),
            marks=pytest.mark.spec("S-19"),
            id="S-19: what is lost obliges",
        ),
        pytest.param(
            (("self.ends[name] = min(", "self.ends[name] = max("),),
            marks=pytest.mark.spec("S-19"),
            id="S-19: the later of two ends",
        ),
        pytest.param(
            (('return self.rows[i].get("shard", 0), self.rows[i]["key"]', 'return 0, self.rows[i]["key"]'),),
            marks=pytest.mark.spec("S-20"),
            id="S-20: one key",
        ),
        pytest.param(
            (
                (
                    '        said = self.rows[i].get("version")\n',
                    '        said = None if self.rows[i].get("value") is None else self.rows[i].get("version")\n',
                ),
            ),
            marks=pytest.mark.spec("S-21"),
            id="S-21: a tombstone is nothing",
        ),
        pytest.param(
            (("for w in self.writes() if (w, r) in self.so)", "for w in self.writes() if False)"),),
            marks=pytest.mark.spec("S-22"),
            id="S-22: not",
        ),
        pytest.param(
            (("for e in self.saw if (e, r) in self.so)", "for e in self.saw if False)"),),
            marks=pytest.mark.spec("S-23"),
            id="S-23: not",
        ),
        pytest.param(
            (("            if (first, w) in self.so\n", "            if False\n"),),
            marks=pytest.mark.spec("S-24"),
            id="S-24: not",
        ),
        pytest.param(
            (("if e == r or (e, r) in self.so]\n        return", "if (e, r) in self.so]\n        return"),),
            marks=pytest.mark.spec("S-24"),
            id="S-24: the read itself reveals nothing",
        ),
        pytest.param(
            (("for e in self.saw if (e, w) in self.so\n", "for e in self.saw if False\n"),),
            marks=pytest.mark.spec("S-25"),
            id="S-25: not",
        ),
        pytest.param(
            (("if circular(self.co) or self.thin_air & {*self.reads()}:", "if self.thin_air & {*self.reads()}:"),),
            marks=pytest.mark.spec("S-26"),
            id="S-26: circles",
        ),
        pytest.param(
            (("if mine == NOTHING and self.known(r, self.co, absent=True):", "if False:"),),
            marks=pytest.mark.spec("S-26"),
            id="S-26: nothing was found",
        ),
        pytest.param(
            (("(mine, w) in self.co and not self.same(mine, w) for w", "False for w"),),
            marks=pytest.mark.spec("S-26"),
            id="S-26: what was overwritten",
        ),
        pytest.param(
            (
                (
                    "return circular(self.co | self.versions() | self.conflicts(self.reads(), self.co))",
                    "return circular(self.co | self.versions())",
                ),
            ),
            marks=pytest.mark.spec("S-27"),
            id="S-27: no conflict order",
        ),
        pytest.param(
            (("return circular(self.co | self.versions() | self", "return circular(self.co | self"),),
            marks=pytest.mark.spec("S-27"),
            id="S-27: no order of versions",
        ),
        pytest.param((("if circular(hb) or any(", "if any("),), marks=pytest.mark.spec("S-28"), id="S-28: no circles"),
        pytest.param(
            (("if circular(hb) or any(self.saw[r] == NOTHING and", "if circular(hb) or any(False and"),),
            marks=pytest.mark.spec("S-28"),
            id="S-28: nothing was found",
        ),
        pytest.param(
            (("                    or self.key(r) != self.key(w)\n", ""),),
            marks=pytest.mark.spec("S-29"),
            id="S-29: other keys",
        ),
        pytest.param(
            (('any(seq <= self.rows[r]["seq"] for seq in told)', "told"),),
            marks=pytest.mark.spec("S-29"),
            id="S-29: told in the end",
        ),
        pytest.param(
            (('                and tuple(line["version"]) == self.version(w)\n', ""),),
            marks=pytest.mark.spec("S-29"),
            id="S-29: told of anything",
        ),
        pytest.param(
            (("version and version[0] == self.version(w)[0] and version", "version and version"),),
            marks=pytest.mark.spec("S-29"),
            id="S-29: of another origin",
        ),
        pytest.param(
            (('and not (self.held and self.rows[i].get("held") is False)', "and not False"),),
            marks=pytest.mark.spec("S-30"),
            id="S-30: all reads",
        ),
        pytest.param(
            (
                (
                    "            if circular(self.co):\n                found |=",
                    "            if False:\n                found |=",
                ),
            ),
            marks=pytest.mark.spec("S-31"),
            id="S-31: in a circle",
        ),
        pytest.param(
            (
                (
                    "        return found\n\n\ndef check",
                    "        return found | dict.fromkeys(SESSIONS if circular(self.co) else (), NOT_JUDGED)\n\n\ndef check",
                ),
            ),
            marks=pytest.mark.spec("S-31"),
            id="S-31: in a white box, too",
        ),
        pytest.param(
            (
                (
                    '            found["lost"] = NOT_JUDGED\n            if',
                    '            found["lost"] = OK\n            if',
                ),
            ),
            marks=pytest.mark.spec("S-32"),
            id="S-32: judged",
        ),
    ],
)
def test_a_sentence_holds_and_its_violation_is_noticed(changes: Changes, request: pytest.FixtureRequest) -> None:
    mark = request.node.get_closest_marker("spec")
    assert mark is not None
    check("histories", mark.args[0], changes, answers)
