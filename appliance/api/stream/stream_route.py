"""GET /v1/stream and GET /v1/topics/{topic}/stream: served on the event loop, without a thread."""

from typing import Final

from appliance.api.http import problems
from appliance.api.http.head import Head
from appliance.api.http.problems import Problem
from appliance.api.http.request import Admission, Request
from appliance.api.stream import events, stream_options
from appliance.api.stream.hub import StreamHub
from appliance.auth.principal import Principal, Right
from appliance.errors import ApplianceError

_OF_ALL: Final = "/v1/stream"
_PREFIX: Final = "/v1/topics/"
_SUFFIX: Final = "/stream"
_METHODS: Final = ["GET", "HEAD"]


class StreamRoute:
    """Lets readers in, and hands them to the hub."""

    body_seconds: Final = 10.0

    def __init__(self, hub: StreamHub) -> None:
        self._hub = hub

    @staticmethod
    def serves(head: Head) -> bool:
        """Whether a request with this head is for this route."""
        path = head.path
        return path == _OF_ALL or (path.startswith(_PREFIX) and path.endswith(_SUFFIX))

    def admit(self, head: Head, principal: Principal) -> Admission | Problem:
        """Return what the head asks for, or why it gets nothing."""
        if head.method not in (b"GET", b"HEAD"):
            return problems.method_not_allowed(_METHODS)
        if not principal.may(Right.READ):
            return problems.forbidden(f"{principal.name} has no right to read")
        topic = None if head.path == _OF_ALL else head.path[len(_PREFIX) : -len(_SUFFIX)]
        try:
            options = stream_options.read(head, topic, principal)
        except ApplianceError as error:
            return problems.of(error)
        if not principal.may(Right.READ, topic):
            return problems.forbidden("the token has no right to read this topic")
        return self._hub.room_for(principal) or Admission(self, principal, 0, options)

    def handle(self, request: Request, body: bytes) -> None:  # noqa: ARG002  # it has none
        """Answer with a stream; a HEAD with how it would begin."""
        if request.head.method == b"HEAD":
            request.respond(200, events.HEADERS, b"")
            return
        request.task(self._hub.serve(request, request.admission.details))
