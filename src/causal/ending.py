"""The end of a handle that says only then what it showed (`engine.Ending`), and what a session does if it cannot say.

Owns that rule alone: where what was shown cannot be learned, the session reads at the leader for a while (I7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from causal.errors import StoreError
from causal.session import log

if TYPE_CHECKING:
    from collections.abc import Callable

    from causal.request import Request


def ended(end: Callable[[], object], account: Callable[[], Request]) -> None:
    """End what only then says what it showed. If it cannot say that, the session reads at the leader for a while."""
    try:
        end()
    except StoreError as error:
        account().in_doubt()
        log.info("what a block showed cannot be learned: %s", error)
    except BaseException:  # interrupted: what was shown was shown
        account().in_doubt()
        raise


async def aended(handle: object, request: Request) -> bool:
    """Do as `_ended`, if a handle is of that kind; return whether it is."""
    end = getattr(handle, "end", None)
    if end is None:
        return False
    try:
        await end()
    except StoreError as error:
        request.in_doubt()
        log.info("what a block showed cannot be learned: %s", error)
    except BaseException:  # cancelled: what was shown was shown
        request.in_doubt()
        raise
    return True
