"""Claims that are not in normal form, claims out of range, tokens that are presented together, and keys to take fingerprints of."""

from typing import Any

from tests.spec.tokens.claims import EXPIRES_AT

Claims = dict[str, Any]
DAY = 86_400
NOW = EXPIRES_AT - DAY


def said(**parts: Any) -> Claims:
    return {"expires_at": EXPIRES_AT, **parts}


def mark(store: int, until: int | str, exact: list[int], origins: list[int] | str) -> Claims:
    return {"store": store, "until": until if until == "forever" else str(until), "exact": exact, "origins": origins}


# --- normal form: name, claims, the same in normal form ----------------------------------------------------------------------

NORMAL: tuple[tuple[str, Claims, Claims], ...] = (
    ("seen behind own is left out", said(own=[[0, 1, "5"]], seen=[[0, 1, "4"]]), said(own=[[0, 1, "5"]])),
    ("seen where own is already is left out", said(own=[[0, 1, "5"]], seen=[[0, 1, "5"]]), said(own=[[0, 1, "5"]])),
    (
        "seen behind own under another origin stays",
        said(own=[[0, 1, "5"]], seen=[[0, 2, "4"], [0, 1, "4"]]),
        said(own=[[0, 1, "5"]], seen=[[0, 2, "4"]]),
    ),
    ("an age of 0 is none", said(own=[[0, 1, "5"]], ages=[[0, 1, 0]]), said(own=[[0, 1, "5"]])),
    (
        "an age without a position is left out",
        said(own=[[0, 1, "5"]], ages=[[0, 1, 3], [0, 2, 4]]),
        said(own=[[0, 1, "5"]], ages=[[0, 1, 3]]),
    ),
    ("an age without a position alone is left out", said(own=[[0, 1, "5"]], ages=[[0, 2, 4]]), said(own=[[0, 1, "5"]])),
    (
        "the age of a position that is left out of seen is that of own",
        said(own=[[0, 1, "5"]], seen=[[0, 1, "4"]], ages=[[0, 1, 7]]),
        said(own=[[0, 1, "5"]], ages=[[0, 1, 7]]),
    ),
    (
        "an age of more than 32,767 hours is 32,767",
        said(own=[[0, 1, "5"]], ages=[[0, 1, 40_000]]),
        said(own=[[0, 1, "5"]], ages=[[0, 1, 32_767]]),
    ),
    (
        "a filter of a store of which is only seen is left out",
        said(own=[[0, 1, "5"]], seen=[[65_536, 1, "5"]], touched=[[0, [3]], [1, [4]]]),
        said(own=[[0, 1, "5"]], seen=[[65_536, 1, "5"]], touched=[[0, [3]]]),
    ),
    (
        "a filter of thirteen keys is left out",
        said(own=[[0, 1, "5"]], touched=[[0, [*range(13)]]]),
        said(own=[[0, 1, "5"]]),
    ),
    (
        "what was learned last is named first",
        said(
            own=[[7, 2, "9"], [0, 1, "5"]],
            seen=[[9, 1, "3"], [7, 2, "12"]],
            ages=[[9, 1, 2], [0, 1, 3]],
            floors=[[3, "8"], [1, "9"]],
            marks=[mark(2, EXPIRES_AT - 5, [131_073, 131_072], [4, 3]), mark(1, EXPIRES_AT - 9, [], [])],
            touched=[[0, [700, 12]]],
        ),
        said(
            own=[[0, 1, "5"], [7, 2, "9"]],
            seen=[[7, 2, "12"], [9, 1, "3"]],
            ages=[[0, 1, 3], [9, 1, 2]],
            floors=[[1, "9"], [3, "8"]],
            marks=[mark(1, EXPIRES_AT - 9, [], []), mark(2, EXPIRES_AT - 5, [131_072, 131_073], [3, 4])],
            touched=[[0, [12, 700]]],
        ),
    ),
)

# --- out of range: name, claims, reason ----------------------------------------------------------------------------------------

