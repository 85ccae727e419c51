"""The ways in which the senders of a load send: as clients do, and as real webhooks do.

What is bad on purpose must become a dead letter, by the same promise as a row: each exactly once,
or, where it was refused, not at all. So must each result of a handler.
"""

import gzip
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any
from uuid import uuid4

from load import Attempt

from appliance.client import ApiConnection, NoAnswerError
from appliance.drill import load as drill
from appliance.drill.journal import Journal, text
from appliance.model.handler_outcomes import result_ids

SECRET = "It's a Secret to Everybody"


class Way(Enum):
    """How a sender sends. But for the plain and the quarantined, each sends what is not accepted
    again under the same key until it is.
    """

    #: one message a request
    PLAIN = "plain"
    #: one message, packed
    GZIP = "gzip"
    #: as GitHub does, to an inbox address
    SIGNED = "signed"
    #: many lines, packed, to an inbox address
    GZIP_LINES = "gzip-lines"
    #: NDJSON of which every other line is no JSON
    BAD_LINES = "bad-lines"
    #: as GitHub does, with another secret, to an inbox that keeps what is wrong; each is sent once,
    #: for nobody knows whether the key of such a request is its sender's
    QUARANTINED = "quarantined"
    #: one message, with a key
    KEYED = "keyed"
    #: many lines
    BATCH = "batch"
    #: a JSON array to a topic whose handler makes a message of each element
    HANDLED = "handled"


#: All that need no handler.
UNHANDLED = tuple(way for way in Way if way is not Way.HANDLED)
#: The ways of a load with as many senders as most have.
MIXED = UNHANDLED[:6]
#: Ways whose requests have many messages.
_MANY = frozenset({Way.GZIP_LINES, Way.BAD_LINES, Way.BATCH, Way.HANDLED})
_TO_AN_INBOX = frozenset({Way.SIGNED, Way.GZIP_LINES, Way.QUARANTINED})
#: Ways that make dead letters, and rows.
_DYING = frozenset({Way.BAD_LINES, Way.QUARANTINED})
#: Seconds before each further request: an inbox can put 600 letters a minute into the quarantine,
#: and each letter costs as much as some rows. What goes out again must not be too much.
_PAUSES = {Way.QUARANTINED: 0.2, Way.BAD_LINES: 0.1, Way.HANDLED: 0.1}


class RoutedJournal(Journal):
    """Notes what must be a row, and in `dead` what must be a dead letter."""

    def __init__(self, ways: Mapping[str, Way]) -> None:
        super().__init__()
        self.dead = Journal()
        self._ways = ways

    def note(self, attempt: Attempt) -> None:
        way = self._ways[attempt.topic]
        if way in _DYING:
            self.dead.note(attempt)
        if way is not Way.QUARANTINED:
            super().note(attempt)


class RealSenders(drill.Load):
    """The drill's load, with the requests of real senders; `ways` names that of each topic."""

    def __init__(self, *arguments: Any, ways: Mapping[str, Way], **options: Any) -> None:
        self._ways = ways
        self._addresses: dict[str, str] = {}
        styles: Sequence[drill.Style] = [_style(way) for way in ways.values()]
        super().__init__(*arguments, styles=styles, **options)

    def _attempt(
        self, link: ApiConnection, topic: str, first: int, count: int, style: drill.Style
    ) -> Attempt:
        way = self._ways[topic]
        if way in _PAUSES and first:
            self._stop.wait(_PAUSES[way])
        began = time.monotonic()
        try:
            if way in _TO_AN_INBOX and topic not in self._addresses:
                self._addresses[topic] = _made_address(link, topic, way)
            path, body, headers = self._request(way, topic, first)
            answer = link.send("POST", path, body, headers)
            content = json.loads(answer.body)
        except (*NoAnswerError, ValueError) as error:
            link.close()
            took = time.monotonic() - began
            return Attempt(topic, first, count, 0, (), began, took, detail=repr(error))
        took = time.monotonic() - began
        if answer.status in (200, 201, 202):  # 200: it was accepted by an earlier attempt
            ids = tuple(content["ids"]) if "ids" in content else (content["id"],)
            if way is Way.HANDLED:
                ids = tuple(result_ids(ids[0], count))
            return Attempt(topic, first, count, 202, ids, began, took)
        return Attempt(
            topic, first, count, answer.status, (), began, took,
            headers=answer.headers,
            problem=str(content.get("type", "")).rpartition(":")[2],
            detail=str(content.get("detail", "")),
        )  # fmt: skip

    def _request(self, way: Way, topic: str, first: int) -> tuple[str, bytes, dict[str, str]]:
        """Return path, body and headers of the request that begins with this message."""
        path, key = f"/v1/topics/{topic}/messages", f"{topic}-{first}"
        keyed = {"Idempotency-Key": key}
        body = text(topic, first).encode()
        if way in (Way.PLAIN, Way.KEYED):
            return path, body, keyed if way is Way.KEYED else {}
        if way is Way.GZIP:
            return path, gzip.compress(body), {**keyed, "Content-Encoding": "gzip"}
        if way in _MANY:
            lines = [text(topic, first + number) for number in range(drill.BATCH)]
            if way is Way.BAD_LINES:
                both = "\n".join(f"{json.dumps(line)}\n{line}" for line in lines).encode()
                keyed["Content-Type"] = "application/x-ndjson"
                return f"{path}?on-bad=dead-letter", both, keyed
            if way is Way.HANDLED:
                return path, json.dumps(lines).encode(), keyed
            joined = "\n".join(lines).encode()
            if way is Way.BATCH:
                return f"{path}?split=lines", joined, keyed
            address = f"{self._addresses[topic]}?split=lines"
            return address, gzip.compress(joined), {**keyed, "Content-Encoding": "gzip"}
        secret = SECRET if way is Way.SIGNED else "the secret of somebody else"
        code = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        signed = {
            "X-Hub-Signature-256": f"sha256={code}",
            "X-GitHub-Delivery": key,
            "X-GitHub-Event": "push",
        }
        return self._addresses[topic], body, signed


def _style(way: Way) -> drill.Style:
    if way in (Way.PLAIN, Way.QUARANTINED):
        return drill.Style.PLAIN
    return drill.Style.BATCH if way in _MANY else drill.Style.KEYED


def _made_address(link: ApiConnection, topic: str, way: Way) -> str:
    """Make an inbox address for a topic; return its path. Raises ValueError where it is refused.

    One whose answer is lost is left behind, and another one is made.
    """
    wanted: dict[str, Any] = {"topic": topic, "name": f"{way.value}-{uuid4().hex}"}
    if way in (Way.SIGNED, Way.QUARANTINED):
        wanted |= {"kind": "github", "secrets": [SECRET]}
    if way is Way.QUARANTINED:
        wanted["settings"] = {"on_invalid": "quarantine"}
    headers = {"Content-Type": "application/json"}
    answer = link.send("POST", "/v1/inboxes", json.dumps(wanted).encode(), headers)
    if answer.status != 201:
        raise ValueError(f"no address: {answer.status} {answer.body[:200]!r}")
    return "/in/" + str(json.loads(answer.body)["address"]).rpartition("/")[2]
