"""Sending messages to the API for `appliance publish`: one, or an input's lines in batches."""

import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from appliance.cli.batching import Batch, read_batches, read_file_batches
from appliance.cli.text.words import counted
from appliance.cli.unfinished import UnfinishedRun
from appliance.client import Answer, Client
from appliance.errors import ApplianceError, ClientError, InputError

#: Seconds to wait for the last message to become a row, and between two looks.
_WAIT_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.05
#: Media types of what is sent.
_BYTES: Final = "application/octet-stream"
_NDJSON: Final = "application/x-ndjson"


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
    #: lines that became dead letters, by reason
    dead: Counter[str] = field(default_factory=Counter)
    #: number of the line at which an earlier run was gone on with
    resumed_at: int | None = None
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
            "dead": dict(self.dead),
            "resumed_at_line": self.resumed_at,
            "requests": self.requests,
            "first_id": self.first_id,
            "last_id": self.last_id,
            "seconds": round(self.seconds, 3),
            "rate": round(self.rate, 1),
        }


class Sender:
    """Sends to one topic, in order: the next batch goes once the one before is confirmed.

    Every request has an idempotency key of its own, so that one whose answer got lost can be sent
    again and is stored once. Each is retried for `patience` seconds. With `keeps_good` the bad
    lines of a batch become dead letters; with `ndjson` a line that is not JSON is a bad one.
    `further` are parameters of each request.
    """

    def __init__(
        self,
        client: Client,
        topic: str,
        patience: float,
        *,
        keeps_good: bool = False,
        ndjson: bool = False,
        further: Mapping[str, str] | None = None,
    ) -> None:
        self._client = client
        self._address = f"/v1/topics/{topic}/messages"
        self._further = dict(further or {})
        self._patience = patience
        self._keeps_good = keeps_good
        self._ndjson = ndjson
        self._run = uuid.uuid4().hex
        self._started = time.monotonic()
        self.sent = Sent(topic)

    def send_one(self, body: bytes) -> None:
        """Send one message. Raises InputError where it is refused."""
        answer = self._post(self._path(), body, f"{self._run}-0", _BYTES)
        if answer.status >= 400:
            raise InputError(answer.detail)
        receipt = answer.json()
        self._count(1, len(body), [receipt["id"]])
        if receipt.get("status") == "quarantined":
            self.sent.dead[receipt.get("reason", "quarantined")] += 1

    def send_lines(self, descriptor: int) -> Iterator[int]:
        """Send each line; yield the bytes done after each batch.

        Raises InputError, naming the lines, for the first batch that is refused. The batches
        before it stay sent.
        """
        for batch in read_batches(descriptor):
            if batch.data.strip(b"\r\n"):
                self._send_batch(batch, f"{self._run}-{self.sent.requests}")
            yield len(batch.data)

    def send_file(self, descriptor: int, run: UnfinishedRun) -> Iterator[int]:
        """Send each line of a file from where the run is; yield the bytes done after each batch.

        The caller finishes the run. Raises what `send_lines` does, and FolderError where the
        progress can't be noted.
        """
        for batch in read_file_batches(descriptor, run.offset, run.line, run.pending_end):
            key = run.begin(batch)
            if batch.data.strip(b"\r\n"):
                try:
                    self._send_batch(batch, key)
                except InputError:
                    run.refused()
                    raise
            run.kept(batch)
            yield len(batch.data)

    def _send_batch(self, batch: Batch, key: str) -> None:
        asked = {} if self._ndjson else {"split": "lines"}
        if self._keeps_good:
            asked |= {"on-bad": "dead-letter", "line": str(batch.first)}
        try:
            answer = self._post(
                self._path(asked), batch.data, key, _NDJSON if self._ndjson else _BYTES
            )
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
        self.sent.dead.update(receipt.get("dead", {}).get("reasons", {}))

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

    def _path(self, asked: Mapping[str, str] | None = None) -> str:
        query = urlencode({**(asked or {}), **self._further})
        return f"{self._address}?{query}" if query else self._address

    def _post(self, path: str, body: bytes, key: str, content_type: str) -> Answer:
        headers = {"Content-Type": content_type, "Idempotency-Key": key}
        return self._client.request("POST", path, body, headers, patience=self._patience)

    def _count(self, messages: int, size: int, ids: list[str]) -> None:
        sent = self.sent
        sent.messages += messages
        sent.bytes += size
        sent.requests += 1
        if ids:
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
