"""The HTTP client of the appliance's API, for the command line, the drill and other programs.

`ApiConnection` is one connection, with nothing hidden: each request is sent once. `Client` finds
the API and the token of a `Config`, and sends a request again until its deadline when there is no
answer, or the answer is 503 or 429. That is safe for requests that can be repeated: GETs, POSTs
with an Idempotency-Key, redrives and DELETEs.
"""

import http.client
import json
import random
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NamedTuple, Self
from urllib.parse import urlsplit

from appliance import credentials
from appliance.config import Config
from appliance.config.parsers import http_url
from appliance.errors import ClientError, InputError, TokenRefusedError
from appliance.machine import locks

#: Seconds for one request and its answer: longer than the API's own deadlines for publishing and
#: for `Prefer: wait`, so that its answer comes first.
_ANSWER_SECONDS: Final = 90.0
#: Seconds to wait before the second attempt; doubled each time, up to the bound.
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
#: Bytes of one piece of a download.
_PIECE_BYTES: Final = 128 * 1024
#: Answers that mean "later".
_LATER: Final = frozenset({429, 502, 503, 504})
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
#: The command that starts an appliance, where that is not the business of an image or a host.
_START: Final = (
    " `make run` starts it." if Path(__file__).parents[1].joinpath("Makefile").is_file() else ""
)

#: Errors of a connection without an answer.
NoAnswerError: Final = (OSError, http.client.HTTPException)


