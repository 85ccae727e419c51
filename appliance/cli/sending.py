"""Sending messages to the API for `appliance publish`: one, or an input's lines in batches."""

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.cli.batching import Batch, read_batches
from appliance.cli.text.words import counted
from appliance.client import Answer, Client
from appliance.errors import ApplianceError, ClientError, InputError

#: Seconds to wait for the last message to become a row, and between two looks.
_WAIT_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.05


@dataclass
class Sent:
    """Counts of the messages sent so far, all of them confirmed."""

    topic: str
    messages: int = 0
    bytes: int = 0
    requests: int = 0
    first_id: str | None = None
    last_id: str | None = None
    stored: bool = False
    seconds: float = field(default=0.0)

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "topic": self.topic,
            "status": "stored" if self.stored else "queued",
            "messages": self.messages,
            "bytes": self.bytes,
            "requests": self.requests,
            "first_id": self.first_id,
            "last_id": self.last_id,
            "seconds": round(self.seconds, 3),
            "rate": round(self.rate, 1),
        }


class Sender:
    """Sends to one topic, in order: the next batch goes once the one before is confirmed.

    Every request has an idempotency key of its own, so that one whose answer got lost can be sent
    again and is stored once. Each is retried for `patience` seconds.
    """

    def __init__(self, client: Client, topic: str, patience: float) -> None:
        self._client = client
        self._path = f"/v1/topics/{topic}/messages"
        self._patience = patience
        self._run = uuid.uuid4().hex
        self._started = time.monotonic()
        self.sent = Sent(topic)

    def send_one(self, body: bytes) -> None:
        """Send one message. Raises InputError where it is refused."""
        answer = self._post(self._path, body)
        if answer.status >= 400:
            raise InputError(answer.detail)
        self._count(1, len(body), [answer.json()["id"]])

    def send_lines(self, descriptor: int) -> Iterator[int]:
        """Send each line; yield the bytes done after each batch.

        Raises InputError, naming the lines, for the first batch that is refused. The batches
        before it stay sent.
        """
        for batch in read_batches(descriptor):
            if batch.data.strip(b"\r\n"):
                self._send_batch(batch)
            yield len(batch.data)

    def _send_batch(self, batch: Batch) -> None:
        try:
            answer = self._post(f"{self._path}?split=lines", batch.data)
        except InputError as error:
            raise InputError(self._words(batch, error)) from error
        except ClientError as error:
            raise ClientError(self._words(batch, error)) from error
        if answer.status == 413:
            raise InputError(f"{_longest(batch)}, more than the limit; {self._so_far()}")
        if answer.status >= 400:
            raise InputError(f"lines {batch.first} to {batch.last}: {answer.detail}")
        receipt = answer.json()
        self._count(receipt["count"], len(batch.data), receipt["ids"])

    def wait(self) -> None:
        """Wait until the last message is stored; those before it were stored before it.

        Raises ApplianceError where that takes too long.
        """
        if self.sent.last_id is None:
            return
        end = time.monotonic() + _WAIT_SECONDS
        path = f"/v1/messages/{self.sent.last_id}"
        while True:
            answer = self._client.request("GET", path, patience=_WAIT_SECONDS)
            if answer.status == 200:
                if answer.json()["status"] != "stored":
                    raise ApplianceError(f"it could not be stored: {answer.json()['error']}")
                self.sent.stored = True
                self.sent.seconds = time.monotonic() - self._started
                return
            if time.monotonic() > end:
                raise ApplianceError(
                    "the last message is safe in the queue, but was not stored "
                    f"within {_WAIT_SECONDS:g} s"
                )
            time.sleep(_LOOK_SECONDS)

    def _post(self, path: str, body: bytes) -> Answer:
        headers = {
            "Content-Type": "application/octet-stream",
            "Idempotency-Key": f"{self._run}-{self.sent.requests}",
        }
        return self._client.request("POST", path, body, headers, patience=self._patience)

    def _count(self, messages: int, size: int, ids: list[str]) -> None:
        sent = self.sent
        sent.messages += messages
        sent.bytes += size
        sent.requests += 1
        sent.first_id = sent.first_id or ids[0]
        sent.last_id = ids[-1]
        sent.seconds = time.monotonic() - self._started

    def _words(self, batch: Batch, error: Exception) -> str:
        return f"lines {batch.first} to {batch.last}: {error}; {self._so_far()}"

    def _so_far(self) -> str:
        count = self.sent.messages
        verb = "is" if count == 1 else "are"
        return f"{counted(count, 'message')} before {verb} on the appliance's disk"


def _longest(batch: Batch) -> str:
    """Name the longest line of a batch, by its number in the input."""
    sizes = [len(line) for line in batch.data.split(b"\n")]
    size = max(sizes)
    return f"line {batch.first + sizes.index(size)} has {size} bytes"
