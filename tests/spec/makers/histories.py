"""Chooses the histories: each guarantee held and broken, the published anomalies, what failovers do, and all that a line can say."""

from collections.abc import Iterator
from typing import Any

from tests.spec.twins.histories import VIOLATED, HistoryError, check

ABOUT = (
    "history.check: `history` is the lines of a history, each as an object, or as the text of a line where it is none; `mode` is white or "
    "black; `held`, false if absent, whether only reads that were promised the guarantees are judged. Gives a verdict for each guarantee, "
    "ok, violated or not judged: ryw read-your-writes, mr monotonic reads, mw monotonic writes, wfr writes-follow-reads, cc causal, ccv "
    "causal convergence, cm causal memory, lost lost writes told. A history that is none is refused, with the line, from 1."
)
CAUSAL = "cc ccv cm"
Line = dict[str, Any]


def told(text: str) -> list[Line]:
    """Lines from `alice w photo new @2; bob r 1/photo -`: a shard before the key, - for nothing, and offset or origin@offset."""
    seqs: dict[str, int] = {}
    lines: list[Line] = []
    for part in filter(None, map(str.strip, text.split(";"))):
        session, op, key, value, *version = part.split()
        seqs[session] = seqs.get(session, 0) + 1
        line: Line = {"session": session, "seq": seqs[session], "op": {"w": "write", "r": "read"}[op], "key": key}
        if "/" in key:
            shard, line["key"] = key.split("/")
            line["shard"] = int(shard)
        line["value"] = None if value == "-" else value
        if version:
            origin, offset = version[0].split("@")
            line["version"] = [int(origin or 1), int(offset)]
        lines.append(line)
    return lines


def with_(lines: list[Line], place: int, **more: Any) -> list[Line]:
    """The lines, with more in one of them."""
    return [{**line, **more} if n == place else line for n, line in enumerate(lines)]


def end(origin: int, offset: int, shard: int = 0) -> Line:
    return {"op": "end", "shard": shard, "origin": origin, "offset": offset}


def tell(op: str, session: str, seq: int, origin: int, offset: int, shard: int = 0) -> Line:
    return {"op": op, "session": session, "seq": seq, "shard": shard, "version": [origin, offset]}


def case(name: str, cites: str, history: list[Any] | str, violated: str, mode: str = "white", **more: Any) -> Line:
    lines = told(history) if isinstance(history, str) else history
    out = check(lines, mode, **more)
    found = " ".join(guarantee for guarantee, verdict in out.items() if verdict == VIOLATED)
    assert found == violated, f"{name}: violates {found!r}, not {violated!r}"
    given = {"history": lines, "mode": mode, **more}
    return {"name": f"{name} ({mode} box)", "op": "history.check", "cites": cites.split(), "in": given, "out": out}


def both(name: str, cites: str, history: str, violated: str) -> Iterator[Line]:
    yield case(name, cites, history, violated)
    bare = [{k: v for k, v in line.items() if k != "version"} for line in told(history)]
    yield case(name, cites, bare, violated, "black")


def vectors() -> Iterator[Line]:
    yield from guarantees()
    yield from terry()
    yield from patterns()
    yield from allowed()
    yield from across_shards()
    yield from parallel()
    yield from versions()
    yield from failovers()
    yield from shaped()
    yield from records()
    yield from refused()


def guarantees() -> Iterator[Line]:
    yield from both(
        "a session reads what it wrote", "S-22", "alice w photo old @1; alice w photo new @2; alice r photo new @2", ""
    )
    yield from both(
        "a session reads less than it wrote",
        "S-22",
        "alice w photo old @1; alice w photo new @2; alice r photo old @1",
        f"ryw {CAUSAL}",
    )
    yield from both(
        "a session finds nothing where it wrote", "S-22", "alice w photo new @2; alice r photo -", f"ryw {CAUSAL}"
    )
    yield from both("somebody else finds nothing where she wrote", "S-22", "alice w photo new @2; bob r photo -", "")
    yield from both(
        "reads go on", "S-23", "alice w photo old @1; alice w photo new @2; bob r photo old @1; bob r photo new @2", ""
    )
    yield from both(
        "reads go back",
        "S-23",
        "alice w photo old @1; alice w photo new @2; bob r photo new @2; bob r photo old @1",
        f"mr {CAUSAL}",
    )
    yield from both("reads forget", "S-23", "alice w photo new @2; bob r photo new @2; bob r photo -", f"mr {CAUSAL}")
    yield from both(
        "a second write shows the first",
        "S-24",
        "alice w photo new @2; alice w album a @3; bob r album a @3; bob r photo new @2",
        "",
    )
    yield from both(
        "a second write without the first",
        "S-24",
        "alice w photo new @2; alice w album a @3; bob r album a @3; bob r photo -",
        f"mw {CAUSAL}",
    )
    yield from both(
        "the first write alone, before the second is seen",
        "S-24",
        "alice w photo new @2; alice w album a @3; bob r photo -; bob r album a @3",
        "",
    )
    yield from both(
        "a reply with what it answers",
        "S-25",
        "alice w post p @2; bob r post p @2; bob w reply y @3; carol r reply y @3; carol r post p @2",
        "",
    )
    yield from both(
        "a reply without what it answers",
        "S-25",
        "alice w post p @2; bob r post p @2; bob w reply y @3; carol r reply y @3; carol r post -",
        f"wfr {CAUSAL}",
    )
    yield from both(
        "a reply by somebody who had not read it",
        "S-25",
        "alice w post p @2; bob w reply y @3; carol r reply y @3; carol r post -",
        "",
    )
    yield from both(
        "a session's own second write, read without the first",
        "S-22 S-24",
        "alice w photo new @2; alice w album a @3; alice r album a @3; alice r photo -",
        f"ryw {CAUSAL}",
    )
    yield from both(
        "a session's own reply, read without what it answers",
        "S-23 S-25",
        "alice w post p @2; bob r post p @2; bob w reply y @3; bob r reply y @3; bob r post -",
        f"mr {CAUSAL}",
    )
    yield from both(
        "a cause two sessions away",
        "S-26",
        "alice w photo new @2; alice w album a @3; bob r album a @3; bob w reply y @4; carol r reply y @4; carol r photo -",
        CAUSAL,
    )
    yield from both(
        "a cause two sessions away, shown",
        "S-26",
        "alice w photo new @2; alice w album a @3; bob r album a @3; bob w reply y @4; carol r reply y @4; carol r photo new @2",
        "",
    )


