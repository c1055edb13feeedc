"""Packed claims that are none: strings of bits, each with its name."""

from collections.abc import Iterator

from tests.spec.tokens.claims import EXPIRES_AT, clock
from tests.spec.twins.token import alone, bits_of_column, count, number, numbers
from tests.spec.twins.token import rising as bits_rising
from tests.spec.twins.values import FOREVER


def row(n: int, flags: str = "100") -> str:
    """Shards 0, 1, ... under origin 1, as far as their offsets."""
    return count(n) + flags + alone(0, 6) + alone(1, 6)


def column(base: int, width: int, xs: list[int], field: int) -> str:
    """A column, spelled as one likes."""
    return alone(base, field) + number(width, field) + "".join(number(x - base, width) for x in xs)


def bad_spellings() -> Iterator[tuple[str, str]]:
    """Bits that say what a token could say, in another way than the one."""
    one = row(1) + alone(5, 7)
    hybrid = [clock(0, 1), clock(900, 2)]
    highs, lows = [x >> 16 for x in hybrid], [x & 0xFFFF for x in hybrid]
    yield "a count below 31 with the escape", number(31, 5) + number(1, 16) + one[5:]
    thirty = row(30) + bits_of_column([5] * 30, 7)
    yield "a count below 31 with the escape: 30", number(31, 5) + number(30, 16) + thirty[5:]
    yield "a byte of zeros at the end", whole_bytes(one) + "0" * 8
    yield "a shard with a leading zero", count(1) + "100" + number(2, 6) + "01" + alone(1, 6) + alone(5, 7)
    yield "a shard of zero in one bit", count(1) + "100" + number(1, 6) + "0" + alone(1, 6) + alone(5, 7)
    yield "an origin with a leading zero", count(1) + "100" + alone(0, 6) + number(2, 6) + "01" + alone(5, 7)
    yield "an offset with a leading zero", row(1) + number(4, 7) + "0101"
    yield "one position, not in a row", count(1) + "000" + alone(3, 6) + alone(1, 6) + alone(5, 7)
    yield (
        "a row, shard by shard",
        count(2) + "000" + alone(0, 6) + alone(1, 6) + bits_of_column([1, 1], 6) + bits_of_column([5, 6], 7),
    )
    yield "nothing subtracted, though that is shorter", row(3) + column(0, 4, [12, 13, 15], 7)
    yield "something subtracted, though that is as long", row(2) + column(12, 2, [12, 15], 7)
    yield "something subtracted, though that is longer", row(2) + column(1, 40, [1, 2**40 - 1], 7)
    yield "less than the least subtracted", row(3) + column(11, 3, [12, 13, 15], 7)
    yield "a column wider than its greatest", row(2) + column(0, 3, [1, 2], 7)
    yield "a column of zeros with a width", row(2) + column(0, 1, [0, 0], 7)
    yield "a base with a leading zero", row(3) + number(5, 7) + "01100" + number(2, 7) + "000111"
    yield "equal offsets, not subtracted", row(3) + column(0, 4, [9, 9, 9], 7)
    yield (
        "split, though in one millisecond",
        row(2, "110") + bits_of_column([9, 9], 6) + bits_of_column([1, 2], 5),
    )
    yield (
        "split, though a counter is too great",
        row(2, "110") + bits_of_column([9, 8], 6) + bits_of_column([4096, 2], 5),
    )
    yield (
        "split, though a counter between the others is too great",
        row(3, "110") + bits_of_column([7, 8, 9], 6) + bits_of_column([0, 4096, 0], 5),
    )
    yield "split, though there is one offset", row(1, "110") + alone(9, 6) + alone(1, 5)
    yield "not split, though it should be", row(2) + bits_of_column(hybrid, 7)
    yield (
        "split, high bits wider than they are",
        row(2, "110") + column(0, 48, highs, 6) + bits_of_column(lows, 5),
    )
    yield (
        "split, counters wider than they are",
        row(2, "110") + bits_of_column(highs, 6) + column(0, 12, lows, 5),
    )
    kinds = row(2, "101") + bits_of_column([5, 6], 7)
    single = row(1, "101") + alone(5, 7)
    yield "mixed, though all is own and nothing has an age", kinds + bits_of_column([0, 0], 2) + "0"
    yield "kinds wider than they are", kinds + column(0, 2, [0, 1], 2) + "0"
    yield "seen where own is already", single + alone(2, 2) + alone(0, 7) + "0"
    yield "ages, though all are zero", kinds + bits_of_column([0, 1], 2) + "1" + column(0, 0, [0, 0], 4)
    yield "ages of zero alone", kinds + bits_of_column([0, 0], 2) + "1" + column(0, 0, [0, 0], 4)
    yield "extras, though there are none", one + "10" + count(0) + count(0)
    yield (
        "a set's count with the escape",
        one + "10" + number(31, 5) + number(1, 16) + alone(3, 6) + alone(5, 7) + count(0),
    )
    yield (
        "what is excepted spelled out, though it is what is listed",
        one + "10" + count(0) + numbers([0]) + alone(4, 7) + "0" + numbers([0]) + numbers([]),
    )
    yield (
        "nothing excepted spelled out, though nothing is listed",
        "0000000010" + count(0) + numbers([0]) + alone(4, 7) + "0" + numbers([]) + numbers([]),
    )
    yield "any origin, and one more", one + "10" + count(0) + numbers([0]) + alone(4, 7) + "1" + numbers([0, 4])
    yield "a store twice", one + "10" + count(2) + alone(3, 6) + alone(0, 6) + bits_of_column([5, 5], 7) + count(0)
    yield (
        "an exception twice",
        "0000000010" + count(0) + numbers([0]) + alone(4, 7) + "0" + count(2) + alone(3, 6) + alone(0, 6) + numbers([]),
    )
    yield "filters, though there are none", one + "01" + count(0)
    yield "a filter of a store without own positions", one + "01" + numbers([0, 3]) + numbers([9]) + numbers([7])
    yield (
        "a filter of a store of which is only seen",
        single + alone(1, 2) + "0" + "01" + numbers([0]) + numbers([9]),
    )
    yield "a filter of thirteen keys", one + "01" + numbers([0]) + numbers([*range(13)])
    yield "a fingerprint twice", one + "01" + numbers([0]) + count(2) + alone(3, 6) + alone(0, 6)
    yield "a filter's store twice", one + "01" + count(2) + alone(0, 6) + alone(0, 6) + numbers([7]) + numbers([7])
    yield "a filter's count with the escape", one + "01" + numbers([0]) + number(31, 5) + number(1, 16) + alone(3, 6)
    yield "a fingerprint with a leading zero", one + "01" + numbers([0]) + count(1) + number(3, 6) + "011"
    yield (
        "extras, though there are none before the filters",
        one + "10" + count(0) + count(0) + "01" + numbers([0]) + numbers([9]),
    )
    yield from not_the_first()


