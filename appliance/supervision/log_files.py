"""supervisord's log files on a disk that is full, and with bytes in them that are no text.

supervisord prints a traceback for every line that it can't write, and one that it can't roll over
costs the program its log. With this module it reports that once, drops the lines that can't be
written (the same lines go to the output anyway), and reports when it is over.

`supervisorctl tail` ends with a traceback where a log holds a control character (XML has none) or
bytes that are no UTF-8. With this module neither gets that far.
"""

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from supervisor import rpcinterface  # type: ignore[attr-defined]
from supervisor.loggers import Handler, RotatingFileHandler

from appliance.supervision.output import without_controls

_emit = RotatingFileHandler.emit


def forgive(say: Callable[[str], None]) -> None:
    """Have every log file of this process go on where it can't be written; `say` reports it."""
    failing: set[int] = set()

    def emit(handler: Any, record: Any) -> None:
        handler.trouble = None
        if isinstance(record.msg, bytes):
            record.msg = without_controls(record.msg)
        try:
            _emit(handler, record)
        except (OSError, ValueError) as error:  # while rolling over
            handler.trouble = error
            if handler.stream.closed:
                with contextlib.suppress(OSError):
                    handler.stream = Path(handler.baseFilename).open("ab")  # noqa: SIM115  # its
        began, over = handler.trouble and not failing, not handler.trouble and bool(failing)
        if handler.trouble:
            failing.add(id(handler))
        else:
            failing.discard(id(handler))
        if began:
            say(f"log files can't be written: {handler.trouble}")
        elif over and not failing:
            say("log files are written again")

    RotatingFileHandler.emit = emit
    RotatingFileHandler.handleError = _note


def answer_with_text() -> None:
    """Have supervisord's answers hold text only, whatever is in the log files."""
    rpcinterface.as_string = _text


def _text(data: bytes | str) -> str:
    if isinstance(data, str):
        data = data.encode(errors="backslashreplace")
    return without_controls(data).decode(errors="backslashreplace")


def _note(handler: Any) -> None:
    """Take the place of printing a traceback."""
    error = sys.exc_info()[1]
    if isinstance(error, (OSError, ValueError)):
        handler.trouble = error
    else:
        Handler.handleError(handler)
