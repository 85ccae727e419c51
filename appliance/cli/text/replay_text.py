"""Replays, written for people."""

from collections.abc import Sequence
from typing import Any, Final

from appliance.cli.text.words import counted, printable

_HEADS: Final = ("ID", "STATE", "DONE", "SENT", "WAITING", "GIVEN UP", "TO", "SELECTED")
#: Characters of a selection in a list.
_SHORT: Final = 60


def count(answer: dict[str, Any]) -> str:
    """Return how many messages would go where: of a dry run."""
    least = "" if answer["complete"] else "at least "
    return f"{least}{counted(answer['messages'], 'message')} to {_target(answer)}"


def table(replays: Sequence[dict[str, Any]]) -> str:
    """Return a line for each replay, under a line of heads."""
    rows = [_HEADS, *map(_row, replays)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS) - 1)]
    lines = (
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, [*widths, 0], strict=True))
        for row in rows
    )
    return printable("\n".join(line.rstrip() for line in lines))


def whole(replay: dict[str, Any]) -> str:
    """Return everything of a replay."""
    reason = f": {replay['reason']}" if replay["reason"] else ""
    selected = "not counted to the end" if replay["messages"] is None else replay["messages"]
    lines = [
        f"id           {replay['id']}",
        f"to           {_target(replay)}",
        *(f"{name:<12} {value}" for name, value in _selection(replay["select"])),
        f"state        {replay['state']}{reason}",
        f"progress     {_share(replay)}, up to the seq {replay['cursor']} of {replay['last_seq']}",
        f"selected     {selected}",
        f"sent         {counted(replay['sent'], 'message')}",
        f"waiting      {counted(replay['waiting'], 'message')}, for another attempt",
        f"given up     {counted(replay['given_up'], 'message')}",
        f"gone         {counted(replay['gone'], 'message')}, deleted before their turn",
        f"made         {replay['created_at']} by {replay['who']} ({replay['address']})",
        f"ended        {replay['ended_at'] or 'not yet'}",
    ]
    return printable("\n".join(lines))


def outcome(replay: dict[str, Any]) -> str:
    """Return how a replay stands, in a sentence or two."""
    words = f"{replay['state']}: {counted(replay['sent'], 'message')} sent to {_target(replay)}"
    if replay["reason"]:
        words += f"; {replay['reason']}"
    left = replay["waiting"] + replay["given_up"]
    if left:
        words += (
            f"; {counted(replay['waiting'], 'message')} waiting for another attempt, "
            f"{replay['given_up']} given up: `appliance endpoint undelivered {replay['endpoint']}` "
            "lists them"
        )
    if replay["gone"]:
        words += f"; {counted(replay['gone'], 'message')} deleted before their turn"
    if replay["state"] == "stopped":
        words += f"; `appliance replay resume {replay['id']}` goes on"
    return printable(words)


def _row(replay: dict[str, Any]) -> tuple[str, ...]:
    selection = ", ".join(f"{name} {value}" for name, value in _selection(replay["select"]))
    selection = " ".join(selection.split()) or "everything"
    if len(selection) > _SHORT:
        selection = f"{selection[: _SHORT - 3]}..."
    return (
        replay["id"], replay["state"], _share(replay), f"{replay['sent']:,}",
        f"{replay['waiting']:,}", f"{replay['given_up']:,}", _target(replay), selection,
    )  # fmt: skip


def _selection(select: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (name.replace("_", " "), ", ".join(value) if isinstance(value, list) else str(value))
        for name, value in select.items()
    ]


def _target(replay: dict[str, Any]) -> str:
    if replay["endpoint"] is not None:
        return f"the endpoint {replay['endpoint']}"
    return f"the topic {replay['into']}"


def _share(replay: dict[str, Any]) -> str:
    return f"{int(100 * replay['progress'])}%"
