"""The parts of the appliance that the Flask application needs, put together by the command line."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from appliance.api.quarantine.door import QuarantineDoor
from appliance.auth.inbox_desk import InboxDesk
from appliance.auth.refresher import AccessRefresher
from appliance.auth.refusal_counts import Refusals
from appliance.auth.sign_in import SignIn
from appliance.auth.token_desk import TokenDesk
from appliance.broker.base import BrokerState
from appliance.config import Config
from appliance.deletion import DeletionDesk
from appliance.history.chronicle import Chronicler
from appliance.model.tallies import StreamTally
from appliance.operations.endpoint_desk import EndpointDesk
from appliance.operations.operations import Operations
from appliance.operations.replay_desk import ReplayDesk
from appliance.readiness import Readiness
from appliance.redrive import Redriver
from appliance.schemas.book import SchemaBook
from appliance.store.base import (
    Access,
    Backups,
    DeadLetters,
    Delayed,
    Reader,
    Schemas,
    Subscriptions,
)
from appliance.store.endpoints import Endpoints
from appliance.store.handler_rows import Handling
from appliance.supervision.state import ProcessState


@dataclass(frozen=True)
class Services:
    """One for each API process. Every part can be used in any thread."""

    config: Config
    reader: Reader
    dead_letters: DeadLetters
    redriver: Redriver
    delayed: Delayed
    handling: Handling
    deletions: DeletionDesk
    #: Tokens, inbox addresses and the audit trail. After a change, call `refresher.refresh()`.
    access: Access
    refresher: AccessRefresher
    #: JSON Schemas as they are stored, and as they are in force. After a change, refresh too.
    schemas: Schemas
    book: SchemaBook
    #: Counts what goes into the quarantine.
    door: QuarantineDoor
    refusals: Refusals
    tokens: TokenDesk
    inboxes: InboxDesk
    subscriptions: Subscriptions
    #: Where stored messages go on to, and who changes that.
    endpoints: Endpoints
    endpoint_desk: EndpointDesk
    #: Sends stored messages again.
    replays: ReplayDesk
    #: Sessions of the console.
    sign_in: SignIn
    #: Returns the broker's state as this process sees it.
    broker: Callable[[], BrokerState]
    #: Returns the state of each program that the supervisor runs.
    processes: Callable[[], list[ProcessState]]
    #: Returns the checks that a message sent now must pass to become a row.
    readiness: Callable[[], Readiness]
    intake_readiness: Callable[[], Readiness]
    backup: Backups
    #: Returns the description of the interface, for an API at this address.
    interface: Callable[[str], dict[str, Any]]
    #: What an administrator asks of the running appliance.
    operations: Operations
    #: Tells how each second and minute was.
    chronicler: Chronicler
    #: Set when the process stops; a long answer is given up then.
    stopping: threading.Event
    #: The streams that are open; whoever serves them counts them here.
    streams: StreamTally = field(default_factory=StreamTally)
    version: str = field(default_factory=lambda: metadata.version("queue-appliance"))
