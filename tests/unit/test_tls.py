"""HTTPS: real sockets, a real event loop, certificates made by openssl."""

import contextlib
import socket
import ssl
import threading
import time

import pytest
from certificates import make_certificate
from harness import wait_until
from structlog.testing import capture_logs
from test_http_connection import CLOSE, LARGE, Server, request, rest, statuses

from appliance.api.http import acceptor, tls
from appliance.api.http.tls import Certificate
from appliance.errors import ConfigError


@pytest.fixture
def folder(tmp_path):
    make_certificate(tmp_path / "tls", "first.example")
    return tmp_path / "tls"


@pytest.fixture
def certificate(folder):
    return Certificate(folder / "cert.pem", folder / "key.pem")


@pytest.fixture
def server(certificate):
    one = Server(certificate=certificate)
    yield one
    one.stop()


def trusting(folder):
    context = ssl.create_default_context(cafile=folder / "cert.pem")
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def dial(server, folder, name="first.example"):
    return trusting(folder).wrap_socket(server.dial(), server_hostname=name)


def ask(server, folder, data):
    with dial(server, folder) as link:
        link.sendall(data)
        return rest(link)


def test_request_over_tls_is_answered_and_the_connection_kept(server, folder):
    with dial(server, folder) as link:
        assert link.version() in ("TLSv1.2", "TLSv1.3")
        for _ in range(3):
            link.sendall(request("/", b"hello"))
            assert statuses(link.recv(1000)) == [200]


def test_large_bodies_go_both_ways_over_tls(server, folder):
    body = b"x" * 4_000_000
    assert ask(server, folder, request("/large", body, CLOSE)).endswith(body)
    assert len(ask(server, folder, request("/open", b"", CLOSE, method=b"GET"))) > LARGE


def test_refusal_of_a_body_can_be_read_over_tls(server, folder):
    assert statuses(ask(server, folder, request("/no", b"hello"))) == [401]


