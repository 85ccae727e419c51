"""Strangers at an API that speaks TLS: silent ones, half handshakes, thousands of connections."""

import socket
import ssl
from functools import partial

import httpx
import pytest
import stranger
import witness
from certificates import make_certificate

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def unverified():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


#: To make one takes far longer than a handshake.
CONTEXT = unverified()


@pytest.fixture(scope="module")
def running(module_stack, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    cert, key = make_certificate(folder, "inbox.example")
    made = module_stack(start=False, own=False, workers=0, tls_cert=cert, tls_key=key)
    made.url = made.url.replace("http://", "https://")
    made.client = httpx.Client(
        base_url=made.url,
        headers={"Authorization": f"Bearer {made.token}"},
        timeout=10,
        trust_env=False,
        verify=CONTEXT,
    )
    return made.start()


@pytest.fixture(scope="module")
def floor_mib(running):
    """MiB of the API before any attack."""
    running.client.post("/v1/topics/t/messages", content=b"x")
    check_health(running)
    return witness.memory_mib(running.api, "VmRSS")


def check_health(stack, tries=5):
    """Be a new client; ask again where the connection was ended before its hello came.

    Ten thousand silent connections a second end each other, and a client that is slow to speak
    among them. One that has said hello stays.
    """
    for left in reversed(range(tries)):
        try:
            with (
                socket.create_connection(witness.address_of(stack), 10) as plain,
                CONTEXT.wrap_socket(plain) as link,
            ):
                link.sendall(HEALTH)
                answer = b"".join(iter(lambda: link.recv(65536), b""))
        except OSError:
            if not left:
                raise
        else:
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            return


@pytest.mark.parametrize("name", stranger.TLS)
def test_encrypted_strangers_leave_others_served(running, floor_mib, name):
    witness.forget_peak(running.api)
    seen = witness.attacked(running, name, partial(check_health, running))
    assert seen.sent > 20
    witness.hold(running, seen, floor_mib, witness.ENCRYPTED_P99_SECONDS)
