"""The wish for a subscription, as the API and the console get it, checked whole."""

from collections.abc import Mapping
from typing import Any

from appliance.errors import InputError
from appliance.model import grants, leases, moments, timestamps
from appliance.store.subscription_rows import SubscriptionRow


def wished(asked: Mapping[str, Any]) -> tuple[SubscriptionRow, str | None]:
    """Return the subscription that is asked for, and since when messages belong to it.

    That is as `Subscriptions.create` takes it. Raises InputError.
    """
    row = SubscriptionRow(
        grants.check_name(asked.get("name", "")),
        grants.check_patterns(asked.get("topics", ()), ()),
        _whole(asked, "lease_seconds", leases.DEFAULT_SECONDS, leases.MAX_SECONDS),
        _whole(asked, "max_attempts", leases.DEFAULT_ATTEMPTS, leases.MAX_ATTEMPTS),
        timestamps.now(),
    )
    begin = asked.get("from", "now")
    if begin == "now":
        return row, None
    return row, "" if begin == "beginning" else moments.moment("from", begin)


def _whole(asked: Mapping[str, Any], name: str, default: int, most: int) -> int:
    value = asked.get(name, default)
    if isinstance(value, bool) or not 1 <= value <= most:
        raise InputError(f"{name}: expected a whole number from 1 to {most}")
    return int(value)
