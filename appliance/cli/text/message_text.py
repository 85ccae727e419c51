"""Messages, written for people."""

import base64
import json
import re
from typing import Any, Final

from appliance.cli.text.words import coloured, printable, size
from appliance.model.json_pretty import pretty

#: Bytes of a binary body that are shown, and bytes of a line.
_SHOWN_BYTES: Final = 512
_LINE_BYTES: Final = 16
#: The status of a message whose body can't be read yet -> why.
_NOT_YET: Final = {
    "delayed": "its body can be read once it is due",
    "waiting": "it waits for its handler",
}
#: A field of a message that was handled -> its member.
_HANDLED: Final = {
    "id": "id", "topic": "topic", "handled": "handled_at", "outcome": "outcome",
    "results": "results",
}  # fmt: skip
_SPACE: Final = re.compile(r"\s+")
#: Characters of a body in a list.
_SHOWN_CHARACTERS: Final = 120


def whole_message(message: dict[str, Any]) -> str:
    """Return the lines that show one message: what is known of it, and its body."""
    status = message["status"]
    if status == "handled":
        return _handled(message)
    if status in _NOT_YET:  # its body is not shown
        message = {"received_at": message.get("accepted_at"), **message}
        message |= {"body": None, "encoding": None}
    body, encoding = message["body"], message["encoding"]
    raw = b"" if body is None else _bytes(body, encoding)
    length = message.get("bytes", len(raw))
    fields = {"id": message["id"], "topic": message["topic"], "received": message["received_at"]}
    fields |= _fields_of_status(message)
    fields["type"] = message["content_type"]
    fields["size"] = size(length)
    lines = [
        f"{coloured(f'{name:<9}', 'cyan')} {printable(str(value))}"
        for name, value in fields.items()
        if value is not None
    ]
    if message["meta"] is not None:
        meta = json.dumps(message["meta"], ensure_ascii=False, indent=2)
        lines += [coloured("came with", "cyan"), *(printable(line) for line in meta.splitlines())]
    lines.append("")
    if body is None:
        lines.append(_NOT_YET.get(status, "too long to be shown: --body writes every byte"))
    elif encoding == "base64":
        lines += _hex(raw)
    else:
        lines.append(printable(pretty(body) or body))
    return "\n".join(lines)


def _fields_of_status(message: dict[str, Any]) -> dict[str, Any]:
    """Return what is said of a message that is no row."""
    if message["status"] == "dead":
        return {
            "died": message["dead_at"], "reason": message["reason"], "error": message["error"]
        }  # fmt: skip
    if message["status"] == "delayed":
        return {"due": message["due_at"]}
    if message["status"] == "waiting":
        return {"failures": message["attempts"] or None}
    return {}


def _handled(message: dict[str, Any]) -> str:
    """Return the lines about a message that was handled, and of which no row has the id."""
    fields = {name: message[key] for name, key in _HANDLED.items()}
    lines = [
        f"{coloured(f'{name:<9}', 'cyan')} {printable(str(value))}"
        for name, value in fields.items()
    ]
    return "\n".join([*lines, *(f"  {each}" for each in message["result_ids"])])


def message_line(message: dict[str, Any]) -> str:
    """Return the line of one message in a list: its time, id and topic, and where it was found."""
    if message["encoding"] == "base64":
        text = f"{len(_bytes(message['body'], 'base64')):,} bytes that are no text"
    elif message.get("excerpt"):
        text = "".join(
            coloured(_flat(part["text"]), "yellow") if part["hit"] else _flat(part["text"])
            for part in message["excerpt"]
        )
    else:
        text = _flat(message["body"][: _SHOWN_CHARACTERS + 1])
        if len(message["body"]) > _SHOWN_CHARACTERS:
            text = f"{text[:_SHOWN_CHARACTERS]}…"
    topic = coloured(message["topic"], "cyan")
    return f"{message['received_at']}  {message['id']}  {topic}  {text}"


def _flat(text: str) -> str:
    """Return text as it fits into a line."""
    return printable(_SPACE.sub(" ", text))


def _bytes(body: str, encoding: str) -> bytes:
    return base64.b64decode(body) if encoding == "base64" else body.encode()


def _hex(raw: bytes) -> list[str]:
    """Return the beginning of bytes that are no text, as hexdump -C shows it."""
    lines = []
    for start in range(0, min(len(raw), _SHOWN_BYTES), _LINE_BYTES):
        part = raw[start : start + _LINE_BYTES]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):<{3 * _LINE_BYTES}} |{text}|")
    if len(raw) > _SHOWN_BYTES:
        lines.append(f"and {size(len(raw) - _SHOWN_BYTES)} more: --body writes every byte")
    return lines
