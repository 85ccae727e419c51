"""Rows of endpoints and of their deliveries, as every engine of the store returns them."""

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from appliance.store.access_rows import SigningSecret
from appliance.store.replay_rows import ReplayStanding

#: States of an endpoint.
ACTIVE: Final = "active"
PAUSED: Final = "paused"
#: Why an endpoint is paused that answered 410 (Standard Webhooks).
GONE_REASON: Final = "it answered 410: it wants no messages any more"
#: States of a message whose delivery failed: it is tried again; it is not, until it is redriven; it
#: was deleted before it could be delivered.
WAITING: Final = "waiting"
GIVEN_UP: Final = "given-up"
GONE: Final = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRow:
    """Where stored messages go on to. `id` names it among rows, `name` among people.

    `topics` are patterns, `where` conditions as people write them, `settings` a JSON object (see
    model.endpoint_settings). `reason` says why it is paused. All messages up to `cursor` are dealt
    with: delivered, or among those that are tried again. `failures` are the attempts that failed
    since the last good one; `broken_at` (Unix time) is when messages began to wait because of them,
    `retry_at` when the next one is tried, `trouble` what is wrong in words.

    `delivered`, `given_up` and `gone` count messages since it was made, `failed` attempts.
    """

    name: str
    url: str
    topics: tuple[str, ...]
    where: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    state: str = ACTIVE
    reason: str = ""
    created_at: str
    changed_at: str
    id: int = 0
    cursor: int = 0
    failures: int = 0
    broken_at: float | None = None
    retry_at: float | None = None
    trouble: str = ""
    delivered: int = 0
    failed: int = 0
    given_up: int = 0
    gone: int = 0
    delivered_at: str | None = None
    signing_secrets: tuple[SigningSecret, ...] = ()
    #: names of the headers with which each request is sent; the values are not for people
    own_headers: tuple[str, ...] = ()


class EndpointBacklog(NamedTuple):
    """What an endpoint has before it.

    `behind` are the messages of its topics that were stored after its cursor; its conditions are
    not looked at. Where it gets every topic they are numbers of rows, some of which may be deleted;
    else they are counted up to a bound. `oldest_at` is when the first of them was received (None:
    there is none). `waiting`, `given_up` and `gone` are messages whose delivery
    failed, by state; `lanes` the topics whose order a failed message holds up.
    """

    behind: int
    oldest_at: str | None
    waiting: int
    given_up: int
    gone: int
    lanes: int


class DueRow(NamedTuple):
    """A message whose delivery failed so far. Times are Unix times; `due_at` is of WAITING.

    `replay` is the id of the replay that it belongs to; None: none.
    """

    id: int
    endpoint: int
    seq: int
    message_id: str
    topic: str
    state: str
    attempts: int
    first_at: float
    due_at: float | None
    status: int | None
    error: str
    replay: str | None = None


class LaneRow(NamedTuple):
    """A topic that a failed message holds up: up to `cursor` its messages are done."""

    endpoint: int
    topic: str
    cursor: int
    attempts: int
    first_at: float
    due_at: float
    error: str


class AttemptRow(NamedTuple):
    """One attempt to deliver a message. `id` is 0 for one that is not stored yet.

    `status` is None where there was no answer; `error` is empty for a good one. `answer` is how the
    answer's body begins: a stranger's text.
    """

    id: int
    endpoint: int
    seq: int
    message_id: str
    topic: str
    attempt: int
    at: str
    took_ms: int
    status: int | None
    error: str
    answer: str


class Pause(NamedTuple):
    """An endpoint that the appliance pauses by itself, and why."""

    endpoint: int
    reason: str


@dataclass(slots=True)
class EndpointStanding:
    """How an endpoint stands, as the process that delivers keeps it; counts are added."""

    cursor: int
    failures: int = 0
    broken_at: float | None = None
    retry_at: float | None = None
    trouble: str = ""
    delivered: int = 0
    failed: int = 0
    given_up: int = 0
    gone: int = 0
    delivered_at: str | None = None


@dataclass(slots=True)
class DeliveryOutcome:
    """What came of some attempts, stored in one transaction.

    `standings` are by endpoint, `done` are ids of due rows that are delivered, `closed` are lanes
    (endpoint and topic) that have caught up, `resolved` messages (endpoint and seq) that a replay
    has delivered, whatever became of them before.
    """

    attempts: list[AttemptRow] = field(default_factory=list)
    standings: dict[int, EndpointStanding] = field(default_factory=dict)
    due: list[DueRow] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    lanes: list[LaneRow] = field(default_factory=list)
    closed: list[tuple[int, str]] = field(default_factory=list)
    pauses: list[Pause] = field(default_factory=list)
    replays: list[ReplayStanding] = field(default_factory=list)
    resolved: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Outfit:
    """An endpoint as requests to it are made: its row, and what nobody is shown.

    `secrets` sign, the newest first; `headers` are sent with each request.
    """

    row: EndpointRow
    secrets: tuple[str, ...]
    headers: tuple[tuple[str, str], ...]
