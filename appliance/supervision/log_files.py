"""supervisord's log files on a disk that is full.

supervisord prints a traceback for every line that it can't write, and one that it can't roll over
costs the program its log. Here it says so once, drops what can't be written (the same lines go to
the output anyway), and says when it is over.
"""

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from supervisor.loggers import Handler, RotatingFileHandler

_emit = RotatingFileHandler.emit


def forgive(say: Callable[[str], None]) -> None:
    """Have every log file of this process go on where it can't be written; `say` is told of it."""
    failing: set[int] = set()

    def emit(handler: Any, record: Any) -> None:
        handler.trouble = None
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


def _note(handler: Any) -> None:
    """Take the place of printing a traceback."""
    error = sys.exc_info()[1]
    if isinstance(error, (OSError, ValueError)):
        handler.trouble = error
    else:
        Handler.handleError(handler)
