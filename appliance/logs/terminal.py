"""Log lines for a terminal: a short time, the event, its values. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

#: Fields that have a place of their own in a line, or are said by the program's name before it.
_PLACED: Final = frozenset({"event", "level", "logger", "process", "time", "exception"})
#: Levels that are too usual to be named.
_UNNAMED: Final = frozenset({"info", "debug"})


def line(now: datetime, level: str, event: str, values: Mapping[str, Any]) -> str:
    """Return a line without its end, for example `18:37:10 WARNING broker unavailable reason=...`.

    `now` is in UTC. A traceback in `values` follows on lines of its own.
    """
    words = [now.strftime("%H:%M:%S")]
    if level not in _UNNAMED:
        words.append(level.upper())
    words.append(event)
    words += [f"{name}={_text(value)}" for name, value in values.items() if name not in _PLACED]
    text = " ".join(words)
    return f"{text}\n{values['exception']}" if values.get("exception") else text


def _text(value: Any) -> str:
    text = str(value)
    return repr(text) if not text or any(c.isspace() for c in text) else text
