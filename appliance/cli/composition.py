"""The composition root of the API: concrete objects become the parts that its views need."""

import contextlib
import functools
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from importlib import metadata
from typing import Any, Final

from appliance import readiness
from appliance.api import openapi
from appliance.api.quarantine.door import QuarantineDoor
from appliance.api.quarantine.recheck import Rechecker
from appliance.api.services import Services
from appliance.auth.authorizer import Authorizer
from appliance.auth.inbox_desk import InboxDesk
from appliance.auth.refresher import AccessRefresher
from appliance.auth.siblings import Siblings
from appliance.auth.sign_in import SignIn
from appliance.auth.token_desk import TokenDesk
from appliance.broker.base import BrokerState
from appliance.cli import verifying
from appliance.config import Config
from appliance.config.shown import shown
from appliance.deletion import DeletionDesk
from appliance.errors import StoreError
from appliance.history.chronicle import Chronicler
from appliance.metrics import board
from appliance.model.wire import Envelope
from appliance.operations.backup_desk import BackupDesk
from appliance.operations.chore import Chore, Report
from appliance.operations.endpoint_desk import EndpointDesk
from appliance.operations.operations import Operations
from appliance.operations.replay_desk import ReplayDesk
from appliance.redrive import Redriver
from appliance.schemas.book import SchemaBook
from appliance.store.base import Store
from appliance.store.filters import MessageFilter
from appliance.store.rows import Span
from appliance.supervision import process_logs, processes, restart

#: The file in the data folder that keeps how the last verification ended.
_VERIFICATION: Final = "last-verification.json"
#: Folders of the run folder, which the API's processes share: links that sign in, and chores.
_LINKS: Final = "links"
_CHORES: Final = "chores"


def api_services(
    config: Config,
    store: Store,
    broker: Callable[[], BrokerState],
    publish: Callable[[Envelope], None],
    *,
    mark: Callable[[str], None],
    stopping: threading.Event,
    authorizer: Authorizer,
) -> Services:
    """Build the parts; nothing is opened or connected until one of them is used.

    `publish` returns when the broker has an envelope on disk, `mark` when it has the mark of a
    deletion with this id; or they raise BrokerError.
    """
    reader, dead_letters = store.reader, store.dead_letters
    book = SchemaBook(lambda: authorizer.snapshot.schemas)
    if config.api_processes > 1:
        broker = _seen_by_all(config, broker)
    rechecker = Rechecker(config, store.access, book, reader)
    refresher = AccessRefresher(
        store.access, authorizer, Siblings(config) if config.api_processes > 1 else None
    )
    return Services(
        config=config,
        reader=reader,
        dead_letters=dead_letters,
        redriver=Redriver(
            config, dead_letters, publish, store.access.record, recheck=rechecker.check
        ),
        delayed=store.delayed,
        handling=store.handling,
        deletions=DeletionDesk(store.deletions, mark),
        access=store.access,
        schemas=store.schemas,
        book=book,
        door=QuarantineDoor(config),
        refresher=refresher,
        refusals=authorizer.refusals,
        tokens=TokenDesk(store.access, refresher.refresh),
        inboxes=InboxDesk(store.access, refresher.refresh),
        subscriptions=store.subscriptions,
        endpoints=store.endpoints,
        endpoint_desk=EndpointDesk(
            store.endpoints,
            lambda: reader.find(MessageFilter(), Span(), 1).newest,
            config.deliver_allow,
            store.access.record,
        ),
        replays=ReplayDesk(store.replays, store.endpoints),
        sign_in=SignIn(store.access, authorizer, refresher, config.run_folder / _LINKS),
        broker=broker,
        processes=lambda: processes.read(config),
        readiness=lambda: readiness.assess(config, reader, broker()),
        intake_readiness=lambda: readiness.assess_intake(config, broker()),
        backup=store.backup,
        interface=lambda server: openapi.describe(
            config, metadata.version("queue-appliance"), server
        ),
        chronicler=Chronicler(config, store.history),
        operations=_operations(config, store, broker, stopping),
        stopping=stopping,
    )


def _seen_by_all(config: Config, broker: Callable[[], BrokerState]) -> Callable[[], BrokerState]:
    """Return the broker's state with the age of the queue as all API processes here know it."""

    def state() -> BrokerState:
        own = broker()
        with contextlib.suppress(StoreError):
            age = board.totals(config).gauges.get("queue_oldest_age_seconds")
            if age is not None and own.oldest_seconds is not None:
                return replace(own, oldest_seconds=min(age, own.oldest_seconds))
        return own

    return state


def _operations(
    config: Config, store: Store, broker: Callable[[], BrokerState], stopping: threading.Event
) -> Operations:
    def check(report: Report) -> Mapping[str, Any]:
        # Imported when needed, because an API process is rarely asked for it.
        from appliance.doctor.checks import examine
        from appliance.doctor.diagnosis import Level

        findings = []
        for result in examine(config, store):
            findings.append(asdict(result))
            report(result.check, None)
        return {"ok": all(each["level"] != Level.ERROR for each in findings), "findings": findings}

    def verify(report: Report) -> Mapping[str, Any]:
        return verifying.verify_running(
            config, store, lambda: asdict(broker()), lambda step, _seconds: report(step, None)
        )

    folder = config.run_folder / _CHORES
    return Operations(
        doctor=Chore("doctor", check, folder),
        verify=Chore("verify", verify, folder, config.data / _VERIFICATION),
        backups=BackupDesk(store.backup, stopping.is_set, folder),
        settings=lambda: shown(config),
        log=functools.partial(process_logs.read, config),
        restart=functools.partial(restart.restart, config),
    )
