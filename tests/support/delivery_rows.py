"""Rows of deliveries as the process that delivers stores them, for tests without that process."""

from appliance.store.endpoint_rows import AttemptRow, DueRow

#: A public address, so that no name is looked up. Nothing is sent to it.
URL = "https://9.9.9.9/hooks"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = "2026-11-28T09:00:00.000Z"


def due(number, state="given-up", seq=1, **members):
    """A message of endpoint `number` whose delivery failed."""
    values = {
        "message_id": f"m{seq}", "topic": "orders", "attempts": 3, "first_at": 1e9,
        "due_at": 2e9 if state == "waiting" else None, "status": 500, "error": "answered 500",
    }  # fmt: skip
    return DueRow(id=0, endpoint=number, seq=seq, state=state, **(values | members))


def attempt(number, seq=1, error="", message_id="m1", **members):
    """An attempt to deliver to endpoint `number`."""
    values = {"topic": "orders", "attempt": 1, "at": NOW, "took_ms": 5, "status": 200, "answer": ""}
    return AttemptRow(
        id=0, endpoint=number, seq=seq, message_id=message_id, error=error, **(values | members)
    )