def terry() -> Iterator[Line]:
    yield case(
        "Terry et al.: a password that was changed, and the old one asked for",
        "S-22",
        "user w password new @5; user r password -",
        f"ryw {CAUSAL}",
    )
    yield case(
        "Terry et al.: an appointment that was in the calendar, and is not",
        "S-23",
        "user r calendar dentist @7; user r calendar - ",
        f"mr {CAUSAL}",
    )
    yield case(
        "Terry et al.: mail that is listed, and not there to be read",
        "S-23 S-26",
        "sender w mail letter @1; system w list letter @2; user r list letter @2; user r mail -",
        "",
    )
    yield case(
        "the same, where the system had read the mail when it listed it",
        "S-25 S-26",
        "sender w mail letter @1; system r mail letter @1; system w list letter @2; user r list letter @2; user r mail -",
        f"wfr {CAUSAL}",
    )
    yield case(
        "Terry et al.: a newer version of a file over an older one of another's copy",
        "S-24",
        "editor w file v1 @1; editor w file v2 @2; user r file v2 @2; user r file v1 @1",
        f"mr {CAUSAL}",
    )
    yield case(
        "Terry et al.: a program that needs a library that was saved before it",
        "S-24",
        "editor w library l @1; editor w program p @2; user r program p @2; user r library -",
        f"mw {CAUSAL}",
    )
    yield case(
        "Terry et al.: a reaction to an article that its readers have not got",
        "S-25",
        "one w article a @1; two r article a @1; two w reaction b @2; three r reaction b @2; three r article -",
        f"wfr {CAUSAL}",
    )


def patterns() -> Iterator[Line]:
    yield case("CyclicCO", "S-26 S-31", "a r x 1; a w y 1; b r y 1; b w x 1", CAUSAL, "black")
    yield case("CyclicCO", "S-26", "a r x 1 @1; a w y 1 @2; b r y 1 @2; b w x 1 @1", CAUSAL)
    yield from both("ThinAirRead, of a value that nobody wrote", "S-11", "a w x 1 @1; b r x 2 @1", CAUSAL)
    yield from both(
        "WriteCOInitRead", "S-26", "a w x 1 @1; a w y 1 @2; b r y 1 @2; b w z 1 @3; c r z 1 @3; c r x -", CAUSAL
    )
    yield case(
        "WriteCORead", "S-18 S-26", "a w x 1; b r x 1; b w x 2; b w y 1; c r y 1; c r x 1", f"mw {CAUSAL}", "black"
    )
    yield case(
        "CyclicCF: causal memory, and no convergence", "S-27 S-28", "a w x 1; a r x 2; b w x 2; b r x 1", "ccv", "black"
    )
    yield case(
        "CyclicCF with versions: one of both reads the older",
        "S-14 S-27",
        "a w x 1 @1; a r x 2 @2; b w x 2 @2; b r x 1 @1",
        "ryw ccv",
    )
    yield case(
        "WriteHBInitRead: convergence, and no causal memory",
        "S-27 S-28",
        "a w z 1; a w x 1; a w y 1; b w x 2; b r z -; b r y 1; b r x 2",
        "cm",
        "black",
    )
    yield case(
        "CyclicHB: causal, and neither convergence nor causal memory",
        "S-26 S-27 S-28",
        "a w x 1; b w x 2; b r x 1; b r x 2",
        "ccv cm",
        "black",
    )
    yield case(
        "causal memory and convergence, and not sequential",
        "S-27 S-28",
        "a w x 1; a r y -; a w y 1; a r x 1; b w x 2; b r y -; b w y 2; b r x 2",
        "",
        "black",
    )
    yield case(
        "not even causal", "S-26", "a w x 1; a w y 1; b r y 1; b w x 2; c r x 2; c r x 1", f"mr {CAUSAL}", "black"
    )
    yield from both(
        "seven operations: causal and convergent, and no causal memory",
        "S-28",
        "one w 1/k A @1; one w 0/k B @2; two w 0/k C @3; two r 1/k -; one w 0/j D @4; two r 0/j D @4; two r 0/k C @3",
        "cm",
    )
    yield from both(
        "seven operations, had the acknowledgement of C said that B was before it",
        "S-28",
        "one w 1/k A @1; one w 0/k B @2; two w 0/k C @3; two r 1/k A @1; one w 0/j D @4; two r 0/j D @4; two r 0/k C @3",
        "",
    )
    yield case("the order of versions contradicts a session", "S-27", "a w x 1 @2; a w x 2 @1", "ccv")
    yield case(
        "the order of versions contradicts what a writer had read", "S-27", "a w x 1 @2; b r x 1 @2; b w x 2 @1", "ccv"
    )
    yield case(
        "two orders of three sessions, one of which only is the store's",
        "S-14 S-23 S-27",
        "a w x 1 @2; b w x 2 @1; c r x 1 @2; c r x 2 @1",
        "mr ccv",
    )
    yield case("the same without versions: any order fits", "S-27", "a w x 1; b w x 2; c r x 1; c r x 2", "", "black")


