"""Ours: the real processes of the appliance, as supervisord would start them.

The broker that it starts is the one that every other side uses too.
"""

import secrets
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from appliance import config as configuration
from appliance import credentials
from appliance.machine import allowance
from bench.harness import (
    Program,
    appliance,
    free_broker_port,
    free_port,
    listening,
    wait_until,
)
from bench.sides.base import Side
from bench.sides.postgres_program import PostgresProgram

OURS, OURS_ON_POSTGRES = "ours", "ours on PostgreSQL"
WORKERS = 2


class Appliance:
    """The appliance in a folder of its own; the broker outlives a stop of the rest.

    Its store is a file in that folder, or, where one is given, the server's own database. It has
    `apis` API processes; 0: as many as the machine's cores are worth.
    """

    def __init__(
        self,
        folder: Path,
        stack: ExitStack,
        server: PostgresProgram | None = None,
        apis: int = 0,
    ) -> None:
        self.folder = folder
        self._stack = stack
        self._server = server
        self.env = {
            "APPLIANCE_DATA": str(folder / "data"),
            "APPLIANCE_HTTP": f"127.0.0.1:{free_port()}",
            "APPLIANCE_AMQP": f"127.0.0.1:{free_broker_port()}",
            "APPLIANCE_TOKEN": secrets.token_urlsafe(16),
            "APPLIANCE_LOG_FORMAT": "json",
            "APPLIANCE_DELIVER_ALLOW": "127.0.0.1",
            "APPLIANCE_API_PROCESSES": str(apis),
        }
        if server:
            self.env["APPLIANCE_DATABASE_URL"] = server.url
        self.config = allowance.fit(configuration.load(self.env))
        self.broker = self.start_program("broker", "broker")
        port = self.config.amqp.port
        wait_until("the broker listens", lambda: listening(port), [self.broker])

    def start_program(self, name: str, command: str) -> Program:
        """Start one of the appliance's commands; it ends with the run at the latest."""
        program = Program(name, appliance(command), self.folder, self.env)
        self._stack.callback(program.stop)
        return program

    @property
    def broker_url(self) -> str:
        """Address and credentials for the other sides."""
        password = credentials.broker_password(self.config)
        return f"amqp://appliance:{password}@127.0.0.1:{self.config.amqp.port}/%2F"

    def start(self) -> Side:
        """Start API and workers and wait until a message sent now would be stored."""
        self.start_program("migrate", "migrate").wait(60)
        apis = [self.start_program(f"api-{n}", "api") for n in range(self.config.api_processes)]
        workers = [self.start_program(f"worker-{n}", "worker") for n in range(WORKERS)]
        wait_until("our API is ready", self._ready, [*apis, *workers, self.broker])
        programs = {"api": apis, "worker": workers, "broker": [self.broker]}
        several = f"{len(apis)} of " if len(apis) > 1 else ""
        database: Path | str = self.config.data / "appliance.db"
        if self._server:
            database, programs["database"] = self._server.url, [self._server.program]
        return Side(
            name=OURS_ON_POSTGRES if self._server else OURS,
            what=f"{several}appliance api, {WORKERS} workers of which one is active"
            + (f"; {self._server.version}" if self._server else ""),
            durability="fsync by the broker before the 202, commit with fsync before the ack",
            port=self.config.http.port,
            path="/v1/topics/{topic}/messages",
            batch_path="/v1/topics/{topic}/messages?split=lines",
            headers={"Authorization": f"Bearer {self.env['APPLIANCE_TOKEN']}"},
            database=database,
            programs=programs,
        )

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.config.api_url}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.HTTPError):
            return False
