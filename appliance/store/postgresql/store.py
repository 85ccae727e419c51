"""The store in a PostgreSQL database, put together."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Final

from appliance.config import Config
from appliance.errors import BackupElsewhereError
from appliance.machine.bell import Bell
from appliance.model.ledger import LedgerEntry
from appliance.model.tallies import StoreTally
from appliance.store.base import (
    Access,
    Backups,
    Commits,
    DeadLetters,
    Delayed,
    Deletions,
    Duty,
    Follower,
    Health,
    History,
    Progress,
    Puller,
    Rest,
    Restoration,
    Schemas,
    SqlAids,
    StepTimer,
    Store,
    Subscriptions,
    Writer,
)
from appliance.store.endpoints import Deliveries, Endpoints
from appliance.store.handler_rows import Handling
from appliance.store.move_sides import MoveMark, MoveSource, MoveTarget
from appliance.store.postgresql import connections
from appliance.store.postgresql.hosts import Hosts
from appliance.store.postgresql.reader import PostgresReader
from appliance.store.postgresql.reads import PostgresReads
from appliance.store.postgresql.sql_database import PostgresDatabase
from appliance.store.postgresql.timelines import NewestTimelines
from appliance.store.replays import Replays
from appliance.store.verification import Verification

#: The file of the data folder that says which timeline of the database was seen.
_TIMELINE: Final = "database-timeline"


def open_store(config: Config) -> "PostgresStore":
    """Return the store that APPLIANCE_DATABASE_URL names."""
    return PostgresStore(config)


class PostgresStore:
    """The database that the settings name. A module is imported by the first call that needs it."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._url = config.database_url
        self._hosts = Hosts(self._url, NewestTimelines(config.data / _TIMELINE))
        self.tally = StoreTally()

    @property
    def location(self) -> str:
        """The database's hosts and name."""
        return connections.location(self._url)

    @cached_property
    def _connections(self) -> PostgresReads:
        return PostgresReads(self._hosts)

    @cached_property
    def _database(self) -> PostgresDatabase:
        return PostgresDatabase(self._connections)

    @cached_property
    def access(self) -> Access:
        """The store's tokens, inbox addresses and audit trail."""
        from appliance.store.sql.access import StoredAccess

        return StoredAccess(self._database)

    @cached_property
    def schemas(self) -> Schemas:
        """The store's JSON Schemas."""
        from appliance.store.sql.schemas import StoredSchemas

        return StoredSchemas(self._database)

    @cached_property
    def reader(self) -> PostgresReader:
        """The store's reader."""
        config = self._config
        wanted = config.database_synchronous_copies
        return PostgresReader(self._connections, config.database_read_url, wanted)

    @cached_property
    def follower(self) -> Follower:
        """The store's reads for those who follow, through its reader."""
        from appliance.store.sql.following import StoredFollower

        return StoredFollower(self._database)

    @cached_property
    def subscriptions(self) -> Subscriptions:
        """The store's subscriptions."""
        from appliance.store.sql.subscriptions import StoredSubscriptions

        return StoredSubscriptions(self._database)

    @cached_property
    def puller(self) -> Puller:
        """What hands out messages of subscriptions."""
        from appliance.store.sql.pulling import StoredPuller

        return StoredPuller(self._database)

    @cached_property
    def handling(self) -> Handling:
        """The store's messages that wait for a handler."""
        from appliance.store.postgresql.living_handlers import PostgresHandling

        return PostgresHandling(self._database, self._config.handlers)

    @cached_property
    def endpoints(self) -> Endpoints:
        """The store's endpoints."""
        from appliance.store.sql.endpoint_admin import StoredEndpoints

        return StoredEndpoints(self._database)

    @cached_property
    def deliveries(self) -> Deliveries:
        """The store's part of delivering."""
        from appliance.store.postgresql.sole_deliverer import PostgresDeliveries

        return PostgresDeliveries(self._hosts)

    @cached_property
    def dead_letters(self) -> DeadLetters:
        """The store's dead letters."""
        from appliance.store.sql.dead_letters import StoredDeadLetters

        return StoredDeadLetters(self._database)

    @cached_property
    def deletions(self) -> Deletions:
        """The store's orders to delete messages."""
        from appliance.store.sql.deletions import StoredDeletions

        return StoredDeletions(self._database)

    @cached_property
    def delayed(self) -> Delayed:
        """The store's delayed messages."""
        from appliance.store.sql.delayed import StoredDelayed

        return StoredDelayed(self._database)

    @cached_property
    def history(self) -> History:
        """The store's history."""
        from appliance.store.sql.history_table import StoredHistory

        return StoredHistory(self._database)

    def take_canaries(self) -> list[str]:
        """Remove the appliance's own canaries, and their topic with them; return their ids."""
        from appliance.store.sql import canaries

        return canaries.take_canaries(self._database)

    @cached_property
    def replays(self) -> Replays:
        """The store's replays."""
        from appliance.store.postgresql import own_query
        from appliance.store.sql.replay_admin import StoredReplays

        def seqs_found(sql: str) -> Iterator[int]:
            return own_query.seqs_found(self._hosts.url_of_primary(), sql)

        return StoredReplays(self._database, seqs_found)

    @cached_property
    def sql_aids(self) -> SqlAids:
        """The store's views and indexes of JSON bodies."""
        from appliance.store.postgresql.sql_aids import PostgresAids

        return PostgresAids(self._hosts)

    @cached_property
    def commits(self) -> Commits:
        """The store's answers for the event loop."""
        from appliance.store.postgresql.commit_look import PostgresLook
        from appliance.store.sql.commits import CommitWatch

        folder = self._config.run_folder / "commits"
        return CommitWatch(PostgresLook(self._hosts), folder, handlers=bool(self._config.handlers))

    def open_writer(self) -> Writer:
        """Open a connection that writes."""
        from appliance.store.postgresql.writer import PostgresWriter

        return PostgresWriter(
            self._hosts,
            self.tally,
            Bell(self._config.run_folder / "commits"),
            rules=self._config.handlers,
            handlers_bell=Bell(self._config.run_folder / "handlers"),
            shared=self._config.shards > 1,
            copies=self._config.database_synchronous_copies,
        )

    def accept_missing(self) -> int:
        """Acknowledge the missing envelopes; return how many they were."""
        from appliance.store.postgresql.writer import PostgresWriter

        writer = PostgresWriter(self._hosts)
        try:
            return writer.accept_missing()
        finally:
            writer.close()

    def unaccounted(self, entry: LedgerEntry) -> int:
        """Return how many envelopes a source calls settled and kept that are not stored yet."""
        from appliance.store.sql import ledger_table

        with self._connections.reading() as connection:
            return ledger_table.unaccounted(connection, entry)

    def rows(self) -> Iterator[tuple[str, str, str | bytes]]:
        """Yield topic, id and body of every message in order."""
        with self._connections.reading() as connection, connection.driver.transaction():
            query = "SELECT topic, id, body, body_bytes FROM messages ORDER BY seq"
            with connection.driver.cursor("rows") as cursor:
                for topic, message_id, text, other in cursor.execute(query):
                    yield topic, message_id, other if text is None else text

    @cached_property
    def backup(self) -> Backups:
        """The store's backups: words on how to make them."""
        from appliance.store.postgresql.backups import PostgresBackups

        return PostgresBackups(self._config.backup_folder)

    @cached_property
    def health(self) -> Health:
        """The store's checks for the doctor."""
        from appliance.store.postgresql.health import PostgresHealth

        return PostgresHealth(self._hosts, self._config.database_synchronous_copies)

    def in_use(self) -> AbstractContextManager[None]:
        """Do nothing: PostgreSQL knows who uses it."""
        return nullcontext()

    def duties(self, rest: Rest) -> Sequence[Duty]:
        """Return the duties of counters, retention, quarantine, memory and index."""
        from appliance.store.postgresql.indexer import SearchIndexer
        from appliance.store.postgresql.recount import PostgresRecount
        from appliance.store.sql.handled_memory import HandledMemory
        from appliance.store.sql.quarantine import QuarantineBounds
        from appliance.store.sql.row_upkeep import RowUpkeep

        config, database = self._config, self._database
        recount = PostgresRecount(self._hosts, rest)
        rows = RowUpkeep(database, config.retention, rest, recount)
        bounds = QuarantineBounds(database, config.quarantine_bytes, config.quarantine_age, rest)
        memory = HandledMemory(self.handling, config.handled_age, rest)
        indexer = SearchIndexer(self._hosts, is_on=config.search_index, rest=rest)
        return [*rows.duties(), bounds.duty(), memory.duty(), indexer.duty()]

    def verify(self, *, quick: bool, alone: bool, progress: StepTimer) -> Verification:  # noqa: ARG002
        """Check the whole database; only reads."""
        from appliance.store.postgresql.verify import verify

        return verify(self._hosts.url_of_primary(), quick=quick, progress=progress)

    def repair(self, rest: Rest) -> list[str]:
        """Correct counters that differ from their rows, and have a damaged index made anew.

        Returns in words what was done. Raises InUseError where the janitor is doing it.
        """
        from appliance.store.postgresql import index_check
        from appliance.store.postgresql.recount import PostgresRecount

        made = []
        if index_check.repair(self._hosts):
            made.append("to be made anew by the janitor: the search index")
        topics = PostgresRecount(self._hosts, rest).run()
        return made + [f"corrected: the counters of the topic {topic}" for topic in topics]

    def restore(
        self,
        source: Path,  # noqa: ARG002
        progress: Progress,  # noqa: ARG002
    ) -> AbstractContextManager[Restoration]:
        """Raise BackupError: PostgreSQL's own tools restore its backups."""
        from appliance.store.postgresql.backups import WORDS

        raise BackupElsewhereError(WORDS)

    def of_backup(self, file: Path) -> Store:
        """Raise BackupError: a backup of PostgreSQL is verified once it is restored."""
        from appliance.store.postgresql.backups import WORDS

        raise BackupElsewhereError(
            f"{file} can't be verified; restore it into a database of its own: {WORDS}"
        )

    def migrate(self) -> list[str]:
        """Bring the database to this program's schema."""
        from appliance.store.postgresql.migrations import migrate

        return migrate(self._hosts.url_of_primary())

    def departing(self) -> AbstractContextManager[MoveSource]:
        """Lend all rows to a move; nobody else writes within the block."""
        from appliance.store.postgresql import departure

        return departure.departing(self._hosts.url_of_primary())

    def arriving(self) -> AbstractContextManager[MoveTarget]:
        """Lend the database to be filled by a move, in one transaction."""
        from appliance.store.postgresql import arrival

        return arrival.arriving(self._hosts.url_of_primary())

    def reopen(self) -> MoveMark | None:
        """Let a database whose rows were moved away take rows again."""
        from appliance.store.postgresql import departure

        return departure.reopen(self._hosts.url_of_primary())
