"""Other bits near right ones: what packed claims become when one field of them is changed as no byte-wise mutation would change it."""

from __future__ import annotations

import random


def damaged(r: random.Random, packed: bytes) -> bytes:
    """Change, cut or grow the bytes; or take them for fields of bits, of which one gets longer or shorter and moves the rest."""
    data = bytearray(packed or b"\0")
    for _ in range(r.choice((1, 1, 1, 2, 5))):
        at = r.randrange(len(data)) if data else 0
        match r.randrange(8):
            case 0 | 1:
                if data:
                    data[at] ^= 1 << r.randrange(8)
            case 2:
                if data:
                    data[at] = r.randrange(256)
            case 3:
                del data[at:]
            case 4:
                data += r.randbytes(r.randint(1, 3)) if r.random() < 0.5 else bytes(r.randint(1, 2))
            case _:
                data = bytearray(_moved(r, bytes(data)))
    return bytes(data)


def _moved(r: random.Random, data: bytes) -> bytes:
    """Take some place for the width of a number, change it by one, and the number with it; or only put bits in or take some out."""
    bits = "".join(f"{byte:08b}" for byte in data)
    place, field = r.randrange(len(bits) or 1), r.choice((2, 4, 5, 6, 6, 6, 7, 7))
    width = int(bits[place : place + field] or "0", 2)
    rest = bits[place + field :]
    match r.randrange(4):
        case 0 if width + 1 < 1 << field:  # a number with a 1 before it: out of range, if it was at its end
            bits = bits[:place] + f"{width + 1:0{field}b}" + r.choice("011") + rest
        case 1 if width:
            bits = bits[:place] + f"{width - 1:0{field}b}" + rest[1:]
        case 2:
            bits = bits[:place] + format(r.getrandbits(field), f"0{field}b") + bits[place:]
        case _:
            bits = bits[:place] + rest
    while len(bits) % 8 and bits.endswith("0"):
        bits = bits[:-1]
    bits += "0" * (-len(bits) % 8)
    return int(bits or "0", 2).to_bytes(len(bits) // 8, "big")
