"""The composition root of the API: concrete objects become the parts that its views need."""

import threading
from collections.abc import Callable

from appliance import readiness
from appliance.api.quarantine.door import QuarantineDoor
from appliance.api.quarantine.recheck import Rechecker
from appliance.api.schemas.book import SchemaBook
from appliance.api.services import Services
from appliance.auth.authorizer import Authorizer
from appliance.auth.refresher import AccessRefresher
from appliance.auth.token_desk import TokenDesk
from appliance.broker.base import BrokerState
from appliance.config import Config
from appliance.model.wire import Envelope
from appliance.redrive import Redriver
from appliance.store.base import Store
from appliance.supervision import processes


def api_services(
    config: Config,
    store: Store,
    broker: Callable[[], BrokerState],
    publish: Callable[[Envelope], None],
    *,
    stopping: threading.Event,
    authorizer: Authorizer,
) -> Services:
    """Build the parts; nothing is opened or connected until one of them is used.

    `publish` returns when the broker has an envelope on disk, or raises BrokerError.
    """
    reader, dead_letters = store.reader, store.dead_letters
    book = SchemaBook(authorizer)
    rechecker = Rechecker(config, store.access, book, reader)
    refresher = AccessRefresher(store.access, authorizer)
    return Services(
        config=config,
        reader=reader,
        dead_letters=dead_letters,
        redriver=Redriver(
            config, dead_letters, publish, store.access.record, recheck=rechecker.check
        ),
        access=store.access,
        schemas=store.schemas,
        book=book,
        door=QuarantineDoor(config),
        refresher=refresher,
        refusals=authorizer.refusals,
        tokens=TokenDesk(store.access, refresher.refresh),
        broker=broker,
        processes=lambda: processes.read(config),
        readiness=lambda: readiness.assess(config, reader, broker()),
        backup=store.backup,
        stopping=stopping,
    )
