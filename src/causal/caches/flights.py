"""Who loads a key in this process, and who waits for that: one loader at a time.

Owns the places. What a waiter makes of what was loaded is its own to judge.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from causal.caches.entry import Entry


class Flight:
    """One load underway. `entry` is what it stored, if it did. Thread-safety: safe from any thread."""

    __slots__ = ("entry", "landed", "owner")

    def __init__(self) -> None:
        self.owner = threading.get_ident()
        self.landed = threading.Event()
        self.entry: Entry | None = None


class Flights:
    """The loads of one cache in this process. Thread-safety: safe from any thread."""

    __slots__ = ("_flights", "_lock")

    def __init__(self) -> None:
        self.forked()

    def forked(self) -> None:
        """In a forked child: the parent's loaders are not here."""
        self._lock = threading.Lock()
        self._flights: dict[str, Flight] = {}

    def board(self, key: str) -> tuple[Flight, bool]:
        """Return the load of a key that is underway, or a new one; and whether it is new: the caller's to carry out, and to land."""
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None:
                return flight, False
            self._flights[key] = flight = Flight()
            return flight, True

    def land(self, key: str, flight: Flight, entry: Entry | None) -> None:
        """End a load, however it went."""
        flight.entry = entry
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]
        flight.landed.set()


class AsyncFlight:
    """The twin of `Flight` in an event loop. Thread-safety: one event loop."""

    __slots__ = ("entry", "landed", "owner")

    def __init__(self) -> None:
        self.owner = asyncio.current_task()
        self.landed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.entry: Entry | None = None


class AsyncFlights:
    """The twin of `Flights`. Thread-safety: one event loop."""

    __slots__ = ("_flights",)

    def __init__(self) -> None:
        self._flights: dict[str, AsyncFlight] = {}

    def forked(self) -> None:
        """In a forked child: the parent's tasks are not here."""
        self._flights = {}

    def board(self, key: str) -> tuple[AsyncFlight, bool]:
        """Return the load of a key that is underway, or a new one, and whether it is new."""
        flight = self._flights.get(key)
        if flight is not None:
            return flight, False
        self._flights[key] = flight = AsyncFlight()
        return flight, True

    def land(self, key: str, flight: AsyncFlight, entry: Entry | None) -> None:
        """End a load, however it went."""
        flight.entry = entry
        if self._flights.get(key) is flight:
            del self._flights[key]
        if not flight.landed.done():
            flight.landed.set_result(None)
