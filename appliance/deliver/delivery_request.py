"""The request that carries a message: its bytes as they came, signed anew. Pure.

The body goes out byte for byte, with its content type. The signature is of this attempt: its time
is now, so that a receiver's clock accepts it, and `webhook-id` is the message's id at each attempt,
so that a receiver can tell that it comes again.
"""

from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any, Final

import orjson

from appliance.auth.signatures import standard
from appliance.model.endpoint_url import EndpointUrl
from appliance.store.rows import StoredMessage

#: Says the topic of the message; the name of the header that carries it.
TOPIC_HEADER: Final = "appliance-topic"
#: Says that the message was replayed, by the replay's id.
REPLAY_HEADER: Final = "appliance-replay"


class RequestMaker:
    """Makes the requests of one endpoint.

    `passed` are names of headers that go on with a message that came with them; `headers` are sent
    with each request.
    """

    def __init__(
        self,
        url: EndpointUrl,
        secrets: Sequence[str],
        passed: Sequence[str],
        headers: Sequence[tuple[str, str]],
    ) -> None:
        self._secrets = secrets
        own = {name for name, _ in headers}
        self._passed = [name for name in passed if name not in own]
        lines = [
            f"POST {url.target} HTTP/1.1",
            f"host: {url.authority}",
            f"user-agent: queue-appliance/{metadata.version('queue-appliance')}",
            *(f"{name}: {value}" for name, value in headers),
        ]
        self._begin = ("\r\n".join(lines) + "\r\n").encode("ascii")

    def head(self, message: StoredMessage, now: int, replay: str | None = None) -> bytes:
        """Return the head of a message's request; `now` is the Unix time in seconds.

        `replay` is the id of the replay that it is sent by; None: by none.
        """
        lines = standard.sign(self._secrets, message.id, now, message.body)
        lines[TOPIC_HEADER] = message.topic
        lines["content-length"] = str(len(message.body))
        if message.content_type:
            lines["content-type"] = message.content_type
        if replay is not None:
            lines[REPLAY_HEADER] = replay
        lines |= _kept(message.meta, self._passed)
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if _is_safe(value))
        return self._begin + text.encode() + b"\r\n"


def _kept(meta: str | None, passed: Sequence[str]) -> dict[str, str]:
    """Return those of the headers with which a message came that go on with it."""
    if not passed or not meta:
        return {}
    try:
        headers: Any = orjson.loads(meta)["headers"]
        return dict(_texts(headers, passed))
    except (
        orjson.JSONDecodeError,
        KeyError,
        TypeError,
        AttributeError,
    ):  # written by another program
        return {}


def _texts(headers: Any, passed: Sequence[str]) -> Iterator[tuple[str, str]]:
    for name in passed:
        if isinstance(value := headers.get(name), str):
            yield name, value


def _is_safe(value: str) -> bool:
    """Whether a value is one line: another program can have written anything into a row."""
    return value.isprintable()
