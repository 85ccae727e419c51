"""Answers to consumers, as JSON: messages under leases, and which leases counted. Pure."""

from typing import Final

from appliance.api.http import problems
from appliance.api.http.problems import Problem
from appliance.api.views import formats
from appliance.model import timestamps
from appliance.store.subscription_rows import NotServed, PullOrder, Received, Settled, Settlement

#: Headers of every answer: what it holds is for this consumer alone.
HEADERS: Final = (
    b"content-type: application/json\r\n"
    b"cache-control: no-store\r\n"
    b"x-content-type-options: nosniff\r\n"
)
_DONE: Final = {"ack": "acknowledged", "nack": "given_back", "extend": "extended"}


def received(outcome: Received) -> bytes:
    """Return the answer to a receive: messages as every other call shows them, and their leases."""
    messages = [
        {
            **formats.message(each.message),
            "attempt": each.attempt,
            "lease": each.lease,
            "lease_until": timestamps.timestamp(each.until / 1000),
        }
        for each in outcome.messages
    ]
    return formats.dump({"messages": messages})


def settled(order: Settlement, outcome: Settled) -> bytes:
    """Return how many leases counted, and which did not any more."""
    members: dict[str, object] = {_DONE[order.action]: outcome.done, "unknown": outcome.unknown}
    if order.action == "extend" and outcome.done:
        members["lease_until"] = timestamps.timestamp(outcome.until / 1000)
    return formats.dump(members)


def not_served(order: PullOrder, outcome: NotServed) -> Problem:
    """Return why an order was not served."""
    if outcome.reason == "unknown":
        return problems.not_found(f"there is no subscription {order.subscription!r}")
    return problems.forbidden(
        "the token has no right to read every topic of this subscription; an administrator can "
        "give it one that has"
    )
