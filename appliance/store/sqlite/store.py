"""The store in the SQLite file of the data folder, put together."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, partial
from pathlib import Path

from appliance.config import Config
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
from appliance.store.replays import Replays
from appliance.store.sqlite import paths
from appliance.store.sqlite.database import connect, sqlite3, store_error
from appliance.store.sqlite.reader import SqliteReader
from appliance.store.sqlite.sql_database import SqliteDatabase
from appliance.store.verification import Verification


def open_store(config: Config) -> Store:
    """Return the store in the data folder."""
    return SqliteStore(config, config.data / paths.DATABASE)


class SqliteStore:
    """The database at `path`. A module is imported by the first call that needs it.

    Most processes use one or two of them, and each would carry the others for ever.
    """

    def __init__(self, config: Config, path: Path) -> None:
        self._config = config
        self.path = path
        self.tally = StoreTally()
        self._bell_folder = config.run_folder / "commits"
        self._handlers_bell_folder = config.run_folder / "handlers"

    @property
    def location(self) -> str:
        """Path of the database."""
        return str(self.path)

    @cached_property
    def reader(self) -> SqliteReader:
        """The store's reader."""
        return SqliteReader(self.path)

    @cached_property
    def _database(self) -> SqliteDatabase:
        return SqliteDatabase(self.path, self.reader)

    @cached_property
    def commits(self) -> Commits:
        """The store's answers for the event loop."""
        from appliance.store.sql.commits import CommitWatch
        from appliance.store.sqlite.commit_look import SqliteLook

        handlers = bool(self._config.handlers)
        return CommitWatch(SqliteLook(self.path), self._bell_folder, handlers=handlers)

    @cached_property
    def follower(self) -> Follower:
        """The store's reads for those who follow, through its reader."""
        from appliance.store.sql.following import StoredFollower

        return StoredFollower(self._database)

    @cached_property
    def dead_letters(self) -> DeadLetters:
        """The store's dead letters, read through its reader."""
        from appliance.store.sql.dead_letters import StoredDeadLetters

        return StoredDeadLetters(self._database)

    @cached_property
    def access(self) -> Access:
        """The store's tokens, inbox addresses and audit trail, read through its reader."""
        from appliance.store.sql.access import StoredAccess

        return StoredAccess(self._database)

    @cached_property
    def schemas(self) -> Schemas:
        """The store's JSON Schemas, read through its reader."""
        from appliance.store.sql.schemas import StoredSchemas

        return StoredSchemas(self._database)

    @cached_property
    def subscriptions(self) -> Subscriptions:
        """The store's subscriptions, read through its reader."""
        from appliance.store.sql.subscriptions import StoredSubscriptions

        return StoredSubscriptions(self._database)

    @cached_property
    def puller(self) -> Puller:
        """What hands out messages of subscriptions, through the store's reader."""
        from appliance.store.sql.pulling import StoredPuller

        return StoredPuller(self._database)

    @cached_property
    def deletions(self) -> Deletions:
        """The store's orders to delete messages, read through its reader."""
        from appliance.store.sql.deletions import StoredDeletions

        return StoredDeletions(self._database)

    @cached_property
    def delayed(self) -> Delayed:
        """The store's delayed messages, read through its reader."""
        from appliance.store.sql.delayed import StoredDelayed

        return StoredDelayed(self._database)

    @cached_property
    def handling(self) -> Handling:
        """The store's messages that wait for a handler."""
        from appliance.store.sql.handling import StoredHandling

        return StoredHandling(self._database, self._config.handlers)

    @cached_property
    def endpoints(self) -> Endpoints:
        """The store's endpoints, read through its reader."""
        from appliance.store.sql.endpoint_admin import StoredEndpoints

        return StoredEndpoints(self._database)

    @cached_property
    def deliveries(self) -> Deliveries:
        """The store's part of delivering."""
        from appliance.store.sql.deliveries import StoredDeliveries

        return StoredDeliveries(self._database)

    @cached_property
    def replays(self) -> Replays:
        """The store's replays, read through its reader."""
        from appliance.store.sql.replay_admin import StoredReplays
        from appliance.store.sqlite import own_query

        return StoredReplays(self._database, partial(own_query.seqs_found, self.path))

    @cached_property
    def history(self) -> History:
        """The store's history, read through its reader."""
        from appliance.store.sql.history_table import StoredHistory

        return StoredHistory(self._database)

    @cached_property
    def sql_aids(self) -> SqlAids:
        """The store's views and indexes of JSON bodies."""
        from appliance.store.sqlite.sql_aids import SqliteAids

        return SqliteAids(self.path)

    @cached_property
    def backup(self) -> Backups:
        """The store's backups."""
        from appliance.store.sqlite.backup import SqliteBackups

        return SqliteBackups(self.path, self._config.backup_folder, self._config.min_free_bytes)

    @cached_property
    def health(self) -> Health:
        """The store's checks for the doctor."""
        from appliance.store.sqlite.health import SqliteHealth

        return SqliteHealth(self.path)

    def in_use(self) -> AbstractContextManager[None]:
        """Hold a lock within the block that keeps a restore away.

        Raises InUseError where a restore does not end in time.
        """
        from appliance.store.sqlite import usage

        return usage.shared(self.path)

    def migrate(self) -> list[str]:
        """Bring the database to this program's schema, or make it."""
        from appliance.store.sqlite.migrations import migrate

        return migrate(self.path)

    def open_writer(self) -> Writer:
        """Open a connection that writes."""
        from appliance.store.sqlite.writer import SqliteWriter

        return SqliteWriter(
            self.path,
            self.tally,
            Bell(self._bell_folder),
            rules=self._config.handlers,
            handlers_bell=Bell(self._handlers_bell_folder),
        )

    def duties(self, rest: Rest) -> Sequence[Duty]:
        """Return the duties of checkpoints, of retention, of the quarantine and of the index."""
        from appliance.store.sql.handled_memory import HandledMemory
        from appliance.store.sql.quarantine import QuarantineBounds
        from appliance.store.sqlite.indexer import Indexer
        from appliance.store.sqlite.upkeep import Upkeep

        config = self._config
        bounds = QuarantineBounds(
            self._database, config.quarantine_bytes, config.quarantine_age, rest
        )
        indexer = Indexer(
            self.path, is_on=config.search_index, floor=config.min_free_bytes, rest=rest
        )
        upkeep = Upkeep(self._database, config.retention, rest)
        memory = HandledMemory(self.handling, config.handled_age, rest)
        return [*upkeep.duties(), bounds.duty(), memory.duty(), indexer.duty()]

    def verify(self, *, quick: bool, alone: bool, progress: StepTimer) -> Verification:
        """Check the whole database; only reads."""
        from appliance.store.sqlite.verify import verify

        return verify(self.path, quick=quick, alone=alone, progress=progress)

    def repair(self, rest: Rest) -> list[str]:
        """Correct counters that differ from their rows, and make anew indexes that are gone.

        Returns in words what was done. Raises InUseError where the janitor is doing it.
        """
        from appliance.store.sqlite import index_check, schema_check
        from appliance.store.sqlite.recount import SqliteRecount

        connection = connect(self.path, readonly=False)
        try:
            made = [f"made anew: the {each}" for each in schema_check.repair(connection)]
            if index_check.compare(self.path, connection):
                paths.damaged_mark(paths.search_index(self.path)).touch()
                made.append("to be made anew by the janitor: the search index")
        except sqlite3.Error as error:
            raise store_error(error, self.path) from error
        finally:
            connection.close()
        topics = SqliteRecount(self.path, rest).run()
        return made + [f"corrected: the counters of the topic {topic}" for topic in topics]

    def unaccounted(self, entry: LedgerEntry) -> int:
        """Return how many envelopes a source calls settled and kept that are not stored yet."""
        from appliance.store.sql import ledger_table

        connection = connect(self.path, readonly=True)
        try:
            return ledger_table.unaccounted(connection, entry)
        except sqlite3.Error as error:
            raise store_error(error, self.path) from error
        finally:
            connection.close()

    def accept_missing(self) -> int:
        """Acknowledge the missing envelopes; return how many they were."""
        from appliance.store.sqlite.writer import SqliteWriter

        writer = SqliteWriter(self.path)
        try:
            return writer.accept_missing()
        finally:
            writer.close()

    def take_canaries(self) -> list[str]:
        """Remove the appliance's own canaries, and their topic with them; return their ids."""
        from appliance.store.sql import canaries

        return canaries.take_canaries(self._database)

    def rows(self) -> Iterator[tuple[str, str, str | bytes]]:
        """Yield topic, id and body of every message in order, where nothing writes meanwhile.

        It is one read from beginning to end: beside a writer it would keep the write-ahead log from
        being emptied.
        """
        connection = connect(self.path, readonly=True)
        try:
            yield from connection.execute("SELECT topic, id, body FROM messages ORDER BY seq")
        except sqlite3.Error as error:
            raise store_error(error, self.path) from error
        finally:
            connection.close()

    def restore(self, source: Path, progress: Progress) -> AbstractContextManager[Restoration]:
        """Make the backup `source` ready to replace the database."""
        from appliance.store.sqlite import restore

        return restore.prepared(source, self.path, self._config.min_free_bytes, progress)

    def of_backup(self, file: Path) -> "SqliteStore":
        """Return the store that a backup's file is."""
        return SqliteStore(self._config, file)

    def departing(self) -> AbstractContextManager[MoveSource]:
        """Lend all rows to a move; nobody else writes within the block."""
        from appliance.store.sqlite import departure

        return departure.departing(self.path)

    def arriving(self) -> AbstractContextManager[MoveTarget]:
        """Lend a file to be filled by a move, which is put in place when it is whole."""
        from appliance.store.sqlite import arrival

        return arrival.arriving(self.path, self._config.min_free_bytes)

    def reopen(self) -> MoveMark | None:
        """Let a database whose rows were moved away take rows again."""
        from appliance.store.sqlite import departure

        return departure.reopen(self.path)