def not_the_first() -> Iterator[tuple[str, str]]:
    """What is wrong further on, where a reader that looks at the first of several, or at the last, sees nothing."""
    one, two = row(1) + alone(5, 7), row(2, "101") + bits_of_column([5, 6], 7)
    stores = count(2) + "000" + bits_rising([0, 65_536]) + bits_of_column([1, 1], 6) + bits_of_column([5, 6], 7)
    marks = "10" + count(0) + numbers([0, 1]) + bits_of_column([4, 4], 7)
    yield (
        "seen where own is already, the second of two",
        two + bits_of_column([2, 2], 2) + bits_of_column([3, 0], 7) + "0",
    )
    yield (
        "seen where own is already, the second of two, split",
        row(2, "111") + bits_of_column([9, 8], 6) + bits_of_column([5, 2], 5) + bits_of_column([2, 2], 2)
        + bits_of_column([1, 0], 6) + bits_of_column([6, 2], 5) + "0",
    )  # fmt: skip
    yield (
        "a row, shard by shard, of three",
        count(3) + "000" + bits_rising([0, 1, 2]) + bits_of_column([1] * 3, 6) + bits_of_column([5, 6, 7], 7),
    )
    yield (
        "a fingerprint twice, the last of three",
        one + "01" + numbers([0]) + count(3) + alone(3, 6) + bits_of_column([4, 0], 6),
    )
    yield (
        "a filter of a store without own positions, before one of another",
        count(1)
        + "100"
        + alone(65_536, 6)
        + alone(1, 6)
        + alone(5, 7)
        + "01"
        + numbers([0, 1])
        + numbers([9])
        + numbers([7]),
    )
    yield (
        "a filter of thirteen keys, the second",
        stores + "01" + numbers([0, 1]) + numbers([9]) + numbers([*range(13)]),
    )
    yield (
        "what is excepted spelled out, though it is what is listed, in the second mark",
        stores + marks + "1" + numbers([]) + "0" + numbers([65_536]) + numbers([]),
    )
    yield (
        "any origin, and another, in the second mark",
        stores + marks + "1" + numbers([]) + "1" + numbers([0, 3]),
    )


