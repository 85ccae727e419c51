"""A load as real senders make it: signed at inbox addresses, packed with gzip, with bad lines.

What is bad on purpose must become a dead letter, by the same promise: each exactly once, or, where
it was refused, not at all.
"""

import gzip
import hashlib
import hmac
import json
import time
from collections.abc import Sequence
from enum import Enum
from typing import Any
from uuid import uuid4

import httpx
from harness import Folder, wait_until
from load import wait_drained
from watched import WatchedLoad

from appliance.client import ApiConnection, NoAnswerError
from appliance.drill import load as drill
from appliance.drill.check import DrillResult, StoredRow, check
from appliance.drill.journal import Attempt, Journal, text

SECRET = "It's a Secret to Everybody"


class Way(Enum):
    """How a sender sends; each sends again under the same key until it is accepted."""

    #: as GitHub does, to an inbox address
    SIGNED = "signed"
    #: one message, packed
    GZIP = "gzip"
    #: many lines, packed, to an inbox address
    GZIP_LINES = "gzip-lines"
    #: NDJSON of which every other line is no JSON
    BAD_LINES = "bad-lines"
    #: with another secret, to an inbox that keeps what is wrong; each is sent once, for nobody
    #: knows whether the key of such a request is its sender's
    QUARANTINED = "quarantined"


#: Seconds between two requests that are quarantined: an inbox can put in 600 a minute.
QUARANTINE_PAUSE = 0.2
#: Ways whose requests have many messages.
MANY = frozenset({Way.GZIP_LINES, Way.BAD_LINES})


class RoutedJournal(Journal):
    """Notes what must be a row, and in `dead` what must be a dead letter."""

    def __init__(self, ways: dict[str, Way]) -> None:
        super().__init__()
        self.dead = Journal()
        self._ways = ways

    def note(self, attempt: Attempt) -> None:
        way = self._ways[attempt.topic]
        if way in (Way.BAD_LINES, Way.QUARANTINED):
            self.dead.note(attempt)
        if way is not Way.QUARANTINED:
            super().note(attempt)


class SendersLoad(WatchedLoad):
    """A sender for each of `ways`."""

    def __init__(
        self, target: Folder, name: str, ways: Sequence[Way] = tuple(Way), **options: Any
    ) -> None:
        self.ways = {f"{name}-{number}": way for number, way in enumerate(ways)}
        styles = [_style(way) for way in ways]
        self._journal = RoutedJournal(self.ways)
        self.dying = frozenset(t for t, way in self.ways.items() if way is Way.BAD_LINES)
        super().__init__(target, name, senders=len(ways), **{"styles": styles, **options})
        self.addresses = {topic: _address(target, topic, way) for topic, way in self.ways.items()}

    def make_sending(self, *arguments: Any, **options: Any) -> drill.Load:
        return _Sending(self, *arguments, journal=self._journal, **options)

    def request(self, topic: str, first: int) -> tuple[str, bytes, dict[str, str]]:
        """Return path, body and headers of the request that begins with this message."""
        way, key = self.ways[topic], f"{topic}-{first}"
        path, headers = f"/v1/topics/{topic}/messages", {"Idempotency-Key": key}
        body = text(topic, first).encode()
        if way is Way.GZIP:
            return path, gzip.compress(body), {**headers, "Content-Encoding": "gzip"}
        lines = [text(topic, first + number) for number in range(drill.BATCH)]
        if way is Way.GZIP_LINES:
            packed = gzip.compress("\n".join(lines).encode())
            headers["Content-Encoding"] = "gzip"
            return f"{self.addresses[topic]}?split=lines", packed, headers
        if way is Way.BAD_LINES:
            both = "\n".join(f"{json.dumps(line)}\n{line}" for line in lines).encode()
            headers["Content-Type"] = "application/x-ndjson"
            return f"{path}?on-bad=dead-letter", both, headers
        secret = SECRET if way is Way.SIGNED else "the secret of somebody else"
        code = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        signed = {
            "X-Hub-Signature-256": f"sha256={code}",
            "X-GitHub-Delivery": key,
            "X-GitHub-Event": "push",
        }
        return self.addresses[topic], body, signed

    def verify(self, timeout: float = 120.0) -> DrillResult:
        folder, dead = self.stack, self._journal.dead
        wait_until(
            lambda: len(self.dead_rows(folder)) >= dead.accepted,
            "as many dead letters as were answered 202",
            timeout,
            lambda: f"{self.words(check(dead, self.dead_rows(folder)))}\n{folder.logs()}",
        )
        wait_drained(folder)
        assert all(any(sheet.fate(n) for n in range(len(sheet))) for sheet in dead.sheets.values())
        findings = check(dead, self.dead_rows(folder))
        assert not findings.faults, f"{self.words(findings)}\n{self.kept_journal(folder)}"
        self.note(dead_letters=findings.stored)
        return super().verify(timeout)

    def rows(self, folder: Folder) -> list[StoredRow]:
        """Return the rows; a line that was sent as a JSON string is what that says."""
        return [
            row._replace(body=json.loads(row.body))
            if self.ways.get(row.topic) is Way.BAD_LINES
            else row
            for row in super().rows(folder)
        ]

    def dead_rows(self, folder: Folder) -> list[StoredRow]:
        """Return the dead letters of its topics, in the order of storing.

        The ids of bad lines are not told, so each has that of the good line before it.
        """
        found = folder.query("SELECT topic, id, body FROM dead_letters ORDER BY seq")
        rows = []
        for topic, message_id, body in found:
            if topic in self.ways:
                content = body.decode() if isinstance(body, bytes) else body
                number = int(content.split(" ", 2)[1])
                sheet = self._journal.dead.sheet(topic)
                is_told = self.ways[topic] is Way.QUARANTINED or number >= len(sheet)
                answered = message_id if is_told else sheet.id(number)
                rows.append(StoredRow(topic, answered, content))
        return rows


