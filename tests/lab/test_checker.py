"""What the checker says of histories that a person can check by hand: each promise broken once, and examples by others."""

from pathlib import Path

import pytest

from causal.errors import ConfigError
from causal.lab.checker import Report, check
from causal.lab.history import History, read_history
from tests.lab.brute import history, told

DATA = Path(__file__).parent.parent / "data" / "histories"
CAUSAL, CONVERGENT, MEMORY = "causal (CC)", "causal convergence (CCv)", "causal memory (CM)"
RYW, MR, MW, WFR = "read-your-writes", "monotonic reads", "monotonic writes", "writes-follow-reads"
LOST = "lost writes told"


def judged(text: str, mode: str = "auto") -> Report:
    return check(history(told(text)), mode=mode)  # type: ignore[arg-type]


def violated(report: Report) -> set[str]:
    return {verdict.guarantee for verdict in report.verdicts if verdict.state == "violated"}


def shown(report: Report, guarantee: str) -> tuple[list[str], str]:
    """The witness of a guarantee: its operations, in short, and its sentence."""
    witness = report[guarantee].witness
    assert witness is not None
    ops = [f"{row['session']} {row['op']} {row['key']} {row.get('value')}" for row in witness.operations]
    return ops, witness.sentence


NOISE = """
    dora writes hat = red @ 90; dora reads hat = red @ 90; erik reads hat = red @ 90; erik writes hat = blue @ 91
    dora reads hat = blue @ 91; erik writes bag = big @ 92; dora writes bag = small @ 93; erik reads bag = small @ 93
"""
"""What others do meanwhile, and what no witness is to show."""

PLANTED = [
    pytest.param(
        "alice writes photo = old @ 1; alice writes photo = new @ 2; alice reads photo = old @ 1",
        RYW,
        {RYW, CAUSAL, CONVERGENT, MEMORY},
        ["alice write photo new", "alice read photo old"],
        "alice wrote photo = 'new' (1@2); so alice had to see photo = 'new' (1@2) or something newer, but read photo = 'old' (1@1).",
        marks=pytest.mark.spec("S-22"),
    ),
    pytest.param(
        "alice writes photo = new @ 2; bob reads photo = new @ 2; bob reads photo = nothing",
        MR,
        {MR, CAUSAL, CONVERGENT, MEMORY},
        ["bob read photo new", "bob read photo None"],
        (
            "bob read photo = 'new' (1@2), which alice wrote; so bob had to see photo = 'new' (1@2) or something newer, but read photo and "
            "found nothing."
        ),
        marks=pytest.mark.spec("S-23"),
    ),
    pytest.param(
        "alice writes photo = new @ 2; alice writes album = a @ 3; carol reads album = a @ 3; carol reads photo = nothing",
        MW,
        {MW, CAUSAL, CONVERGENT, MEMORY},
        ["alice write photo new", "alice write album a", "carol read album a", "carol read photo None"],
        (
            "alice wrote photo = 'new' (1@2) and then wrote album = 'a' (1@3); carol read it; so carol had to see photo = 'new' (1@2) or "
            "something newer, but read photo and found nothing."
        ),
        marks=pytest.mark.spec("S-24"),
    ),
    pytest.param(
        (
            "alice writes photo = new @ 2; bob reads photo = new @ 2; bob writes reply = nice @ 3; carol reads reply = nice @ 3; "
            "carol reads photo = nothing"
        ),
        WFR,
        {WFR, CAUSAL, CONVERGENT, MEMORY},
        ["bob read photo new", "bob write reply nice", "carol read reply nice", "carol read photo None"],
        (
            "bob read photo = 'new' (1@2), which alice wrote, and then wrote reply = 'nice' (1@3); carol read "
            "it; so carol had to see photo = "
            "'new' (1@2) or something newer, but read photo and found nothing."
        ),
        marks=pytest.mark.spec("S-25"),
    ),
    pytest.param(
        (
            "alice writes photo = new @ 2; alice writes album = a @ 3; bob reads album = a @ 3; bob writes reply = nice @ 4; "
            "carol reads reply = nice @ 4; carol reads photo = nothing"
        ),
        CAUSAL,
        {CAUSAL, CONVERGENT, MEMORY},  # and none of the four: alice's write is two sessions away
        [
            "alice write photo new",
            "alice write album a",
            "bob read album a",
            "bob write reply nice",
            "carol read reply nice",
            "carol read photo None",
        ],
        (
            "alice wrote photo = 'new' (1@2) and then wrote album = 'a' (1@3); bob read it and then wrote reply "
            "= 'nice' (1@4); carol read it; "
            "so carol had to see photo = 'new' (1@2) or something newer, but read photo and found nothing."
        ),
        marks=pytest.mark.spec("S-26"),
    ),
    pytest.param(
        "alice writes x = 1 @ 2; bob writes x = 2 @ 1; bob reads x = 1 @ 2; bob reads x = 2 @ 1",
        CONVERGENT,
        {RYW, MR, CONVERGENT, MEMORY} - {RYW},
        ["bob read x 1", "bob read x 2"],
        "bob read x = '1' (1@2), which alice wrote; so bob had to see x = '1' (1@2) or something newer, but read x = '2' (1@1).",
        marks=pytest.mark.spec("S-14", "S-27"),
    ),
    pytest.param(
        "alice writes x = 1 @ 2; alice writes x = 2 @ 1",
        CONVERGENT,
        {CONVERGENT},
        ["alice write x 1", "alice write x 2"],
        (
            "No one order of the writes fits what was read: alice wrote x = '1' (1@2) and then wrote x = '2' "
            "(1@1); x = '2' (1@1) is older than "
            "x = '1' (1@2)."
        ),
        marks=pytest.mark.spec("S-27"),
    ),
]


