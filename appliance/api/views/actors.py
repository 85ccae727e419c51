"""Names the principal of a request for the audit trail."""

from flask import g, request

from appliance.store.access_rows import Actor


def actor() -> Actor:
    """Return the principal's name, and the address of the client of the request under way."""
    return Actor(g.principal.name, request.remote_addr or "")
