"""A handler process's side of the program that runs functions: starts it, asks it, kills it."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from appliance.config import Config
from appliance.config.settings import settings
from appliance.errors import TopicError
from appliance.handle import handler_frames
from appliance.handle.handler_frames import FrameError
from appliance.model import meta as metas
from appliance.model.topics import check_topic
from appliance.model.wire import Addressed, Message, as_text

#: Seconds between two calls of `tick` while an answer is waited for.
_TICK_SECONDS: Final = 0.05
#: Seconds in which a program that hung up must end by itself.
_END_SECONDS: Final = 1.0
#: Seconds that a module can take to load at least.
_LOAD_SECONDS: Final = 60.0


class FunctionAnswer(NamedTuple):
    """What became of a message: its results, or None and why.

    `is_final` is whether it must not be tried again.
    """

    results: list[Addressed] | None
    error: str = ""
    is_final: bool = False


class StoppedError(Exception):
    """It was told to stop while a function had the message."""


class LoadError(Exception):
    """A function can't be loaded: no message's fault."""


class RunnerLink:
    """The program that runs functions, started when it is needed; used by one thread.

    `tick` is called now and then while it works; it returns whether to go on. Raising StoppedError,
    a call leaves nothing behind.
    """

    def __init__(self, config: Config, tick: Callable[[], bool]) -> None:
        self._config = config
        self._tick = tick
        self._most = config.max_request_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._loaded: set[str] = set()

    def load(self, function: str) -> None:
        """Have a function ready. Raises LoadError, StoppedError."""
        if self._process is not None and self._has_ended():
            self.kill()
        if function in self._loaded:
            return
        limit = max(_LOAD_SECONDS, self._config.handler_timeout)
        try:
            head, _ = self._ask(handler_frames.frame({"function": function}), limit)
        except _LostError as error:
            raise LoadError(f"{function} can't be loaded: {error}") from error
        if head.get("loaded") != function:
            self.kill()  # the next attempt must see what the files say then
            raise LoadError(str(head.get("error", "no answer")))
        self._loaded.add(function)

    def handle(self, function: str, head: dict[str, Any], body: bytes) -> FunctionAnswer:
        """Give a message to a function that is loaded; return what came of it.

        Raises StoppedError.
        """
        try:
            request = handler_frames.frame({"function": function, **head}, [body])
            said, bodies = self._ask(request, self._config.handler_timeout)
            if "error" in said:
                if said.get("spent"):
                    self.kill()
                return FunctionAnswer(None, str(said["error"]), bool(said.get("final")))
            return FunctionAnswer(self._results(said.get("results"), bodies))
        except _LostError as error:
            return FunctionAnswer(None, str(error))
        except (FrameError, TopicError, ValueError, TypeError) as error:
            self.kill()
            return FunctionAnswer(None, f"the function's results can't be taken: {error}")

    def kill(self) -> None:
        """End the program, and all that it has started."""
        process, self._process = self._process, None
        self._loaded.clear()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _results(self, rows: Any, bodies: bytes) -> list[Addressed]:
        if not isinstance(rows, list) or len(rows) > self._config.max_batch_messages:
            raise FrameError("no list of results")
        parts = handler_frames.cut(bodies, [row[1] for row in rows])
        results = []
        for (topic, size, content_type), body in zip(rows, parts, strict=True):
            if not 0 < size <= self._config.max_message_bytes:
                raise FrameError(f"a result of {size} bytes")
            kept = metas.content_type(content_type)
            results.append((check_topic(topic), Message("", "", as_text(body), kept)))
        return results

    def _ask(self, request: bytes, seconds: float) -> tuple[dict[str, Any], bytes]:
        """Send a frame and return the answer; whatever else happens, the program is ended.

        Raises _LostError, FrameError, StoppedError.
        """
        link = self._start()
        end = time.monotonic() + seconds
        try:
            self._send(link, request, end)
            return handler_frames.read(lambda size: self._receive(link, size, end), self._most)
        except TimeoutError as error:
            self.kill()
            raise _LostError(
                f"it took longer than {seconds:g} seconds (APPLIANCE_HANDLER_TIMEOUT) and was "
                "killed"
            ) from error
        except (EOFError, OSError) as error:
            raise _LostError(self._how_it_ended()) from error
        except BaseException:
            self.kill()
            raise

    def _start(self) -> socket.socket:
        if self._socket is not None:
            return self._socket
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        config = self._config
        numbers = (
            theirs.fileno(), os.getpid(), config.handler_memory, config.max_batch_messages,
            config.max_request_bytes, config.max_message_bytes,
        )  # fmt: skip
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "appliance.handle.function_runner",
                 *map(str, numbers), str(config.handlers_home)],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=2, env=_environment(),
                process_group=0,
            )  # fmt: skip
        except OSError as error:
            ours.close()
            raise _LostError(f"it can't be started: {error}") from error
        finally:
            theirs.close()
        self._socket = ours
        return ours

    def _send(self, link: socket.socket, data: bytes, end: float) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[link.send(view) :]
            except BlockingIOError:
                self._wait(link, end, writing=True)

    def _receive(self, link: socket.socket, size: int, end: float) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            try:
                part = link.recv(min(size - len(parts), 2**20))
            except BlockingIOError:
                self._wait(link, end)
                continue
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)

    def _wait(self, link: socket.socket, end: float, *, writing: bool = False) -> None:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        wanted = [link]
        ready = select.select(
            [] if writing else wanted, wanted if writing else [], [], min(left, _TICK_SECONDS)
        )
        if any(ready):
            return
        if not self._tick():
            raise StoppedError
        # A process that it started can hold its end of the socket open.
        if self._has_ended():
            raise EOFError

    def _has_ended(self) -> bool:
        """Whether the program has ended; it is not reaped yet, so that its number stays its own."""
        process = self._process
        if process is None:
            return True
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, process.pid, flags) is not None

    def _how_it_ended(self) -> str:
        """End what is left of the program, and say how it ended."""
        end = time.monotonic() + _END_SECONDS
        while not self._has_ended() and time.monotonic() < end:
            time.sleep(_TICK_SECONDS / 10)
        hung_up, process = not self._has_ended(), self._process
        self.kill()
        status = process.returncode if process is not None else None
        if hung_up or status is None:
            return "its process hung up and was killed"
        if status < 0:
            with contextlib.suppress(ValueError):
                return f"its process was killed by {signal.Signals(-status).name}"
            return f"its process was killed by signal {-status}"
        return f"its process ended with status {status}"


class _LostError(Exception):
    """The program took too long, or ended."""


def _environment() -> dict[str, str]:
    """Return this process's environment without the appliance's own secrets."""
    secret = {each.name for each in settings() if each.secret}
    secret |= {f"{name}_FILE" for name in secret}
    return {name: value for name, value in os.environ.items() if name not in secret}
