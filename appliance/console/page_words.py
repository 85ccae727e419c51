"""Numbers, sizes, spans and times as people read them; templates use them as filters. Pure."""

from datetime import UTC, datetime
from typing import Final

#: The functions that templates can use.
FILTERS: Final = ("count", "size", "span", "moment", "ago", "plural")

_STEPS: Final = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def count(number: int | None) -> str:
    """Return a number with its thousands apart."""
    return "?" if number is None else f"{number:,}"


def plural(number: int, word: str, words: str = "") -> str:
    """Return a number with its word, such as `1 message` or `2 messages`."""
    return f"{number:,} {word if number == 1 else words or word + 's'}"


def size(number: int | None) -> str:
    """Return a number of bytes, such as `62 B` or `1.4 MiB`."""
    if number is None:
        return "?"
    if number < 1024:
        return f"{number} B"
    value = float(number)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        value /= 1024
        if value < 1024 or unit == "TiB":
            break
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}"


def whole_text(text: str) -> str:
    r"""Return a text that can be sent: half a character of JSON's `\ud83d` is spelt out."""
    return text.encode("utf-8", "backslashreplace").decode()


def span(seconds: float | None) -> str:
    """Return a span of time, such as `4 ms`, `12 s`, `3 min` or `2 d`."""
    if seconds is None:
        return "?"
    if seconds < 1:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    length, unit = next(step for step in _STEPS if seconds >= step[0])
    return f"{seconds / length:.0f} {unit}"


def moment(time: str) -> str:
    """Return a time of the store as a page shows it: `2026-01-31 12:00:00.123`."""
    return time.replace("T", " ").removesuffix("Z")


def ago(time: str | None, now: datetime | None = None) -> str:
    """Return how long ago a time of the store was."""
    if time is None:
        return "never"
    try:
        then = datetime.fromisoformat(time)
    except ValueError:
        return "?"  # someone wrote it by SQL
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    seconds = ((now or datetime.now(UTC)) - then).total_seconds()
    return "just now" if seconds < 1 else f"{span(seconds)} ago"
