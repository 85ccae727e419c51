"""A client that sends, keeps a journal of what it was answered, and holds the appliance to it."""

import contextlib
import http.client
import json
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx
import pika
from harness import Stack, wait_until

from appliance.broker import topology

#: Seconds; any honest answer comes sooner, and a test that hangs says so.
ANSWER_SECONDS = 60.0


@dataclass(frozen=True)
class Entry:
    """One attempt: what was sent, and what came back; `status` 0 where no answer did."""

    topic: str
    body: str
    status: int
    id: str | None
    seconds: float
    headers: dict[str, str]
    problem: str = ""


class Load:
    """Senders that each post to a topic of their own, one message after another.

    A topic has one sender, so the order in which it was answered is the order it must be stored
    in. As a context manager it sends until the block ends.
    """

    def __init__(
        self, stack: Stack, name: str, senders: int = 4, pause: float = 0.002, most: int = 100_000
    ) -> None:
        self.stack = stack
        self.journal: list[Entry] = []
        self._pause = pause
        self._most = most
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(f"{name}-{n}",), daemon=True)
            for n in range(senders)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self.join()

    def join(self) -> None:
        """Wait until every sender has its last answer."""
        for thread in self._threads:
            thread.join(ANSWER_SECONDS + 10)
            assert not thread.is_alive(), "a sender waits for ever"

    @property
    def accepted(self) -> list[Entry]:
        return [entry for entry in self.journal if entry.status in (201, 202)]

    @property
    def refused(self) -> list[Entry]:
        return [entry for entry in self.journal if entry.status == 503]

    def wait_accepted(self, more: int, timeout: float = 60.0) -> None:
        """Wait until `more` further messages were accepted."""
        goal = len(self.accepted) + more
        wait_until(
            lambda: len(self.accepted) >= goal,
            f"{more} more messages are accepted",
            timeout,
            lambda: f"{self.journal[-3:]}\n{self.stack.logs()}",
        )

    def _send(self, topic: str) -> None:
        with contextlib.closing(connect(self.stack)) as link:  # it connects again by itself
            for number in range(self._most):
                if self._stop.is_set():
                    break
                self.journal.append(self._attempt(link, topic, f"{topic} {number}"))
                self._stop.wait(self._pause if self.journal[-1].status else 0.05)

    def _attempt(self, link: http.client.HTTPConnection, topic: str, body: str) -> Entry:
        began = time.monotonic()
        try:
            status, headers, content = post(link, self.stack, topic, body.encode())
        except (OSError, http.client.HTTPException) as error:
            link.close()
            return Entry(topic, body, 0, None, time.monotonic() - began, {}, repr(error))
        took, answer = time.monotonic() - began, json.loads(content)
        return Entry(topic, body, status, answer.get("id"), took, headers, answer.get("detail", ""))

    def verify(self, timeout: float = 60.0) -> None:
        """Hold the store to the promise: exactly once, whole, in order, and nothing else."""
        stack, accepted = self.stack, self.accepted
        topics = {entry.topic for entry in self.journal}
        marks = ",".join("?" * len(topics))

        def rows() -> list[tuple[str, str, str]]:
            found = stack.query(
                f"SELECT topic, id, body FROM messages WHERE topic IN ({marks}) ORDER BY seq",
                *topics,
            )
            return [tuple(row) for row in found]

        wanted = {(entry.topic, entry.id, entry.body) for entry in accepted}
        wait_until(
            lambda: wanted <= set(rows()),
            "every message that was answered 202 is a row",
            timeout,
            lambda: f"missing {sorted(wanted - set(rows()))[:5]}\n{stack.logs()}",
        )
        wait_drained(stack)
        stored = rows()
        bodies = [body for _, _, body in stored]
        assert len(set(bodies)) == len(bodies), "stored twice"
        assert set(bodies) <= {entry.body for entry in self.journal}, "stored but never sent"
        assert not stack.query(f"SELECT * FROM dead_letters WHERE topic IN ({marks})", *topics)
        place = {body: number for number, body in enumerate(bodies)}
        for topic in topics:
            order = [place[entry.body] for entry in accepted if entry.topic == topic]
            assert order == sorted(order), f"{topic} is out of order"
        sums = stack.query(f"SELECT * FROM topics WHERE topic IN ({marks})", *topics)
        for kept in sums:
            mine = [body for topic, _, body in stored if topic == kept["topic"]]
            assert (kept["messages"], kept["bytes"]) == (len(mine), sum(map(len, mine)))


def connect(stack: Stack, timeout: float = ANSWER_SECONDS) -> http.client.HTTPConnection:
    """Return a connection to the API that opens with its first request."""
    return http.client.HTTPConnection(stack.url.removeprefix("http://"), timeout=timeout)


def post(
    link: http.client.HTTPConnection, stack: Stack, topic: str, body: bytes, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """POST one message; return status, headers in lower case, body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named["Authorization"] = f"Bearer {stack.token}"
    link.request("POST", f"/v1/topics/{topic}/messages", body, named)
    answer = link.getresponse()
    content = answer.read()
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, content


def amqp(stack: Stack) -> pika.BlockingConnection:
    """Connect to the stack's broker as any AMQP client would."""
    return pika.BlockingConnection(pika.URLParameters(stack.broker.url))


def depth(stack: Stack) -> int:
    """Return how many envelopes wait in the queue (not those that a worker holds)."""
    with amqp(stack) as link:
        return link.channel().queue_declare(topology.QUEUE, passive=True).method.message_count


def wait_drained(stack: Stack) -> None:
    """Wait until nothing waits in the queue and nothing more is stored."""

    def quiet() -> bool:
        before = stack.count()
        if depth(stack):
            return False
        time.sleep(0.4)
        return stack.count() == before

    wait_until(quiet, "the queue is drained", 60, stack.logs)


def wait_accepting(stack: Stack, timeout: float = 90.0) -> None:
    """Wait until the API answers and the broker would confirm; there need be no worker."""

    def accepting() -> bool:
        try:
            return bool(stack.get("/readyz").json()["checks"].get("broker_accepts"))
        except httpx.TransportError:
            return False

    wait_until(accepting, "the API accepts", timeout, stack.logs)
