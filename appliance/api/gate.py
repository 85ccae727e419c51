"""The gate: every request's head is decided on here, before a byte of its body is kept.

The authorizer says who asks; the routes say whether that principal gets what the head asks for.
"""

from typing import Final

from appliance.api.http import problems
from appliance.api.http.head import Head
from appliance.api.http.problems import Problem
from appliance.api.http.request import Admission
from appliance.api.http.wsgi import WsgiBridge
from appliance.api.inbox.inbox_route import InboxRequest, InboxRoute
from appliance.api.known_heads import KnownHeads
from appliance.api.open_addresses import OpenAddresses
from appliance.api.publish.publish_options import PublishOptions
from appliance.api.publish.route import PublishRoute
from appliance.auth.authorizer import Authorizer
from appliance.auth.principal import Right

_READING: Final = frozenset({b"GET", b"HEAD"})


class Gate:
    """Decides on heads. One for all connections."""

    def __init__(
        self,
        authorizer: Authorizer,
        open_addresses: OpenAddresses,
        publishing: PublishRoute,
        inboxes: InboxRoute,
        application: WsgiBridge,
        prefix: str = "",
    ) -> None:
        self._authorizer = authorizer
        self._open_addresses = open_addresses
        self._publishing = publishing
        self._inboxes = inboxes
        self._application = application
        self._prefix = prefix
        self._known = KnownHeads()

    def recall(self, data: bytes) -> tuple[Head, Admission] | None:
        """Return what was decided on a head of the same bytes, if that still holds."""
        return self._known.recall(data, self._authorizer.generation)

    def learn(self, data: bytes, head: Head, admission: Admission) -> None:
        """Remember a decision on a head that may come again: not one with a key or a signature."""
        details = admission.details
        if (isinstance(details, PublishOptions) and details.key is None) or (
            isinstance(details, InboxRequest) and details.comes_again
        ):
            self._known.learn(data, head, admission, self._authorizer.generation)

    def admit(self, head: Head) -> Admission | Problem:
        """Return who answers a request with this head, or why it gets nothing.

        A proxy may leave the prefix of our own address in the path, or cut it off.
        """
        if self._prefix and f"{head.path}/".startswith(f"{self._prefix}/"):
            head.path = head.path.removeprefix(self._prefix) or "/"
        if admission := self._open_addresses.admit(head):
            return admission
        if self._inboxes.serves(head):
            return self._inboxes.admit(head)
        credentials = head.values.get(b"authorization")
        principal = self._authorizer.principal(credentials)
        if principal is None:
            is_known = credentials is None or self._authorizer.is_loaded
            return problems.unauthorized() if is_known else problems.not_yet()
        if self._publishing.serves(head):
            return self._publishing.admit(head, principal)
        if not principal.may(Right.READ if head.method in _READING else Right.ADMIN):
            return problems.forbidden(f"{principal.name} has no right to do this")
        return Admission(self._application, principal, self._application.max_body_bytes)
