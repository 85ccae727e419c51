"""The gate: every request's head is decided on here, before a byte of its body is kept.

The authorizer says who asks; the routes say whether that principal gets what the head asks for.
"""

import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Final

from appliance.api.http import problems
from appliance.api.http.head import Head
from appliance.api.http.problems import Problem
from appliance.api.http.request import Admission
from appliance.api.http.wsgi import WsgiBridge
from appliance.api.inbox.inbox_route import InboxRequest, InboxRoute
from appliance.api.known_heads import LENGTH_ALONE, KnownHeads
from appliance.api.open_addresses import OpenAddresses
from appliance.api.publish.publish_options import PublishOptions
from appliance.api.publish.route import PublishRoute
from appliance.api.pull.pull_route import PullRoute
from appliance.api.slow_refusal import MAX_BODY_BYTES, SlowRefusal
from appliance.api.stream.stream_route import StreamRoute
from appliance.auth.authorizer import Authorizer
from appliance.auth.principal import ANONYMOUS, Principal, Right
from appliance.auth.rates import Buckets

_READING: Final = frozenset({b"GET", b"HEAD"})
#: Addresses, with what is below them, that show more than the messages of a topic: of who may do
#: what, and of the machine.
_ADMINISTRATORS: Final = (
    "/v1/audit", "/v1/backup", "/v1/backups", "/v1/deletions", "/v1/doctor", "/v1/doors",
    "/v1/endpoints", "/v1/handlers",
    "/v1/inboxes", "/v1/logs", "/v1/processes", "/v1/replays", "/v1/settings", "/v1/tokens",
    "/v1/verify",
)  # fmt: skip
#: The console, with what is below it.
_CONSOLE: Final = "/console"
#: Bytes of a stranger's form: a token or a code, and the page to go to.
_STRANGERS_FORM_BYTES: Final = 4096
#: What a page of the console reads, or lets its user save, by the session's cookie.
_FOR_PAGES: Final = re.compile(
    r"/v1/(?:stream|messages|dead-letters|history|status|topics/[^/]+/(?:stream|messages))"
)
#: Where a request may come from for a session's cookie to count: our own page, or its user.
_OWN: Final = frozenset({b"same-origin", b"none"})


