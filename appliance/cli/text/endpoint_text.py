"""Endpoints, attempts and undelivered messages, written for people. An answer is a stranger's."""

from collections.abc import Sequence
from typing import Any, Final

from appliance.cli.text.words import coloured, counted, printable
from appliance.model import quantities

_HEADS: Final = ("NAME", "STATE", "BEHIND", "UNDELIVERED", "DELIVERED", "LAST DELIVERY", "URL")
_ATTEMPT: Final = "{:<24}  {:>7}  {:>6}  {:>7}  {:<36}  {}"
_UNDELIVERED: Final = "{:>8}  {:<8}  {:>8}  {:<24}  {:<36}  {}"


def tried(answer: dict[str, Any]) -> str:
    """Return the line of a test message, and below it how the answer's body began."""
    words = f"answered {answer['status']}" if answer["ok"] else f"failed: {answer['error']}"
    lines = [f"{words}, after {answer['took_ms']:,} ms (webhook-id {answer['id']})"]
    if answer["answer"].strip():
        lines.append(printable(answer["answer"]))
    return "\n".join(lines)


def table(endpoints: Sequence[dict[str, Any]]) -> str:
    """Return a line for each endpoint, under a line of heads."""
    rows = [_HEADS, *(_row(endpoint) for endpoint in endpoints)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS) - 1)]
    return "\n".join(
        "  ".join(
            f"{cell:<{width}}" for cell, width in zip(row, [*widths, 0], strict=True)
        ).rstrip()
        for row in rows
    )


def whole(endpoint: dict[str, Any]) -> str:
    """Return everything of an endpoint that can be shown."""
    undelivered, breaker, totals = (endpoint[n] for n in ("undelivered", "breaker", "totals"))
    reason = f": {endpoint['reason']}" if endpoint["reason"] else ""
    last = endpoint["delivered_at"] or "none yet"
    lines = [
        f"name         {endpoint['name']}",
        f"url          {endpoint['url']}",
        f"topics       {', '.join(endpoint['topics'])}",
        *(f"where        {each}" for each in endpoint["where"]),
        f"state        {endpoint['state']}{reason}",
        f"breaker      {_breaker(breaker)}",
        f"behind       {counted(endpoint['behind'], 'message')}{_since(endpoint['oldest_at'])}",
        f"waiting      {counted(undelivered['waiting'], 'message')}",
        f"given up     {counted(undelivered['given_up'], 'message')}",
        f"gone         {counted(totals['gone'], 'message')}, deleted before they were delivered",
        f"held up      {counted(undelivered['held_topics'], 'topic')}",
        f"delivered    {totals['delivered']:,} since {endpoint['created_at']}; the last: {last}",
        f"failed       {counted(totals['failed_attempts'], 'attempt')}",
    ]
    lines += [
        f"setting      {name} = {_value(name, v)}" for name, v in endpoint["settings"].items()
    ]
    lines += [f"own header   {name} (its value is not shown)" for name in endpoint["own_headers"]]
    for secret in endpoint["secrets"]:
        until = f", until {secret['expires_at']}" if secret["expires_at"] else ""
        lines.append(f"secret       {secret['id']}, added {secret['created_at']}{until}")
    return printable("\n".join(lines))


def attempt(row: dict[str, Any], *, head: bool) -> str:
    """Return the line of an attempt, under a line of heads if it is the first."""
    status = "-" if row["status"] is None else str(row["status"])
    result = coloured(_one_line(row["error"]), "red") if row["error"] else "delivered"
    line = _ATTEMPT.format(
        row["at"], row["attempt"], status, f"{row['took_ms']:,}", row["message_id"], result
    )
    if row["error"] and row["answer"].strip():
        line += f"\n{'':<26}{_one_line(row['answer'])}"
    heads = _ATTEMPT.format("TIME", "ATTEMPT", "STATUS", "MS", "MESSAGE", "RESULT") + "\n"
    return heads * head + line


def undelivered(row: dict[str, Any], *, head: bool) -> str:
    """Return the line of an undelivered message, under a line of heads if it is the first."""
    line = _UNDELIVERED.format(
        row["id"], row["state"], row["attempts"], row["due_at"] or "-", row["message_id"],
        _one_line(row["error"]),
    )  # fmt: skip
    heads = _UNDELIVERED.format("ID", "STATE", "ATTEMPTS", "NEXT", "MESSAGE", "ERROR") + "\n"
    return heads * head + line


def after_making(endpoint: dict[str, Any], *, is_own: bool) -> list[str]:
    """Return what to know of an endpoint that was made just now."""
    topics = "every topic" if endpoint["topics"] == ["*"] else ", ".join(endpoint["topics"])
    lines = [f"{endpoint['name']}: new messages of {topics} go to {endpoint['url']}"]
    if endpoint["behind"]:
        lines[0] += f", {counted(endpoint['behind'], 'stored message')} first"
    if not is_own:
        lines.append("They are signed with this secret, which is shown only now; the receiver")
        lines.append("needs it to verify them. `appliance endpoint rotate-secret` makes another.")
    return lines


def _row(endpoint: dict[str, Any]) -> tuple[str, ...]:
    undelivered = endpoint["undelivered"]
    return (
        endpoint["name"],
        _state(endpoint),
        f"{endpoint['behind']:,}",
        f"{undelivered['waiting'] + undelivered['given_up'] + undelivered['gone']:,}",
        f"{endpoint['totals']['delivered']:,}",
        endpoint["delivered_at"] or "never",
        printable(endpoint["url"]),
    )


def _state(endpoint: dict[str, Any]) -> str:
    if endpoint["state"] == "active" and endpoint["breaker"]["state"] == "open":
        return "failing"
    return str(endpoint["state"])


def _breaker(breaker: dict[str, Any]) -> str:
    trouble = breaker["trouble"] or ""
    if breaker["state"] == "closed":
        return f"closed; {trouble}" if trouble else "closed"
    at = f", next try at {breaker['retry_at']}" if breaker["retry_at"] else ""
    return f"open since {breaker['since']}, {breaker['failures']} failures{at}: {trouble}"


def _since(oldest_at: str | None) -> str:
    return f", the first one received at {oldest_at}" if oldest_at else ""


def _value(name: str, value: object) -> str:
    if name in ("timeout", "lifetime") and isinstance(value, int):
        return quantities.span_words(value)
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "no limit" if value is None else str(value)


def _one_line(text: str) -> str:
    return printable(" ".join(text.split())[:200])
