"""The clock, as the paper writes it: two numbers and a case for each rule."""


def tick(last: int | None, wall_ms: int) -> int:
    """Figure 5, the rules for a local event."""
    if last is None:
        return wall_ms * 65_536
    milliseconds, counter = divmod(last, 65_536)
    now = max(milliseconds, wall_ms)
    return now * 65_536 + (counter + 1 if now == milliseconds else 0)