def allowed() -> Iterator[Line]:
    yield from both(
        "what causal allows: a lost update",
        "S-26 S-27 S-28",
        "z w x 0 @1; a r x 0 @1; b r x 0 @1; a w x 1 @2; b w x 2 @3; a r x 2 @3; b r x 2 @3",
        "",
    )
    yield from both(
        "what causal allows: a long fork",
        "S-26 S-27 S-28",
        "a w x 1 @1; b w y 1 @2; c r x 1 @1; c r y -; d r y 1 @2; d r x -",
        "",
    )
    yield from both(
        "what causal allows: write skew", "S-26 S-28", "a r x -; a r y -; b r x -; b r y -; a w x 1 @1; b w y 1 @2", ""
    )
    yield from both(
        "what causal allows: who reads first the list and then the photo, each by itself (COPS)",
        "S-26",
        "z w acl friends @1; alice w acl family @2; alice w photo p @3; bob r acl friends @1; bob r photo p @3",
        "",
    )
    yield from both(
        "a photo, and then the list as it was before the photo (COPS)",
        "S-24 S-26",
        "z w acl friends @1; alice r acl friends @1; alice w acl family @2; alice w photo p @3; bob r photo p @3; bob r acl friends @1",
        f"mw {CAUSAL}",
    )
    register = "s r x -; s w x 1 @1; s r x 1 @1; s w x 2 @2; s r x 2 @2"
    yield from both("a causal register, of majority reads and writes (Jepsen, MongoDB)", "S-22 S-23", register, "")
    yield case(
        "a causal register whose last write was rolled back (Jepsen, MongoDB)",
        "S-19 S-29",
        [*told(register.replace("; s r x 2 @2", "; s r x 1 @1")), end(1, 1)],
        "lost",
    )
    yield case(
        "the same, of a store that says nothing of the end",
        "S-22",
        register.replace("; s r x 2 @2", "; s r x 1 @1"),
        f"ryw {CAUSAL}",
    )


def across_shards() -> Iterator[Line]:
    steps = "a w 1/x cause @1; a w 2/y effect @1; b r 2/y effect @1; b r 1/x "
    replica = {"endpoint": "replica", "watermark": {"1": 1}}
    late = {"endpoint": "replica", "watermark": {"1": 0}}
    broken = with_(with_(told(steps + "-"), 2, **replica), 3, **late)
    yield case(
        "five steps across two shards: each shard's reads are right, and together they are not",
        "S-20 S-24 S-26",
        broken,
        f"mw {CAUSAL}",
    )
    yield case(
        "five steps across two shards, where the second read waited",
        "S-20 S-24 S-26",
        with_(told(steps + "cause @1"), 2, **replica),
        "",
    )
    yield case("one key on two shards is two keys", "S-20", "a w 1/k x @1; a r 2/k -", "")
    yield case(
        "a block that scans a reply without its post on another shard",
        "S-25 S-26",
        "alice w 1/post p @9; bob r 1/post p @9; bob w 0/reply y @4; carol r 0/reply y @4; carol r 1/post -",
        f"wfr {CAUSAL}",
    )
    yield case(
        "a token that was not opened, and replaced: what was written on the other shard is forgotten",
        "S-22",
        "alice w 1/photo new @7; bob w 0/list l @50; alice r 0/list l @50; alice r 1/photo -",
        f"ryw {CAUSAL}",
    )


def parallel() -> Iterator[Line]:
    tabs = with_(with_(told("alice w photo new @7; alice r other -; alice r photo -"), 0, after=0), 1, after=0)
    yield case(
        "two tabs, and one cookie: the later answer has taken the write's token away", "S-5 S-22", tabs, f"ryw {CAUSAL}"
    )
    yield case(
        "two tabs at once owe each other nothing",
        "S-5 S-22",
        with_(with_(told("alice w photo new @7; alice r photo -"), 0, after=0), 1, after=0),
        "",
    )
    three = told("a w x 1 @1; a w y 1 @2; a r x -")
    yield case(
        "what was answered before the one that it started after counts too",
        "S-5",
        with_(with_(with_(three, 0, after=0), 1, after=0), 2, after=2),
        f"ryw {CAUSAL}",
    )
    yield case(
        "what was still under way when it started does not count",
        "S-5",
        [{**three[1], "after": 0}, {**three[2], "after": 2}, {**three[0], "after": 0}],
        "",
    )
    yield case(
        "a refused request was answered, too",
        "S-5 S-7",
        with_(with_(with_(three, 0, after=0), 1, after=0, ok=False), 2, after=2),
        f"ryw {CAUSAL}",
    )
    yield case(
        "the very request that it started after counts, whatever was under way beside it",
        "S-5",
        [
            {**line, "seq": seq, "after": after}
            for line, seq, after in zip(told("a w x 1 @1; a r x -; a r z -"), (1, 3, 2), (0, 1, 0), strict=True)
        ],
        f"ryw {CAUSAL}",
    )
    yield case(
        "what was answered while it was under way does not count",
        "S-5",
        [{**three[1], "after": 0}, {**three[0], "after": 0}, {**three[2], "after": 2}],
        "",
    )
    late = told("a r j -; a w k x @1; a r j -; a r k -")
    yield case(
        "a refused request was answered last, and what was answered before it counts",
        "S-5 S-7",
        [
            {**late[0], "seq": 2, "after": 0},
            {**late[1], "seq": 1, "after": 0},
            {**late[2], "after": 0, "ok": False},
            {**late[3], "after": 3},
        ],
        f"ryw {CAUSAL}",
    )
    other = "b r y 1 @2; a w x 1 @1; a w y 1 @2; b r x -"
    yield case("lines of sessions in an order in which they cannot have been", "S-6 S-24", other, f"mw {CAUSAL}")
    yield case(
        "the same lines, session by session", "S-6 S-24", "a w x 1 @1; a w y 1 @2; b r y 1 @2; b r x -", f"mw {CAUSAL}"
    )


