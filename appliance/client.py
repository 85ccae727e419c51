"""A small HTTP client for the appliance's own API: one connection, kept open, tried again.

A request that goes unanswered, or is answered 503 or 429, is sent again until its deadline. That is
safe because whoever uses this sends only what may be repeated: GETs, POSTs with an Idempotency-Key,
redrives and DELETEs.
"""

import http.client
import json
import random
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final, Self
from urllib.parse import urlsplit

from appliance import credentials
from appliance.config import Config
from appliance.errors import ClientError, InputError

#: Seconds for one exchange: longer than the API's own deadlines for publishing and for
#: `Prefer: wait`, so that its answer comes first.
_EXCHANGE_SECONDS: Final = 90.0
#: Seconds to wait before the second attempt; doubled each time, up to the bound.
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
#: Answers that mean "later".
_LATER: Final = frozenset({429, 502, 503, 504})
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Answer:
    """What the API answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body's JSON. Raises ClientError where it is none."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise ClientError("what answered is not the appliance's API") from error

    @property
    def detail(self) -> str:
        """What the answer says in words."""
        try:
            problem = json.loads(self.body)
            return str(problem["detail"])
        except (ValueError, LookupError, TypeError):
            return f"HTTP status {self.status}"


class Client:
    """Talks to the API at `config.api_url`."""

    def __init__(self, config: Config) -> None:
        parts = urlsplit(config.api_url)
        self.url = config.api_url
        self._host, self._port = parts.hostname or "", parts.port
        self._path = parts.path
        self._secure = parts.scheme == "https"
        self._headers = {"User-Agent": f"appliance/{metadata.version('queue-appliance')}"}
        if token := _token(config, self._host):
            self._headers["Authorization"] = f"Bearer {token}"
        self._connection: http.client.HTTPConnection | None = None

    @classmethod
    @contextmanager
    def of(cls, config: Config) -> Iterator[Self]:
        """Lend a client, and close it."""
        client = cls(config)
        try:
            yield client
        finally:
            client.close()

    def close(self) -> None:
        """Close the connection."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def request(
        self,
        method: str,
        path: str,
        body: bytes | bytearray | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        patience: float = 0.0,
    ) -> Answer:
        """Return the API's answer, trying again for `patience` seconds.

        Raises InputError where it refuses (4xx but 404), ClientError where it can't be reached or
        can't do it in that time.
        """
        end = time.monotonic() + patience
        pause = _FIRST_PAUSE
        while True:
            wait: float | None = None
            reused = self._connection is not None
            try:
                answer = self._exchange(method, path, body, {**self._headers, **(headers or {})})
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if reused:
                    continue  # the API closes connections that were idle; this says nothing yet
                reason = f"{self.url} does not answer: {error or type(error).__name__}"
            else:
                if answer.status not in _LATER:
                    return self._accept(answer)
                reason = f"{self.url}: {answer.detail}"
                wait = _retry_after(answer)
            jittered = pause * random.uniform(0.5, 1.0)  # noqa: S311  # spreads load, no secret
            # The API's word is heeded even where it is longer than ours, up to the bound.
            wait = min(max(wait or 0.0, jittered), _LONGEST_PAUSE)
            if time.monotonic() + wait > end:
                raise ClientError(reason)
            time.sleep(wait)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _accept(self, answer: Answer) -> Answer:
        if answer.status == 401:
            raise InputError(
                "the API refused the token; set APPLIANCE_TOKEN to what `appliance token` prints "
                "where the appliance runs"
            )
        if answer.status >= 500:
            raise ClientError(f"{self.url}: {answer.detail}")
        if 300 <= answer.status < 400:
            raise ClientError(f"{self.url} sends elsewhere: {answer.headers.get('location')}")
        if answer.status >= 400 and answer.status not in (404, 413):
            raise InputError(answer.detail)
        return answer

    def _exchange(
        self, method: str, path: str, body: bytes | bytearray | None, headers: Mapping[str, str]
    ) -> Answer:
        connection = self._connection = self._connection or self._connect()
        try:
            connection.request(method, self._path + path, body, dict(headers))
        except (BrokenPipeError, ConnectionResetError):
            # Refused before it was read whole: why may still be there to be read.
            response = connection.getresponse()
        else:
            response = connection.getresponse()
        content = response.read()
        if response.will_close:
            self.close()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, content)

    def _connect(self) -> http.client.HTTPConnection:
        if self._secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=_EXCHANGE_SECONDS, context=context
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=_EXCHANGE_SECONDS)


def _token(config: Config, host: str) -> str | None:
    """Return the token to send: the setting, or this machine's own to this machine.

    None is made here, and the file's token never goes to another machine.
    """
    if config.token:
        return config.token
    if config.url and host not in _LOOPBACK:
        return None
    try:
        present = credentials.token_path(config).exists()
    except PermissionError:
        return None
    return credentials.token(config) if present else None


def _retry_after(answer: Answer) -> float | None:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else None
