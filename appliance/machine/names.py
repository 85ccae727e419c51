"""Looks up hosts' names, so that name servers that are silent or gone hold nothing else up.

A lookup takes as long as the system's resolver likes: ten seconds for one silent server. An event
loop's own lookup takes one of its threads for so long, and the loop can't end before it.
"""

import asyncio
import ipaddress
import socket
import threading
from concurrent.futures import Future
from typing import Final

#: Seconds to wait for an answer.
_SECONDS: Final = 5.0

#: Lookups that have no answer yet: one for each name, however often it is asked for.
_under_way: dict[tuple[str, int], Future[list[str]]] = {}
_lock: Final = threading.Lock()


def without_lookup(host: str) -> str:
    """Return the address that `localhost` always has; any other host as it is.

    No file and no server need know that name (RFC 6761).
    """
    return "127.0.0.1" if host.lower() == "localhost" else host


async def addresses(host: str, port: int) -> list[str]:
    """Return the IP addresses that a host's name stands for, in order; one that it is, as it is.

    Raises OSError where it has none, or where no answer comes in time.
    """
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    try:
        async with asyncio.timeout(_SECONDS):
            return await asyncio.shield(asyncio.wrap_future(_asked(host, port)))
    except TimeoutError as error:
        raise OSError(f"no name server has answered within {_SECONDS:.0f} s") from error


def _asked(host: str, port: int) -> Future[list[str]]:
    """Return the lookup that is under way, or begin one in a thread that nothing waits for."""
    with _lock:
        if (host, port) in _under_way:
            return _under_way[host, port]
        future: Future[list[str]] = Future()
        future.set_running_or_notify_cancel()
        _under_way[host, port] = future
    threading.Thread(target=_look_up, args=(host, port, future), name="names", daemon=True).start()
    return future


def _look_up(host: str, port: int, future: Future[list[str]]) -> None:
    found: list[str] = []
    problem: OSError | None = None
    try:
        records = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        found = list(dict.fromkeys(str(target[0]) for *_, target in records))
    except OSError as error:
        problem = error
    except UnicodeError as error:
        problem = OSError(f"it can't be a host's name: {error}")
    with _lock:
        del _under_way[host, port]
    if problem is None:
        future.set_result(found)
    else:
        future.set_exception(problem)