def versions() -> Iterator[Line]:
    lines = told("a w k x 1@10; a r k y 2@1; b w k y 2@1")
    stamped = [{**line, "stamp": stamp} for line, stamp in zip(lines, (7, 5, 5), strict=True)]
    yield case("stamps order the versions of two origins: a read of the lower one", "S-15 S-22", stamped, "ryw ccv")
    yield case(
        "stamps order the versions of two origins: a read of the higher one",
        "S-15",
        [{**line, "stamp": 12 - line["stamp"]} for line in stamped],
        "",
    )
    less = {name: value for name, value in stamped[2].items() if name != "stamp"}
    yield case("a stamp that only a read of the version tells", "S-15 S-22", [*stamped[:2], less], "ryw ccv")
    against = told("a w k x @1; c w k y @2; b r k y @2; b r k x @1")
    yield case(
        "one origin's offsets, whatever its stamps",
        "S-14 S-15",
        [{**line, "stamp": stamp} for line, stamp in zip(against, (9, 5, 5, 9), strict=True)],
        "mr ccv",
    )
    yield case(
        "one origin's offsets of 64 bits, whatever its stamps",
        "S-14 S-15",
        [
            {**line, "stamp": stamp, "version": [1, 2**64 - offset]}
            for line, stamp, offset in zip(against, (9, 5, 5, 9), (2, 1, 1, 2), strict=True)
        ],
        "mr ccv",
    )
    equal = [{**line, "stamp": 7} for line in lines]
    yield case("of equal stamps the higher origin's is newer", "S-15", equal, "")
    yield case("two origins without stamps: nobody knows which is newer", "S-17", lines, "")
    yield case(
        "two origins without stamps: of one, the higher offset is newer",
        "S-14 S-17",
        "d w k x 1@1; a w k z 1@2; b w k y 2@1; c r k z 1@2; c r k x 1@1",
        "mr ccv",
    )
    yield case("two origins, one version of which has no stamp: nobody knows", "S-17", [lines[0], *stamped[1:]], "")
    ended = told("a w k x 2@1; a r k y 1@10; b w k y 1@10")
    yield case("two origins, the older of which has not ended", "S-17", ended, "")
    yield case("two origins, the older of which has ended", "S-16 S-22", [*ended, end(1, 10)], "ryw ccv")
    three = told("a w k x 3@1; a r k y 1@10; b w k y 1@10; c w k z 2@5")
    yield case("three origins, one of which goes on beside the highest", "S-16 S-17", [*three, end(1, 10)], "")
    yield case("three origins, two of which have ended", "S-16 S-22", [*three, end(1, 10), end(2, 5)], "ryw ccv")
    some = [{**line, "stamp": s} for line, s in zip(told("a w k x 1@10; a r k y 2@1"), (7, 5), strict=True)]
    unstamped = told("a r k y 2@1; c w k z 2@2; a r k x 1@10")
    yield case(
        "two origins, and stamps of all versions but one",
        "S-15 S-17",
        [*some, *({**line, "seq": line["seq"] + 2} for line in unstamped[1:])],
        "",
    )
    yield case("a later write of a lower version, read", "S-24", "a w k x @2; a w k y @1; b r k y @1", "mw ccv")
    yield case("an end on another shard ends nothing here", "S-16", [*ended, end(1, 10, shard=1)], "")
    yield case(
        "two origins of unknown order, read both ways",
        "S-17 S-27",
        "a w k x 1@1; a r k y 2@1; b w k y 2@1; b r k x 1@1",
        "ccv",
    )
    yield case(
        "a site that numbers its own, read at another with what that one has",
        "S-15 S-22",
        [
            {**line, "stamp": s}
            for line, s in zip(
                told("alice w k new 1@100; bob w k old 2@90; alice r k old 2@90"), (100, 90, 90), strict=True
            )
        ],
        "ryw ccv",
    )
    yield case(
        "one transaction writes a key twice: the later counts",
        "S-9",
        "a w k x @1; a w k y @1; b r k y @1; b r k y @1",
        "",
    )
    yield case(
        "one transaction writes a key twice, and the earlier is read",
        "S-9",
        "a w k x @1; a w k y @1; b r k x @1",
        CAUSAL,
    )
    yield case("one value, written twice, read in order", "S-9", "a w k x @1; a w k x @2; b r k x @1; b r k x @2", "")
    yield case(
        "one value, written twice, read backwards",
        "S-9 S-23",
        "a w k x @1; a w k x @2; b r k x @2; b r k x @1",
        f"mr {CAUSAL}",
    )
    high, top = 2**64 - 2, 2**64 - 1
    for name, then, violated in (("rise", top, ""), ("go back", high, "mr ccv")):
        first = high if then == top else top
        rows = [
            f'{{"session": "b", "seq": {n}, "op": "read", "key": "k", "value": "{o}", "version": [1, {o}]}}'
            for n, o in ((1, first), (2, then))
        ]
        yield case(f"offsets of 64 bits that {name}", "S-14 S-23", rows, violated)
    removed = with_(told("a w k x @1; a w k - @2; a r k - @2"), 1, delete=True)
    yield case("a tombstone is a version", "S-21", removed, "")
    yield case(
        "what was deleted comes back",
        "S-21 S-22",
        [*removed, {**removed[0], "op": "read", "seq": 4}],
        f"ryw mr {CAUSAL}",
    )
    late = [
        {**line, "stamp": s}
        for line, s in zip(
            told("c w k old 3@1; a w k - 1@1; b r k - 1@1; b r k old 3@1"), (90, 100, 100, 90), strict=True
        )
    ]
    yield case(
        "a tombstone that was collected, and a write of before that arrives then",
        "S-15 S-21 S-23",
        with_(late, 1, delete=True),
        "mr ccv",
    )
    yield case(
        "versions whose writes are not in the history", "S-12 S-23", "bob r photo new @2; bob r photo old @1", "mr ccv"
    )
    yield case(
        "a value of another's under a version: it still counts by its version",
        "S-11 S-23",
        "a w k x @1; a w k y @2; b r k y @2; b r k z @1",
        f"mr {CAUSAL}",
    )
    stamped = [
        {**line, "stamp": s}
        for line, s in zip(told("a w k x 1@1; a w k y 1@2; b r k x 1@1; c w k z 2@1"), (30, 10, 30, 20), strict=True)
    ]
    yield case("stamps rank the versions of one origin, too, where several number the key", "S-15", stamped, "ccv")
    yield case("of a key that one origin numbers, stamps say nothing", "S-14", stamped[:3], "")
    refused = with_(stamped, 3, ok=False)
    yield case("what was refused tells that several number the key, too", "S-15", refused, "ccv")
    yield case(
        "an absent version that was read is known to exist",
        "S-12 S-25 S-26",
        "bob r photo new @2; bob w reply y @3; carol r reply y @3; carol r photo -",
        f"wfr {CAUSAL}",
    )
    yield case(
        "an absent version depends on nothing", "S-12", "alice w photo new @2; carol r reply y @3; carol r photo -", ""
    )
    yield case(
        "an absent version obliges, whatever was lost since",
        "S-12 S-19 S-26",
        [*told("b r k x @1; b w k y @3; b r k -"), end(1, 2)],
        f"mr {CAUSAL} lost",
    )
    sample = {"op": "meta", "sample": 0.5}
    yield case("a value that nobody wrote", "S-11 S-13", "bob r photo new; bob r photo old", CAUSAL, "black")
    yield case("a value that a sample lacks", "S-13", [sample, *told("bob r photo new; bob r photo old")], "", "black")
    yield case(
        "a value that was dropped from the record",
        "S-13",
        [{"op": "meta", "dropped": 3}, *told("bob r photo new; bob r photo old")],
        "",
        "black",
    )
    for name, meta in (("of a sample", sample), ("of a record that lacks some", {"op": "meta", "dropped": 3})):
        lines = [meta, *with_(told("a w k x; b r k x"), 0, ok=False)]
        yield case(
            f"a value {name} whose write was refused is known to be nobody's", "S-13 S-11", lines, CAUSAL, "black"
        )
    yield case("values that are written twice", "S-10", "a w k x; b w k x; b r k x", "", "black")
    yield case(
        "values that are written twice, and have versions", "S-9", "a w k x @1; b w k x @2; b r k x @1", "ryw ccv"
    )
    yield case("one value for two keys", "S-10 S-22", "a w k x; a w j x; a r k x; a r j -", f"ryw {CAUSAL}", "black")
    yield case("a value that is null cannot be told from nothing", "S-10", "a w k x; a w j -; a r k -", "", "black")
    kinds = [
        {**line, "value": value}
        for line, value in zip(told("a w k 0; a w k 0; b r k 0; b r k 0"), (1, True, True, 1), strict=True)
    ]
    yield case("true is not 1", "S-10 S-23", kinds, f"mr {CAUSAL}", "black")
    for mode, version in (("white", "@1"), ("black", "")):
        for name, wrote, returned, violated in (
            ("1 is not true", 1, True, CAUSAL),
            ("0.0 is not false", 0.0, False, CAUSAL),
            ("1 and 1.0 are one number", 1, 1.0, ""),
            ("1 is not a text", 1, "1", CAUSAL),
        ):
            two = told(f"a w k 1 {version}; b r k 1 {version}")
            given = [{**line, "value": value} for line, value in zip(two, (wrote, returned), strict=True)]
            yield case(name, "S-10 S-11", given, violated, mode)
    yield case("a version that was read, and not its value", "S-11", "a w k x @1; b r k - @1", "")
    yield case("a value without a version is not nothing", "S-9", "a w k x @1; a r k y", "")
    yield case(
        "a write without a version obliges nobody who reads its effect",
        "S-9",
        "a w k x; a w j y @1; b r j y @1; b r k -",
        "",
    )
    yield case(
        "a write without a version overwrites nothing",
        "S-9 S-17",
        "z w k q 2@1; a w k x 1@1; b r k x 1@1; b w k y; b w j t 1@2; c r j t 1@2; c r k x 1@1",
        "",
    )
    yield case("an operation without a version is not judged", "S-9", "a w k x; a r k -; a r k y", "")