def test_request_that_comes_with_the_end_of_the_handshake_is_answered(server, folder):
    """As one piece, so that it is there before the connection is."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    side = trusting(folder).wrap_bio(incoming, outgoing, server_hostname="first.example")
    with server.dial() as link:
        while True:
            try:
                side.do_handshake()
                break
            except ssl.SSLWantReadError:
                link.sendall(outgoing.read())
                incoming.write(link.recv(65536))
        side.write(request("/", b"early", CLOSE))
        link.sendall(outgoing.read())  # the end of the handshake, and the request
        for piece in iter(lambda: link.recv(65536), b""):
            incoming.write(piece)
        assert b"early" in side.read(65536)


def test_new_certificate_is_served_and_open_connections_go_on(server, folder, certificate):
    with dial(server, folder) as before:
        make_certificate(folder, "second.example")
        with capture_logs() as logs:
            certificate.renew()
            certificate.renew()
        assert [line["event"] for line in logs] == ["certificate renewed"]
        with dial(server, folder, "second.example") as after:
            for link in (before, after):
                link.sendall(request("/", b"x"))
                assert statuses(link.recv(1000)) == [200]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "cert.pem").write_text("no certificate"),
        lambda folder: (folder / "key.pem").write_bytes(b""),
        lambda folder: (folder / "key.pem").unlink(),
        lambda folder: (make_certificate(folder / "other")[1]).rename(folder / "key.pem"),
    ],
    ids=["no PEM", "empty", "gone", "another one's key"],
)
def test_bad_new_certificate_is_said_once_and_the_old_one_stays(
    server, folder, certificate, spoil, tmp_path
):
    trusted = trusting(folder)
    spoil(folder)
    with capture_logs() as logs:
        for _ in range(3):
            certificate.renew()
    assert [line["event"] for line in logs] == ["new certificate refused"]
    with trusted.wrap_socket(server.dial(), server_hostname="first.example") as link:
        link.sendall(request("/", b"x"))
        assert statuses(link.recv(1000)) == [200]
    make_certificate(folder, "third.example")
    certificate.renew()
    with dial(server, folder, "third.example") as link:
        link.sendall(request("/", b"x"))
        assert statuses(link.recv(1000)) == [200]


def test_certificate_with_another_ones_key_is_refused_at_the_start(folder, tmp_path):
    _, key = make_certificate(tmp_path / "other")
    with pytest.raises(ConfigError, match=r"APPLIANCE_TLS_CERT: .* no certificate and its key"):
        Certificate(folder / "cert.pem", key)
    with pytest.raises(ConfigError, match=r"APPLIANCE_TLS_CERT: .*nowhere.* can't be read"):
        Certificate(tmp_path / "nowhere", key)


@pytest.mark.parametrize(
    "data",
    [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"\x16\x03\x01\xff\xff" + b"\1" * 70_000],
)
def test_stranger_that_does_not_speak_tls_is_ended(server, folder, monkeypatch, data, caplog):
    monkeypatch.setattr(tls, "_HANDSHAKE_SECONDS", 1.0)
    with server.dial() as link, capture_logs() as logs, contextlib.suppress(OSError):
        link.sendall(data)
        rest(link)
    assert logs == []
    assert caplog.records == []
    wait_until(lambda: not server.acceptor.crowd, "nobody is left")
    assert statuses(ask(server, folder, request("/", b"x", CLOSE))) == [200]


def test_silent_handshakes_end_for_new_ones(server, folder, certificate, monkeypatch):
    monkeypatch.setattr(tls, "_MOST_HANDSHAKES", 20)
    with contextlib.ExitStack() as links:
        for _ in range(100):
            links.enter_context(server.dial())
        wait_until(lambda: len(certificate.unanswered) == 20, "the others are ended")
        assert len(server.acceptor.crowd) <= 20
        assert statuses(ask(server, folder, request("/", b"x", CLOSE))) == [200]
    wait_until(lambda: not server.acceptor.crowd, "nobody is left")
    assert not certificate.unanswered


def test_client_amid_its_handshake_stays_while_silent_ones_come(server, certificate, monkeypatch):
    monkeypatch.setattr(tls, "_MOST_HANDSHAKES", 20)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing)
    with contextlib.ExitStack() as links:
        link = links.enter_context(server.dial())
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        link.sendall(outgoing.read())
        wait_until(lambda: certificate.answered, "its hello was answered")
        for _ in range(100):
            links.enter_context(server.dial())
        wait_until(lambda: len(certificate.unanswered) == 19, "the others are ended")
        assert len(certificate.answered) == 1
        incoming.write(link.recv(2**16))
        client.do_handshake()
        link.sendall(outgoing.read())
        wait_until(lambda: not certificate.answered, "its handshake has ended")


def test_encrypted_strangers_end_for_new_ones(certificate, folder, monkeypatch):
    monkeypatch.setattr(acceptor, "_ENCRYPTED_STRANGERS", 10)
    server = Server(certificate=certificate)
    try:
        with contextlib.ExitStack() as links:
            for _ in range(30):
                links.enter_context(dial(server, folder))
            assert len(server.acceptor.crowd) <= 11
            assert statuses(ask(server, folder, request("/", b"x", CLOSE))) == [200]
    finally:
        server.stop()


def test_stop_ends_handshakes_and_answers_what_is_under_way(server, folder):
    with server.dial(), dial(server, folder) as busy:
        busy.sendall(request("/hold", b"x"))
        wait_until(lambda: server.echo.held, "it is asked")
        stopping = threading.Thread(target=server.stop)
        began = time.monotonic()
        stopping.start()
        time.sleep(0.2)
        server.call(server.echo.held[0].respond, 200, b"", b"last")
        assert b"last" in rest(busy)
        stopping.join()
        assert time.monotonic() - began < 2
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(server.address, 1)
