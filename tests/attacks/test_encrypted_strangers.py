"""Strangers at an API that speaks TLS: silent ones, half handshakes, thousands of connections."""

import contextlib
import socket
import ssl
import threading
import time

import httpx
import pytest
from certificates import make_certificate
from test_strangers import GROWTH_MIB, forget_peak, memory_mib, prefer

SECONDS = 4.0
#: A ClientHello is dear: some of them, and each connection stays.
CONNECTIONS = 4000
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def running(module_stack, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    cert, key = make_certificate(folder, "inbox.example")
    made = module_stack(start=False, workers=0, tls_cert=cert, tls_key=key)
    made.url = made.url.replace("http://", "https://")
    made.client = httpx.Client(
        base_url=made.url,
        headers={"Authorization": f"Bearer {made.token}"},
        timeout=10,
        trust_env=False,
        verify=unverified(),
    )
    return made.start()


def unverified():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def silent(_link):
    pass


def half_a_hello(link):
    link.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")


def no_tls(link):
    link.sendall(b"GET / HTTP/1.1\r\n\r\n")


def whole(link):
    encrypted = unverified().wrap_socket(link)
    encrypted.sendall(HEALTH)
    return encrypted


def ask_anew(url, tries=5):
    """Ask on a new connection; again where it was ended before its hello came, as clients do.

    Ten thousand silent connections a second end each other, and a client that is slow to speak
    among them. One that has said hello stays.
    """
    for left in reversed(range(tries)):
        try:
            with httpx.Client(verify=unverified(), trust_env=False, timeout=10) as fresh:
                return fresh.get(f"{url}/healthz").status_code
        except httpx.TransportError:
            if not left:
                raise
    return 0


@pytest.mark.parametrize("begin", [silent, half_a_hello, no_tls, whole])
def test_encrypted_strangers_leave_others_served(running, begin):
    host, port = "127.0.0.1", int(running.url.rpartition(":")[2])
    running.client.post("/v1/topics/t/messages", content=b"x")
    floor = memory_mib(running.api, "VmRSS")
    forget_peak(running.api)
    prefer([running.api.pid], -10)
    until, links, made = time.monotonic() + SECONDS, [], [0]

    def attack():
        while time.monotonic() < until:
            if len(links) > CONNECTIONS:
                links.pop(0).close()
            with contextlib.suppress(OSError):
                link = socket.create_connection((host, port), 2)
                links.append(begin(link) or link)
                made[0] += 1

    attacker = threading.Thread(target=attack)
    attacker.start()
    took = []
    try:
        while attacker.is_alive():
            began = time.monotonic()
            answer = running.client.post("/v1/topics/t/messages", content=b"x")
            assert answer.status_code == 202
            assert ask_anew(running.url) == 200
            took.append(time.monotonic() - began)
    finally:
        attacker.join()
        for link in links:
            link.close()
    assert made[0] > 200
    assert len(took) > 10
    assert sorted(took)[len(took) // 2] < 0.5  # the attacker shares the test's own interpreter
    peak = memory_mib(running.api, "VmHWM")
    print(f"{begin.__name__}: {made[0]} connections, {len(took)} asked, {peak - floor:+.1f} MiB")
    assert peak < floor + GROWTH_MIB
    assert "Traceback" not in running.api.log
