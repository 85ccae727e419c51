"""Streams of the real processes, read by other people's clients, while parts are killed."""

import json
import subprocess
import threading
import time
import uuid

import httpx
import httpx_sse
import pytest
import requests
import sseclient
from harness import wait_until
from served_streams import Reader

#: Clients that read while the API and the worker are killed.
CLIENTS = 50


@pytest.fixture(scope="module")
def one(module_stack):
    return module_stack()


def port_of(stack):
    return int(stack.url.rpartition(":")[2])


def publish(stack, topic, *bodies, params=None):
    """Publish until it is kept, as a client does that repeats itself."""
    for body in bodies:
        key = str(uuid.uuid4())

        def kept(body=body, key=key):
            try:
                answer = stack.publish(topic, body, params, Idempotency_Key=key)
            except httpx.TransportError:
                return False
            return answer.status_code in (200, 202)

        wait_until(kept, f"{body} is kept", 60, stack.logs)


def place(stack):
    """Return the cursor of the present."""
    with httpx.Client(headers=stack.client.headers, trust_env=False) as client:
        url = f"{stack.url}/v1/stream"
        with httpx_sse.connect_sse(client, "GET", url) as source:
            return json.loads(next(source.iter_sse()).data)["cursor"]


def open_streams(stack):
    return stack.get("/v1/status").json()["streams"]["open"]


def test_the_example_of_the_docs_reads_every_message_and_goes_on(one):
    begin, bodies = place(one), [f"message {n}" for n in range(30)]
    cursor, found = begin, []
    publish(one, "docs", *bodies[:20])
    while len(found) < 30:
        with (
            httpx.Client(timeout=60, trust_env=False) as client,
            httpx_sse.connect_sse(
                client,
                "GET",
                f"{one.url}/v1/stream",
                params={"all": "1", "after": cursor},
                headers={"Authorization": f"Bearer {one.token}"},
            ) as stream,
        ):
            for event in stream.iter_sse():
                cursor = event.id
                if event.event == "message":
                    found.append(json.loads(event.data)["body"])
                    if len(found) in (7, 20, 30):
                        break
        if len(found) == 20:
            publish(one, "docs", *bodies[20:])
    assert found == bodies


def test_sseclient_reads_frames(one):
    url = f"{one.url}/v1/topics/frames/stream"
    headers = {"Authorization": f"Bearer {one.token}", "Accept": "text/event-stream"}
    with requests.get(url, headers=headers, stream=True, timeout=60) as answer:
        events = sseclient.SSEClient(answer).events()
        assert next(events).event == "place"
        publish(one, "frames", "a", "b")
        count, shown = 0, []
        while count < 2:
            frame = json.loads(next(events).data)
            count += frame["n"]
            shown = [each["preview"] for each in frame["messages"]] + shown
        assert shown == ["b", "a"]


def test_curl_shows_messages_as_they_come(one):
    command = ["curl", "-sN", "-H", f"Authorization: Bearer {one.token}"]
    url = f"{one.url}/v1/topics/curl/stream?all=1"
    with subprocess.Popen([*command, url], stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout.readline() == "retry: 1000\n"
        publish(one, "curl", "hello")
        while not (line := curl.stdout.readline()).startswith('data: {"id"'):
            pass
        assert json.loads(line.removeprefix("data: "))["body"] == "hello"
        curl.terminate()
    wait_until(lambda: open_streams(one) == 0, "its stream is closed")


def test_a_stream_ends_within_a_second_when_its_token_expires_or_is_revoked(one):
    token = {}
    for name, wish in (("ends", {"expires": "2s"}), ("revoked", {})):
        body = {"name": name, "rights": ["read"], **wish}
        token[name] = one.client.post("/v1/tokens", json=body).json()["token"]
    begin = time.monotonic()
    ends = Reader(port_of(one), "/v1/stream?all=1", token["ends"])
    revoked = Reader(port_of(one), "/v1/stream", token["revoked"])
    assert ends.event()[0] == revoked.event()[0] == "place"
    one.client.delete("/v1/tokens/revoked").raise_for_status()
    at = time.monotonic()
    with pytest.raises(ConnectionError):
        revoked.event()
    assert time.monotonic() - at < 1.5
    with pytest.raises(ConnectionError):
        ends.event()
    assert 1 < time.monotonic() - begin < 5
    for reader in (ends, revoked):
        reader.close()


class Following(threading.Thread):
    """Reads a stream to the body `last`, and connects again wherever it is broken off."""

    def __init__(self, stack, cursor, last):
        super().__init__(daemon=True)
        self._port, self._token = port_of(stack), stack.token
        self.cursor, self._last = cursor, last
        self.found, self.breaks = [], 0
        self.is_there = threading.Event()
        self.must_end = False

    def run(self):
        path = "/v1/topics/storm/stream?all=1"
        while not self.must_end:
            reader = None
            try:
                reader = Reader(self._port, path, self._token, {"Last-Event-ID": self.cursor})
                if reader.status == 200 and self._read(reader):
                    return
            except (OSError, ValueError, IndexError):
                pass
            finally:
                if reader:
                    reader.close()
            self.breaks += 1
            time.sleep(0.2)

    def _read(self, reader):
        while (event := reader.event()) is not None:
            self.cursor = reader.last_id
            self.is_there.set()
            if event[0] == "message":
                self.found.append(event[1]["body"])
                if self.found[-1] == self._last:
                    return True
        return False


def test_fifty_readers_see_every_message_once_while_api_and_worker_are_killed(stack):
    running = stack(workers=2)
    readers = [Following(running, place(running), "last") for _ in range(CLIENTS)]
    for reader in readers:
        reader.start()
    for reader in readers:
        assert reader.is_there.wait(30)
    sent = 0
    for worker in running.workers:
        for _ in range(5):
            lines = "\n".join(str(n) for n in range(sent, sent + 40))
            publish(running, "storm", lines, params={"split": "lines"})
            sent += 40
        for process in (worker, running.api):
            process.kill()
            process.start()
    publish(running, "storm", "last")
    try:
        for reader in readers:
            reader.join(60)
            assert not reader.is_alive(), (len(reader.found), running.logs())
    finally:
        for reader in readers:
            reader.must_end = True
    wanted = [str(n) for n in range(sent)] + ["last"]
    assert [row["body"] for row in running.rows("storm")] == wanted
    for reader in readers:
        assert reader.found == wanted
        assert reader.breaks >= 2


def test_an_api_that_is_stopped_ends_its_streams_at_once(stack):
    running = stack()
    readers = [Reader(port_of(running), "/v1/stream", running.token) for _ in range(10)]
    for reader in readers:
        assert reader.event()[0] == "place"
    assert open_streams(running) == 10
    begin = time.monotonic()
    assert running.api.stop() == 0
    assert time.monotonic() - begin < 5
    for reader in readers:
        assert reader.event() is None
        reader.close()
    assert "Traceback" not in running.api.log
