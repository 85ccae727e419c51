"""A client that sends, keeps a journal of what it was answered, and holds the appliance to it."""

import http.client
import time
from collections import Counter
from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Any, Self

import httpx
import pika
from harness import Folder, Stack, wait_until

from appliance.broker import base
from appliance.drill import load as drill
from appliance.drill.check import DrillResult, check
from appliance.drill.journal import Attempt, Fate
from appliance.drill.load import ANSWER_SECONDS, MIXED, Style

__all__ = ["ANSWER_SECONDS", "MIXED", "Attempt", "Load", "Style"]


class Load:
    """The drill's load on a stack, or on a whole appliance; sends until the block ends.

    `journal` has every attempt, oldest first of each topic.
    """

    def __init__(
        self,
        stack: Folder,
        name: str,
        senders: int = 4,
        pause: float = 0.002,
        most: int | None = None,
        styles: Sequence[Style] = (Style.PLAIN,),
        rate: float | None = None,
    ) -> None:
        self.stack = stack
        self.journal: list[Attempt] = []
        #: topic -> how its sender sends
        self.styles = {f"{name}-{n}": styles[n % len(styles)] for n in range(senders)}
        self.sending = self.make_sending(
            stack.url, stack.token, name, senders=senders, pause=pause, most=most, styles=styles,
            rate=rate, watch=self.saw,
        )  # fmt: skip

    def make_sending(self, *arguments: Any, **options: Any) -> drill.Load:
        """Make what sends; a subclass may send something else."""
        return drill.Load(*arguments, **options)

    def saw(self, attempt: Attempt) -> None:
        """Note an attempt; called in the senders' threads."""
        self.journal.append(attempt)

    def __enter__(self) -> Self:
        self.sending.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.sending.__exit__(kind, error, trace)

    def join(self) -> None:
        """Wait until every sender has its last answer."""
        self.sending.join()

    @property
    def accepted(self) -> list[Attempt]:
        return [attempt for attempt in self.journal if attempt.fate is Fate.ACCEPTED]

    @property
    def refused(self) -> list[Attempt]:
        return [attempt for attempt in self.journal if attempt.status == 503]

    @property
    def topics(self) -> list[str]:
        return sorted(self.sending.journal.sheets)

    def wait_accepted(self, more: int, timeout: float = 60.0) -> None:
        """Wait until `more` further messages were accepted."""
        goal = self.sending.journal.accepted + more
        wait_until(
            lambda: self.sending.journal.accepted >= goal,
            f"{more} more messages are accepted",
            timeout,
            lambda: f"{self.journal[-3:]}\n{self.stack.logs()}",
        )

    def verify(self, timeout: float = 60.0) -> DrillResult:
        """Hold the store to the promise: exactly once, whole, in order, and nothing else."""
        wait_until(
            lambda: self.stored() >= self.sending.journal.accepted,
            "as many rows as were answered 202",
            timeout,
            lambda: f"{self.check().faults}\n{self.stack.logs()}",
        )
        wait_drained(self.stack)
        findings = self.check()
        assert not findings.faults, f"{self.words(findings)}\n{self.stack.logs()}"
        return findings

    def stored(self) -> int:
        """Count the rows of its topics."""
        marks = ",".join("?" * len(self.topics))
        sql = f"SELECT count(*) FROM messages WHERE topic IN ({marks})"
        return self.stack.query(sql, *self.topics)[0][0]

    def check(self) -> DrillResult:
        """Compare the store with the journal as it is now."""
        folder = self.stack
        findings = check(self.sending.journal, folder.stored_rows(self.topics))
        check_sums(folder, self.topics)
        return findings

    @staticmethod
    def words(findings: DrillResult) -> str:
        return "\n".join(str(kind) for kind in findings.faults)


def check_sums(folder: Folder, topics: Sequence[str], dying: Collection[str] = ()) -> None:
    """Hold the sums that the store keeps to its rows.

    Nothing of these topics is a dead letter, but of those that are `dying`.
    """
    marks = ",".join("?" * len(topics))
    kept = folder.query(f"SELECT * FROM topics WHERE topic IN ({marks})", *topics)
    count, size = Counter(), Counter()
    for row in folder.stored_rows(topics):
        count[row.topic] += 1
        size[row.topic] += len(row.body.encode() if isinstance(row.body, str) else row.body)
    wanted = {topic: (count[topic], size[topic]) for topic in count}
    assert {row["topic"]: (row["messages"], row["bytes"]) for row in kept} == wanted
    dead = folder.query(f"SELECT * FROM dead_letters WHERE topic IN ({marks})", *topics)
    assert not [tuple(row) for row in dead if row["topic"] not in dying]


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


def amqp(stack: Folder) -> pika.BlockingConnection:
    """Connect to the stack's broker as any AMQP client would."""
    return pika.BlockingConnection(pika.URLParameters(stack.broker_url))


def depth(stack: Folder) -> int:
    """Return how many envelopes wait in the queue (not those that a worker holds)."""
    with amqp(stack) as link:
        return link.channel().queue_declare(base.QUEUE, passive=True).method.message_count


def wait_drained(stack: Folder) -> None:
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
