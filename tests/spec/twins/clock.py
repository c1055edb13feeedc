"""The clock, as the paper writes it: two numbers and a case for each rule.

A clock is (milliseconds, counter), None before the first event.
"""

COUNTS = 65_536
LAST_MS = 2**48 - 1
LAST = 2**64 - 1
HEX = "0123456789abcdef"

Clock = tuple[int, int] | None


class Refused(Exception):
    """An error of the specification: its name, and what it carries."""

    def __init__(self, kind: str, reason: str, **evidence: int) -> None:
        super().__init__(reason)
        self.error = {"type": kind, **evidence}
        self.reason = reason


def number(clock: tuple[int, int]) -> int:
    return clock[0] * COUNTS + clock[1]


def clock_of(timestamp: int | None) -> Clock:
    return None if timestamp is None else (timestamp // COUNTS, timestamp % COUNTS)


def in_range(milliseconds: int, counter: int) -> int:
    """The integer of two parts."""
    if milliseconds < 0 or milliseconds > LAST_MS:
        raise Refused("ClockError", "the milliseconds do not fit 48 bits")
    if counter < 0 or counter >= COUNTS:
        raise Refused("ClockError", "the counter does not fit 16 bits")
    return milliseconds * COUNTS + counter


def text(timestamp: int) -> str:
    digits = ""
    for _ in range(16):
        digits = HEX[timestamp % 16] + digits
        timestamp //= 16
    return digits[:12] + "." + digits[12:]


def parse(written: str) -> int:
    if len(written) != 17:
        raise Refused("ClockError", "a timestamp's text has 17 characters")
    if written[12] != ".":
        raise Refused("ClockError", "the milliseconds and the counter are divided by a full stop")
    found = 0
    for character in written[:12] + written[13:]:
        if character not in HEX:
            raise Refused("ClockError", "a character is no hexadecimal digit in lower case")
        found = found * 16 + HEX.index(character)
    return found


def carried(milliseconds: int, counter: int) -> tuple[int, int]:
    """A counter that is full goes on in the next millisecond; after the last one, nothing does."""
    if counter == COUNTS:
        milliseconds, counter = milliseconds + 1, 0
    if milliseconds > LAST_MS:
        raise Refused("ClockError", "past the last millisecond that fits")
    return milliseconds, counter


def local(clock: Clock, wall_ms: int) -> tuple[int, int]:
    """Figure 5, send or local event."""
    if clock is None:
        return carried(max(wall_ms, 0), 0)
    l, c = clock
    moved = max(l, wall_ms)
    return carried(moved, c + 1 if moved == l else 0)


def receive(clock: Clock, remote: int, wall_ms: int) -> tuple[int, int]:
    """Figure 5, receive event."""
    if not 0 <= remote <= LAST:
        raise Refused("ClockError", "the remote is no timestamp")
    l_m, c_m = remote // COUNTS, remote % COUNTS
    if clock is None:
        l, c = -1, -1
    else:
        l, c = clock
    moved = max(l, l_m, wall_ms)
    if moved == l == l_m:
        counter = max(c, c_m) + 1
    elif moved == l:
        counter = c + 1
    elif moved == l_m:
        counter = c_m + 1
    else:
        counter = 0
    return carried(moved, counter)


def update(clock: Clock, remote: int, wall_ms: int, max_drift_ms: int) -> tuple[int, int]:
    """Receive, unless the sender is too far ahead of the wall."""
    if 0 <= remote <= LAST and remote // COUNTS - wall_ms > max_drift_ms:
        raise Refused(
            "ClockDrift",
            f"{remote // COUNTS - wall_ms} ms ahead of the wall, of which {max_drift_ms} are allowed",
            remote_ms=remote // COUNTS,
            wall_ms=wall_ms,
        )
    return receive(clock, remote, wall_ms)


def stamp(clock_now: int, applied: list[int]) -> int:
    """A new version's stamp."""
    best = clock_now
    for other in applied:
        if other + 1 > best:
            best = other + 1
    return best


class Ceiling:
    """One clock's life on a stored bound."""

    def __init__(self, stored: int | None, max_drift_ms: int) -> None:
        self.stored = stored
        self.reach_ms = min(max_drift_ms // 2, 1000)
        self.clock = clock_of(stored - 1) if stored else None
        self.before = 0
        self.held: int | None = None

    def first(self, wall_ms: int) -> int:
        """The first timestamp, for which it has to reserve."""
        need = number(local(self.clock, wall_ms))
        if need == LAST:
            raise Refused("ClockError", "no bound fits above the last timestamp of all")
        up_to = min(max(need + COUNTS, (wall_ms + self.reach_ms) * COUNTS), LAST)
        self.before = self.stored or 0
        self.held = self.stored = max(up_to, self.before + 1)
        self.clock = clock_of(need)
        return need

    def next(self, wall_ms: int) -> int:
        """Another timestamp, within what is reserved, or for which more is: what it held before is nobody else's."""
        assert self.held is not None
        need = number(local(self.clock, wall_ms))
        if need >= self.held:
            assert self.stored == self.held, "who else has reserved meanwhile is another case"
            self.held = self.stored = max(
                min(max(need + COUNTS, (wall_ms + self.reach_ms) * COUNTS), LAST), self.held + 1
            )
        self.clock = clock_of(need)
        return need

    def close(self) -> None:
        if self.held is not None and self.stored == self.held and self.clock is not None:
            keep = max(number(self.clock) + 1, self.before + 1)
            self.stored = min(keep, self.held)