def failovers() -> Iterator[Line]:
    lost = told("b w k old @8; a w k new @10")
    yield case("a lost write, and nobody went on", "S-29", [*lost, end(1, 8)], "")
    went = told("b w k old @8; a w k new @10; a r k old @8")
    yield case("a session goes on past its lost write, and was not told", "S-19 S-29", [*went, end(1, 8)], "lost")
    nothing = told("a w k new @10; a r k -")
    yield case(
        "a session finds nothing where its lost write was, and was not told", "S-29", [*nothing, end(1, 8)], "lost"
    )
    later = with_(went, 2, seq=3)
    yield case("it was told before it went on", "S-29", [*later, end(1, 8), tell("lost", "a", 2, 1, 10)], "")
    yield case("it was told at the read itself", "S-29", [*later, end(1, 8), tell("lost", "a", 3, 1, 10)], "")
    yield case("it accepted the loss before it went on", "S-29", [*later, end(1, 8), tell("forget", "a", 2, 1, 10)], "")
    yield case("it was told when it had gone on", "S-29", [*later, end(1, 8), tell("lost", "a", 4, 1, 10)], "lost")
    elsewhere = with_(told("a w 7/k new @10; a r 7/k -"), 1, seq=3)
    for shard, violated in ((7, ""), (0, "lost")):
        yield case(
            f"a loss on shard 7, told of shard {shard}",
            "S-20 S-29",
            [*elsewhere, end(1, 8, shard=7), tell("lost", "a", 2, 1, 10, shard=shard)],
            violated,
        )
    yield case("somebody else was told", "S-29", [*later, end(1, 8), tell("lost", "b", 2, 1, 10)], "lost")
    yield case("it was told of another write", "S-29", [*later, end(1, 8), tell("lost", "a", 2, 1, 9)], "lost")
    yield case(
        "it goes on at another origin, where more may have been lost than it knows",
        "S-29",
        [*told("b w k old 1@8; a w k new 2@10; a r k old 1@8"), end(2, 8)],
        "",
    )
    yield case("it still reads what will be lost", "S-29", [*told("a w k new @10; a r k new @10"), end(1, 8)], "")
    against = [*told("a w k x @12; a w k y @11"), end(1, 10)]
    yield case("lost versions, whose order contradicts a session", "S-19 S-27", against, "ccv")
    yield case("the end lies at the write", "S-19 S-22", [*told("a w k new @8; a r k -"), end(1, 8)], f"ryw {CAUSAL}")
    yield case("the end lies past the write", "S-22 S-29", [*went, end(1, 12)], "ryw ccv")
    yield case("of two ends the earlier counts", "S-19", [*went, end(1, 12), end(1, 8)], "lost")
    yield case(
        "without versions nobody can tell what was lost",
        "S-32",
        [*told("b w k old; a w k new; a r k -"), end(1, 0)],
        f"ryw {CAUSAL}",
        "black",
    )
    yield case("a lost write of another key", "S-29", [*told("a w k new @10; a r j -"), end(1, 8)], "")
    yield case(
        "one lost write does not oblige whoever saw what depends on it",
        "S-19",
        [*told("s w 0/a x 1@60; s w 1/b y 1@1; r r 1/b y 1@1; r r 0/a -"), end(1, 50)],
        "",
    )
    yield case(
        "what a lost write depends on obliges",
        "S-19 S-24",
        [*told("a w j base @5; a w k new @10; b r k new @10; b r k -; b r j -"), end(1, 8)],
        f"mw {CAUSAL}",
    )
    yield case(
        "who read a lost version may find nothing",
        "S-19 S-23",
        [*told("a w k new @10; b r k new @10; b r k -"), end(1, 8)],
        "",
    )
    yield case(
        "ended is not applied: a replica that has less than the end",
        "S-16 S-23",
        [*told("a w k old 1@100; a w k new 1@105; b r k new 1@105; b r k old 1@100; c w k next 2@111"), end(1, 110)],
        f"mr {CAUSAL}",
    )
    yield case(
        "a replica that holds what was lost is not current",
        "S-16 S-23",
        [*told("a w k gone 1@115; b w k next 2@111; c r k next 2@111; c r k gone 1@115"), end(1, 110)],
        "mr ccv",
    )
    yield case(
        "a watermark that goes back with its server", "S-23", "a w k row @27; b r k row @27; b r k -", f"mr {CAUSAL}"
    )
    yield case(
        "a standby shows what its primary does not show yet",
        "S-23",
        with_(with_(told("a w k row @27; b r k row @27; b r k -"), 1, endpoint="standby"), 2, endpoint="primary"),
        f"mr {CAUSAL}",
    )
    same = told("alice w k gone 1@60; bob w j other 1@66; alice r j other 1@66; alice r k -")
    yield case("a history that keeps its name after forgetting", "S-22", same, f"ryw {CAUSAL}")
    renamed = told("alice w k gone 1@60; bob w j other 2@66; alice r j other 2@66; alice r k -")
    yield case("a new origin for what forgot, and nobody told her", "S-19 S-29", [*renamed, end(1, 50)], "lost")
    yield case(
        "a new origin for what forgot, and she was told",
        "S-19 S-29",
        [
            *renamed[:2],
            tell("lost", "alice", 2, 1, 60),
            tell("forget", "alice", 2, 1, 60),
            *({**line, "seq": line["seq"] + 1} for line in renamed[2:]),
            end(1, 50),
        ],
        "",
    )
    yield case(
        "a mark that forgot its origin: a silent success",
        "S-29",
        [*told("alice w 7/k gone 1@60; alice w 7/j more 2@61; alice r 7/k -"), end(1, 50, shard=7)],
        "lost",
    )
    doubt = with_(told("a w k x @1; a r k -"), 0, ok=None)
    yield case("a write in doubt obliges nobody who has not read it", "S-8", doubt, "")
    seen = with_(told("a w k x @1; a r k -; b r k x @1; b r k -"), 0, ok=None)
    unread = with_(told("a w x 1 @2; a w x 2 @1"), 1, ok=None)
    yield case("a write in doubt that nobody read need not fit the order of versions", "S-8", unread, "")
    yield case("a write in doubt that was read, and is gone", "S-8 S-23", seen, f"mr {CAUSAL}")
    yield case("a write in doubt that was read obliges its own session only once it reads it", "S-8 S-22", seen[:3], "")
    yield case(
        "a write in doubt depends on what came before it",
        "S-8 S-24",
        with_(told("a w j y @1; a w k x @2; b r k x @2; b r j -"), 1, ok=None),
        f"mw {CAUSAL}",
    )
    yield case(
        "a write in doubt, in a black box",
        "S-8",
        [{k: v for k, v in line.items() if k != "version"} for line in seen],
        f"mr {CAUSAL}",
        "black",
    )
    yield case(
        "a write in doubt that is lost is nobody's to be told", "S-8 S-29", [*with_(nothing, 0, ok=None), end(1, 8)], ""
    )


