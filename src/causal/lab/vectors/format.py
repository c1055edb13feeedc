"""The files of vectors: where they are, and what one vector is.

Owns the reading. `docs/spec/vectors/schema.json` describes the files for everybody else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from causal.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SPEC: Final = 1
"""The version of the specification that the files are of."""
AREAS: Final = ("clock", "frontier", "token", "compaction", "gate", "failover", "carriers", "histories")
"""A file each, in the order in which an implementation is best begun."""

_INSTALLED: Final = Path(__file__).parent / "files"
_CHECKOUT: Final = Path(__file__).parents[4] / "docs" / "spec" / "vectors"


@attrs.frozen
class Vector:
    """One case: what is given to an operation, and what must come of it. Thread-safety: immutable by convention."""

    area: str
    name: str
    op: str
    cites: tuple[str, ...]
    given: Mapping[str, Any]
    out: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    reason: str = ""

    def judge(self, answer: Mapping[str, Any]) -> str:
        """Return what is wrong with a program's answer, in words; nothing if it is right."""
        both = answer.get("unsupported") is True  # and more: what is not supported has nothing to say
        if self.error is None:
            if "out" not in answer or "error" in answer or both:
                return f"should give {_shown(self.out)}, and gave {_shown(answer)}"
            return (
                "" if same(self.out, answer["out"]) else f"should give {_shown(self.out)}, not {_shown(answer['out'])}"
            )
        found = answer.get("error")
        if not isinstance(found, dict) or "out" in answer or both:
            return f"should be refused with {_shown(self.error)}, and gave {_shown(answer)}"
        if all(name in found and same(value, found[name]) for name, value in self.error.items()):
            return ""
        return f"should be refused with {_shown(self.error)}, not {_shown(found)}"


def same(a: Any, b: Any) -> bool:
    """Return whether two JSON values are equal; true is not 1."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 400 else f"{text[:400]}..."


def directory() -> Path:
    """Return where the vectors are: in the installed package, or in the checkout that this code runs from."""
    return _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT


def load(where: Path | None = None, areas: Iterable[str] = AREAS) -> list[Vector]:
    """Read the files of some areas.

    Raises: ConfigError for a file that is missing or is none.
    """
    found: list[Vector] = []
    for area in areas:
        path = (directory() if where is None else where) / f"{area}.json"
        try:
            file = json.loads(path.read_text(encoding="utf-8"))
            if file["spec"] != SPEC:
                raise ConfigError(
                    f"{path} is of version {file['spec']!r} of the specification, and this program reads {SPEC}"
                )
            found += (_vector(file["area"], file.get("given", {}), vector) for vector in file["vectors"])
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
        except ConfigError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path} is no file of vectors: {error!r}") from error
    return found


def _vector(area: str, given: Mapping[str, Any], vector: Mapping[str, Any]) -> Vector:
    return Vector(
        area,
        vector["name"],
        vector["op"],
        tuple(vector["cites"]),
        {**given, **vector["in"]},
        vector.get("out"),
        vector.get("error"),
        vector.get("reason", ""),
    )