def nonsense() -> Iterator[tuple[str, str]]:
    """Bits that say what no token can say."""
    one = row(1) + alone(5, 7)
    kinds = row(2, "101") + bits_of_column([5, 6], 7)
    single = row(1, "101")
    split = row(2, "111") + bits_of_column([9, 8], 6) + bits_of_column([5, 2], 5)
    none = "00000000"
    timed = one + "11" + number(5, 64) + count(0) + count(0)
    mark_at = none + "10" + count(0) + numbers([0])
    for flag in ("100", "010", "001"):
        yield f"flags {flag}, and no positions", count(0) + flag
    yield "bits after the end that are not zero", trailing(one)
    yield "a byte after the end that is not zero", whole_bytes(one) + "01010101"
    yield "bits after the extras that are not zero", trailing(timed)
    yield "a byte of zeros after the extras", whole_bytes(timed) + "0" * 8
    yield "extras that begin with a 0", one + "01" + number(5, 64) + count(0) + count(0)
    yield "ends within a count", number(31, 5) + "000"
    yield "ends before the offset", row(1)
    yield "ends within the offset", row(1) + number(60, 7) + "1"
    yield "ends within a column", row(30) + alone(0, 7) + number(64, 7) + "1"
    yield "65,535 positions that are not there", number(31, 5) + number(65_535, 16) + "000" + "0" * 40
    yield "a shard of 33 bits", count(1) + "100" + alone(2**32, 6) + alone(1, 6) + alone(5, 7)
    yield "a row past the last shard", count(3) + "100" + alone(2**32 - 2, 6) + alone(1, 6) + bits_of_column([5] * 3, 7)
    yield "an origin of 33 bits", count(1) + "100" + alone(0, 6) + alone(2**32, 6) + alone(5, 7)
    yield (
        "a gap past the last shard",
        count(2) + "000" + alone(2**32 - 1, 6) + alone(1, 6) + bits_of_column([1, 1], 6) + bits_of_column([5, 6], 7),
    )
    yield (
        "a gap to one past the last shard, not in a row",
        count(2) + "000" + bits_rising([5, 2**32]) + bits_of_column([1, 1], 6) + bits_of_column([5, 6], 7),
    )
    yield (
        "an origin of 33 bits, not in a row",
        count(2) + "000" + alone(0, 6) + alone(5, 6) + bits_of_column([1, 2**32], 6) + bits_of_column([5, 6], 7),
    )
    yield (
        "a position twice",
        count(2) + "000" + alone(4, 6) + alone(0, 6) + bits_of_column([1, 1], 6) + bits_of_column([5, 6], 7),
    )
    yield (
        "origins of a shard that fall",
        count(2) + "000" + alone(4, 6) + alone(0, 6) + bits_of_column([2, 1], 6) + bits_of_column([5, 6], 7),
    )
    later = count(3) + "000" + bits_rising([1, 4, 4])
    yield "a position twice, the last of three", later + bits_of_column([1] * 3, 6) + bits_of_column([5, 6, 7], 7)
    yield (
        "origins of a shard that fall, the last of three",
        later + bits_of_column([1, 2, 1], 6) + bits_of_column([5, 6, 7], 7),
    )
    yield "extras after extras", timed + "11" + number(5, 64) + count(0) + count(0)
    yield "an offset of 65 bits", row(1) + alone(2**64, 7)
    yield "an offset of 65 bits in a column", row(2) + bits_of_column([2**64, 2**64 - 1], 7)
    yield (
        "high bits of 49 bits",
        row(2, "110") + bits_of_column([2**48, 5], 6) + bits_of_column([1, 2], 5),
    )
    # A reader that lets these pass has two spellings of offsets that a token can say.
    yield (
        "a counter of 17 bits in the column of offsets",
        row(2, "110") + bits_of_column([0, 2], 6) + bits_of_column([0, 2**16], 5),
    )
    yield "counters of 17 bits, all equal", row(2, "110") + bits_of_column([0, 2], 6) + bits_of_column([2**16] * 2, 5)
    yield "a kind of 3", kinds + bits_of_column([0, 3], 2) + "0"
    yield "a kind of 3, then what follows a kind of 2", single + alone(5, 7) + alone(3, 2) + alone(1, 7) + "0"
    yield "seen past the last offset", single + alone(2**64 - 1, 7) + alone(2, 2) + alone(1, 7) + "0"
    yield "seen behind own, split", split + bits_of_column([2, 0], 2) + alone(0, 6) + alone(4, 5) + "0"
    yield "seen where own is already, split", split + bits_of_column([2, 0], 2) + alone(0, 6) + alone(5, 5) + "0"
    yield "a counter of 17 bits, split", split + bits_of_column([2, 0], 2) + alone(1, 6) + alone(2**16, 5) + "0"
    yield (
        "seen past the last offset, split",
        split + bits_of_column([2, 0], 2) + alone(2**48 - 1, 6) + alone(4, 5) + "0",
    )
    yield (
        "an age of more than 32,767 hours",
        kinds + bits_of_column([0, 0], 2) + "1" + number(15, 4) + number(2**15 - 1, 15) + number(1, 4) + "01",
    )
    yield "ends before the ages' bit", padded_to_end(kinds + bits_of_column([1, 1], 2))
    yield "ends within the clock", one + "11" + "1" * 12
    yield "a floor of store 65,535", one + "10" + numbers([65_535]) + alone(5, 7) + count(0)
    yield "a floor of 65 bits", one + "10" + numbers([3]) + alone(2**64, 7) + count(0)
    yield "a mark on store 65,536", none + "10" + count(0) + numbers([65_536]) + alone(4, 7) + "1" + count(0)
    yield "a mark until before 1970", mark_at + alone(2 * (EXPIRES_AT + 1), 7) + "1" + count(0)
    yield (
        "a mark until 2^63 - 1, not spelled as for ever",
        mark_at + alone(2 * (FOREVER - EXPIRES_AT) + 1, 7) + "1" + count(0),
    )
    yield "a mark until later than for ever", mark_at + alone(2**70 + 1, 7) + "1" + count(0)
    yield "an exception of 33 bits", mark_at + alone(4, 7) + "0" + numbers([2**32]) + count(0)
    yield "a mark's origin of 33 bits", mark_at + alone(4, 7) + "1" + numbers([2**32 + 1])
    many = number(31, 5) + number(32_768, 16) + alone(0, 6) + column(1, 0, [1] * 32_767, 6)
    yield (
        "marks that spell more than 65,535 shards and origins, together",
        none + "10" + count(0) + numbers([0, 1]) + bits_of_column([4, 4], 7) + ("0" + many + count(0)) * 2,
    )
    origins = number(31, 5) + number(32_768, 16) + alone(1, 6) + column(1, 0, [1] * 32_767, 6)
    yield (
        "marks that spell more than 65,535 origins, together",
        none + "10" + count(0) + numbers([0, 1]) + bits_of_column([4, 4], 7) + ("1" + origins) * 2,
    )
    yield (
        "marks that spell more than 65,535 shards and origins, one of them",
        none + "10" + count(0) + numbers([0]) + alone(4, 7) + "0" + many + origins,
    )
    touched = one + "01" + numbers([0]) + numbers([9, 700])
    yield "bits after the filters that are not zero", trailing(touched)
    yield "a byte of zeros after the filters", whole_bytes(touched) + "0" * 8
    yield "filters twice", touched + "01" + numbers([0]) + numbers([9])
    yield "extras after the filters", touched + "11" + number(5, 64) + count(0) + count(0)
    yield "filters that begin with three bits", one + "001" + numbers([0]) + numbers([9, 700])
    yield "filters that begin with two zeros", one + "00" + numbers([0]) + numbers([9, 700])
    for lead in ("00", "10", "11"):
        yield f"filters after the extras that begin with {lead}", timed + lead + numbers([0]) + numbers([9, 700])
    yield "ends within a filter", one + "01" + numbers([0]) + count(12) + number(16, 6) + "1"
    yield "filters that are not there", one + "01" + count(30) + "0" * 13
    yield "a fingerprint of 17 bits", one + "01" + numbers([0]) + numbers([2**16])
    yield "a fingerprint of 17 bits, not the first", one + "01" + numbers([0]) + numbers([1, 2**16])
    yield (
        "a filter of store 65,535",
        count(1) + "100" + alone(65_535 << 16, 6) + alone(1, 6) + alone(5, 7) + "01" + numbers([65_535]) + numbers([9]),
    )
    yield "marks that are not there", none + "10" + count(0) + count(30) + "0" * 13


def trailing(bits: str) -> str:
    """The same, up to the end of the byte, with a last bit that is not zero."""
    return bits + "0" * (-len(bits) % 8 - 1) + "1"


def whole_bytes(bits: str) -> str:
    return bits + "0" * (-len(bits) % 8)


def padded_to_end(bits: str) -> str:
    """The same without its last bits, so that it ends at a byte, too early."""
    return bits[: len(bits) // 8 * 8]


def bytes_of(bits: str) -> bytes:
    bits = whole_bytes(bits)
    return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
