"""Fuzz one target in this process, which ends with it: `python -m tests.fuzz.one TARGET [libFuzzer's arguments]`.

Only modules of the package are instrumented: what is instrumented takes long to import, and the twin's paths are not what is looked for.
"""

from __future__ import annotations

import random
import sys

import atheris

from tests.fuzz.mutate import damaged

with atheris.instrument_imports(include=["causal"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    target = TARGETS[sys.argv[1]]

    def run(data: bytes) -> None:
        """Let atheris see what the target raises, and nothing of what it returns."""
        target.run(data)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        """Change bits as fields every other time: libFuzzer itself knows bytes alone. The first byte chooses, in all but one target."""
        if seed % 2:
            return atheris.Mutate(data, most)
        head = 0 if target is TARGETS["frontier"] else 1
        return (data[:head] + damaged(random.Random(seed), data[head:]))[:most]

    bitwise = {"custom_mutator": mutate} if target.bits else {}
    atheris.Setup([sys.argv[0], *sys.argv[2:]], run, **bitwise)
    atheris.Fuzz()
