"""Pull over HTTP: a real store and real sockets; only the broker is left out."""

import asyncio
import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import ready_made
import uvloop
from flask_app import app_of
from harness import wait_until
from store_contents import many, one

from appliance import config as configuration
from appliance.api.gate import Gate
from appliance.api.http.acceptor import Acceptor, listen
from appliance.api.http.proxies import Proxies
from appliance.api.http.wsgi import WsgiBridge
from appliance.api.inbox.inbox_route import InboxRoute
from appliance.api.open_addresses import OpenAddresses
from appliance.api.publish.route import PublishRoute
from appliance.api.pull.pull_hub import PullHub
from appliance.api.pull.pull_route import PullRoute
from appliance.api.stream.hub import StreamHub
from appliance.api.stream.stream_route import StreamRoute
from appliance.auth.authorizer import Authorizer, hashed
from appliance.auth.snapshot import AccessSnapshot
from appliance.config import Address
from appliance.config.parsers import networks
from appliance.errors import StoreError
from appliance.model import timestamps
from appliance.model.tallies import StreamTally
from appliance.schemas.book import SchemaBook
from appliance.store import open_store
from appliance.store.access_rows import AccessRows, TokenKey, TokenRow

TOKEN = "t" * 32
LIMITED = b"r" * 32


def put_token(authorizer, *topics):
    row = TokenRow("limited", ("read",), topics, None, timestamps.now(), None, None)
    keys = [TokenKey(hashed(LIMITED), row)] if topics else []
    rows = AccessRows(authorizer.generation + 1, keys, [])
    authorizer.put(AccessSnapshot.of(rows, time.time()))