@dataclass(frozen=True)
class Answer:
    """An answer of the API; the names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body's JSON. Raises ClientError where it is none."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise ClientError("the answer is not from the appliance's API") from error

    @property
    def detail(self) -> str:
        """The answer in words."""
        try:
            problem = json.loads(self.body)
            return str(problem["detail"])
        except (ValueError, LookupError, TypeError):
            return f"HTTP status {self.status}"


class ApiConnection:
    """One connection to the API at `url`, opened by the first request after it was closed.

    `headers` go with every request; `seconds` is how long an answer is waited for.
    `own_certificate` is trusted where the API is this machine's own.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        seconds: float,
        own_certificate: Path | None = None,
    ) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port
        self._path = parts.path
        self._secure = parts.scheme == "https"
        self._headers = dict(headers)
        self._seconds = seconds
        self._own_certificate = own_certificate
        self._link: http.client.HTTPConnection | None = None

    @property
    def is_open(self) -> bool:
        """Whether the next request goes over a connection that was used before."""
        return self._link is not None

    def send(
        self,
        method: str,
        path: str,
        body: bytes | bytearray | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request once and return its answer. Raises the errors of `NoAnswerError`."""
        link = self._link = self._link or self._connect()
        try:
            try:
                all_headers = {**self._headers, **(headers or {})}
                link.request(method, self._path + path, body, all_headers)
            except (BrokenPipeError, ConnectionResetError):
                # Refused before it was read whole: the reason may still be there to be read.
                response = link.getresponse()
            else:
                response = link.getresponse()
            content = response.read()
        except NoAnswerError:
            self.close()
            raise
        if response.will_close:
            self.close()
        return _answer(response, content)

    def get(self, path: str) -> http.client.HTTPResponse:
        """Send a GET once and return its response, to be read piece by piece before the next one.

        Raises the errors of `NoAnswerError`.
        """
        link = self._link = self._link or self._connect()
        try:
            link.request("GET", self._path + path, headers=self._headers)
            return link.getresponse()
        except NoAnswerError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        if self._link:
            self._link.close()
            self._link = None

    def _connect(self) -> http.client.HTTPConnection:
        if self._secure:
            context = _context(self._own_certificate)
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=self._seconds, context=context
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=self._seconds)


def _answer(response: http.client.HTTPResponse, content: bytes) -> Answer:
    names = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, names, content)


def _context(own_certificate: Path | None) -> ssl.SSLContext:
    """Return what verifies the API; on this machine, by the very certificate that it serves.

    There its address is one of the loopback, for which no authority certifies anyone.
    """
    if own_certificate is None or not own_certificate.is_file():
        return ssl.create_default_context()
    context = ssl.create_default_context(cafile=str(own_certificate))
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = False
    return context


class Place(NamedTuple):
    """The URL of an API, and the words that say where the URL is from."""

    url: str
    origin: str
    #: whether a setting says that the API is elsewhere
    elsewhere: bool = False


def find_api(config: Config) -> Place:
    """Return where the API is: by APPLIANCE_URL, by APPLIANCE_HTTP, or as `run` noted it."""
    if config.url:
        return Place(config.url, "APPLIANCE_URL", elsewhere=True)
    if config.sources.get("APPLIANCE_HTTP", "default") != "default":
        return Place(config.own_url, "APPLIANCE_HTTP")
    try:
        if locks.is_held(config.lock_file):  # else the file is of a `run` that was killed
            return Place(http_url(config.address_file.read_text().strip()), "noted by `run`")
    except (OSError, ValueError):
        pass
    return Place(config.own_url, "the default of APPLIANCE_HTTP")


class Client:
    """Talks to the API that a `Config` leads to."""

    def __init__(self, config: Config) -> None:
        self._place = find_api(config)
        self.url = self._place.url
        headers = {"User-Agent": f"appliance/{metadata.version('queue-appliance')}"}
        #: the token that goes with every request
        self.token = _find_token(config, self._place)
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        own = None if self._place.elsewhere else config.tls_cert
        self._connect = partial(ApiConnection, self.url, headers, _ANSWER_SECONDS, own)
        self._connection = self._connect()

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
        self._connection.close()

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

        Raises InputError where it refuses the request (4xx but 404 and 413), TokenRefusedError
        where it refuses the token, ClientError where it can't be reached or fails for that long.
        """
        end = time.monotonic() + patience
        pause = _FIRST_PAUSE
        while True:
            wait: float | None = None
            reused = self._connection.is_open
            try:
                answer = self._connection.send(method, path, body, headers)
            except NoAnswerError as error:
                if reused:
                    continue  # the API closes connections that were idle; this says nothing yet
                reason = self._no_answer(error)
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

    def download(self, path: str, *, patience: float = 0.0) -> Iterator[bytes]:
        """Yield what a GET answers, piece by piece, however long it is.

        It is tried again for `patience` seconds until it begins. Raises what `request` raises, for
        404 too, before the first piece; and ClientError where it ends early.
        """
        end, pause = time.monotonic() + patience, _FIRST_PAUSE
        with self._apart() as connection:
            while True:
                try:
                    response = connection.get(path)
                    if response.status == 200:
                        break
                    answer = _answer(response, response.read())
                    connection.close()
                except NoAnswerError as error:
                    reason = self._no_answer(error)
                else:
                    if answer.status not in _LATER:
                        raise InputError(self._accept(answer).detail)
                    reason = f"{self.url}: {answer.detail}"
                if time.monotonic() + pause > end:
                    raise ClientError(reason)
                time.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            try:
                while piece := response.read1(_PIECE_BYTES):
                    yield piece
            except NoAnswerError as error:
                raise ClientError(
                    f"{self.url} ended the answer before its end: it is being stopped, or the "
                    "token was revoked"
                ) from error

    @contextmanager
    def _apart(self) -> Iterator[ApiConnection]:
        """Lend a connection of its own, so that other requests can be sent meanwhile."""
        connection = self._connect()
        try:
            yield connection
        finally:
            connection.close()

    def _accept(self, answer: Answer) -> Answer:
        if answer.status == 401:
            trouble = "refused the token" if self.token else "needs a token"
            raise TokenRefusedError(
                f"the API at {self.url} {trouble}; set APPLIANCE_TOKEN to the token that "
                "`appliance token` prints where the appliance runs"
            )
        if answer.status >= 500:
            raise ClientError(f"{self.url}: {answer.detail}")
        if 300 <= answer.status < 400:
            raise ClientError(f"{self.url} sends elsewhere: {answer.headers.get('location')}")
        if answer.status >= 400 and answer.status not in (404, 413):
            raise InputError(answer.detail)
        return answer

    def _no_answer(self, error: Exception) -> str:
        """Return why there is no answer, and the next step, in words."""
        url, origin, elsewhere = self._place
        if isinstance(error, http.client.HTTPException):
            return f"{url} ({origin}) gives no HTTP answer: {error or type(error).__name__}"
        reason = ""
        if not isinstance(error, ConnectionRefusedError):
            reason = f": {getattr(error, 'strerror', None) or error or type(error).__name__}"
        advice = (
            "Is the appliance running there?"
            if elsewhere
            else f"Is it running?{_START} It is elsewhere? Set APPLIANCE_URL=http://HOST:PORT"
        )
        return f"nothing answers at {url} ({origin}){reason}. {advice}"


def _find_token(config: Config, place: Place) -> str | None:
    """Return the token to send: the setting, or this machine's own to this machine.

    None is made here, and the file's token never goes to another machine.
    """
    if config.token:
        return config.token
    if place.elsewhere and urlsplit(place.url).hostname not in _LOOPBACK:
        return None
    try:
        present = credentials.token_path(config).exists()
    except PermissionError:
        return None
    return credentials.token(config) if present else None


def _retry_after(answer: Answer) -> float | None:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else None
