"""The parts of the appliance that the console's pages need; the API's services have them."""

from collections.abc import Callable
from typing import Any, Protocol

from appliance.auth.inbox_desk import InboxDesk
from appliance.auth.sign_in import SignIn
from appliance.auth.token_desk import TokenDesk
from appliance.broker.base import BrokerState
from appliance.config import Config
from appliance.deletion import DeletionDesk
from appliance.history.chronicle import Chronicler
from appliance.operations.endpoint_desk import EndpointDesk
from appliance.operations.operations import Operations
from appliance.operations.replay_desk import ReplayDesk
from appliance.readiness import Readiness
from appliance.redrive import Redriver
from appliance.store.base import Access, DeadLetters, Delayed, Reader, Subscriptions
from appliance.store.endpoints import Endpoints
from appliance.store.handler_rows import Handling
from appliance.supervision.state import ProcessState


class ConsoleParts(Protocol):
    """One for each API process. Every part can be used in any thread."""

    @property
    def config(self) -> Config:
        """The settings."""

    @property
    def reader(self) -> Reader:
        """The store's reader."""

    @property
    def dead_letters(self) -> DeadLetters:
        """The store's dead letters."""

    @property
    def redriver(self) -> Redriver:
        """Sends dead letters again."""

    @property
    def deletions(self) -> DeletionDesk:
        """Takes orders to delete messages."""

    @property
    def access(self) -> Access:
        """The store's tokens, inbox addresses and audit trail."""

    @property
    def tokens(self) -> TokenDesk:
        """Makes tokens and revokes them."""

    @property
    def inboxes(self) -> InboxDesk:
        """Makes inbox addresses and revokes them."""

    @property
    def endpoints(self) -> Endpoints:
        """The store's endpoints, and what is undelivered."""

    @property
    def subscriptions(self) -> Subscriptions:
        """The store's subscriptions."""

    @property
    def delayed(self) -> Delayed:
        """The store's messages that wait for their time."""

    @property
    def handling(self) -> Handling:
        """The store's messages that wait for a handler."""

    @property
    def endpoint_desk(self) -> EndpointDesk:
        """Makes, changes and steers endpoints."""

    @property
    def replays(self) -> ReplayDesk:
        """Sends stored messages again."""

    @property
    def interface(self) -> Callable[[str], dict[str, Any]]:
        """Returns the description of the API at this address."""

    @property
    def operations(self) -> Operations:
        """What an administrator asks of the running appliance."""

    @property
    def chronicler(self) -> Chronicler:
        """Tells how each second and minute was."""

    @property
    def sign_in(self) -> SignIn:
        """Sessions of the console."""

    @property
    def broker(self) -> Callable[[], BrokerState]:
        """Returns the broker's state as this process sees it."""

    @property
    def processes(self) -> Callable[[], list[ProcessState]]:
        """Returns the state of each program that the supervisor runs."""

    @property
    def readiness(self) -> Callable[[], Readiness]:
        """Returns the checks that a message sent now must pass to become a row."""

    @property
    def version(self) -> str:
        """The program's version."""
