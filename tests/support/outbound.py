"""The way out alone: a database and `appliance deliver`, without a broker and without an API."""

import ready_made
from harness import Process, wait_until
from store_contents import many

from appliance import config as configuration
from appliance.auth.signatures import standard
from appliance.model import timestamps
from appliance.store import open_store
from appliance.store.access_rows import Actor, Deed
from appliance.store.endpoint_rows import EndpointRow
from appliance.store.rows import Span

DEED = Deed(Actor("test", "::1"), "endpoint-create", "test")
NEWEST = Span()
SECRET = standard.new_secret()


class Out:
    """A database, the process that delivers from it, and its endpoints."""

    def __init__(self, folder, **settings):
        self.env = {
            "PATH": "/usr/bin:/bin",
            "APPLIANCE_DATA": str(folder / "data"),
            "APPLIANCE_LOG_FORMAT": "json",
            "APPLIANCE_DELIVER_ALLOW": "127.0.0.0/8",
            "APPLIANCE_MIN_FREE_BYTES": "0",
            **settings,
        }
        config = configuration.load(
            {name: value for name, value in self.env.items() if name.startswith("APPLIANCE")}
        )
        self.config = config
        self.store = open_store(config)
        ready_made.migrate(self.store.path)
        self.writer = self.store.open_writer()
        self.process = Process("deliver", self.env, folder)

    def close(self):
        if self.process.running:
            self.process.stop()
        self.writer.close()
        self.store.reader.close()

    def endpoint(self, url, name="shop", *, topics=("*",), where=(), start=0, own=(), **settings):
        row = EndpointRow(
            name=name, url=url, topics=topics, where=where, settings=settings,
            created_at=timestamps.now(), changed_at=timestamps.now(),
        )  # fmt: skip
        return self.store.endpoints.create(row, [SECRET], dict(own), start, DEED)

    def row(self, name="shop"):
        return self.store.endpoints.find(name)

    def due(self, state=None, name="shop"):
        return self.store.endpoints.due(name, state, NEWEST, 1000)

    def attempts(self, name="shop"):
        return self.store.endpoints.attempts(NEWEST, 10_000, name=name)

    def put(self, *bodies, topic="t"):
        envelope = many(list(bodies), topic)
        self.writer.store([envelope])

    def hurry(self, name="shop"):
        """Have what waits tried at once, as `resume` does."""
        assert self.store.endpoints.resume(name, DEED)

    def settled(self, name="shop"):
        """Wait until nothing is before an endpoint; return its row."""

        def look():
            row = self.row(name)
            backlog = self.store.endpoints.backlog(row)
            return row if not backlog.behind and not backlog.waiting and not backlog.lanes else None

        return wait_until(look, "everything is delivered", more=lambda: self.process.log)
