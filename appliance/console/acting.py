"""Names who is signed in for the audit trail."""

from flask import request

from appliance.console.rights import principal
from appliance.store.access_rows import Actor


def acting() -> Actor:
    """Return the name of who is signed in, and the address of their browser."""
    return Actor(principal().name, request.remote_addr or "")