def shaped() -> Iterator[Line]:
    """The rest of the counterexamples of the page: what sessions see where one of its rules is left out."""
    floored = told("carol w k gone 3@110; carol w j next 1@130; carol r k -")
    yield case(
        "a floor over all origins: what was lost under it is told to nobody",
        "S-19 S-29",
        [*floored, end(3, 100)],
        "lost",
    )
    pruned = told("alice w k new @5; alice r k new @5; alice r k -")
    at = ("leader", "one of the replicas that are known", "a replica that joined")
    yield case(
        "pruned, because all replicas that one process knew had it",
        "S-22 S-23",
        [{**line, "endpoint": endpoint} for line, endpoint in zip(pruned, at, strict=True)],
        f"ryw mr {CAUSAL}",
    )
    fast = told("a w k old 1@9; alice r k old 1@9; alice w k new 2@4; alice r k old 1@9")
    for name, stamps, violated in (
        ("a fast clock undoes what was acknowledged", (600, 600, 5, 600), CAUSAL),
        ("a fast clock, and a stamp above what the session had seen", (600, 600, 601, 600), f"ryw {CAUSAL}"),
    ):
        yield case(
            name,
            "S-15 S-26",
            [{**line, "stamp": stamp} for line, stamp in zip(fast, stamps, strict=True)],
            violated,
        )
    yield case(
        "two processes write one log: what was committed late is passed over",
        "S-22",
        "alice w k x @103; bob w j y @105; alice r j y @105; alice r k -",
        f"ryw {CAUSAL}",
    )
    flushed = told("alice w k row @30; bob r k row @30; bob r k -")
    yield case(
        "an asynchronous commit was read, and the position that was taken down is too low",
        "S-23",
        with_(with_(flushed, 1, endpoint="primary"), 2, endpoint="standby"),
        f"mr {CAUSAL}",
    )
    demoted = told("bob w k old 1@60; alice w k new 2@70; alice r k old 1@60")
    yield case(
        "a demoted primary shows its follower to be fresh, when the token has aged",
        "S-16 S-22",
        [*with_(demoted, 2, endpoint="follower"), end(1, 65)],
        "ryw ccv",
    )
    yield case(
        "a key that seals before the process next door has it, where tokens that do not open are ignored",
        "S-22",
        "alice w basket lamp @8; alice r basket -",
        f"ryw {CAUSAL}",
    )
    late = told("alice w k x @12; alice w j y @13; alice r j y @13; alice r k -")
    yield case("no answer to a commit that was carried out", "S-8", with_(late, 0, ok=None), "")
    yield case("a commit without a position is acknowledged all the same", "S-8 S-22", late, f"ryw {CAUSAL}")


