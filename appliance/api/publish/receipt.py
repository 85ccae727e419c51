"""The receipt of a request: its messages, and the answer that tells the client of them."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import orjson

from appliance.api.bodies import bad_lines
from appliance.api.bodies.bad_lines import BadLine
from appliance.api.bodies.plan import SINGLE, Form
from appliance.model.ids import ids_from

#: Ids that a batch's answer lists; of a larger one it names the first and the last.
_LISTED_IDS: Final = 1000


class Receipt(NamedTuple):
    """The outcome of a request: its first message, how many there are, whether they are rows.

    `bad` are those of them that become dead letters; None where none can.
    `is_repeat` is whether the same request came before, and nothing more was kept. `own_ids` are
    the ids of messages that each have a key; of others the ids follow from the first. `due_at` is
    when the messages become rows, where they are delayed; `expires_at` is when they are over.
    """

    topic: str
    form: Form
    first_id: str
    message_count: int
    received_at: str
    is_stored: bool
    bad: Sequence[BadLine] | None = None
    is_repeat: bool = False
    own_ids: tuple[str, ...] | None = None
    due_at: str | None = None
    expires_at: str | None = None

    @property
    def last_id(self) -> str | None:
        """The id of the last message that becomes a row; None where none does."""
        if self.own_ids is not None:
            return self.own_ids_of_rows[-1] if self.own_ids_of_rows else None
        prefix, first = self.first_id[:-8], int(self.first_id[-8:], 16)
        last = self.message_count - 1
        for each in reversed(self.bad or ()):
            if each.place != last:
                break
            last -= 1
        return f"{prefix}{first + last:08x}" if last >= 0 else None

    @property
    def own_ids_of_rows(self) -> list[str]:
        """The ids of messages that each have a key, but for those that become dead letters."""
        dead = {each.place for each in self.bad or ()}
        return [i for place, i in enumerate(self.own_ids or ()) if place not in dead]

    @property
    def ids_of_rows(self) -> list[str]:
        """The ids of all messages that become rows."""
        if self.own_ids is not None:
            return self.own_ids_of_rows
        ids = ids_from(self.first_id, self.message_count)
        for each in reversed(self.bad or ()):
            del ids[each.place]
        return ids

    def answer(self, wait_seconds: float | None, prefix: str) -> tuple[int, bytes, bytes]:
        """Return the answer's status, headers (each ended by CRLF) and JSON body.

        `prefix` stands before the path of the address that is named.
        `wait_seconds` is what the request's `Prefer: wait` asked for; None where it had none.
        """
        is_single = self.form in SINGLE
        headers = b"content-type: application/json\r\n"
        if is_single:
            headers += f"location: {prefix}/v1/messages/{self.first_id}\r\n".encode("ascii")
        if wait_seconds is not None:
            headers += b"preference-applied: wait=%d\r\n" % wait_seconds
        is_done = self.is_stored and wait_seconds is not None
        return 201 if is_done else 202, headers, self._encode(is_single=is_single)

    def _encode(self, *, is_single: bool) -> bytes:
        waiting = "queued" if self.due_at is None else "delayed"
        status = "stored" if self.is_stored else waiting
        members: dict[str, object]
        if is_single:
            members = {
                "id": self.first_id,
                "topic": self.topic,
                "status": status,
                "received_at": self.received_at,
            }
            if self.bad:
                members |= {
                    "status": "quarantined",
                    "reason": self.bad[0].reason,
                    "error": self.bad[0].error,
                }
        else:
            members = {
                "topic": self.topic,
                "status": status,
                "received_at": self.received_at,
                "count": self.message_count - len(self.bad or ()),
                "ids": self._ids(),
            }
            if self.bad is not None:
                members["dead"] = bad_lines.summary(self.bad)
        if self.due_at is not None:
            members["due_at"] = self.due_at
        if self.expires_at is not None:
            members["expires_at"] = self.expires_at
        return orjson.dumps(members, option=orjson.OPT_APPEND_NEWLINE)

    def _ids(self) -> list[str]:
        """Return the ids of the messages that become rows, or the first and the last of many."""
        if self.own_ids is None and not self.bad:
            if self.message_count <= _LISTED_IDS:
                return ids_from(self.first_id, self.message_count)
            return [self.first_id, self.last_id or ""]
        ids = self.ids_of_rows
        return ids if len(ids) <= _LISTED_IDS else [ids[0], ids[-1]]