@pytest.mark.parametrize(("text", "guarantee", "all_violated", "ops", "sentence"), PLANTED)
@pytest.mark.parametrize("noise", ["", NOISE])
def test_a_planted_violation_is_told_in_its_fewest_operations(
    text: str, guarantee: str, all_violated: set[str], ops: list[str], sentence: str, noise: str
) -> None:
    report = judged(
        noise + text + noise.replace("dora", "dan").replace("erik", "eva").replace("hat", "cap").replace("bag", "box")
    )
    assert violated(report) == all_violated
    assert shown(report, guarantee) == (ops, sentence)
    assert report.mode == "white"


@pytest.mark.spec("S-18", "S-32")
def test_a_black_box_tells_what_was_overwritten_by_whom() -> None:
    report = judged(
        "alice writes photo = old; bob reads photo = old; bob writes photo = new; bob writes reply = nice; dave reads reply = nice; "
        "carol reads reply = nice; carol reads photo = old",
    )
    assert report.mode == "black"
    assert violated(report) == {MW, CAUSAL, CONVERGENT, MEMORY}
    assert report[LOST].state == "not judged"
    ops, sentence = shown(report, CAUSAL)
    assert len(ops) == 6
    assert "dave" not in sentence
    assert sentence == (
        "alice wrote photo = 'old'; bob read it and then wrote photo = 'new' and then wrote reply = 'nice'; carol read it; so carol had to "
        "see photo = 'new' or something newer, but read photo = 'old'."
    )


# Figure 2 of Bouajjani, Enea, Guerraoui and Hamza, "On Verifying Causal Consistency", POPL 2017. 0 stands for nothing.
FIGURE_2 = {
    "a": ("a writes x = 1; a reads x = 2; b writes x = 2; b reads x = 1", {CONVERGENT}),
    "b": (
        "a writes z = 1; a writes x = 1; a writes y = 1; b writes x = 2; b reads z = nothing; b reads y = 1; b reads x = 2",
        {MEMORY},
    ),
    "c": ("a writes x = 1; b writes x = 2; b reads x = 1; b reads x = 2", {CONVERGENT, MEMORY}),
    "d": (
        (
            "a writes x = 1; a reads y = nothing; a writes y = 1; a reads x = 1; b writes x = 2; b reads y = nothing; b writes y = 2; "
            "b reads x = 2"
        ),
        set(),
    ),
    "e": (
        "a writes x = 1; a writes y = 1; b reads y = 1; b writes x = 2; c reads x = 2; c reads x = 1",
        {MR, WFR, CAUSAL, CONVERGENT, MEMORY} - {WFR},
    ),
}


