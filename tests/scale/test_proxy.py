"""nginx in front of both APIs, from outside."""

import json
import ssl

import httpx
import pytest
from engine import docker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]


@pytest.fixture
def http(running):
    """A client that trusts nothing but the proxy's certificate."""
    trusted = ssl.create_default_context(cafile=str(running.certificate))
    headers = {"Authorization": f"Bearer {running.token}"}
    with httpx.Client(
        base_url=running.url, headers=headers, verify=trusted, timeout=30, trust_env=False
    ) as client:
        yield client


def test_a_message_has_its_senders_address(running, http):
    answer = http.post(
        "/v1/topics/came/messages",
        content=b"hello",
        headers={"Prefer": "wait=20", "X-Request-Id": "one", "X-Forwarded-For": "203.0.113.9"},
    )
    assert answer.status_code == 201, answer.text
    network = json.loads(docker("network", "inspect", f"{running.project}_edge"))[0]
    # Either API reads it at once, from whichever server.
    found = http.get(answer.headers["location"]).json()
    assert found["meta"]["remote"] == network["IPAM"]["Config"][0]["Gateway"]


def test_a_large_request_goes_through_and_one_that_is_too_large_is_refused(http):
    line = b'"' + b"x" * 999_997 + b'"\n'
    headers = {"Content-Type": "application/x-ndjson", "Prefer": "wait=20"}
    taken = http.post("/v1/topics/large/messages", content=line * 8, headers=headers)
    assert taken.status_code == 201, taken.text
    assert taken.json()["count"] == 8
    refused = http.post("/v1/topics/large/messages", content=line * 9, headers=headers)
    assert refused.status_code == 413
    assert refused.json()["status"] == 413


def test_a_stream_is_passed_on_as_it_comes(http):
    with http.stream("GET", "/v1/topics/live/stream") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        for number in range(3):
            sent = http.post("/v1/topics/live/messages", content=f"event {number}".encode())
            assert sent.status_code == 202
            # A frame that is kept back in the proxy would end this by the client's time-out.
            assert next(line for line in lines if f"event {number}" in line).startswith("data:")


def test_a_check_is_known_to_whoever_asks_for_its_outcome(http):
    began = http.post("/v1/verify")
    assert began.status_code in (200, 202), began.text
    for _ in range(6):
        state = http.get("/v1/verify").json()
        assert state["running"] or state["last"], state
