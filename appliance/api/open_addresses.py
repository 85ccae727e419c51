"""The addresses that are open to everyone: strangers can't keep anyone else waiting by asking them.

The pages have a thread of their own. Health (`/healthz`, `/readyz`) is answered on the event loop:
the application is asked for it only when its last answer is old, in another thread, and once for
all who wait.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import orjson

from appliance.api.http import response
from appliance.api.http.head import Head
from appliance.api.http.request import Admission, Request, RequestHandler
from appliance.api.http.wsgi import WholeAnswer
from appliance.auth.principal import ANONYMOUS

#: What they tell is how to send and whether to, not what is stored.
_PAGES: Final = frozenset({"/", "/favicon.ico", "/openapi.json"})
#: Seconds for which an answer holds: that this process answers is seen by the answer itself.
_FRESH_SECONDS: Final = {
    "/healthz": float("inf"),
    "/readyz": 0.25,
    "/readyz/intake": 0.25,
}
#: Seconds that the application can take: a disk that hangs holds whoever looks at it.
_PATIENCE_SECONDS: Final = 5.0
_TOO_LONG: Final = f"the checks did not end within {_PATIENCE_SECONDS:g} s: a disk may hang"

#: Has the application answer a request.
Ask = Callable[[Request], Awaitable[WholeAnswer]]


class OpenAddresses:
    """Lets anyone in. `pages` and `ask` share no thread with each other or with anyone else."""

    body_seconds: Final = 10.0

    def __init__(self, pages: RequestHandler, ask: Ask) -> None:
        #: serves those who need not say who they are
        self.pages = pages
        self._ask = ask
        self._asking: dict[str, asyncio.Future[WholeAnswer]] = {}
        self._answers: dict[str, tuple[float, WholeAnswer]] = {}  # with the time until they hold

    def admit(self, head: Head) -> Admission | None:
        """Let a request in, whoever sends it, if its address is open; else None.

        No body belongs here, and a stranger's is not kept.
        """
        if head.method in (b"GET", b"HEAD"):
            if head.path in _FRESH_SECONDS:
                return Admission(self, ANONYMOUS, 0)
            if head.path in _PAGES:
                return Admission(self.pages, ANONYMOUS, 0)
        return None

    def handle(self, request: Request, _body: bytes) -> None:
        """Answer a request for health."""
        known = self._answers.get(request.head.path)
        if known and asyncio.get_running_loop().time() < known[0]:
            request.respond(*known[1])
        else:
            request.task(self._answer(request))

    async def _answer(self, request: Request) -> None:
        """Answer what the application says; it may have been asked by another request."""
        path = request.head.path
        if path not in self._asking:
            asking = self._asking[path] = asyncio.ensure_future(self._ask(request))
            asking.add_done_callback(lambda done: self._keep(path, done))
        try:
            answer = await asyncio.wait_for(asyncio.shield(self._asking[path]), _PATIENCE_SECONDS)
        except TimeoutError:
            answer = _too_long()
        request.respond(*answer)

    def _keep(self, path: str, asking: "asyncio.Future[WholeAnswer]") -> None:
        del self._asking[path]
        if not asking.cancelled() and not asking.exception():
            until = asyncio.get_running_loop().time() + _FRESH_SECONDS[path]
            self._answers[path] = until, asking.result()


def _too_long() -> WholeAnswer:
    headers = response.lines([("content-type", "application/json"), ("retry-after", "2")])
    members = {"ready": False, "reasons": [_TOO_LONG], "checks": {}}
    return 503, headers, orjson.dumps(members, option=orjson.OPT_APPEND_NEWLINE)