@pytest.mark.spec("S-26", "S-27", "S-28")
@pytest.mark.parametrize("figure", FIGURE_2)
def test_the_examples_of_the_paper_that_the_definitions_are_from(figure: str) -> None:
    text, wrong = FIGURE_2[figure]
    report = judged(text, "black")
    assert violated(report) & {CAUSAL, CONVERGENT, MEMORY} == wrong & {CAUSAL, CONVERGENT, MEMORY}
    if figure != "e":
        assert violated(report) == wrong


@pytest.mark.spec("S-28")
def test_seven_operations_that_are_causal_and_convergent_but_no_causal_memory() -> None:
    text = (
        "one writes k1 = A @ 1; one writes k0 = B @ 2; two writes k0 = C @ 3; two reads k1 = nothing; one writes j0 = D @ 4; "
        "two reads j0 = D @ 4; two reads k0 = C @ 3"
    )
    for mode in ("white", "black"):
        report = judged(text, mode)
        assert violated(report) == {MEMORY}
        ops, sentence = shown(report, MEMORY)
        assert len(ops) == 7
        assert sentence.startswith("one wrote k1 = 'A'")
        assert "so that came first; but knowing k0 = 'C'" in sentence


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("awdit-long-fork", set()),
        ("awdit-fully-serializable", set()),
        ("awdit-generated-200", set()),
        ("awdit-cycle", {CAUSAL, CONVERGENT, MEMORY}),
    ],
)
def test_histories_by_others(name: str, wrong: set[str]) -> None:
    report = check(read_history(DATA / f"{name}.jsonl"))
    assert report.mode == "black"
    assert violated(report) == wrong


def test_a_chain_through_seven_sessions() -> None:
    """After a test of dbcop (Biswas and Enea, OOPSLA 2019), its transactions taken apart."""
    text = (
        "s1 writes x = 1; s1 writes a = 1; s2 reads x = 1; s2 writes y = 1; s3 reads y = 1; s3 writes z = 1; s4 reads z = 1; "
        "s4 reads a = 1; s4 writes a = 2; s5 reads a = 2; s5 writes p = 1; s6 reads p = 1; s6 writes q = 1; s7 reads q = 1; s7 reads a = 1"
    )
    report = judged(text)
    assert violated(report) == {CAUSAL, CONVERGENT, MEMORY}
    assert len(shown(report, CAUSAL)[0]) == 9


def of_origins(*rows: tuple[str, int, str, str | None, tuple[int, int] | None, int | None]) -> History:
    """A history of one key: session, seq, op, value, version, stamp."""
    made = History()
    for session, seq, op, value, version, stamp in rows:
        made.add(session, seq, op, "k", value=value, version=version, stamp=stamp)
    return made


@pytest.mark.spec("S-15")
def test_stamps_order_the_versions_of_several_origins() -> None:
    rows = [("a", 1, "write", "x", (1, 10), 7), ("a", 2, "read", "y", (2, 1), 5), ("b", 1, "write", "y", (2, 1), 5)]
    assert violated(check(of_origins(*rows))) == {RYW, CONVERGENT}
    rows = [(*row[:5], 12 - (row[5] or 0)) for row in rows]
    assert violated(check(of_origins(*rows))) == set()


@pytest.mark.spec("S-16")
def test_an_origin_that_ended_is_older() -> None:
    made = of_origins(
        ("a", 1, "write", "x", (2, 1), None),
        ("a", 2, "read", "y", (1, 10), None),
        ("b", 1, "write", "y", (1, 10), None),
    )
    report = check(made)
    assert violated(report) == set()
    assert report.notes == ("1 keys are numbered by several origins without stamps: across them order is unknown.",)
    made.end(0, 1, 10)
    report = check(made)
    assert violated(report) == {RYW, CONVERGENT}
    assert not report.notes


