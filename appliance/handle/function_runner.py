"""The program that runs handlers' functions, one message after another, within its limits.

It is started by a handler process, which kills it when a message takes too long, and starts another
one when it ends. Nothing here can store anything: its only way out is the socket to that process.
"""

import contextlib
import ctypes
import importlib
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any, Final

from appliance.handle import handler_frames
from appliance.handler import HandlerMessage, Reject

#: Characters of an error that are told: the end of a traceback says the most.
_ERROR_LENGTH: Final = 4000
#: Status with which it ends where not even a failure can be told.
_LOST: Final = 70
#: By so much its priority is lower than that of the processes that take messages in.
_LOWER: Final = 10
#: prctl(2): have the kernel send a signal when the parent ends, however it ends.
_SET_DEATH_SIGNAL: Final = 1


def run(descriptor: int, parent: int, memory: int, folder: str, most: tuple[int, int, int]) -> None:
    """Run functions as the handler process says, until it hangs up.

    `most` are the results, their bytes together and those of one that a message can have.
    """
    ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        return
    with contextlib.suppress(OSError):  # where it is not allowed, it is not needed to be right
        os.nice(_LOWER)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    sys.path.append(folder)
    sys.stdout = sys.stderr  # what functions print goes to the log
    functions: dict[str, Callable[[HandlerMessage], Any]] = {}
    link = socket.socket(fileno=descriptor)
    while True:
        try:
            head, body = handler_frames.read(lambda size: _receive(link, size), 2**31)
        except EOFError:
            return
        try:
            answer = _answer(functions, head, body, most)
            del head, body
            link.sendall(answer)
        except BaseException:  # noqa: BLE001  # not even a failure can be told
            traceback.print_exc()
            os._exit(_LOST)


def _answer(
    functions: dict[str, Callable[[HandlerMessage], Any]],
    head: dict[str, Any],
    body: bytes,
    most: tuple[int, int, int],
) -> bytes:
    name = head.pop("function")
    try:
        if name not in functions:
            functions[name] = _load(name)
            return handler_frames.frame({"loaded": name})
        results = _results(functions[name](HandlerMessage(body=body, **head)), most)
        rows = [(each.topic, len(each.body), each.content_type) for each in results]
        return handler_frames.frame({"results": rows}, [each.body for each in results])
    except Reject as verdict:
        return _failure(f"rejected: {verdict}"[:_ERROR_LENGTH], is_final=True)
    except MemoryError:
        return _failure("MemoryError: more than APPLIANCE_HANDLER_MEMORY", is_spent=True)
    except BaseException as error:  # noqa: BLE001  # sys.exit() too is a failure
        text = "".join(traceback.format_exception(error))[-_ERROR_LENGTH:]
        return _failure(text.encode(errors="replace").decode().strip())


def _failure(error: str, *, is_final: bool = False, is_spent: bool = False) -> bytes:
    return handler_frames.frame(
        {"error": error.replace("\0", "\\0"), "final": is_final, "spent": is_spent}
    )


def _load(name: str) -> Callable[[HandlerMessage], Any]:
    module, _, attribute = name.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if not callable(found):
        raise TypeError(f"{name} is no function")
    return found  # type: ignore[no-any-return]


def _results(returned: Any, most: tuple[int, int, int]) -> list[HandlerMessage]:
    """Return what a function returned as a list. Raises TypeError, ValueError for anything else."""
    if returned is None:
        return []
    if isinstance(returned, HandlerMessage):
        returned = [returned]
    if isinstance(returned, str | bytes | dict) or not isinstance(returned, Iterable):
        raise TypeError(
            f"the function returned {_kind(returned)}; a handler returns a HandlerMessage, several "
            "of them, or None"
        )
    results: list[HandlerMessage] = []
    count, together, single = most
    size = 0
    for each in returned:
        if not isinstance(each, HandlerMessage):
            raise TypeError(
                f"one of what the function returned is {_kind(each)}, no HandlerMessage"
            )
        if not isinstance(each.body, bytes) or not each.body:
            raise ValueError("a result has no body; a message has at least one byte")
        if not isinstance(each.topic, str):
            raise TypeError(f"a result's topic is {_kind(each.topic)}")
        size += len(each.body)
        results.append(each)
        if len(each.body) > single:
            raise ValueError(f"a result has {len(each.body)} bytes; APPLIANCE_MAX_MESSAGE_BYTES "
                             f"allows {single}")  # fmt: skip
        if len(results) > count or size > together:
            raise ValueError(
                f"more than {count} results (APPLIANCE_MAX_BATCH_MESSAGES), or more than "
                f"{together} bytes of them (APPLIANCE_MAX_REQUEST_BYTES)"
            )
    return results


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


def _receive(link: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = link.recv(min(size - len(parts), 2**20))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        numbers = [int(each) for each in sys.argv[1:7]]
        run(numbers[0], numbers[1], numbers[2], sys.argv[7], (numbers[3], numbers[4], numbers[5]))
