"""The single image behind a proxy with TLS, as deploy/compose/single starts it, from outside."""

import json

import httpx
import pytest
from compose import Deployment
from engine import docker, wait_until

SERVICES = ("inbox", "proxy")


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    deployment = Deployment(tmp_path_factory.mktemp("compose"), "single")
    try:
        yield deployment.start()
    finally:
        deployment.remove()


def logs(deployment: Deployment, service: str) -> str:
    return docker("logs", deployment.container(service))


def messages(deployment: Deployment, topic: str) -> list[dict]:
    """A topic's messages in the order of storing."""
    answer = deployment.http.get(f"/v1/topics/{topic}/messages", params={"after": 0, "limit": 1000})
    return answer.json()["messages"]


def test_a_message_that_came_through_the_proxy_has_its_senders_address(single):
    answer = single.http.post(
        "/v1/topics/came/messages",
        content=b"hello",
        headers={"Prefer": "wait=20", "X-Request-Id": "one", "X-Forwarded-For": "203.0.113.9"},
    )
    assert answer.status_code == 201
    # Of a port that is published, this machine is the gateway of the proxy's outer network.
    network = json.loads(docker("network", "inspect", f"{single.project}_edge"))[0]
    found = single.http.get(answer.headers["location"]).json()
    assert found["meta"]["remote"] == network["IPAM"]["Config"][0]["Gateway"]


def test_plain_http_request_is_sent_to_https(single):
    plain = f"http://localhost:{single.plain_port}/console/"
    answer = httpx.get(plain, trust_env=False)
    assert answer.status_code == 308
    assert answer.headers["location"] == "https://localhost/console/"


def test_the_connection_is_encrypted_with_a_certificate_for_the_site(single):
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"https://localhost:{single.port}/healthz", trust_env=False)
    assert single.http.get("/healthz").status_code == 200


def test_a_large_request_goes_through_and_one_that_is_too_large_is_the_appliances_to_refuse(single):
    line = b'"' + b"x" * 999_997 + b'"\n'
    headers = {"Content-Type": "application/x-ndjson", "Prefer": "wait=20"}
    address = "/v1/topics/large/messages"
    taken = single.http.post(address, content=line * 8, headers=headers)
    assert taken.status_code == 201, taken.text
    assert taken.json()["count"] == 8
    refused = single.http.post(address, content=line * 9, headers=headers)
    assert refused.status_code == 413
    assert refused.json()["type"].startswith("urn:queue-appliance:problem:")


def open_streams(deployment: Deployment) -> float:
    lines = deployment.http.get("/metrics").text.splitlines()
    values = [line.split()[1] for line in lines if line.startswith("appliance_open_streams")]
    return sum(map(float, values))


def test_a_stream_is_passed_on_as_it_comes_and_ends_at_the_appliance_when_its_reader_goes(single):
    with single.http.stream("GET", "/v1/topics/live/stream") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        for number in range(3):
            single.store("live", f"event {number}")
            # A frame that is kept back in the proxy would end this by the client's time-out.
            assert next(line for line in lines if f"event {number}" in line).startswith("data:")
        wait_until(lambda: open_streams(single) == 1, "the stream is counted")
    wait_until(lambda: open_streams(single) == 0, "the appliance has ended the stream")


def test_a_sender_is_told_to_come_again_while_the_appliance_is_away_and_no_log_has_its_address(
    single,
):
    made = single.http.post("/v1/inboxes", json={"name": "hook", "topic": "hook", "kind": "open"})
    assert made.status_code == 201, made.text
    path = httpx.URL(made.json()["address"]).path
    assert path.startswith("/in/")
    assert single.http.post(path, content=b"first").status_code == 202
    docker("stop", "--time", "1", single.container("inbox"))
    try:
        answer = single.http.post(path, content=b"second")
    finally:
        docker("start", single.container("inbox"))
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == 503
    secret = path.rpartition("/")[2]
    assert [name for name in SERVICES if secret in logs(single, name)] == []
    assert [name for name in SERVICES if single.token in logs(single, name)] == []


def test_each_container_comes_back_after_a_crash_and_nothing_is_lost_or_doubled(single):
    bodies = [f"message {number}" for number in range(30)]
    crashes = {10: "inbox", 20: "proxy"}
    started = {}
    for number, body in enumerate(bodies):
        if service := crashes.get(number):
            started[service] = single.inspect(service)["State"]["StartedAt"]
            single.kill(service)
        single.store("crashes", body)
    assert [message["body"] for message in messages(single, "crashes")] == bodies
    for service, before in started.items():
        assert single.inspect(service)["State"]["StartedAt"] != before
        assert single.inspect(service)["RestartCount"] == 1


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_has_bounds_and_no_right_that_it_can_do_without(single, service):
    found = single.inspect(service)
    host = found["HostConfig"]
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["CapAdd"] == {"inbox": None, "proxy": ["NET_BIND_SERVICE"]}[service]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["Memory"] > 0
    assert host["PidsLimit"] > 0
    assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "5"}
    assert single.token not in json.dumps(found)
    kind, *check = found["Config"]["Healthcheck"]["Test"]
    assert kind == "CMD"
    docker("exec", found["Id"], *check)


def test_nothing_is_published_but_the_proxys_two_ports(single):
    assert not any(single.inspect("inbox")["NetworkSettings"]["Ports"].values())
    ports = single.inspect("proxy")["NetworkSettings"]["Ports"]
    assert {port for port, published in ports.items() if published} == {
        "80/tcp",
        "443/tcp",
        "443/udp",
    }