@pytest.mark.spec("S-17")
def test_where_the_order_of_versions_is_unknown_one_that_fits_is_enough() -> None:
    """As in a black box: some order, but one for everybody."""
    rows = [
        ("a", 1, "write", "x", (1, 1), None),
        ("a", 2, "read", "y", (2, 1), None),
        ("b", 1, "write", "y", (2, 1), None),
    ]
    assert violated(check(of_origins(*rows))) == set()
    assert violated(check(of_origins(*rows, ("b", 2, "read", "x", (1, 1), None)))) == {CONVERGENT}


@pytest.mark.spec("S-12")
def test_a_version_whose_write_is_not_in_the_history() -> None:
    report = judged("bob reads photo = new @ 2; bob reads photo = old @ 1")
    assert violated(report) == {MR, CONVERGENT}
    assert shown(report, MR)[1] == (
        "bob read photo = 'new' (1@2); so bob had to see photo = 'new' (1@2) or something newer, but read photo = 'old' (1@1)."
    )
    text = "bob reads photo = new @ 2; bob writes reply = nice @ 3; carol reads reply = nice @ 3; carol reads photo = nothing"
    assert violated(judged(text)) == {WFR, CAUSAL, CONVERGENT, MEMORY}
    assert (
        violated(judged("bob reads photo = old @ 1; carol reads photo = new @ 2; bob reads photo = new @ 2")) == set()
    )


@pytest.mark.spec("S-13")
def test_a_black_box_judges_nothing_that_a_sample_lacks() -> None:
    rows = told("bob reads photo = new; bob reads photo = old")
    assert violated(check(history(rows))) == {CAUSAL, CONVERGENT, MEMORY}
    for meta in ({"sample": 0.5}, {"dropped": 3}):
        report = check(history(rows, meta))
        assert violated(report) == set()
        assert report.notes == ("The history is a sample: what it does not show is not judged.",)


@pytest.mark.spec("S-11")
def test_what_nobody_wrote() -> None:
    report = judged("alice writes photo = new; bob reads photo = other")
    assert violated(report) == {CAUSAL, CONVERGENT, MEMORY}
    assert shown(report, CAUSAL) == (["bob read photo other"], "bob read photo = 'other', which nobody wrote.")
    report = judged("alice writes photo = new @ 1; bob reads photo = other @ 1")
    assert violated(report) == {CAUSAL, CONVERGENT, MEMORY}


def refused(ok: bool | None, *rest: str) -> History:
    made = History()
    made.add("a", 1, "write", "k", value="x", version=(1, 1), ok=ok)
    for n, line in enumerate(rest, start=2):
        session, value = line.split()
        made.add(
            session,
            n,
            "read",
            "k",
            value=None if value == "nothing" else value,
            version=None if value == "nothing" else (1, 1),
        )
    return made


@pytest.mark.spec("S-7", "S-11")
def test_a_refused_write_had_no_effect() -> None:
    assert violated(check(refused(False, "a nothing"), mode="white")) == set()
    assert violated(check(refused(False, "b x"), mode="white")) == {CAUSAL, CONVERGENT, MEMORY}
    assert violated(check(refused(False, "b x"), mode="black")) == {CAUSAL, CONVERGENT, MEMORY}


@pytest.mark.spec("S-8")
def test_a_write_in_doubt_obliges_only_those_who_read_it() -> None:
    assert violated(check(refused(None, "a nothing"), mode="white")) == set()
    assert violated(check(refused(None, "a nothing", "b x"), mode="white")) == set()
    assert violated(check(refused(None, "b x", "b nothing"), mode="white")) == {MR, CAUSAL, CONVERGENT, MEMORY}
    assert violated(check(refused(None, "b x", "b nothing"), mode="black")) == {MR, CAUSAL, CONVERGENT, MEMORY}
    assert violated(check(refused(True, "a nothing"), mode="white")) == {RYW, CAUSAL, CONVERGENT, MEMORY}
    made = history(told("a writes x = 1 @ 2"))
    made.add("a", 2, "write", "x", value="2", version=(1, 1), ok=None)
    assert violated(check(made)) == set()  # nobody read it: it need not fit the order of versions


@pytest.mark.spec("S-5")
def test_requests_under_way_at_once_owe_each_other_nothing() -> None:
    made = History()
    made.add("a", 1, "write", "k", value="x", version=(1, 1), after=0)
    made.add("a", 2, "read", "k", after=0)
    assert violated(check(made)) == set()
    made.add("a", 3, "read", "k")
    assert violated(check(made)) == {RYW, CAUSAL, CONVERGENT, MEMORY}
    assert [row["seq"] for row in check(made)[RYW].witness.operations] == [1, 3]  # type: ignore[union-attr]


