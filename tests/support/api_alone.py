"""A real API process on a store that the test fills itself: no broker, so it is there in a second.

For commands and calls that only read.
"""

import ready_made
from harness import Folder, Process, environment, free_port, wait_until

from appliance.client import Client
from appliance.errors import ClientError
from appliance.store import open_store


class ApiAlone(Folder):
    """An API without a broker, on a data folder of its own."""

    def __init__(self, folder, **settings):
        self.data = folder / "data"
        values = {f"APPLIANCE_{name.upper()}": str(value) for name, value in settings.items()}
        self.env = environment(
            self.data,
            APPLIANCE_HTTP=f"127.0.0.1:{free_port()}",
            APPLIANCE_TOKEN="a-token-for-tests-only",
            APPLIANCE_MIN_FREE_BYTES="0",
            **values,
        )
        self.store = open_store(self.config)
        ready_made.migrate(self.store.path)
        self._writer = self.store.open_writer()
        self.process = Process("api", self.env, folder)

    def start(self):
        self.process.start()
        wait_until(self._answers, "the API answers", 60, lambda: self.process.log)
        return self

    def _answers(self):
        assert self.process.running, self.process.log
        try:
            with Client.of(self.config) as client:
                return client.request("GET", "/v1/topics").status == 200
        except ClientError:
            return False

    def fill(self, *envelopes):
        self._writer.store(envelopes)

    def get(self, path):
        with Client.of(self.config) as client:
            return client.request("GET", path)

    def close(self):
        self.process.kill()
        self._writer.close()
        self.store.reader.close()
