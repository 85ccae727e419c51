"""The appliance's status, written for people."""

from typing import Any, Final

#: Each is 1024 of the one before.
_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB")


def status_lines(status: dict[str, Any], url: str) -> list[str]:
    """Return the lines of `appliance status` for what GET /v1/status answered."""
    word = "ready" if status["ready"] else "NOT READY"
    lines = [f"appliance {status['version']} at {url}: {word}"]
    lines += [f"  ! {reason}" for reason in status["reasons"]]
    rows = [("broker", _broker(status["broker"])), ("queue", _queue(status["broker"]))]
    if store := status["store"]:
        rows += [
            ("store", _store(store)),
            ("files", _files(store, status["sqlite"])),
        ]
    else:
        rows.append(("store", "can't be read"))
    if disk := status["disk"]:
        free, total, floor = (size(disk[f"{n}_bytes"]) for n in ("free", "total", "floor"))
        rows.append(("disk", f"{free} free of {total}; refuses below {floor}"))
    lines += _table(rows)
    if processes := status["processes"]:
        said = {pulse["pid"]: pulse["status"] for pulse in status["pulses"]}
        rows = [(p["name"], _process(p, said.get(p["pid"], ""))) for p in processes]
        lines += ["processes", *("  " + line for line in _table(rows))]
    return lines


def _table(rows: list[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}}  {text}" for name, text in rows]


def size(count: int) -> str:
    """Write a number of bytes for people."""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{count} bytes" if not unit else f"{value:.1f} {_UNITS[unit]}"


def span(seconds: float) -> str:
    """Write a span of time for people: its two largest units."""
    rest = int(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count or parts or unit == "s":
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def _broker(broker: dict[str, Any]) -> str:
    if not broker["connected"]:
        return "not connected"
    if broker["accepting"]:
        return "connected, accepts messages"
    return f"connected, does not accept: {broker['reason']}"


def _queue(broker: dict[str, Any]) -> str:
    if broker["depth"] is None:
        return "not seen yet"
    workers = broker["consumers"]
    return f"{broker['depth']:,} envelopes wait; workers attached: {workers}"


def _store(store: dict[str, Any]) -> str:
    text = (
        f"{store['messages']:,} messages in {store['topics']:,} topics, {size(store['bytes'])}; "
        f"{store['dead_letters']:,} dead letters"
    )
    return f"{text}; last at {store['last_at']}" if store["last_at"] else text


def _files(store: dict[str, Any], sqlite: str) -> str:
    return (
        f"database {size(store['database_bytes'])}, write-ahead log {size(store['wal_bytes'])} "
        f"(SQLite {sqlite})"
    )


def _process(process: dict[str, Any], said: str) -> str:
    parts = [process["state"]]
    if process["pid"]:
        parts.append(f"pid {process['pid']}")
    if process["uptime_seconds"] is not None:
        parts.append(f"up {span(process['uptime_seconds'])}")
    elif process["detail"]:
        parts.append(process["detail"])
    if said:
        parts.append(said)
    return ", ".join(parts)
