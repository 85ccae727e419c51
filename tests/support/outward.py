"""Where a load's messages go out again: two endpoints and a subscription, with their journals.

One endpoint keeps the order of each topic; the other one's receiver refuses some messages at first.
What an endpoint or a consumer was told is in a journal before it answers, so whatever is killed or
cut off, the journals say what was delivered.
"""

import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Self
from uuid import uuid4

import httpx
from harness import Folder, wait_until
from receivers import Received, Reply, receiving

#: Of so many messages one is refused when it first comes.
REFUSED_EACH = 97
#: Seconds of a lease: those of a consumer whose answer was lost come again soon.
LEASE = 3
#: Seconds for everything to arrive once the appliance is well.
PATIENCE = 90.0


class Consumer:
    """Receives, writes what it has done into its journal and acknowledges it, until its `end`.

    An answer that did not come leaves everything as it may be: it just asks again. It never does
    anything with one of `forgets` messages, as if it died of it each time.
    """

    def __init__(self, target: Folder, name: str, forgets: int = 0) -> None:
        self.received: list[str] = []
        self.done: list[str] = []
        self._target, self._name = target, name
        self._forgets, self._forgotten = forgets, set[str]()
        self._over = threading.Event()
        self._thread = ThreadPoolExecutor(1, f"consumer of {name}")
        self._running = self._thread.submit(self._run)

    def check(self) -> None:
        """Raise what it did not expect."""
        if self._running.done():
            self._running.result()

    def end(self) -> None:
        """End it; raise what it did not expect."""
        self._over.set()
        self._thread.shutdown()
        self._running.result()

    def _run(self) -> None:
        with client(self._target) as http:
            while not self._over.is_set():
                try:
                    self._turn(http)
                except (httpx.TransportError, _UnavailableError):
                    time.sleep(0.1)

    def _turn(self, http: httpx.Client) -> None:
        path = f"/v1/subscriptions/{self._name}"
        parameters = f"wait=1&limit=200&lease={LEASE}"
        found = _answer(http.post(f"{path}/receive?{parameters}"))["messages"]
        for each in found:
            if self._forgets and each["attempt"] == 1 and not len(self.received) % self._forgets:
                self._forgotten.add(each["id"])
            self.received.append(each["id"])
        done = [each for each in found if each["id"] not in self._forgotten]
        if done:
            self.done += [each["id"] for each in done]
            _answer(http.post(f"{path}/ack", json={"leases": [each["lease"] for each in done]}))