class Served:
    """Serves the subscriptions of a store in a thread, until `stop`."""

    def __init__(self, config, store, most=100):
        self.config, self.store = config, store
        self.authorizer = Authorizer(TOKEN)
        self.hub = PullHub(most, store.puller, self.authorizer)
        self._listener = listen("test", Address("127.0.0.1", 0))
        self._started = threading.Event()
        self.thread = threading.Thread(target=lambda: uvloop.run(self._serve()))
        self.thread.start()
        assert self._started.wait(10)
        url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.client = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60, trust_env=False
        )

    async def _serve(self):
        app = WsgiBridge(app_of(self.config), 4, self.authorizer.holds)
        config = self.config
        gate = Gate(
            self.authorizer,
            OpenAddresses(app, app.ask),
            PublishRoute(config, None, SchemaBook(lambda: self.authorizer.snapshot.schemas)),
            InboxRoute(config, None, self.authorizer),
            StreamRoute(StreamHub(1, self.store.follower, self.authorizer, StreamTally())),
            app,
            "",
            PullRoute(self.hub),
        )
        self.loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        acceptor = Acceptor(gate, Proxies(networks(""), None))
        self._started.set()
        stopping = asyncio.create_task(self._stop_hub())
        await acceptor.serve(self._listener, self._stop, 5)
        await stopping
        self.hub.close()

    async def _stop_hub(self):
        await self._stop.wait()
        self.hub.stop()

    def stop(self):
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._stop.set)
        self.thread.join(20)
        assert not self.thread.is_alive()

    def make(self, name="jobs", **wanted):
        answer = self.client.post("/v1/subscriptions", json={"name": name, **wanted})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def show(self, name="jobs"):
        return self.client.get(f"/v1/subscriptions/{name}").json()

    def receive(self, name="jobs", **query):
        answer = self.client.post(f"/v1/subscriptions/{name}/receive", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()["messages"]

    def say(self, action, *leases, **more):
        body = {"leases": list(leases), **more}
        return self.client.post(f"/v1/subscriptions/jobs/{action}", json=body)


@pytest.fixture
def config(tmp_path):
    return configuration.load(
        {"APPLIANCE_DATA": str(tmp_path / "data"), "APPLIANCE_MIN_FREE_BYTES": "0"}
    )


@pytest.fixture
def store(config):
    store = open_store(config)
    ready_made.migrate(store.path)
    yield store
    store.reader.close()


@pytest.fixture
def writer(store):
    writer = store.open_writer()
    yield writer
    writer.close()


@pytest.fixture
def served(config, store):
    served = Served(config, store)
    yield served
    served.client.close()
    served.stop()


def test_a_message_is_received_acknowledged_and_over(served, writer):
    made = served.make()
    assert made["topics"] == ["*"]
    assert (made["lease_seconds"], made["max_attempts"]) == (60, 5)
    writer.store([one(b'{"n": 1}', topic="orders")])
    (message,) = served.receive(wait=10)
    assert message["body"] == '{"n": 1}'
    assert (message["topic"], message["attempt"]) == ("orders", 1)
    assert message["lease_until"] > timestamps.now()
    assert served.show()["leased"] == 1
    assert served.receive() == []
    answer = served.say("ack", message["lease"], "1.unknown")
    assert answer.json() == {"acknowledged": 1, "unknown": ["1.unknown"]}
    shown = served.show()
    assert (shown["leased"], shown["lag"], shown["acknowledged"]) == (0, 0, 1)


def test_a_receive_that_waits_is_answered_soon_after_the_commit(served, writer):
    served.make()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(served.receive, wait=50)
        wait_until(lambda: served.hub._waiting, "it waits", 20)
        writer.store([one(b"now")])
        began = time.monotonic()
        assert [each["body"] for each in waiting.result()] == ["now"]
        assert time.monotonic() - began < 5  # some 50 ms; a loaded machine takes longer


def test_consumers_that_wait_hold_no_thread_and_share_what_comes(served, writer):
    served.make()
    before = threading.active_count()
    with ThreadPoolExecutor(40) as pool:
        waiting = [pool.submit(served.receive, wait=50, limit=1) for _ in range(40)]
        wait_until(lambda: len(served.hub._waiting) == 40, "all wait", 30)
        assert threading.active_count() <= before + 40 + 1  # those of the test, and the hub's
        writer.store([many([b"%d" % n for n in range(40)])])
        found = [each["body"] for one_of in waiting for each in one_of.result()]
    assert sorted(found, key=int) == [str(n) for n in range(40)]


def test_a_receive_ends_empty_when_its_wait_is_over(served):
    served.make()
    began = time.monotonic()
    assert served.receive(wait=1) == []
    assert time.monotonic() - began > 0.9


def test_a_message_comes_back_by_itself_when_its_lease_is_over(served, writer):
    served.make()
    writer.store([one(b"a")])
    (first,) = served.receive(lease=1)
    (again,) = served.receive(wait=50)
    assert (again["id"], again["attempt"]) == (first["id"], 2)
    assert served.say("ack", first["lease"]).json()["acknowledged"] == 0
    assert served.say("extend", again["lease"], lease="1h").json()["extended"] == 1


def test_a_message_that_was_given_up_is_listed_redriven_and_discarded(served, writer):
    served.make(max_attempts=1)
    writer.store([many([b"a", b"b"])])
    held = served.receive()
    served.say("nack", *[each["lease"] for each in held], reason="cannot")
    path = "/v1/subscriptions/jobs/dead-letters"
    page = served.client.get(path, params={"limit": 1}).json()
    assert [(each["body"], each["reason"]) for each in page["dead_letters"]] == [("a", "cannot")]
    rest = served.client.get(page["next_url"]).json()
    assert [each["body"] for each in rest["dead_letters"]] == ["b"]
    assert rest["next"] is None
    answer = served.client.post(f"{path}/redrive", json={"ids": [held[0]["id"]]})
    assert answer.json() == {"redriven": 1, "left": 1}
    answer = served.client.post(f"{path}/discard", json={"all": True})
    assert answer.json() == {"discarded": 1, "left": 0}
    assert [each["body"] for each in served.receive()] == ["a"]


def test_dead_letters_are_named_or_all_of_them_meant(served):
    served.make()
    path = "/v1/subscriptions/jobs/dead-letters"
    for body in ({}, {"ids": "x"}, {"ids": [1]}, {"ids": [], "all": True}, {"all": False}):
        for action in ("redrive", "discard"):
            assert served.client.post(f"{path}/{action}", json=body).status_code == 400, body


def test_a_receive_that_asks_for_what_there_is_not_is_refused(served):
    served.make()
    queries = (
        "wait=51", "wait=-1", "wait=x", "limit=0", "limit=1001", "lease=0", "lease=13h", "foo=1",
        "wait=1&wait=2", "lease=", "limit=1e9", "wait=999999999999999999999", "wait=%C2%B2",
    )  # fmt: skip
    for query in queries:
        answer = served.client.post(f"/v1/subscriptions/jobs/receive?{query}")
        assert answer.status_code == 400, (query, answer.text)


def test_an_acknowledgement_that_says_nothing_sound_is_refused(served):
    served.make()
    requests = (
        ("ack", b""), ("ack", b"[]"), ("ack", b"{"), ("ack", b'{"leases": []}'),
        ("ack", b'{"leases": [1]}'), ("ack", b'{"leases": ["a"], "delay": 1}'),
        ("ack", b'{"leases": ["%b"]}' % (b"a" * 101)),
        ("ack", b'{"leases": [%b]}' % b",".join([b'"a"'] * 1001)),
        ("nack", b'{"leases": ["a"], "delay": -1}'),
        ("nack", b'{"leases": ["a"], "delay": 1e99}'),
        ("nack", b'{"leases": ["a"], "reason": 1}'),
        ("extend", b'{"leases": ["a"], "lease": true}'),
        ("extend", b'{"leases": ["a"], "lease": "13h"}'), ("ack", b"\xff\xfe"),
    )  # fmt: skip
    for action, body in requests:
        answer = served.client.post(f"/v1/subscriptions/jobs/{action}", content=body)
        assert answer.status_code == 400, (body[:50], answer.text)


def test_a_subscription_that_cannot_be_is_refused(served):
    wishes = (
        {"name": "a/b"}, {"name": ""}, {"name": "a", "topics": ["A B"]},
        {"name": "a", "topics": [1]}, {"name": "a", "lease_seconds": 0},
        {"name": "a", "lease_seconds": 43_201}, {"name": "a", "max_attempts": True},
        {"name": "a", "from": "never"}, {"name": "a", "x": 1},
    )  # fmt: skip
    for wanted in wishes:
        answer = served.client.post("/v1/subscriptions", json=wanted)
        assert answer.status_code == 400, (wanted, answer.text)


def test_a_name_is_taken_until_its_subscription_is_removed(served):
    served.make()
    assert served.client.post("/v1/subscriptions", json={"name": "jobs"}).status_code == 409
    assert served.client.delete("/v1/subscriptions/jobs").status_code == 204
    assert served.client.delete("/v1/subscriptions/jobs").status_code == 404
    for action in ("receive", "ack"):
        body = {"json": {"leases": ["1.a"]}} if action == "ack" else {}
        assert served.client.post(f"/v1/subscriptions/jobs/{action}", **body).status_code == 404
    served.make()


def test_a_token_receives_only_where_it_may_read_every_topic(served, writer):
    served.make("all", **{"from": "beginning"})
    served.make("eu", topics=["orders.eu"])
    writer.store([one(b"a", topic="orders.eu")])
    put_token(served.authorizer, "orders.*")
    limited = {"Authorization": b"Bearer " + LIMITED}
    post = served.client.post
    assert post("/v1/subscriptions/all/receive", headers=limited).status_code == 403
    (message,) = post("/v1/subscriptions/eu/receive", headers=limited).json()["messages"]
    body = {"leases": [message["lease"]]}
    assert post("/v1/subscriptions/all/ack", json=body, headers=limited).status_code == 403
    assert post("/v1/subscriptions/eu/ack", json=body, headers=limited).json()["acknowledged"] == 1
    assert post("/v1/subscriptions", json={"name": "x"}, headers=limited).status_code == 403
    assert served.client.delete("/v1/subscriptions/eu", headers=limited).status_code == 403
    answer = post("/v1/subscriptions/eu/receive", headers={"Authorization": "Bearer x"})
    assert answer.status_code == 401


def test_a_receive_of_a_token_that_is_revoked_waits_no_longer(served):
    served.make()
    put_token(served.authorizer, "*")
    with ThreadPoolExecutor(1) as pool:
        headers = {"Authorization": b"Bearer " + LIMITED}
        waiting = pool.submit(
            served.client.post, "/v1/subscriptions/jobs/receive?wait=50", headers=headers
        )
        wait_until(lambda: served.hub._waiting, "it waits", 20)
        put_token(served.authorizer)
        assert waiting.result().status_code == 401


def test_receives_beyond_the_bound_are_answered_503(config, store):
    served = Served(config, store, most=1)
    try:
        served.make()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(served.receive, wait=50)
            wait_until(lambda: served.hub._waiting, "it waits", 20)
            answer = served.client.post("/v1/subscriptions/jobs/receive")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
            assert answer.json()["type"].endswith(":too-many-streams")
            served.stop()
            assert waiting.result() == []  # a stop lets nobody wait
    finally:
        served.client.close()
        served.stop()


def test_a_consumer_that_leaves_takes_no_message_with_it(served, writer):
    served.make()
    with pytest.raises(httpx.ReadTimeout):
        served.client.post("/v1/subscriptions/jobs/receive?wait=50", timeout=0.5)
    wait_until(lambda: not served.hub._waiting, "nobody waits", 20)
    writer.store([one(b"a")])
    assert [each["attempt"] for each in served.receive(wait=50)] == [1]


def test_consumers_are_told_where_the_database_cannot_be_used(served, monkeypatch):
    served.make()

    def fail(_orders):
        raise StoreError("gone")

    monkeypatch.setattr(served.store.puller, "serve", fail)
    answer = served.client.post("/v1/subscriptions/jobs/receive?wait=5")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert served.say("ack", "1.a").status_code == 503
    monkeypatch.undo()
    assert served.receive() == []


def test_a_consumers_address_takes_only_posts(served):
    for method in ("GET", "PUT", "DELETE"):
        for action in ("receive", "ack", "nack", "extend"):
            answer = served.client.request(method, f"/v1/subscriptions/jobs/{action}")
            assert answer.status_code == 405, (method, action)
