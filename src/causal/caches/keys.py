"""Keys from templates: `"profile:{user}"` and a function's arguments make `"profile:7"`, and no other arguments do.

Owns the spelling. Two sets of arguments that made one key would show one user the page of another.
"""

from __future__ import annotations

import inspect
import string
from string import Formatter
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from uuid import UUID

from causal.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable


_SPELLING: Final = frozenset(string.ascii_letters + string.digits + "_.-~%")
"""What arguments are spelled with. Anything else in a template is the template's own."""


class KeyTemplate:
    """A key with the names of arguments in it. Raises: ConfigError unless every argument of `fn`, after the connections, is in it,
    and each is kept apart from the one before it.

    Thread-safety: immutable.
    """

    def __init__(self, template: str, fn: Callable[..., Any], connections: int) -> None:
        self.template = template
        parts = list(Formatter().parse(template))
        for _, name, spec, conversion in parts:
            if name is not None and (not name.isidentifier() or spec or conversion):
                raise ConfigError(
                    f"a key template names arguments, as {{user}}, and {{{name}}} is more than that: {template!r}"
                )
        named = [literal for literal, name, _, _ in parts if name is not None]
        if not all(any(c not in _SPELLING for c in literal) for literal in named[1:]):
            raise ConfigError(
                f"two arguments of a key are kept apart by what no argument can hold, as in {{user}}:{{page}}: {template!r}"
            )
        names = {name for _, name, _, _ in parts if name is not None}
        parameters = list(inspect.signature(fn).parameters.values())[connections:]
        if any(p.kind in {p.VAR_POSITIONAL, p.VAR_KEYWORD} for p in parameters):
            raise ConfigError(f"a cached function names its arguments: {template!r} cannot hold *args or **kwargs")
        if names != {p.name for p in parameters}:
            raise ConfigError(
                f"a key names every argument of its function, or two calls would share an entry: {template!r} names "
                f"{sorted(names)}, the function takes {[p.name for p in parameters]}"
            )
        self._signature = inspect.Signature(parameters)

    def key(self, *args: Any, **kwargs: Any) -> str:
        """Return the key for arguments. Raises: ConfigError for one that is neither text, nor a whole number, nor a UUID."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return self.template.format(**{name: _spelled(name, value) for name, value in bound.arguments.items()})


def _spelled(name: str, value: object) -> str:
    if isinstance(value, str):
        try:
            return quote(value, safe="")  # what separates a key's parts in the template cannot stand in a part
        except UnicodeEncodeError:
            raise ConfigError(f"argument {name} cannot stand in a key: it is text that UTF-8 cannot hold") from None
    if isinstance(value, (int, UUID)) and not isinstance(value, bool):
        return str(value)
    raise ConfigError(
        f"argument {name} cannot stand in a key: it is a {type(value).__name__}, and not text, an int or a UUID"
    )
