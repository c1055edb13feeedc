"""Fuzz one target in this process, which ends with it: `python -m tests.fuzz.one TARGET [libFuzzer's arguments]`.

Only modules of the package are instrumented: what is instrumented takes long to import, and the twin's paths are not what is looked for.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["causal"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    target = TARGETS[sys.argv[1]]

    def run(data: bytes) -> None:
        """Let atheris see what the target raises, and nothing of what it returns."""
        target.run(data)

    atheris.Setup([sys.argv[0], *sys.argv[2:]], run)
    atheris.Fuzz()
