"""The appliance's status, written for people."""

import re
from collections.abc import Sequence
from typing import Any, Final

from appliance.cli.text.words import coloured, counted, size, span

#: State of a process -> its colour.
_COLOURS: Final = {"RUNNING": "green", "STARTING": "yellow", "STOPPING": "yellow"}
#: Status texts of processes that only others understand -> the words for people.
_REWORDED: Final = (
    (re.compile(r"accepting; \d+ envelopes? in the queue"), "accepts messages"),
    (re.compile(r"the broker: serves"), "idle; the broker answers"),
)
_STORED: Final = re.compile(r"(\d+) envelopes? stored in the last minute")


def status_lines(status: dict[str, Any], url: str) -> list[str]:
    """Return the lines of `appliance status` for the answer of GET /v1/status."""
    word = coloured("ready", "green") if status["ready"] else coloured("NOT READY", "red")
    lines = [f"appliance {status['version']} at {url}: {word}"]
    lines += [f"  ! {reason}" for reason in status["reasons"]]
    processes = status["processes"] or []
    rows = []
    if broker := status["broker"]:  # null where the token may read some topics only
        rows += [("broker", _broker(broker)), ("queue", _queue(broker, processes))]
    if store := status["store"]:
        rows.append(("store", _store(store)))
        if store["database_bytes"] is not None:
            rows.append(("files", _files(store, status)))
        if dead := store["dead_letters"]:
            rows.append(("dead", coloured(f"{counted(dead, 'dead letter')}", "yellow") + _DEAD))
    else:
        rows.append(("store", "can't be read"))
    if (waits := status.get("handlers")) and waits["waiting"]:
        rows.append(("handlers", _handlers(waits)))
    if (kept := status.get("quarantine")) and kept["letters"] + kept["pushed_out"]:
        rows.append(("quarantine", _quarantine(kept)))
    if disk := status["disk"]:
        free, total, floor = (size(disk[f"{n}_bytes"]) for n in ("free", "total", "floor"))
        text = f"{free} free of {total}; below {floor} messages are refused"
        if full_at := disk.get("full_at"):
            text += f", on {full_at[:16].replace('T', ' at ')} UTC at the last day's rate"
        rows.append(("disk", text))
    rows += _proofs(status)
    rows += _outwards(status)
    rows += [("alert", coloured(_alert(each), "yellow")) for each in status.get("alerts") or ()]
    lines += _table(rows)
    if processes:
        texts = {pulse["pid"]: pulse["status"] for pulse in status["pulses"]}
        busy = any(_stored(text) for text in texts.values())
        rows = [(p["name"], _process(p, texts.get(p["pid"], ""), busy=busy)) for p in processes]
        lines += ["processes", *("  " + line for line in _table(rows))]
    return lines


def _alert(alert: dict[str, Any]) -> str:
    about = f"{alert['alert']} {alert['subject']}".strip()
    return f"{about}: {alert['text']}"


