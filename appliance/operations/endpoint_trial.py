"""A test message to an endpoint: one signed request, at once, and how the receiver answered.

It goes the way of a delivery, with the same headers, signature and bounds, and to the same
addresses only. It is no message: nothing is stored, tried again, or counted for the breaker.
"""

import asyncio
import ssl
import threading
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import orjson

from appliance.errors import BusyError
from appliance.machine.outward import Network
from appliance.model import timestamps
from appliance.model.ids import IdSource
from appliance.store.endpoint_rows import Outfit
from appliance.store.rows import StoredMessage

#: The topic that a test message names; no message is in it.
TEST_TOPIC: Final = "appliance.test"
#: Seconds for one test: it holds a thread, of which there are few. And tests at once.
_MOST_SECONDS: Final = 10.0
_AT_ONCE: Final = 2
_GOOD: Final = range(200, 300)


class EndpointTried(NamedTuple):
    """How a test message was answered: `error` says why it counts as failed (empty: it does not).

    `status` is None where there was no answer; `answer` is how its body begins.
    """

    id: str
    status: int | None
    error: str
    answer: str
    took_ms: int


class EndpointTrial:
    """Sends test messages; used by any thread. `listed` are private networks that may be reached.

    The client and TLS are loaded with the first test: an API process is rarely asked for one.
    """

    def __init__(self, listed: Sequence[Network]) -> None:
        self._listed = listed
        self._ids = IdSource()
        self._free = threading.BoundedSemaphore(_AT_ONCE)

    def send(self, outfit: Outfit) -> EndpointTried:
        """Send one request to an endpoint. Raises InputError for one whose row is broken.

        Raises BusyError where other tests are under way.
        """
        from appliance.deliver.delivery_plan import plan  # noqa: PLC0415
        from appliance.deliver.delivery_request import RequestMaker  # noqa: PLC0415
        from appliance.deliver.http_client import HttpClient, NoAnswerError  # noqa: PLC0415

        planned = plan(outfit)
        maker = RequestMaker(planned.url, outfit.secrets, planned.settings.headers, outfit.headers)
        message = self._message(outfit.row.name)
        seconds = min(float(planned.settings.timeout), _MOST_SECONDS)

        async def post() -> EndpointTried:
            client = HttpClient(planned.url, self._listed, ssl.create_default_context)
            began = time.monotonic()
            status, body, words = None, b"", ""
            try:
                head = maker.head(message, int(time.time()))
                status, _, body = await client.post(head, message.body, seconds)
                words = "" if status in _GOOD else f"answered {status}"
            except NoAnswerError as error:
                words = str(error)
            finally:
                client.close()
            took = int((time.monotonic() - began) * 1000)
            answer = body.decode("utf-8", "replace").replace("\0", "\ufffd")
            return EndpointTried(message.id, status, words, answer, took)

        if not self._free.acquire(blocking=False):
            raise BusyError(f"{_AT_ONCE} test messages are under way; try again in a moment")
        try:
            return asyncio.run(post())
        finally:
            self._free.release()

    def _message(self, endpoint: str) -> StoredMessage:
        now = timestamps.now()
        body = orjson.dumps({"type": TEST_TOPIC, "endpoint": endpoint, "at": now})
        return StoredMessage(0, self._ids.new(), TEST_TOPIC, now, 1, body, "application/json", None)