class Outward:
    """Takes the messages of some topics of a running appliance, from its beginning on.

    Its processes may be killed meanwhile; `verify` holds it to its promise afterwards and takes
    away what was made. The appliance must deliver to 127.0.0.1.
    """

    def __init__(self, target: Folder, topics: Sequence[str], forgets: int = 0) -> None:
        self.name = f"out-{uuid4().hex[:12]}"
        self.topics = list(topics)
        self.refused: set[str] = set()
        self._target = target
        self._forgets = forgets
        self._seen: set[str] = set()
        self._hurried_at = 0.0
        self._stack = ExitStack()
        self.is_verified = False

    def __enter__(self) -> Self:
        self.ordered = self._stack.enter_context(receiving())
        self.refusing = self._stack.enter_context(receiving(self._refuse_some))
        for kind, receiver in (("ordered", self.ordered), ("refusing", self.refusing)):
            settings = {"ordered": kind == "ordered"}
            wanted = {"name": f"{self.name}-{kind}", "url": receiver.url, "settings": settings}
            self.call("POST", "/v1/endpoints", {**wanted, "topics": self.topics})
        wanted = {"name": self.name, "topics": self.topics, "max_attempts": 1000}
        self.call("POST", "/v1/subscriptions", wanted)
        self.consumer = Consumer(self._target, self.name, self._forgets)
        self._stack.callback(self.consumer.end)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave everything as it is: what was sent is still on its way."""

    def close(self) -> None:
        """End receivers and consumer."""
        self._stack.close()

    def _refuse_some(self, got: Received) -> Reply:
        is_new = got.id not in self._seen
        self._seen.add(got.id)
        if is_new and not len(self._seen) % REFUSED_EACH:
            self.refused.add(got.id)
            return Reply(500)
        return Reply(204)

    def call(self, method: str, path: str, wanted: object = None) -> Any:
        """Ask the appliance, which is well."""
        with client(self._target) as http:
            answer = http.request(method, path, json=wanted)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    def verify(self) -> None:
        """Wait until all is out, and hold it to: at least once, none skipped, in order.

        What was sent is stored already.
        """
        rows = self._target.query(
            "SELECT id, topic FROM messages WHERE topic IN (SELECT value FROM json_each(?)) "
            "ORDER BY seq",
            json.dumps(self.topics),
        )
        stored = [row["id"] for row in rows]
        assert stored, "nothing was stored: this proves nothing"
        wait_until(
            lambda: self._is_out(set(stored)), "everything is out", PATIENCE, self._missing(stored)
        )
        wait_until(self._is_settled, "everything is noted", PATIENCE, self._state)
        for ids in self._journals().values():
            assert set(ids) == set(stored)
        for topic in self.topics:
            came = [got.id for got in self.ordered.journal if got.topic == topic]
            assert list(dict.fromkeys(came)) == [row["id"] for row in rows if row["topic"] == topic]
        self.is_verified = True
        self.consumer.end()
        for kind in ("ordered", "refusing"):
            self.call("DELETE", f"/v1/endpoints/{self.name}-{kind}")
        self.call("DELETE", f"/v1/subscriptions/{self.name}")

    def repeated(self) -> dict[str, int]:
        """Return how many messages came more than once, by where they came."""
        return {name: len(ids) - len(set(ids)) for name, ids in self._journals().items()}

    def _journals(self) -> dict[str, list[str]]:
        return {
            "ordered": self.ordered.ids,
            "refusing": self.refusing.ids,
            "pulled": list(self.consumer.done),
        }

    def _is_out(self, stored: set[str]) -> bool:
        self.consumer.check()
        if all(stored <= set(ids) for ids in self._journals().values()):
            return True
        self._hurry()
        return False

    def _hurry(self) -> None:
        """Have what was refused tried at once; each such wish begins the couriers anew."""
        if time.monotonic() < self._hurried_at + 1:
            return
        self._hurried_at = time.monotonic()
        for kind in ("ordered", "refusing"):
            self.call("POST", f"/v1/endpoints/{self.name}-{kind}/resume", {})

    def _is_settled(self) -> bool:
        pulled = self.call("GET", f"/v1/subscriptions/{self.name}")
        assert (pulled["dead"], pulled["gone"]) == (0, 0), pulled
        if pulled["lag"] + pulled["leased"] + pulled["waiting"]:
            return False
        for kind in ("ordered", "refusing"):
            shown = self.call("GET", f"/v1/endpoints/{self.name}-{kind}")
            assert (shown["totals"]["given_up"], shown["totals"]["gone"]) == (0, 0), shown
            left = shown["undelivered"]
            if shown["behind"] or left["waiting"] or left["held_topics"]:
                self._hurry()
                return False
        return True

    def _missing(self, stored: list[str]) -> Any:
        def words() -> str:
            missing = {}
            for name, ids in self._journals().items():
                left = [each for each in stored if each not in set(ids)]
                missing[name] = (len(left), left[:3])
            return f"missing: {missing}\n{self._state()}\n{self._target.logs()}"

        return words

    def _state(self) -> str:
        names = [f"/v1/endpoints/{self.name}-{kind}" for kind in ("ordered", "refusing")]
        shown = [self.call("GET", path) for path in (*names, f"/v1/subscriptions/{self.name}")]
        return json.dumps(shown, indent=1)


class _UnavailableError(Exception):
    """It was answered 503: ask again."""


def client(target: Any) -> httpx.Client:
    """Return a client with the administrator's token."""
    headers = {"Authorization": f"Bearer {target.token}"}
    return httpx.Client(base_url=target.url, headers=headers, timeout=60, trust_env=False)


def _answer(answer: httpx.Response) -> Any:
    if answer.status_code == 503:
        raise _UnavailableError
    assert answer.status_code == 200, answer.text
    return answer.json()