def records() -> Iterator[Line]:
    yield case("a refused write had no effect", "S-7", with_(told("a w k x @1; a r k -"), 0, ok=False), "")
    for mode in ("white", "black"):
        yield case(
            "a refused write that was read",
            "S-7 S-11",
            with_(told("a w k x @1; b r k x @1"), 0, ok=False),
            CAUSAL,
            mode,
        )
    yield case("a refused read showed nothing", "S-7", with_(told("a w k x @1; b r k x @1; b r k -"), 1, ok=False), "")
    less = with_(told("a w k x @1; a r k -"), 1, held=False)
    yield case("a read that was promised less", "S-30", less, f"ryw {CAUSAL}")
    yield case("a read that was promised less, where only the others are judged", "S-30", less, "", held=True)
    reveals = with_(told("a w k x @1; b r k x @1; b r k -"), 1, held=False)
    yield case("a read that was promised less, and what it revealed", "S-23 S-30", reveals, f"mr {CAUSAL}", held=True)
    others = "p w k 2; p w j 3; q w j 4; q r k -; q w m 5; s r j 3; s r j 4; s r m 5"
    yield case("how one session orders the writes of others is nothing to what those read", "S-28", others, "", "black")
    lost = [*with_(told("a w k x @1; a r k -"), 1, held=False), end(1, 0)]
    yield case("a lost write, and a read that was promised less", "S-29", lost, "lost")
    yield case("a lost write, and a read that was promised less, which is not judged", "S-30", lost, "", held=True)
    split = [{**line, "held": n != 3} for n, line in enumerate(told("a w x 1; a r x 2; b w x 2; b r x 1"))]
    yield case("no one order explains all reads, and one was promised less", "S-30", split, "", "black", held=True)
    circle = told("a r x 1 @1; a w y 1 @2; b r y 1 @2; b w x 1 @1; a r x -")
    yield case("causality in a circle: with versions reads are judged", "S-31 S-23", circle, f"mr {CAUSAL}")
    yield case("causality in a circle: no version is newer than another", "S-31", circle, CAUSAL, "black")
    yield case(
        "what is not judged may be there",
        "S-1",
        with_(
            told("a w k x @1"),
            0,
            at=1.5,
            how="covered",
            token_in=None,
            token_out="t",
            watermark={"1": 9},
            endpoint="eu",
        ),
        "",
    )


