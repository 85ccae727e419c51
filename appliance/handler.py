"""The interface of handlers: all that the code of others imports of the appliance.

    from appliance.handler import HandlerMessage, Reject

    def check(message: HandlerMessage) -> HandlerMessage | None:
        order = message.json()
        if order.get("test"):
            return None                                   # no row
        if not order.get("customer"):
            raise Reject("an order without a customer")   # a dead letter, at once
        return message.replace(body=order | {"checked": True})

docs/handlers.md says how to run it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_KEEP: Final[Any] = object()


class Reject(Exception):  # noqa: N818  # a verdict on a message, and no error of the function's
    """Raised by a handler: the message becomes a dead letter at once, and is not tried again.

    Any other exception is a failure of the handler: it gets the message again, a few times.
    """


@dataclass(frozen=True)
class HandlerMessage:
    """A message that a handler gets, and that it returns.

    `meta` says how it came (docs/read.md, Meta); the headers that were kept are its `headers`.
    What is returned keeps the input's meta, whatever is done to it here.
    """

    topic: str
    id: str
    body: bytes
    content_type: str | None = None
    received_at: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    #: 1 for the first time that a handler gets the message
    attempt: int = 1

    @property
    def headers(self) -> Mapping[str, str]:
        """The kept headers of the request, by name in lower case."""
        headers = self.meta.get("headers", {})
        return headers if isinstance(headers, Mapping) else {}

    def text(self) -> str:
        """Return the body as text. Raises UnicodeDecodeError where it is not UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """Return the body's JSON. Raises ValueError where it is none."""
        return json.loads(self.body)

    def replace(
        self,
        *,
        body: Any = _KEEP,
        topic: str | None = None,
        content_type: str | None = _KEEP,
    ) -> "HandlerMessage":
        """Return this message with another body, topic or content type.

        A body can be bytes, text, or anything else that JSON can say; that becomes JSON.
        """
        new_type: str | None = self.content_type if content_type is _KEEP else content_type
        data = self.body
        if isinstance(body, str):
            data = body.encode()
        elif isinstance(body, bytes | bytearray | memoryview):
            data = bytes(body)
        elif body is not _KEEP:
            data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
            if content_type is _KEEP:
                new_type = "application/json"
        return HandlerMessage(
            topic or self.topic, self.id, data, new_type, self.received_at, self.meta, self.attempt
        )