def _style(way: Way) -> drill.Style:
    if way is Way.QUARANTINED:
        return drill.Style.PLAIN
    return drill.Style.BATCH if way in MANY else drill.Style.KEYED


def _address(target: Any, topic: str, way: Way) -> str:
    """Make an inbox address for a topic; return its path."""
    wanted: dict[str, Any] = {"topic": topic, "name": f"{way.value}-{uuid4().hex}"}
    if way in (Way.SIGNED, Way.QUARANTINED):
        wanted |= {"kind": "github", "secrets": [SECRET]}
    if way is Way.QUARANTINED:
        wanted["settings"] = {"on_invalid": "quarantine"}
    token = {"Authorization": f"Bearer {target.token}"}
    answer = httpx.post(
        f"{target.url}/v1/inboxes", json=wanted, headers=token, timeout=30, trust_env=False
    )
    assert answer.status_code == 201, answer.text
    return "/in/" + answer.json()["address"].rpartition("/")[2]


class _Sending(drill.Load):
    """The drill's load, with the requests of real senders."""

    def __init__(self, owner: SendersLoad, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._owner = owner

    def _attempt(
        self, link: ApiConnection, topic: str, first: int, count: int, style: drill.Style
    ) -> Attempt:
        path, body, headers = self._owner.request(topic, first)
        if self._owner.ways[topic] is Way.QUARANTINED:
            self._stop.wait(QUARANTINE_PAUSE)
        began = time.monotonic()
        try:
            answer = link.send("POST", path, body, headers)
            content = json.loads(answer.body)
        except (*NoAnswerError, ValueError) as error:
            link.close()
            took = time.monotonic() - began
            return Attempt(topic, first, count, 0, (), began, took, detail=repr(error))
        took = time.monotonic() - began
        if answer.status in (200, 201, 202):  # 200: it was accepted by an earlier attempt
            ids = tuple(content["ids"]) if "ids" in content else (content["id"],)
            return Attempt(topic, first, count, 202, ids, began, took)
        return Attempt(
            topic, first, count, answer.status, (), began, took,
            headers=answer.headers,
            problem=str(content.get("type", "")).rpartition(":")[2],
            detail=str(content.get("detail", "")),
        )  # fmt: skip
