"""Refuses slowly: an answer that says no comes after a pause, and nothing else does meanwhile.

A connection has one request under way at a time, so who tries tokens on it can't try more.
"""

import asyncio
from typing import Final

from appliance.api.http.problems import Problem
from appliance.api.http.request import Request

#: Seconds before the answer.
PAUSE_SECONDS: Final = 1.0
#: Bytes of a body that is read, so that its connection need not be closed; nothing of it is kept.
MAX_BODY_BYTES: Final = 16 * 1024
#: Answers that wait at once; more are given without a pause.
_MAX_WAITING: Final = 512


class SlowRefusal:
    """Answers requests whose `admission.details` is the problem."""

    body_seconds: Final = 10.0

    def __init__(self) -> None:
        self._waiting = 0

    @property
    def is_full(self) -> bool:
        """Whether as many wait as there can be."""
        return self._waiting >= _MAX_WAITING

    def handle(self, request: Request, _body: bytes) -> None:
        """Refuse after a pause; where a body came, the connection ends, as with any refusal."""
        if request.head.length != 0:
            request.be_last()
        request.task(self._refuse(request, request.admission.details))

    async def _refuse(self, request: Request, problem: Problem) -> None:
        self._waiting += 1
        try:
            await asyncio.sleep(PAUSE_SECONDS)
        finally:
            self._waiting -= 1
        request.refuse(problem)
