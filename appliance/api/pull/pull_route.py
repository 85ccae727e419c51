"""POST /v1/subscriptions/{name}/receive, ack, nack and extend: served on the event loop."""

from typing import Final, Literal, cast

from appliance.api.http import problems
from appliance.api.http.head import Head
from appliance.api.http.problems import Problem
from appliance.api.http.request import Admission, Request
from appliance.api.pull import pull_options
from appliance.api.pull.pull_hub import PullHub
from appliance.api.pull.pull_options import ReceiveOptions
from appliance.auth.principal import Principal, Right
from appliance.errors import ApplianceError

_PREFIX: Final = "/v1/subscriptions/"
_ACTIONS: Final = ("receive", "ack", "nack", "extend")
#: Bytes of a body that names leases: a thousand of them, and a reason.
_BODY_BYTES: Final = 256 * 1024


class PullRoute:
    """Lets consumers in, and hands what they ask to the hub."""

    body_seconds: Final = 10.0

    def __init__(self, hub: PullHub) -> None:
        self._hub = hub

    @staticmethod
    def serves(head: Head) -> bool:
        """Whether a request with this head is for this route."""
        path = head.path
        if not path.startswith(_PREFIX):
            return False
        name, slash, action = path[len(_PREFIX) :].partition("/")
        return bool(name and slash) and action in _ACTIONS

    def admit(self, head: Head, principal: Principal) -> Admission | Problem:
        """Return what the head asks for, or why it gets nothing.

        Whether the principal may read the subscription's topics is seen when it is served.
        """
        if head.method != b"POST":
            return problems.method_not_allowed(["POST"])
        if not principal.may(Right.READ):
            return problems.forbidden(f"{principal.name} has no right to read")
        name, _, action = head.path[len(_PREFIX) :].partition("/")
        try:
            if action != "receive":
                pull_options.check_no_query(head)
                return Admission(self, principal, _BODY_BYTES, (action, name))
            options = pull_options.read_receive(head, name, principal)
        except ApplianceError as error:
            return problems.of(error)
        return self._hub.room() or Admission(self, principal, 0, options)

    def handle(self, request: Request, body: bytes) -> None:
        """Answer at once, or when there are messages."""
        details = request.admission.details
        if isinstance(details, ReceiveOptions):
            request.task(self._hub.receive(request, details))
            return
        action = cast("Literal['ack', 'nack', 'extend']", details[0])
        order = pull_options.read_settlement(action, details[1], request.admission.principal, body)
        request.task(self._hub.settle(request, order))
