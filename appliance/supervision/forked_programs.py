"""Programs of ours as forks of supervisord, which has their code loaded, once for all of them.

A program that is started anew reads some hundred modules, which takes up to a second of a
processor, and keeps 20 MiB of them for itself. A fork has them at once, and shares the memory with
supervisord for as long as neither writes to it. The fork is supervisord's own; where it would run
the command `appliance` in the child, the child goes on as that command, having made of itself what
execve(2) and a new interpreter would: see `_begin` and `_end`.

Commands of others are run as ever. systemd starts each program anew.
"""

import atexit
import contextlib
import gc
import os
import signal
import sys
import sysconfig
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from setproctitle import getproctitle, setproctitle

#: The command of ours, as `get_execv_args` of supervisord finds it in PATH.
_COMMAND: Final = Path(sysconfig.get_path("scripts")) / "appliance"
#: Status after an interrupt, and after an error that nothing has caught.
_INTERRUPTED: Final = 128 + signal.SIGINT
_UNCAUGHT: Final = 1


class ForkedPrograms:
    """Has supervisord go on as our programs in the processes that it forks.

    `load` imports all that they need; `main` is the command line, which reads `sys.argv`.
    """

    def __init__(self, load: Callable[[], None], main: Callable[[], None]) -> None:
        self._load = load
        self._main = main
        self._is_loaded = False
        # The first call finds the place of the title, by an environment that is not changed yet.
        getproctitle()

    def load(self) -> None:
        """Load the programs' code into this process; later calls do nothing."""
        if self._is_loaded:
            return
        self._is_loaded = True
        self._load()
        # The collector writes to every object that it looks at, and so would copy it. It never
        # looks at these again, neither here nor in a program.
        gc.collect()
        gc.freeze()

    def take_over(self, options: Any) -> None:
        """Let supervisord's options start programs so."""
        execve: Callable[[str, Sequence[str], Mapping[str, str]], NoReturn] = options.execve

        def go_on(filename: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
            if Path(filename) != _COMMAND:
                execve(filename, arguments, environment)
            self._go_on(arguments, environment)

        options.execve = go_on

    def _go_on(self, arguments: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
        status = _UNCAUGHT
        try:
            _begin(arguments, environment)
            self._main()
            status = 0
        except SystemExit as end:
            status = _status(end)
        except KeyboardInterrupt:
            status = _INTERRUPTED
        except BaseException:  # noqa: BLE001  # nobody is left who could: supervisord's frames are
            sys.excepthook(*sys.exc_info())
        finally:
            _end(status)


def _begin(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Make of a fork the process that would be there after an execve(2)."""
    atexit._clear()  # noqa: SLF001  # supervisord's; `multiprocessing` does the same in its forks
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # supervisord has closed its own below its `minfds`, and may have more.
    for descriptor in [int(each.name) for each in Path("/proc/self/fd").iterdir()]:
        with contextlib.suppress(OSError):  # that of the list itself is closed
            if not os.get_inheritable(descriptor):
                os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = list(arguments)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    setproctitle(" ".join(arguments))  # `ps` would show `appliance run` for each of them


def _status(end: SystemExit) -> int:
    """Return the status of a process that ends so; a text is printed, as the interpreter does."""
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)  # noqa: T201
    return _UNCAUGHT


def _end(status: int) -> NoReturn:
    """End the process as the interpreter would, but leave supervisord's objects alone."""
    try:
        # The two that `multiprocessing` calls at the end of its forks.
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001
        atexit._run_exitfuncs()  # noqa: SLF001
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # nobody reads it any more
                stream.flush()
    finally:
        os._exit(status)


#: Set by the launcher, in the process that becomes supervisord; None in any other one.
programs: ForkedPrograms | None = None
