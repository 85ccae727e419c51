"""Dead letters, written for people."""

import base64
import json
from collections.abc import Iterable
from typing import Any, Final

from appliance.cli.text.words import printable, size

#: Characters of a letter's error in a list, and of its body where it is shown.
_SHORT: Final = 60
_LONG: Final = 4000

_HEAD: Final = f"{'SEQ':>8}  {'DIED AT':<24}  {'REASON':<22}  {'BYTES':>10}  TOPIC: ERROR"
#: Reason, or its beginning -> its meaning and the next step.
_HINTS: Final = {
    "undecodable": "an envelope could not be read; redrive sends its bytes as one message",
    "foreign-envelope": "a type that only our own programs may send; redrive sends its bytes",
    "conflict": "an idempotency key came again with another body; redrive stores both",
    "too-large": "over APPLIANCE_MAX_MESSAGE_BYTES; raise it, then redrive",
    "empty": "a message without a body; discard it",
    "bad-topic": "a routing key that is no topic; redrive with --to TOPIC",
    "not-json": "a line of a batch that is not JSON; redrive stores it as it is",
    "schema": "its topic's JSON Schema does not allow it; mend the schema, then redrive",
    "bad-form": "its body could not be read; see its error",
    "no-signature": "nobody signed it; compare the inbox's kind with its sender",
    "bad-signature": "signed with another secret; give the inbox that one, then redrive",
    "too-old": "signed too long ago; redrive does not look at the time",
    "too-new": "signed in the future by our clock; redrive does not look at the time",
    "unstorable": "the database refuses it; mend the cause, then redrive --reason unstorable",
    "broker-": "the broker gave it up; redrive sends it again",
}


def line(letter: dict[str, Any], *, head: bool) -> str:
    """Return a letter's line of the list; with `head`, the line of titles before it."""
    error = letter["error"]
    error = error if len(error) <= _SHORT else error[: _SHORT - 3] + "..."
    text = (
        f"{letter['seq']:>8}  {letter['dead_at']:<24}  {letter['reason']:<22}  "
        f"{letter['bytes']:>10,}  {printable(letter['topic'])}: {printable(error)}"
    )
    return f"{_HEAD}\n{text}" if head else text


def hints(reasons: Iterable[str]) -> list[str]:
    """Return a line for each reason: its meaning and the next step."""
    lines = []
    for reason in sorted(set(reasons)):
        for name, text in _HINTS.items():
            if reason == name or (name.endswith("-") and reason.startswith(name)):
                lines.append(f"{reason}: {text}")
    return lines


def whole(letter: dict[str, Any]) -> str:
    """Return the lines that show one letter, with as much of its body as fits a screen."""
    lines = [
        f"{name:<11}  {printable(str(letter[name]))}"
        for name in ("seq", "id", "topic", "received_at", "dead_at", "reason", "error")
    ]
    lines.append(f"{'size':<11}  {size(letter['bytes'])}")
    if letter["content_type"]:
        lines.append(f"{'type':<11}  {printable(letter['content_type'])}")
    if letter["meta"]:
        meta = json.dumps(letter["meta"], ensure_ascii=False, indent=2)
        lines += [f"{'came with':<11}", *(printable(each) for each in meta.splitlines())]
    body, encoding = letter["body"], letter["encoding"]
    if encoding == "base64":
        body = repr(base64.b64decode(body[:_LONG]))[2:-1]
    elif body is not None:
        body = printable(body[:_LONG])
    if body is None or letter["bytes"] > _LONG:
        lines.append("too long to be shown whole: --body writes every byte")
    return "\n".join([*lines, "", body or ""])