@pytest.mark.spec("S-5")
def test_what_was_answered_earlier_than_the_one_it_started_after_counts_too() -> None:
    made = History()
    made.add("a", 1, "write", "k", value="x", version=(1, 1), after=0)
    made.add("a", 2, "write", "j", value="y", version=(1, 2), after=0)
    made.add("a", 3, "read", "k", after=2)
    assert violated(check(made)) == {RYW, CAUSAL, CONVERGENT, MEMORY}
    made = History()
    made.add("a", 2, "write", "j", value="y", version=(1, 2), after=0)
    made.add("a", 3, "read", "k", after=2)
    made.add("a", 1, "write", "k", value="x", version=(1, 1), after=0)  # still under way when 3 started
    assert violated(check(made)) == set()


@pytest.mark.spec("S-30")
def test_reads_that_were_promised_less_are_judged_only_if_asked_for() -> None:
    made = History()
    made.add("a", 1, "write", "k", value="x", version=(1, 1))
    made.add("a", 2, "read", "k", held=False)
    assert violated(check(made)) == {RYW, CAUSAL, CONVERGENT, MEMORY}
    for mode in ("white", "black"):
        assert violated(check(made, held_only=True, mode=mode)) == set()  # type: ignore[arg-type]
    made.add("a", 3, "read", "k", held=True)
    assert check(made, held_only=True)[RYW].count == 1
    assert check(made)[RYW].count == 2


def lossy(
    *rest: tuple[int, str, str | None, tuple[int, int] | None], told_at: int | None = None, op: str = "lost"
) -> History:
    """Session a writes k as 1@10, which is past the end of origin 1; then these: seq, op, value, version."""
    made = History()
    made.add("b", 1, "write", "k", value="old", version=(1, 8))
    made.add("a", 1, "write", "k", value="new", version=(1, 10))
    for seq, what, value, version in rest:
        made.add("a", seq, what, "k", value=value, version=version)
    made.end(0, 1, 8)
    if told_at is not None:
        made.tell(op, "a", told_at, 0, (1, 10))
    return made


@pytest.mark.spec("S-29")
@pytest.mark.parametrize(
    ("made", "state", "reason"),
    [
        (lossy(), "ok", "1 lost, 0 told in time"),
        (lossy((2, "read", "new", (1, 10))), "ok", "1 lost, 0 told in time"),  # it had not happened yet
        (lossy((2, "read", "old", (1, 8))), "violated", "1 lost, 0 told in time"),
        (lossy((2, "read", None, None)), "violated", "1 lost, 0 told in time"),
        (
            lossy((2, "write", "more", (2, 9))),
            "ok",
            "1 lost, 0 told in time",
        ),  # another origin may have been there before
        (lossy((3, "read", "old", (1, 8)), told_at=2), "ok", "1 lost, 1 told in time"),
        (lossy((3, "read", "old", (1, 8)), told_at=3), "ok", "1 lost, 1 told in time"),
        (lossy((3, "read", "old", (1, 8)), told_at=2, op="forget"), "ok", "1 lost, 1 told in time"),
        (lossy((3, "read", "old", (1, 8)), told_at=4), "violated", "1 lost, 0 told in time"),
    ],
)
def test_a_session_is_told_of_a_lost_write_before_it_goes_on(made: History, state: str, reason: str) -> None:
    report = check(made)
    assert (report[LOST].state, report[LOST].reason) == (state, reason)
    assert violated(report) <= {LOST}  # a lost write obliges nobody


def test_a_loss_is_told_as_a_story() -> None:
    assert shown(check(lossy((2, "read", "old", (1, 8)))), LOST) == (
        ["a write k new", "a read k old"],
        "a wrote k = 'new' (1@10), which was lost: origin 1 ends at 8. a was not told, and read k = 'old' (1@8).",
    )


