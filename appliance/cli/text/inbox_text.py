"""Inbox addresses, written for people."""

from collections.abc import Sequence
from typing import Any, Final

from appliance.cli.text.words import counted

_HEADS: Final = ("NAME", "TOPIC", "KIND", "SECRETS", "LAST USED")
#: The beginning of addresses that only this machine reaches.
_LOOPBACK: Final = ("http://127.0.0.1", "http://localhost", "http://[::1]")


def table(inboxes: Sequence[dict[str, Any]]) -> str:
    """Return a line for each inbox, under a line of heads."""
    rows = [_HEADS, *(_row(inbox) for inbox in inboxes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS) - 1)]
    return "\n".join(
        "  ".join(
            f"{cell:<{width}}" for cell, width in zip(row, [*widths, 0], strict=True)
        ).rstrip()
        for row in rows
    )


def whole(inbox: dict[str, Any]) -> str:
    """Return everything of an inbox that can be shown."""
    lines = [
        f"name      {inbox['name']}",
        f"topic     {inbox['topic']}",
        f"kind      {inbox['kind']}",
        f"made      {inbox['created_at']}",
        f"used      {inbox['last_used_at'] or 'never'}",
        f"addresses {inbox['addresses']} (none can be shown again; `rotate` makes another)",
    ]
    for secret in inbox["secrets"]:
        until = f", until {secret['expires_at']}" if secret["expires_at"] else ""
        lines.append(f"secret    {secret['id']}, added {secret['created_at']}{until}")
    for name, value in sorted(inbox["settings"].items()):
        lines.append(f"setting   {name} = {value}")
    return "\n".join(lines)


def after_making(inbox: dict[str, Any]) -> list[str]:
    """Return what to know of an address that was made just now."""
    lines = [
        f"{inbox['name']}: takes messages into {inbox['topic']}. This address is a secret, and"
    ]
    lines.append("is shown only now; `appliance inbox rotate` makes another one.")
    if inbox["address"].startswith(_LOOPBACK):
        lines.append("Senders elsewhere need a name in it: set APPLIANCE_PUBLIC_URL.")
    return lines


def _row(inbox: dict[str, Any]) -> tuple[str, ...]:
    secrets = counted(len(inbox["secrets"]), "secret") if inbox["secrets"] else "-"
    used = inbox["last_used_at"] or "never"
    return inbox["name"], inbox["topic"], inbox["kind"], secrets, used