OWN = [[0, 1, "5"]]
OUT_OF_RANGE: tuple[tuple[str, Claims, str], ...] = (
    ("a shard of 2^32", said(own=[[2**32, 1, "5"]]), "shards end at 2^32 - 1"),
    ("an origin of 2^32", said(seen=[[0, 2**32, "5"]]), "origins end at 2^32 - 1"),
    ("an offset of 2^64", said(own=[[0, 1, str(2**64)]]), "offsets end at 2^64 - 1"),
    ("an offset below 0", said(own=[[0, 1, "-1"]]), "offsets begin at 0"),
    ("an expiry of 2^35", {"expires_at": 2**35, "own": OWN}, "tokens expire at 2^35 - 1 at the latest"),
    ("an expiry before 1970", {"expires_at": -1, "own": OWN}, "tokens expire in 1970 at the earliest"),
    ("a timestamp below 0", said(own=OWN, timestamp="-1"), "timestamps begin at 0"),
    ("a timestamp of 2^64", said(own=OWN, timestamp=str(2**64)), "timestamps end at 2^64 - 1"),
    ("a floor below 0", said(floors=[[0, "-1"]]), "floors begin at 0"),
    ("a floor of 2^64", said(own=OWN, floors=[[1, str(2**64)]]), "floors end at 2^64 - 1"),
    ("a floor of store 65,535", said(floors=[[65_535, "5"]]), "65,535 is no store, but all of them"),
    ("a floor of store 70,000", said(floors=[[70_000, "5"]]), "stores end at 65,534"),
    ("a floor of a store below 0", said(floors=[[-1, "5"]]), "stores begin at 0"),
    ("an age below 0", said(own=OWN, ages=[[0, 1, -1]]), "nothing was learned in the future"),
    ("a fingerprint of 65,536", said(own=OWN, touched=[[0, [65_536]]]), "fingerprints have 16 bits"),
    ("a filter of store 65,535", said(own=OWN, touched=[[65_535, [1]]]), "65,535 is no store, but all of them"),
    ("a mark on store 65,536", said(own=OWN, marks=[mark(65_536, EXPIRES_AT, [], [])]), "stores end at 65,534"),
    ("a mark's exception of 2^32", said(own=OWN, marks=[mark(0, EXPIRES_AT, [2**32], [])]), "shards end at 2^32 - 1"),
    ("a mark's origin of 2^32", said(own=OWN, marks=[mark(0, EXPIRES_AT, [], [2**32])]), "origins end at 2^32 - 1"),
    ("a mark's time of 2^63 - 1", said(own=OWN, marks=[mark(0, 2**63 - 1, [], [])]), "times end at 2^63 - 2, or never"),
    ("a mark's time of 2^63", said(own=OWN, marks=[mark(0, 2**63, [], [])]), "times end at 2^63 - 2, or never"),
)

# --- presented together: name, tokens, now, how long a token lives ---------------------------------------------------------------