class Gate:
    """Decides on heads. One for all connections."""

    def __init__(
        self,
        authorizer: Authorizer,
        open_addresses: OpenAddresses,
        publishing: PublishRoute,
        inboxes: InboxRoute,
        streams: StreamRoute,
        application: WsgiBridge,
        prefix: str = "",
        pulling: PullRoute | None = None,
    ) -> None:
        self._authorizer = authorizer
        self._open_addresses = open_addresses
        self._publishing = publishing
        self._inboxes = inboxes
        self._streams = streams
        self._application = application
        self._prefix = prefix
        self._pulling = pulling
        self._known = KnownHeads(_with_values)
        self._buckets = Buckets()
        self._slowly = SlowRefusal()

    def recall(self, data: bytes) -> tuple[Head, Admission] | None:
        """Return what was decided on a head of the same bytes or shape, if that still holds.

        Not for a principal that has used up its rate: whoever decides anew says so.
        """
        known = self._known.recall(data, self._authorizer.generation)
        if known is not None and known[1].principal.rate is not None:
            return None if self._rate_limit(known[1].principal) else known
        return known

    def learn(self, data: bytes, head: Head, admission: Admission) -> None:
        """Remember a decision on a head that may come again: not that of an event, or a signed one.

        One that says when its message is due or over is made each time: `delay=10m` is another time
        at each request.
        """
        details = admission.details
        if isinstance(details, PublishOptions):
            has_a_shape = details.key is None or b"idempotency-key" in head.values
            comes_again = has_a_shape and details.plan.event is None and not details.is_timed
        else:
            comes_again = isinstance(details, InboxRequest) and details.comes_again
        if comes_again:
            self._known.learn(data, head, admission, self._authorizer.generation)

    def holds(self, admission: Admission) -> bool:
        """Whether the principal may still do what it could when the request's head came."""
        return self._authorizer.holds(admission.principal)

    def admit(
        self, head: Head, client_of: Callable[[Head], str] = lambda _: ""
    ) -> Admission | Problem:
        """Return who answers a request with this head, or why it gets nothing.

        A proxy may leave the prefix of our own address in the path, or cut it off. `client_of`
        returns the address of who sent the head; it is asked where the request is refused.
        """
        if self._prefix and f"{head.path}/".startswith(f"{self._prefix}/"):
            head.path = head.path.removeprefix(self._prefix) or "/"
        if admission := self._open_addresses.admit(head):
            return admission
        if f"{head.path}/".startswith(f"{_CONSOLE}/"):
            return self._admit_page(head)
        answer = self._decide(head)
        if isinstance(answer, Problem) and (reason := _counted(head, answer)):
            return self._refuse(head, answer, client_of(head), reason)
        return answer

    def _decide(self, head: Head) -> Admission | Problem:
        if self._inboxes.serves(head):
            return self._limited(self._inboxes.admit(head))
        credentials = head.values.get(b"authorization")
        cookies = head.values.get(b"cookie") if credentials is None else None
        by_cookie = cookies is not None and _is_for_pages(head)
        form_token = head.values.get(b"x-appliance-form") if cookies is not None else None
        if form_token is not None and self._publishing.serves(head):
            by_cookie, principal = True, self._authorizer.sends(cookies, form_token)
        elif by_cookie:
            principal = self._authorizer.session(cookies)
        else:
            principal = self._authorizer.principal(credentials)
        if principal is None:
            is_known = (credentials is None and not by_cookie) or self._authorizer.is_loaded
            return problems.unauthorized(asks=not by_cookie) if is_known else problems.not_yet()
        if _is_forged(head):
            return problems.forbidden(
                "a page of another site sent this, with the password that the browser knows"
            )
        return self._rate_limit(principal) or self._admit_known(head, principal)

    def _admit_page(self, head: Head) -> Admission | Problem:
        """Let a browser in to the console, which shows a stranger the way to sign in.

        A session's requests have no rate: they are its user's clicks, not a program's messages.
        """
        principal = self._authorizer.session(head.values.get(b"cookie"))
        if principal is not None:
            return Admission(self._application, principal, self._application.max_body_bytes)
        if not self._authorizer.is_loaded:
            return problems.not_yet()
        return Admission(self._open_addresses.pages, ANONYMOUS, _STRANGERS_FORM_BYTES)

    def _limited(self, answer: Admission | Problem) -> Admission | Problem:
        """Return what an inbox answers, or that it has used up its rate."""
        if isinstance(answer, Problem):
            return answer
        return self._rate_limit(answer.principal) or answer

    def _rate_limit(self, principal: Principal) -> Problem | None:
        seconds = self._buckets.wait(principal, time.monotonic())
        return problems.rate_limited(math.ceil(seconds)) if seconds else None

    def _admit_known(self, head: Head, principal: Principal) -> Admission | Problem:
        if self._publishing.serves(head):
            return self._publishing.admit(head, principal)
        if self._streams.serves(head):
            return self._streams.admit(head, principal)
        if self._pulling is not None and self._pulling.serves(head):
            return self._pulling.admit(head, principal)
        if not principal.may(_right(head)):
            return problems.forbidden(f"{principal.name} has no right to do this")
        return Admission(self._application, principal, self._application.max_body_bytes)

    def _refuse(
        self, head: Head, problem: Problem, address: str, reason: str
    ) -> Admission | Problem:
        """Count a refusal; from an address that had many of them, make it a slow one."""
        is_slow = self._authorizer.refusals.note(address, reason)
        if not is_slow or self._slowly.is_full:
            return problem
        if head.length is None or head.length > MAX_BODY_BYTES:
            return problem  # its connection is closed after it
        return Admission(self._slowly, ANONYMOUS, MAX_BODY_BYTES, problem)


def _with_values(admission: Admission, values: Mapping[bytes, bytes]) -> Admission:
    """Return the admission of the same head with other values of headers that vary."""
    details = admission.details
    if isinstance(details, PublishOptions) and values.keys() == LENGTH_ALONE:
        return admission  # nothing of that is kept
    return Admission(
        admission.handler, admission.principal, admission.max_body_bytes,
        details.with_values(values),
    )  # fmt: skip


def _counted(head: Head, problem: Problem) -> str:
    """Return the reason as which a refusal is counted; empty for one that is no guess."""
    if problem.status == 404 and head.path.startswith("/in/"):
        return "unknown-inbox"
    return {401: "unauthorized", 403: "forbidden"}.get(problem.status, "")


def _is_forged(head: Head) -> bool:
    """Whether a browser may have sent this for a page of another site.

    A browser sends the password of Basic authentication by itself, and such a page can make it
    send a POST; it says then where the page is from. Programs say nothing.
    """
    origin = head.values.get(b"origin")
    return (
        origin is not None
        and head.method not in _READING
        and head.values.get(b"authorization", b"")[:6].lower() == b"basic "
        and origin.partition(b"://")[2] != head.values.get(b"host")
    )


def _is_for_pages(head: Head) -> bool:
    """Whether the cookie of a session counts: a page of ours reads, and nothing is changed."""
    return (
        head.method in _READING
        and _FOR_PAGES.fullmatch(head.path) is not None
        and head.values.get(b"sec-fetch-site", b"none") in _OWN
    )


def _right(head: Head) -> Right:
    """Return the right that Flask's addresses need."""
    if head.path == "/v1/login-links":
        return Right.READ  # whoever may read may do it in a browser
    is_private = any(f"{head.path}/".startswith(f"{path}/") for path in _ADMINISTRATORS)
    return Right.READ if head.method in _READING and not is_private else Right.ADMIN
