"""Attacks of a stranger, who has no token: everybody else is served meanwhile, in bounded memory.

Each attack (`stranger.py`) runs for a few seconds, while others use the API (`witness.py`).
"""

import os
import signal
import socket
import threading
import time
from functools import partial

import pytest
import stranger
import witness

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def running(module_stack):
    return module_stack(workers=0)


@pytest.fixture(scope="module")
def floor_mib(running):
    """MiB of the API before any attack."""
    for path in ("/healthz", "/readyz", "/", "/openapi.json"):
        running.get(path)
    return witness.memory_mib(running.api, "VmRSS")


def check_health(stack):
    """Be a new client that wants to know whether the API is well."""
    with socket.create_connection(witness.address_of(stack), 10) as link:
        link.sendall(HEALTH)
        answer = b"".join(iter(lambda: link.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 "), answer


@pytest.mark.parametrize("name", stranger.PLAIN_NAMES)
def test_a_stranger_takes_neither_memory_nor_time_from_others(running, floor_mib, name):
    witness.forget_peak(running.api)
    seen = witness.attacked(running, name, partial(check_health, running))
    witness.hold(running, seen, floor_mib)


def test_witness_of_an_api_that_stands_still_says_so(running):
    """Time that the API could have had, and did not use, is not taken for that of others."""
    seen = witness.Witnessed()

    def stand_still():
        for _ in range(5):
            os.kill(running.api.pid, signal.SIGSTOP)
            time.sleep(0.3)
            os.kill(running.api.pid, signal.SIGCONT)
            time.sleep(0.02)

    standing = threading.Thread(target=stand_still)
    standing.start()
    while standing.is_alive():
        witness.time_one(running.api, partial(check_health, running), seen)
    standing.join()
    assert witness.p99(seen.own) > witness.ENCRYPTED_P99_SECONDS