A = said(own=[[0, 1, "5"], [1, 1, "7"]], seen=[[2, 1, "9"]])
B = said(own=[[0, 1, "8"], [0, 2, "3"]], seen=[[1, 1, "6"], [2, 1, "4"]])
M = said(own=[[0, 1, "5"]], marks=[mark(0, NOW + 100, [0, 1], [1])])
JOINED: tuple[tuple[str, list[Claims], int, int], ...] = (
    ("no token", [], NOW, DAY),
    ("a token without claims", [said()], NOW, DAY),
    ("one token", [A], NOW, DAY),
    ("a token twice", [A, A], NOW, DAY),
    ("the greatest offset of each shard and origin", [A, B], NOW, DAY),
    ("the same in another order", [B, A], NOW, DAY),
    ("own stays own, where another saw more", [said(own=[[0, 1, "5"]]), said(seen=[[0, 1, "9"]])], NOW, DAY),
    ("seen that another's own subsumes is left out", [said(seen=[[0, 1, "5"]]), said(own=[[0, 1, "9"]])], NOW, DAY),
    (
        "a greater offset of another origin replaces nothing",
        [said(own=[[0, 1, "5"]]), said(own=[[0, 2, "9"]])],
        NOW,
        DAY,
    ),
    (
        "positions of three stores",
        [said(own=[[0, 1, "5"], [65_536, 1, "6"]]), said(seen=[[131_072, 3, "7"]])],
        NOW,
        DAY,
    ),
    (
        "a position lives as long as the token that says it last",
        [
            {"expires_at": NOW + 10 * 3600, "own": [[0, 1, "5"]]},
            {"expires_at": NOW + 20 * 3600, "own": [[0, 1, "4"], [3, 1, "4"]]},
        ],
        NOW,
        DAY,
    ),
    (
        "a position lives as long as the token that says it last, in another order",
        [
            {"expires_at": NOW + 20 * 3600, "own": [[0, 1, "4"], [3, 1, "4"]]},
            {"expires_at": NOW + 10 * 3600, "own": [[0, 1, "5"]], "seen": [[3, 1, "3"]]},
        ],
        NOW,
        DAY,
    ),
    (
        "a position lives as long as own or as seen, whichever is later",
        [
            {"expires_at": NOW + 20 * 3600, "own": [[0, 1, "5"]], "ages": [[0, 1, 9]]},
            {"expires_at": NOW + 18 * 3600, "seen": [[0, 1, "4"]]},
        ],
        NOW,
        DAY,
    ),
    ("an age grows by whole hours, rounded down", [{"expires_at": NOW + DAY - 7199, "own": [[0, 1, "5"]]}], NOW, DAY),
    ("an age of an hour to the second", [{"expires_at": NOW + DAY - 3600, "own": [[0, 1, "5"]]}], NOW, DAY),
    ("a second less than an hour is no age", [{"expires_at": NOW + DAY - 3599, "own": [[0, 1, "5"]]}], NOW, DAY),
    (
        "an age that was said before grows",
        [{"expires_at": NOW + 20 * 3600, "own": [[0, 1, "5"]], "ages": [[0, 1, 6]]}],
        NOW,
        DAY,
    ),
    ("a token that has expired still demands", [A, {"expires_at": NOW, "own": [[5, 1, "5"]]}], NOW, DAY),
    ("a token that expired long ago, alone", [{"expires_at": NOW - 9 * DAY, "own": [[5, 1, "5"]]}], NOW, DAY),
    (
        "the greatest floor of each store",
        [said(floors=[[0, "7"], [1, "3"]]), said(floors=[[0, "9"], [2, "4"]])],
        NOW,
        DAY,
    ),
    ("a floor of the last offset there is", [said(floors=[[0, str(2**64 - 1)]]), said(floors=[[0, "9"]])], NOW, DAY),
    ("marks of two stores", [M, said(marks=[mark(1, NOW + 50, [], [])])], NOW, DAY),
    (
        "the latest time, the fewest exceptions and all origins of a mark",
        [M, said(own=[[0, 1, "9"]], marks=[mark(0, NOW + 50, [1, 2], [2, 3])])],
        NOW,
        DAY,
    ),
    ("a mark for ever outlasts one with a time", [M, said(marks=[mark(0, "forever", [0], [])])], NOW, DAY),
    ("a mark of any origin is of any", [M, said(marks=[mark(0, NOW + 7, [0, 1], "any")])], NOW, DAY),
    ("a mark on every store is not one on a store", [M, said(marks=[mark(65_535, NOW + 7, [], [])])], NOW, DAY),
    ("a mark until now demands nothing", [said(own=[[0, 1, "5"]], marks=[mark(0, NOW, [], [1])])], NOW, DAY),
    ("a mark until a second later still does", [said(own=[[0, 1, "5"]], marks=[mark(0, NOW + 1, [], [1])])], NOW, DAY),
    (
        "a mark whose time is over adds no origins to one that holds",
        [M, said(marks=[mark(0, NOW - 1, [1], [9])])],
        NOW,
        DAY,
    ),
    (
        "a mark of an expired token that still holds",
        [{"expires_at": NOW - 1, "marks": [mark(0, NOW + 9, [], [])]}],
        NOW,
        DAY,
    ),
    ("a mark is sealed again as it was, however late", [said(marks=[mark(0, NOW + 5000, [3], [1])])], NOW + 4999, DAY),
    (
        "filters join to their union",
        [said(own=[[0, 1, "5"]], touched=[[0, [3, 9]]]), said(own=[[0, 1, "8"]], touched=[[0, [9, 700]]])],
        NOW,
        DAY,
    ),
    (
        "own writes without a filter may have touched anything",
        [said(own=[[0, 1, "5"]], touched=[[0, [3]]]), B],
        NOW,
        DAY,
    ),
    (
        "own writes on another store alone leave a filter",
        [said(own=[[0, 1, "5"]], touched=[[0, [3]]]), said(own=[[65_536, 1, "5"]])],
        NOW,
        DAY,
    ),
    (
        "what was only seen leaves a filter",
        [said(own=[[0, 1, "5"]], touched=[[0, [3]]]), said(seen=[[0, 1, "5000"]])],
        NOW,
        DAY,
    ),
    (
        "twelve fingerprints of two filters",
        [said(own=OWN, touched=[[0, [*range(8)]]]), said(own=OWN, touched=[[0, [*range(4, 12)]]])],
        NOW,
        DAY,
    ),
    (
        "thirteen fingerprints of two filters are none",
        [said(own=OWN, touched=[[0, [*range(8)]]]), said(own=OWN, touched=[[0, [*range(5, 13)]]])],
        NOW,
        DAY,
    ),
    (
        "a filter of no keys joined with one of some",
        [said(own=OWN, touched=[[0, []]]), said(own=OWN, touched=[[0, [4]]])],
        NOW,
        DAY,
    ),
)

KEYS = ("", "page:alice", "123456789", "Zoë", "Zoe\u0308", "🦊")
