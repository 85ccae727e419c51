"""The outcome of `appliance verify`; its fields are the command's JSON."""

from dataclasses import dataclass, field
from typing import Any

from appliance.model.ledger import Ranges


@dataclass
class Integrity:
    """The engine's own check of the database, and how its schema differs from ours.

    `objects` are tables, columns, indexes and triggers of ours that are gone or changed; `yours`
    are those that other people added.
    """

    check: str
    ok: bool
    errors: list[str]
    objects: list[str]
    yours: list[str]


@dataclass
class WrongCounter:
    """A topic whose counters (`kept`) differ from those of its rows (`true`)."""

    topic: str
    kept: dict[str, Any]
    true: dict[str, Any]


@dataclass
class MessageSums:
    """The sums of all rows, and the topics whose counters differ from them."""

    rows: int
    bytes: int
    topics: int
    wrong_counters: int
    wrong: list[WrongCounter]


@dataclass
class DeadLetterSums:
    """The number of dead letters; `also_stored` counts those that are stored messages as well."""

    total: int
    by_reason: dict[str, int]
    also_stored: int


@dataclass
class LedgerGap:
    """A source whose numbers have gaps.

    The broker confirmed the `missing` envelopes; of the `unknown` ones it is not known.
    """

    source: str
    missing: int
    missing_ranges: Ranges
    unknown: int
    unknown_ranges: Ranges
    first_at: str
    last_at: str


@dataclass
class LedgerSums:
    """The ledger of all sources: what became of their envelopes."""

    total: int
    accounted: int
    not_kept: int
    missing: int
    unknown: int
    accepted: int
    gaps: list[LedgerGap]


@dataclass
class Verification:
    """All outcomes; a part is None where it could not be checked. `problems` are sentences."""

    database: str
    schema: int
    schema_wanted: int
    integrity: Integrity | None = None
    messages: MessageSums | None = None
    dead_letters: DeadLetterSums | None = None
    sources: LedgerSums | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: what other people added to the database: no fault
    yours: list[str] = field(default_factory=list)
