"""HTTPS with the appliance's real processes, and its own commands as clients."""

import json
import ssl
import subprocess

import httpx
import httpx_sse
import pytest
from certificates import make_certificate
from harness import wait_until


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("tls")
    make_certificate(made, "inbox.example")
    return made


@pytest.fixture(scope="module")
def running(module_stack, folder):
    made = module_stack(
        start=False, own=False, workers=1, tls_cert=folder / "cert.pem", tls_key=folder / "key.pem"
    )
    made.url = made.url.replace("http://", "https://")
    made.client = httpx.Client(
        base_url=made.url,
        headers={"Authorization": f"Bearer {made.token}"},
        timeout=30,
        trust_env=False,
        verify=trusting(folder),
    )
    return made.start()


def trusting(folder):
    context = ssl.create_default_context(cafile=folder / "cert.pem")
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = False
    return context


def test_messages_are_sent_and_read_over_https(running):
    answer = running.client.post(
        "/v1/topics/t/messages", content=b"hello", headers={"Prefer": "wait=20"}
    )
    assert answer.status_code == 201
    assert running.client.get(answer.headers["Location"]).json()["body"] == "hello"
    assert running.client.get("/openapi.json").json()["servers"] == [{"url": "/"}]


def test_a_stream_comes_over_https_and_ends_with_its_client(running, folder):
    def open_streams():
        return running.client.get("/v1/status").json()["streams"]["open"]

    with (
        httpx.Client(
            headers=running.client.headers, timeout=30, trust_env=False, verify=trusting(folder)
        ) as client,
        httpx_sse.connect_sse(
            client, "GET", f"{running.url}/v1/topics/stream/stream?all=1"
        ) as stream,
    ):
        events = stream.iter_sse()
        assert next(events).event == "place"
        large = "x" * 500_000
        for body in ("hello", large):
            running.publish("stream", body).raise_for_status()
            assert json.loads(next(events).data)["body"] == body
        assert open_streams() == 1
    wait_until(lambda: open_streams() == 0, "the stream has ended")


def test_commands_trust_the_certificate_that_is_set(running):
    running.cli("publish", "cli", "hello", "--wait").check_returncode()
    status = running.cli("status")
    assert status.returncode == 0, status.stderr


def test_command_does_not_send_the_token_to_another_certificate(running, folder, tmp_path):
    other, key = make_certificate(tmp_path / "other", "inbox.example")
    env = running.env | {"APPLIANCE_TLS_CERT": str(other), "APPLIANCE_TLS_KEY": str(key)}
    answer = running.cli("publish", "cli", "hello", "--timeout", "1", env=env)
    assert answer.returncode != 0
    assert b"certificate" in answer.stderr


def test_plain_http_gets_no_answer(running):
    with pytest.raises(httpx.TransportError):
        httpx.get(running.url.replace("https://", "http://") + "/healthz", trust_env=False)
    assert "Traceback" not in running.api.log


def test_listening_is_logged_with_who_can_reach_it(running):
    assert '"tls": true' in running.api.log
    assert '"reached_by": "this machine"' in running.api.log


def test_renewed_certificate_is_served_within_seconds(running, folder):
    make_certificate(folder, "renewed.example")
    wait_until(lambda: "certificate renewed" in running.api.log, "it is taken up", 20)
    (folder / "key.pem").write_text("spoiled")
    wait_until(lambda: "new certificate refused" in running.api.log, "it is refused", 20)
    with httpx.Client(verify=trusting(folder), trust_env=False) as client:
        assert client.get(f"{running.url}/healthz").status_code == 200


def test_pair_that_does_not_fit_ends_the_api_with_a_status_for_settings(stack, tmp_path):
    cert, _ = make_certificate(tmp_path / "one")
    _, key = make_certificate(tmp_path / "other")
    one = stack(start=False, workers=0, tls_cert=cert, tls_key=key)
    one.cli("migrate").check_returncode()
    answer = one.cli("api")
    assert answer.returncode == 78
    assert "APPLIANCE_TLS_CERT" in answer.stderr.decode()
    assert subprocess.run(["openssl", "version"], check=True, capture_output=True).stdout
