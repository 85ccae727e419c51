"""The last lines of a process's log: from supervisord's log files, or from systemd's journal."""

import json
import re
import selectors
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, NamedTuple, cast

from appliance.config import Config
from appliance.supervision import processes

#: Lines that can be asked for.
MOST_LINES: Final = 1000
#: Levels, the least first.
LEVELS: Final = ("debug", "info", "warning", "error", "critical")
#: Bytes that are read of one log file; supervisord keeps two of 256 KB each.
_FILE_BYTES: Final = 2 * 2**18
#: Characters of a line that are shown.
_LINE_LENGTH: Final = 4000
#: Bytes and seconds that the journal has for its answer.
_JOURNAL_BYTES: Final = 8 * 2**20
_JOURNAL_SECONDS: Final = 5.0
#: syslog's priorities -> our levels.
_PRIORITIES: Final = (
    "critical",
    "critical",
    "critical",
    "error",
    "warning",
    "info",
    "info",
    "debug",
)
#: How our lines for a terminal, and RabbitMQ's lines, name their level.
_WORD: Final = re.compile(
    r"\A(?:[0-9:.,T+Z -]{8,40} (?:\[(?P<bracket>[a-z]+)\]|(?P<upper>[A-Z]+)\b)"
    r"|(?P<time>[0-9:]{8} ))"
)
_OTHER_WORDS: Final = {
    "warn": "warning",
    "notice": "info",
    "fatal": "critical",
    "alert": "critical",
}


class LogLine(NamedTuple):
    """One line: its level, and its time where the line itself says it in a known way."""

    level: str
    time: str | None
    text: str


@dataclass(frozen=True)
class ProcessLog:
    """The lines, oldest first. `note` says in words why there are none, where that has a reason."""

    process: str
    source: Literal["file", "journal"]
    lines: list[LogLine] = field(default_factory=list)
    note: str | None = None


def read(config: Config, process: str, most: int, level: str) -> ProcessLog | None:
    """Return up to `most` of the last lines of this level or a worse one; None: no such process."""
    if process not in {state.name for state in processes.read(config)} | {"supervisord"}:
        return None
    if config.supervisor_socket.exists():
        lines = _of_files(config.run_folder / "log", process.rpartition(":")[2])
        note = None if lines else "nothing was logged yet"
        return ProcessLog(process, "file", _last(lines, most, level), note)
    return _of_journal(process, most, level)


def _last(lines: list[LogLine], most: int, level: str) -> list[LogLine]:
    least = LEVELS.index(level)
    return [line for line in lines if LEVELS.index(line.level) >= least][-most:]


def _of_files(folder: Path, name: str) -> list[LogLine]:
    raw = b"".join(_tail(folder / f"{name}.log{suffix}") for suffix in (".1", ""))
    return list(_parsed(raw.decode(errors="replace").splitlines()))


def _tail(path: Path) -> bytes:
    """Return the end of a file, from the beginning of a line on."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _FILE_BYTES))
            data = file.read(_FILE_BYTES)
    except OSError:
        return b""
    return data if size <= _FILE_BYTES else data.partition(b"\n")[2]


def _parsed(lines: list[str]) -> Iterator[LogLine]:
    """Yield the lines; one that names no level, as those of a traceback, has that of the last."""
    level = "info"
    for text in lines:
        said, when = _level(text)
        level = said or level
        if text.strip():
            yield LogLine(level, when, text[:_LINE_LENGTH])


def _level(text: str) -> tuple[str | None, str | None]:
    if text.startswith("{"):
        try:
            members: Any = json.loads(text)
        except ValueError:
            return None, None
        level, when = str(members.get("level")), members.get("time")
        return _known(level), when if isinstance(when, str) else None
    found = _WORD.match(text)
    if found is None:
        return None, None
    word = (found["bracket"] or found["upper"] or "info").lower()
    return _known(word) or "info", None


def _known(word: str) -> str | None:
    word = _OTHER_WORDS.get(word, word)
    return word if word in LEVELS else None


def _of_journal(process: str, most: int, level: str) -> ProcessLog:
    unit = f"appliance-{process}.service"
    by_hand = f"on the machine: journalctl -u {unit.removesuffix('.service')}"
    command = [
        "journalctl", f"--unit={unit}", f"--lines={most}", "--output=json", "--no-pager", "--quiet",
        "--output-fields=MESSAGE,PRIORITY", f"--priority={_priority(level)}",
    ]  # fmt: skip
    try:
        data = _answer(command)
    except (OSError, subprocess.SubprocessError):
        return ProcessLog(process, "journal", note=f"the journal does not answer; {by_hand}")
    lines = [_of_entry(line) for line in data.splitlines()]
    found = [line for line in lines if line is not None]
    note = None if found else f"the API may not read the journal, or it has nothing; {by_hand}"
    return ProcessLog(process, "journal", found, note)


def _answer(command: list[str]) -> bytes:
    """Return what a command prints: bounded in bytes, and in time."""
    end = time.monotonic() + _JOURNAL_SECONDS
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    pieces, size = [], 0
    try:
        with cast("BinaryIO", process.stdout) as output, selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while size < _JOURNAL_BYTES and selector.select(max(0.0, end - time.monotonic())):
                piece = output.read1(2**16)  # type: ignore[attr-defined]  # it is buffered
                if not piece:
                    break
                pieces.append(piece)
                size += len(piece)
    finally:
        process.kill()
        process.wait()
    return b"".join(pieces)


def _priority(level: str) -> str:
    return {"debug": "7", "info": "6", "warning": "4", "error": "3", "critical": "2"}[level]


def _of_entry(line: bytes) -> LogLine | None:
    try:
        entry: Any = json.loads(line)
        message, priority = entry.get("MESSAGE"), int(entry.get("PRIORITY", 6))
        seconds = int(entry.get("__REALTIME_TIMESTAMP", 0)) / 1e6
    except (ValueError, AttributeError, TypeError):
        return None
    if isinstance(message, list):  # bytes that are no text
        message = bytes(
            each for each in message if isinstance(each, int) and 0 <= each < 256
        ).decode(errors="replace")
    when = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    level = _PRIORITIES[min(max(priority, 0), 7)]
    return LogLine(level, when.replace("+00:00", "Z"), str(message)[:_LINE_LENGTH])
