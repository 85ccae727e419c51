"""The outcome of a check."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is: an error keeps the appliance from working or from keeping its promise."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The outcome of one check, and advice where something is wrong."""

    check: str
    level: Level
    found: str
    advice: str = ""


def ok(check: str, found: str) -> Diagnosis:
    """Return the outcome of a check that passed."""
    return Diagnosis(check, Level.OK, found)


def warning(check: str, found: str, advice: str) -> Diagnosis:
    """Return the outcome of a check of something that works, but not well."""
    return Diagnosis(check, Level.WARNING, found, advice)


def error(check: str, found: str, advice: str) -> Diagnosis:
    """Return the outcome of a check of something that does not work."""
    return Diagnosis(check, Level.ERROR, found, advice)