def _proofs(status: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the rows of what the appliance tries by itself, as far as it does."""
    rows = []
    if proof := status.get("backup_proof"):
        rows.append(("backup", _backup(proof)))
    if canary := status.get("canary"):
        rows.append(("canary", _canary(canary)))
    return rows


def _outwards(status: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the rows of endpoints and of delayed messages, where there are any."""
    rows = []
    if (out := status.get("deliveries")) and out["endpoints"]:
        text = f"{counted(out['endpoints'], 'endpoint')}, {out['active']} active"
        if out["failing"]:
            text += coloured(f", {out['failing']} failing: appliance endpoint list", "yellow")
        if out["trouble"]:
            text += coloured(f"; {out['trouble']}", "red")
        rows.append(("deliveries", text))
    if (later := status.get("delayed")) and later["messages"]:
        waiting = f"{counted(later['messages'], 'message')} for later"
        rows.append(("delayed", f"{waiting}, the next one at {later['next_due_at'][:19]}Z"))
    return rows


def _backup(proof: dict[str, Any]) -> str:
    """Return which backup was proven last, and what is wrong with a later one."""
    proven, last = proof["proven"], proof["last"]
    text = "none is proven yet"
    if proven:
        text = f"{proven['backup']} can be restored, proven {proven['proven_at'][:16]}Z"
    if last and last["outcome"] != "proven":
        why = f"; {last['backup']}: {last['outcome']}: {last['reasons'][0]}"
        text += coloured(why, "yellow")
    return text


def _canary(book: dict[str, Any]) -> str:
    """Return when the last canary became a row, and why no later one did."""
    text = "none became a row yet"
    if book["last_good_at"]:
        text = f"from {book['url']} to the row in {1000 * book['seconds']:,.0f} ms"
        text += f", last {book['last_good_at'][:19]}Z"
    if book["failures"]:
        text += coloured(f"; failing since {book['failing_since'][:19]}Z: ", "yellow")
        text += str(book["reason"])
    return text


def _handlers(waits: dict[str, Any]) -> str:
    """Return how many messages wait for their handler, and since when."""
    text = f"{counted(waits['waiting'], 'message')} {'waits' if waits['waiting'] == 1 else 'wait'}"
    if waits["retrying"]:
        text += coloured(f", {waits['retrying']:,} after a failure", "yellow")
    return f"{text}; the oldest came {waits['oldest_at'][:19]}Z"


def _quarantine(kept: dict[str, Any]) -> str:
    lost = f"; {kept['pushed_out']:,} pushed out" if kept["pushed_out"] else ""
    letters = counted(kept["letters"], "letter")
    return f"{letters}, {size(kept['bytes'])} of {size(kept['max_bytes'])}{lost}"


_DEAD: Final = ": appliance dead list"


def _table(rows: list[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}}  {text}" for name, text in rows]


def _broker(broker: dict[str, Any]) -> str:
    if not broker["connected"]:
        return coloured("not connected", "red")
    if broker["accepting"]:
        return "connected, accepts messages"
    return f"connected, does not accept messages: {broker['reason']}"


def _queue(broker: dict[str, Any], processes: Sequence[dict[str, Any]]) -> str:
    depth = broker["depth"]
    if depth is None:
        return "not seen yet"
    waiting = f"{counted(depth, 'request')} {'waits' if depth == 1 else 'wait'}"
    workers = [p["name"] for p in processes if p["name"].startswith("worker")]
    running = [p for p in processes if p["name"] in workers and p["state"] == "RUNNING"]
    if shards := broker.get("shards"):
        return (
            f"{waiting if depth else 'empty'}, in {len(shards)} shards; "
            f"{counted(broker['consumers'] or 0, 'worker')} at each"
        )
    return (
        f"{waiting if depth else 'empty'}; {_workers(broker['consumers'], len(running), workers)}"
    )


def _workers(consumers: int, running: int, names: Sequence[str]) -> str:
    """Return which workers store: one at a time, whatever the number of those attached."""
    if not consumers:
        start = "appliance ctl start 'worker:*'"
        if any("@" in name for name in names):  # units of systemd
            start = "sudo systemctl start 'appliance-worker@*'"
        return coloured("no worker stores", "red") + f": {start}"
    standing_by = max(consumers, running) - 1
    verb = "stands" if standing_by == 1 else "stand"
    return f"1 worker stores, {standing_by} {verb} by" if standing_by else "1 worker stores"


def _store(store: dict[str, Any]) -> str:
    text = (
        f"{counted(store['messages'], 'message')} in {counted(store['topics'], 'topic')}, "
        f"{size(store['bytes'])}"
    )
    return f"{text}; last at {store['last_at']}" if store["last_at"] else text


def _files(store: dict[str, Any], status: dict[str, Any]) -> str:
    database = f"database {size(store['database_bytes'])}"
    if "postgresql" in status:
        return f"{database} (PostgreSQL {status['postgresql']})"
    return f"{database}, write-ahead log {size(store['wal_bytes'])} (SQLite {status['sqlite']})"


def _process(process: dict[str, Any], text: str, *, busy: bool) -> str:
    """Return a process's state, and what it does by its status text.

    `busy`: some worker stored in the last minute, so one that did not stands by.
    """
    state = process["state"]
    if process["name"] == "migrate" and state == "EXITED":
        at = re.search(r"T(\d\d:\d\d):\d\dZ$", process["detail"])
        return f"done (ran once, {at[1]} UTC)" if at else "done (ran once)"
    parts = [coloured(state, _COLOURS.get(state, "red"))]
    if process["pid"]:
        parts.append(f"pid {process['pid']}")
    if process["uptime_seconds"] is not None:
        parts.append(f"up {span(process['uptime_seconds'])}")
    elif process["detail"]:
        parts.append(process["detail"])
    if text:
        parts.append(_reworded(text, busy=busy))
    return ", ".join(parts)


def _stored(text: str) -> int | None:
    """Return how many envelopes a worker stored in the last minute; None for another text."""
    match = _STORED.fullmatch(text)
    return int(match[1]) if match else None


def _reworded(text: str, *, busy: bool) -> str:
    if (stored := _stored(text)) is not None:
        if stored:
            return f"stores: {counted(stored, 'request')} in the last minute"
        return "stands by" if busy else "waits for messages"
    return next((words for pattern, words in _REWORDED if pattern.fullmatch(text)), text)