def test_nothing_is_lost() -> None:
    report = judged("alice writes photo = new @ 2")
    assert (report[LOST].state, report[LOST].reason) == ("ok", "none lost")


@pytest.mark.spec("S-19")
def test_readers_of_a_lost_version_owe_it_nothing_but_its_past() -> None:
    made = History()
    made.add("a", 1, "write", "j", value="base", version=(1, 5))
    made.add("a", 2, "write", "k", value="new", version=(1, 10))
    made.add("b", 1, "read", "k", value="new", version=(1, 10))
    made.add("b", 2, "read", "k")
    made.end(0, 1, 8)
    assert violated(check(made)) == set()
    made.add("b", 3, "read", "j")
    assert violated(check(made)) == {MW, CAUSAL, CONVERGENT, MEMORY}


@pytest.mark.spec("S-10")
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a writes k = x; b writes k = x", "value 'x' is written more than once to key 'k'"),
        ("a writes k = x; b writes k = nothing", "key 'k' is deleted, which reads like a key that was never written"),
    ],
)
def test_a_black_box_needs_values_that_are_written_once(text: str, why: str) -> None:
    report = judged(text)
    assert {verdict.state for verdict in report.verdicts} == {"not judged"}
    assert report[CAUSAL].reason.startswith(why)
    assert not report.violated


@pytest.mark.spec("S-10")
def test_values_of_different_kinds_are_different() -> None:
    made = History()
    for n, value in enumerate([1, True, 1.5, "1", False, 0]):
        made.add("a", n + 1, "write", "k", value=value)
    made.add("b", 1, "read", "k", value=True)
    made.add("b", 2, "read", "k", value=1)
    assert violated(check(made)) == {MR, CAUSAL, CONVERGENT, MEMORY}


@pytest.mark.spec("S-21")
def test_a_tombstone_is_a_version() -> None:
    made = History()
    made.add("a", 1, "write", "k", value="x", version=(1, 1))
    made.add("a", 2, "write", "k", version=(1, 2), delete=True)
    made.add("a", 3, "read", "k", version=(1, 2))
    assert violated(check(made)) == set()
    made.add("a", 4, "read", "k", value="x", version=(1, 1))
    assert violated(check(made)) == {RYW, MR, CAUSAL, CONVERGENT, MEMORY}


@pytest.mark.spec("S-9")
def test_one_transaction_may_write_a_key_twice_and_the_later_counts() -> None:
    wrote = "a writes k = x @ 1; a writes k = y @ 1; "
    assert violated(judged(wrote + "b reads k = y @ 1")) == set()
    assert violated(judged(wrote + "b reads k = x @ 1")) == {CAUSAL, CONVERGENT, MEMORY}


@pytest.mark.spec("S-20")
def test_two_keys_of_one_name_on_two_shards_are_two() -> None:
    made = History()
    made.add("a", 1, "write", "k", shard=1, value="x", version=(1, 1))
    made.add("a", 2, "read", "k", shard=2)
    assert violated(check(made)) == set()
    made.add("a", 3, "read", "k", shard=1)
    witness = check(made)[RYW].witness
    assert witness is not None
    assert [row["shard"] for row in witness.operations] == [1, 1]


@pytest.mark.spec("S-14")
def test_offsets_of_64_bits() -> None:
    top = (1 << 64) - 1
    made = History()
    made.add("a", 1, "write", "k", value="x", version=(1, top))
    made.add("a", 2, "read", "k", value="w", version=(1, top - 1))
    assert violated(check(made)) == {RYW, CONVERGENT}


def test_a_mode_that_is_none() -> None:
    with pytest.raises(ConfigError):
        check(history(told("a writes k = x")), mode="grey")  # type: ignore[arg-type]


def test_counts_without_witnesses() -> None:
    report = check(history(told("a writes k = x @ 1; a reads k = nothing; a reads k = nothing")), witnesses=False)
    assert (report[RYW].count, report[RYW].witness) == (2, None)


def test_progress_is_told_of_every_operation_at_most_twice() -> None:
    heard: list[int] = []
    check(history(told("; ".join(f"a writes k = {n} @ {n}" for n in range(1, 9001)))), tell=heard.append)
    assert sum(heard) == 9000
    assert len(heard) == 3