def refused() -> Iterator[Line]:
    good = told("a w k x @1; a r k x @1")

    def wrong(name: str, cites: str, lines: list[Any], why: str) -> Line:
        try:
            check(lines, "white")
        except HistoryError as error:
            found = {"type": "HistoryError", "line": error.args[0]}
            given = {"history": lines, "mode": "white"}
            return {
                "name": name,
                "op": "history.check",
                "cites": cites.split(),
                "in": given,
                "error": found,
                "reason": why,
            }
        raise AssertionError(f"{name}: is read")

    yield wrong("a line that is no JSON", "S-1", [good[0], "{"], "no JSON")
    yield wrong("a line that is no object", "S-1", [good[0], "[]"], "an array")
    yield wrong("a format that is true", "S-2", [{"op": "meta", "format": True}, *good], "true is not 1")
    twice = [good[0], good[0], good[1], "{"]
    yield wrong("two faults: what a line is goes before what it follows", "S-1 S-4", twice, "line 4 is none")
    yield wrong("an empty line", "S-1", [good[0], "", good[1]], "nothing is no object")
    yield wrong(
        "a field twice",
        "S-1",
        [good[0], '{"op": "end", "shard": 0, "shard": 1, "origin": 1, "offset": 2}'],
        "a parser that keeps one of two reads what nobody recorded",
    )
    yield wrong(
        "a number that JSON does not have",
        "S-1",
        ['{"session": "s", "seq": 1, "op": "write", "key": "k", "value": NaN}'],
        "NaN",
    )
    yield wrong(
        "an unknown kind", "S-1", [good[0], {**good[1], "op": "scan"}], "op is read, write, end, lost, forget or meta"
    )
    yield wrong(
        "an unknown field",
        "S-1",
        [good[0], {**good[1], "more": 1}],
        "another version's history may mean anything by it",
    )
    yield wrong(
        "a write without a value", "S-1", [{k: v for k, v in good[0].items() if k != "value"}], "a deletion says null"
    )
    yield wrong(
        "a field of another kind of line", "S-1", [good[0], {**end(1, 2), "key": "k"}], "an end is of an origin"
    )
    for name, value in (
        ("seq", -1),
        ("seq", True),
        ("session", ""),
        ("session", "a\nb"),
        ("session", "s" * 1025),
        ("seq", 1 << 63),
        ("seq", 2.5),
        ("after", -1),
        ("version", [1, 1 << 64]),
        ("version", [1 << 32, 1]),
        ("at", True),
        ("key", ""),
        ("shard", 1 << 32),
        ("value", [1]),
        ("version", [1]),
        ("stamp", "1"),
        ("ok", 1),
        ("held", None),
        ("watermark", {"a": 1}),
        ("watermark", {"\u0663": 1}),
        ("watermark", {"1": -1}),
    ):
        yield wrong(
            f"{name} is {value!r}" if value != "s" * 1025 else "a session's name of 1,025 characters",
            "S-1",
            [good[0], {**good[1], name: value}],
            f"{name} is of another type, or out of range",
        )
    for op, name in (("end", "shard"), ("end", "offset"), ("lost", "version"), ("forget", "seq")):
        whole = end(1, 2) if op == "end" else tell(op, "a", 2, 1, 1)
        part = {field: value for field, value in whole.items() if field != name}
        yield wrong(f"a line of {op} without {name}", "S-1", [*good, part], "no field may be guessed")
    yield wrong(
        "a loss of no version", "S-1", [*good, {**tell("lost", "a", 2, 1, 1), "version": None}], "of which write?"
    )
    yield wrong(
        "a loss that is accepted, of no version",
        "S-1",
        [*good, {**tell("forget", "a", 2, 1, 1), "version": None}],
        "of which write?",
    )
    yield wrong("no operation", "S-2", [end(1, 2)], "there is nothing to judge")
    yield wrong("another format", "S-2", [{"op": "meta", "format": 2}, good[0]], "this is format 1")
    yield wrong(
        "a meta line in the middle",
        "S-2",
        [good[0], {"op": "meta", "format": 1}],
        "it is the first line, if any: several files are joined before they are judged",
    )
    yield wrong(
        "a request that started after itself", "S-3", [good[0], {**good[1], "after": 2}], "after is lower than seq"
    )
    yield wrong("a deletion that reads", "S-3", [good[0], {**good[1], "delete": True}], "delete is for writes")
    yield wrong("a deletion that writes", "S-3", [{**good[0], "delete": True}], "delete is for a write of null")
    yield wrong(
        "a read in doubt",
        "S-3",
        [good[0], {**good[1], "ok": None}],
        "who does not know whether it read has read nothing",
    )
    yield wrong(
        "a stamp of nothing",
        "S-3",
        [good[0], {**good[1], "version": None, "value": None, "stamp": 1}],
        "a stamp is a version's",
    )
    yield wrong("a number twice", "S-4", [good[0], {**good[1], "seq": 1}], "the session has seq 1 twice")
    yield wrong(
        "answered after one that started when it had been answered",
        "S-4",
        [{**good[1], "after": 1}, {**good[0], "after": 0}],
        "seq 2 started after seq 1 was answered, and stands before it",
    )
    yield wrong(
        "another one, higher than after, had been answered before that",
        "S-4",
        [{**good[0], "seq": 2, "after": 0}, {**good[1], "seq": 1, "after": 0}, {**good[1], "seq": 3, "after": 1}],
        "when seq 1 was answered seq 2 had been: the highest is 2",
    )
