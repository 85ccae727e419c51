"""The seam of the store: what the appliance asks of a database.

`open_store` returns a `Store` of one engine. The other parts of the appliance import only this
module, and the neutral ones beside it, of the store; no engine's name, file or error passes
through here.

Every method raises StoreError where the database can't be used, unless its docstring says more.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, NamedTuple, Protocol

from appliance.machine.complaint import Complaint
from appliance.model.contents import Content
from appliance.model.history_points import HistoryPoint
from appliance.model.json_path import JsonPath
from appliance.model.ledger import LedgerEntry
from appliance.model.tallies import StoreTally
from appliance.model.view_columns import ViewColumn
from appliance.store.access_rows import (
    AccessRows,
    AuditEntry,
    Deed,
    InboxRow,
    SchemaRow,
    SessionRow,
    TokenRow,
)
from appliance.store.delayed_rows import DelayedRow, DelayedWaiting
from appliance.store.deletion_rows import Counted, DeletionRow, Selection
from appliance.store.endpoints import Deliveries, Endpoints
from appliance.store.filters import Found, MessageFilter
from appliance.store.handler_rows import HandlerReply, Handling
from appliance.store.move_sides import MoveMark, MoveSource, MoveTarget
from appliance.store.proving import BackupProof
from appliance.store.replays import Replays
from appliance.store.rows import (
    PAGE_BYTES,
    Choice,
    EarlierMessage,
    Engine,
    Followed,
    Glance,
    Letter,
    Page,
    QuarantineTotals,
    Rescued,
    Span,
    StoredMessage,
    Stretch,
    Topic,
    TopicChoice,
    Totals,
    Window,
)
from appliance.store.subscription_rows import (
    MOST_COUNTED,
    DeadMessage,
    PullOrder,
    PullOutcome,
    SubscriptionCounts,
    SubscriptionRow,
)
from appliance.store.verification import Verification

if TYPE_CHECKING:
    from asyncio import Future

#: Called now and then with the name of the step and, where it is known, the share that is done (0
#: to 1). Returns whether to go on.
Progress = Callable[[str, float | None], bool]
#: Called now and then with the name of the step and the seconds that it has taken so far.
StepTimer = Callable[[str, float], None]
#: Waits for some seconds; returns whether to stop.
Rest = Callable[[float], bool]


# --- reading and writing


class Writer(Protocol):
    """Writes messages; used by one thread at a time."""

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for messages to be stored, or did some seconds ago."""

    def store(self, contents: Sequence[Content], *, account: bool = True) -> int:
        """Store all contents in one transaction that is on disk when this returns.

        A message that is stored already is not stored again. One whose id is stored with another
        body becomes a dead letter (`conflict`), as does one that the database refuses
        (`unstorable`), an envelope that can't be decoded (`undecodable`), and a message that says
        so of itself; whatever came with it is stored. Returns how many envelopes the ledger entries
        of `contents` show to be missing.

        Without `account` the ledger entries are not written. The caller must pass them again, as
        reports, before it acknowledges any of the envelopes.

        Raises TablesError where the database takes no row at all, UnstorableError where it is not
        known which of the contents is at fault, LostCommitsError where what was stored last is
        gone, StoreError where the database is at fault. Then a part can be stored, which does no
        harm when the contents come again, and the writer must be closed.
        """

    def check(self) -> None:
        """See whether what was stored is still there, as far as that costs little.

        Raises the StoreError that `store` would raise; the writer must then be closed.
        """

    def rest(self) -> None:
        """Give back memory that only makes storing faster: nothing comes at the moment.

        Raises StoreError; the writer must then be closed.
        """

    def close(self) -> None:
        """Close the connection."""


class Reader(Protocol):
    """Reads messages, from any number of threads. The database need not exist yet."""

    @property
    def engine(self) -> Engine:
        """Name and version of the database program."""

    def check(self) -> None:
        """Read one row, and see whether the tables are as storing needs them.

        Raises SchemaError unless the database has this program's schema, TablesError where its
        tables were changed so that nothing can be stored.
        """

    def topics(
        self, *, after: str = "", limit: int = 100, patterns: Sequence[str] | None = None
    ) -> list[Topic]:
        """Return up to `limit` topics by name, from the first one after `after`.

        With `patterns`, those that match one of them: a text in which `*` is any characters.
        """

    def topic_list(self, choice: TopicChoice, limit: int) -> list[Topic]:
        """Return up to `limit` topics of the choice, in its order."""

    def has_topic(self, topic: str) -> bool:
        """Whether a message of the topic was ever stored; it may be deleted since."""

    def page(self, window: Window, limit: int, max_bytes: int = PAGE_BYTES) -> Page[StoredMessage]:
        """Return up to `limit` messages with up to `max_bytes` of bodies; at least one if any."""

    def pieces(self, window: Window, limit: int | None = None) -> Iterator[list[StoredMessage]]:
        """Yield up to `limit` messages (None: all that are stored now) in short lists."""

    def find(
        self,
        wanted: MessageFilter,
        span: Span,
        limit: int,
        max_bytes: int = PAGE_BYTES,
        *,
        asker: str = "",
    ) -> Found:
        """Return up to `limit` messages that the filter wants, with up to `max_bytes` of bodies.

        A search ends after some seconds; `Found` says how far it came, and the next one goes on
        there. Raises SlowReadError where it came to nothing in its time. Few searches can take long
        at once, and fewer of one `asker`: any other ends early with what it has, or raises
        SearchBusyError where it has nothing.
        """

    def find_pieces(
        self, wanted: MessageFilter, span: Span, limit: int | None = None, *, asker: str = ""
    ) -> Iterator[list[StoredMessage]]:
        """Yield up to `limit` messages (None: all that are stored now) that the filter wants.

        They come in short lists. One that is empty says that the search is still under way. Beside
        many other searches the lists are shorter.
        """

    def message(self, message_id: str) -> StoredMessage | None:
        """Return the stored message with this id, or None."""

    def totals(self, patterns: Sequence[str] | None = None) -> Totals:
        """Return the size of the store, from its counters; or of the topics that match."""

    def details(self) -> Mapping[str, int | str]:
        """Return the numbers that only this engine has, by name."""

    def close(self) -> None:
        """Close every thread's connection; one on which a thread reads, when it has read."""


class Commits(Protocol):
    """Answers questions of the event loop; the methods are called on the loop.

    Where topics have handlers, a message that was handled counts as stored, whatever came of it.
    """

    async def committed(self, message_id: str, timeout: float) -> bool:  # noqa: ASYNC109
        """Wait until a message is stored, for `timeout` seconds at most; return whether it is."""

    def when_committed(self, message_id: str, timeout: float) -> "Future[bool]":
        """Return a future that says within `timeout` seconds whether a message is stored."""

    def is_used(self, prefix: str) -> "Future[bool]":
        """Return a future that says whether a stored message's id begins with `prefix`.

        It may end with StoreError.
        """

    async def with_prefix(self, prefix: str, limit: int) -> list[EarlierMessage]:
        """Return up to `limit` stored messages whose ids begin with `prefix`, in order."""

    async def in_hand(self, prefix: str, limit: int) -> list[EarlierMessage]:
        """Return the same of messages that wait for a handler, or were handled."""

    async def reply(self, message_id: str) -> HandlerReply | None:
        """Return what its handler said of a message; None where it has not said anything."""

    def close(self) -> None:
        """Stop, after the question under way."""


class Follower(Protocol):
    """Reads what is stored behind a place, for those who follow; used by one thread at a time.

    A place is a `seq`. Every read is bounded in rows and bytes, whatever lies behind the place.
    """

    def end(self) -> int:
        """Return the greatest `seq` that a message ever had; 0 where there was none.

        A message that is committed after this read has a greater one: there is one writer at a
        time, and no `seq` is used again. So whoever was shown everything up to the end misses
        nothing by going on behind it.
        """

    def begin(self, since: str) -> int:
        """Return a place before every message that was received at `since` or later."""

    def topics(self, after: int, upto: int) -> frozenset[str] | None:
        """Return the topics of the messages behind `after`, up to `upto`; None: too many rows."""

    def part(self, followed: Followed, after: int, upto: int) -> Stretch:
        """Return the first messages behind `after`, up to `upto`, oldest first."""

    def glance(self, followed: Followed, after: int, upto: int, most: int) -> Glance:
        """Return how many messages lie behind `after`, up to `upto`, and the `most` newest."""


class DeadLetters(Protocol):
    """Reads dead letters page by page, and removes them one by one; used by any thread.

    A letter is named by its `seq`. Several letters can carry the same message's id.
    """

    def page(self, choice: Choice, limit: int, max_bytes: int = PAGE_BYTES) -> Page[Letter]:
        """Return up to `limit` letters with up to `max_bytes` of bodies; at least one if any."""

    def pieces(self, choice: Choice, limit: int | None = None) -> Iterator[list[Letter]]:
        """Yield up to `limit` letters (None: all that are there now) in short lists."""

    def count(self, choice: Choice) -> int:
        """Return the number of letters with the choice's reason and topic, whatever its span."""

    def reasons(self, patterns: Sequence[str] | None = None) -> list[tuple[str, int]]:
        """Return the reasons and how many letters each has, the most first.

        With `patterns`, those of topics that match one of them.
        """

    def of_topics(self, topics: Sequence[str]) -> dict[str, int]:
        """Return how many letters each of these topics has; those without any are left out."""

    def find(self, seq: int) -> Letter | None:
        """Return the letter with this `seq`, or None."""

    def quarantine(self) -> QuarantineTotals:
        """Return how many letters are quarantined, and how many had to go again."""

    def of_message(self, message_id: str, patterns: Sequence[str] | None = None) -> list[int]:
        """Return the `seq` of each letter with this message's id, oldest first.

        With `patterns`, those whose topic matches one of them.
        """

    def body(self, seq: int) -> bytes | None:
        """Return a letter's body, however long it is; None where there is no such letter."""

    def remove(self, letter: Letter, deed: Deed | None = None) -> bool:
        """Remove a letter; return whether it was still there as it was read.

        A letter that has died again since then has another `dead_at`, and stays. What an
        administrator did to it (`deed`) goes into the audit trail together with the removal.
        """


class Access(Protocol):
    """Tokens, inbox addresses and what administrators did; used by any thread of the API.

    Only hashes of tokens and of the secrets in addresses come here. Each change is on disk together
    with its entry in the audit trail (`deed`) when the call returns. Those that add something
    raise ExistsError for a name that is taken, LimitError where there are too many.
    """

    def version(self) -> int:
        """Return a number that is another one after every change, by whomever."""

    def rows(self) -> AccessRows:
        """Return everything that decides who may do what, as one read sees it."""

    def note_uses(self, tokens: Mapping[str, str], inboxes: Mapping[str, str]) -> None:
        """Note when tokens and inboxes were last used: times by name. No new version."""

    def tokens(self) -> list[TokenRow]:
        """Return all tokens by name."""

    def create_token(self, token: TokenRow, digest: bytes, deed: Deed) -> None:
        """Add a token; `digest` is the SHA-256 of its secret."""

    def revoke_token(self, name: str, deed: Deed) -> bool:
        """Remove a token; return whether it was there."""

    def inboxes(self) -> list[InboxRow]:
        """Return all inboxes by name."""

    def inbox(self, name: str) -> InboxRow | None:
        """Return the inbox with this name, or None."""

    def create_inbox(
        self, inbox: InboxRow, digest: bytes, signing_secrets: Sequence[str], deed: Deed
    ) -> None:
        """Add an inbox; `digest` is the SHA-256 of the secret in its address.

        `inbox.signing_secrets` is not looked at: a new one's have no ids yet.
        """

    def update_inbox(self, inbox: InboxRow, deed: Deed) -> bool:
        """Give the inbox of this name its topic, kind and settings; return whether it was there."""

    def rotate_inbox(self, name: str, digest: bytes, old_until: str, deed: Deed) -> bool:
        """Give an inbox's address a new secret; return whether the inbox was there.

        The secrets before it count until the time `old_until` at most.
        """

    def revoke_inbox(self, name: str, deed: Deed) -> bool:
        """Remove an inbox with all its secrets; return whether it was there."""

    def add_signing_secret(
        self, name: str, secret: str, old_until: str | None, deed: Deed
    ) -> int | None:
        """Let an inbox take signatures made with `secret` too; return its id (None: no inbox).

        The secrets before it count until the time `old_until` at most; None: as they did.
        """

    def remove_signing_secret(self, name: str, secret_id: int, deed: Deed) -> bool:
        """Let an inbox take no signatures made with this secret; return whether it was there."""

    def sessions(self) -> list[SessionRow]:
        """Return the console's sessions, the one that was used last first."""

    def create_session(self, session: SessionRow, deed: Deed) -> None:
        """Add a session; those that have ended, and the ones longest unused of too many, go."""

    def extend_sessions(self, ends: Mapping[bytes, tuple[str, str]]) -> None:
        """Note of sessions, by digest, when they were used and until when they count now.

        A power cut can undo it.
        """

    def end_session(self, digest: bytes, deed: Deed) -> bool:
        """Remove a session; return whether it was there."""

    def record(self, deed: Deed) -> None:
        """Add an entry to the audit trail, for what is not done in this database."""

    def redrives(self, message_id: str, limit: int) -> list[AuditEntry]:
        """Return the newest entries of letters that were sent again as this message."""

    def audit(self, span: Span, limit: int) -> list[AuditEntry]:
        """Return up to `limit` entries of a span; newest first, with `after` oldest first."""


class Subscriptions(Protocol):
    """Subscriptions and what they have given up; used by any thread of the API.

    A change that an administrator asks for is on disk together with its entry in the audit trail
    when the call returns.
    """

    def all(self) -> list[SubscriptionRow]:
        """Return all subscriptions by name."""

    def find(self, name: str) -> SubscriptionRow | None:
        """Return the subscription with this name, or None."""

    def counts(self, name: str, most: int = MOST_COUNTED) -> SubscriptionCounts:
        """Return how many of its messages are where; nothing is there where it is gone.

        The lag is counted up to `most`.
        """

    def create(self, row: SubscriptionRow, since: str | None, deed: Deed) -> None:
        """Add a subscription of the messages that are stored from now on.

        With `since` also of those received since then; empty: of all. Raises ExistsError,
        LimitError.
        """

    def remove(self, name: str, deed: Deed) -> bool:
        """Remove a subscription with all its leases; return whether it was there."""

    def dead(self, name: str, after: int, limit: int) -> Page[DeadMessage]:
        """Return messages that it has given up, behind a place, oldest first."""

    def redrive(self, name: str, ids: Sequence[str] | None, deed: Deed) -> int:
        """Hand messages that were given up out again; return how many they were.

        Without `ids`, as many as one transaction takes; there can be more.
        """

    def discard(self, name: str, ids: Sequence[str] | None, deed: Deed) -> int:
        """Forget messages that were given up; return how many they were. They stay stored.

        Without `ids`, as many as one transaction takes; there can be more.
        """


class Puller(Protocol):
    """Hands out messages under leases, and takes what consumers say of them; used by one thread.

    What it says is seen by every process at once. A power cut can undo it: then messages come
    again, and none is skipped.
    """

    def serve(self, orders: Sequence[PullOrder]) -> list[PullOutcome]:
        """Serve all orders, in one transaction at most; return the outcome of each, in order."""

    def version(self) -> int:
        """Return a number that is another one after a commit of anybody else's connection."""


class Schemas(Protocol):
    """JSON Schemas by topic; used by any thread of the API.

    A change is on disk together with its entry in the audit trail when the call returns, and it
    changes the version of `Access`.
    """

    def all(self) -> list[SchemaRow]:
        """Return all schemas by topic."""

    def find(self, topic: str) -> SchemaRow | None:
        """Return the topic's schema, or None."""

    def put(self, row: SchemaRow, deed: Deed) -> bool:
        """Give a topic this schema; return whether it had none before.

        Raises LimitError where there are too many.
        """

    def remove(self, topic: str, deed: Deed) -> bool:
        """Remove a topic's schema; return whether there was one."""


class Deletions(Protocol):
    """Orders to delete messages, which the API writes and the worker works on; any thread.

    An order is worked on once its mark (`contents.DeletionMark`) was stored by a `Writer`.
    """

    def ask(self, row: DeletionRow, deed: Deed) -> None:
        """Add an order, and its entry in the audit trail. Raises LimitError."""

    def cancel(self, deletion_id: str) -> None:
        """Remove an order whose mark is not in the queue."""

    def find(self, deletion_id: str) -> DeletionRow | None:
        """Return the deletion with this id, or None."""

    def newest(self, limit: int) -> list[DeletionRow]:
        """Return up to `limit` deletions, the newest first."""

    def count(self, selection: Selection, seconds: float) -> Counted:
        """Return how many stored messages are selected; counting ends after some seconds."""

    def work(self, rest: Rest) -> None:
        """Do what is to be done, in short transactions, until it is done.

        `rest` is called now and then, and says whether to stop; a later call goes on there.
        """


class Delayed(Protocol):
    """Messages that are accepted and become rows when they are due; usable from any thread.

    A `Writer` that stores `contents.DueMessages` makes rows of them.
    """

    def is_any_due(self, at: str) -> bool:
        """Whether there is something to do at the time `at`."""

    def look_away(self) -> None:
        """Give up what `is_any_due` keeps open, in any thread; what is in use, after its use."""

    def page(
        self, after: tuple[str, int], limit: int, patterns: Sequence[str] | None = None
    ) -> list[DelayedRow]:
        """Return up to `limit` messages by when they are due, from the first one after `after`.

        `after` is the `due_at` and `seq` of a row; ("", 0): from the first one on. With `patterns`,
        those of topics that match one of them.
        """

    def find(self, message_id: str) -> DelayedRow | None:
        """Return the message with this id, if it waits."""

    def waiting(self, patterns: Sequence[str] | None = None) -> DelayedWaiting:
        """Return how many messages wait, and when the first one is due; `patterns` as above."""

    def count(self) -> int:
        """Return how many messages wait."""

    def cancel(self, message_id: str, deed: Deed) -> bool:
        """Let a message never become a row; return whether it waited.

        That is on disk together with its entry in the audit trail when the call returns.
        """


class History(Protocol):
    """How each minute was, for two weeks; usable from any thread."""

    def add(self, point: HistoryPoint) -> None:
        """Keep a minute's point, or add it to what is kept of that minute; the oldest go.

        A power cut can undo it.
        """

    def points(self, since: int, until: int, step: int) -> list[HistoryPoint]:
        """Return the points that begin from `since` until before `until` (Unix times), in order.

        They are `step` seconds wide: a minute, or several. A stretch that nobody watched has none.
        """


# --- upkeep


@dataclass
class Duty:
    """A task that the janitor repeats.

    `run` does the work and returns the seconds until it is due again. `retry` is the number of
    seconds until it is tried again after a StoreError, which goes to `complaint`.
    """

    run: Callable[[], float]
    retry: float
    complaint: Complaint
    due: float = 0.0


class SqlAids(Protocol):
    """Views and indexes of JSON bodies, for people who read the database and search it."""

    def make_view(self, topic: str, name: str, keys: Iterable[str]) -> Sequence[ViewColumn]:
        """Make or remake the view of a topic with a column for each key; return its columns.

        A view that is remade keeps its columns, in their order. Raises ExistsError where anything
        else has the name.
        """

    def drop_view(self, name: str) -> bool:
        """Remove such a view; return whether there was one.

        Raises ExistsError where anything else has the name.
        """

    def make_index(self, topic: str, key: JsonPath) -> bool:
        """Make an index of a value in a topic's bodies; return whether there was none.

        No message is stored meanwhile.
        """

    def drop_index(self, topic: str, key: JsonPath) -> bool:
        """Remove such an index; return whether there was one."""

    def indexes(self) -> Sequence[tuple[str, str]]:
        """Return topic and path of each index that there is."""


class Backup(NamedTuple):
    """A finished backup: its file, its size, its number of messages, the seconds it took."""

    path: Path
    bytes: int
    messages: int
    seconds: float


class KeptBackup(NamedTuple):
    """A backup in the folder for backups: whole, and checked when it was made.

    `made_at` is a Unix time.
    """

    name: str
    bytes: int
    made_at: float
    scheduled: bool


class Backups(Protocol):
    """Makes copies of the database while it is in use: checked, whole or not at all.

    Making one raises BackupBusyError while another is under way, BackupRoomError where there is no
    room for it, BackupError where it was stopped, is damaged or can't be written.
    """

    @property
    def folder(self) -> Path:
        """Folder in which backups are kept."""

    @property
    def media_type(self) -> str:
        """Media type of a backup's bytes."""

    def name(self, *, scheduled: bool = False) -> str:
        """Return the file name of a backup made now."""

    def make_folder(self) -> None:
        """Make the folder, and remove drafts that a killed process left in it."""

    def make(self, target: Path, progress: Progress) -> Backup:
        """Copy the database to the new file `target` (mode 0600), checked and on disk."""

    def download(self, progress: Progress) -> BinaryIO:
        """Return an open copy without a name: the disk space is free once it is closed."""

    def rescue(self, target: Path, progress: Progress) -> Rescued:
        """Make a sound copy of all that can be read of a damaged database."""

    def prove(self, source: Path, progress: Progress) -> BackupProof:
        """Restore the backup `source` into a scratch folder, verify and compare it; remove it.

        Raises BackupBusyError while another proof is made, BackupRoomError where there is no room
        for one, BackupError where it was stopped, or is no file. Any other trouble is a fault.
        """

    def clear_proof(self) -> None:
        """Remove what a proof left that was killed. Raises BackupError."""

    def scheduled(self) -> list[tuple[float, Path]]:
        """Return the scheduled backups in the folder with their Unix times, oldest first."""

    def kept(self) -> list[KeptBackup]:
        """Return the backups in the folder, scheduled or not, the newest first."""

    def prune(self, keep: int) -> list[Path]:
        """Delete the oldest scheduled backups except for `keep`; return those deleted."""


class Restoration(Protocol):
    """A backup that is ready to take the database's place.

    `left_messages` and `left_dead_letters` are in the present database and not in the backup. They
    are None where there is no present database, or where it can't be read: `trouble` then says
    why.
    """

    @property
    def messages(self) -> int:
        """Messages in the backup."""

    @property
    def bytes(self) -> int:
        """Size of the backup."""

    @property
    def migrated(self) -> list[str]:
        """Names of the schema changes that were applied to it."""

    @property
    def last_at(self) -> str | None:
        """When its newest message was received."""

    @property
    def left_messages(self) -> int | None:
        """Messages that only the present database has."""

    @property
    def left_dead_letters(self) -> int | None:
        """Dead letters that only the present database has."""

    @property
    def trouble(self) -> str:
        """Why the present database can't be read; empty where it can."""

    def put_in_place(self) -> Path | None:
        """Replace the database; return where the replaced one is now (None: there was none).

        Raises BackupError; the database is then as it was.
        """


class HealthCheck(NamedTuple):
    """The outcome of one check for `appliance doctor`, and advice where something is wrong."""

    check: str
    level: Literal["ok", "warning", "error"]
    text: str
    advice: str = ""


class Health(Protocol):
    """Checks of the database for `appliance doctor`. Its methods raise nothing."""

    def engine(self) -> HealthCheck:
        """Check the version of the database program."""

    def database(self) -> Iterator[HealthCheck]:
        """Check the schema, the structure and the files; takes seconds."""

    def newest(self) -> float | None:
        """Return when the message stored last was received, as Unix time; None if unknown."""

    def files(self) -> list[Path]:
        """Return the files that this user must be able to write; they need not exist."""


class Store(Protocol):
    """A database of one engine. Nothing is opened until it is used."""

    @property
    def location(self) -> str:
        """Where the database is, for people; holds no secret."""

    @property
    def reader(self) -> Reader:
        """The store's reader."""

    @property
    def commits(self) -> Commits:
        """The store's answers for the event loop."""

    @property
    def follower(self) -> Follower:
        """The store's reads for those who follow what is stored."""

    @property
    def dead_letters(self) -> DeadLetters:
        """The store's dead letters."""

    @property
    def access(self) -> Access:
        """The store's tokens, inbox addresses and audit trail."""

    @property
    def schemas(self) -> Schemas:
        """The store's JSON Schemas."""

    @property
    def subscriptions(self) -> Subscriptions:
        """The store's subscriptions."""

    @property
    def puller(self) -> Puller:
        """What hands out their messages."""

    @property
    def deletions(self) -> Deletions:
        """The store's orders to delete messages."""

    @property
    def delayed(self) -> Delayed:
        """The store's delayed messages."""

    @property
    def handling(self) -> Handling:
        """The store's messages that wait for a handler."""

    @property
    def endpoints(self) -> Endpoints:
        """The store's endpoints."""

    @property
    def deliveries(self) -> Deliveries:
        """The store's part of delivering."""

    @property
    def replays(self) -> Replays:
        """The store's replays."""

    @property
    def history(self) -> History:
        """The store's history of each minute."""

    @property
    def sql_aids(self) -> SqlAids:
        """The store's views and indexes of JSON bodies."""

    @property
    def backup(self) -> Backups:
        """The store's backups."""

    @property
    def health(self) -> Health:
        """The store's checks for the doctor."""

    @property
    def tally(self) -> StoreTally:
        """What the writers that this object opened have stored."""

    def in_use(self) -> AbstractContextManager[None]:
        """Use the database within the block, beside other processes.

        Raises InUseError where a restore does not end in time.
        """

    def migrate(self) -> list[str]:
        """Bring the database to this program's schema, or make it; return the changes' names.

        Processes that migrate at once wait for one another. Raises SchemaError for a database that
        is newer than this program.
        """

    def open_writer(self) -> Writer:
        """Open a writer. Raises SchemaError unless the database has this program's schema."""

    def duties(self, rest: Rest) -> Sequence[Duty]:
        """Return the engine's own duties for the janitor; long ones call `rest` between steps."""

    def verify(self, *, quick: bool, alone: bool, progress: StepTimer) -> Verification:
        """Check the whole database; only reads.

        `quick` leaves out the comparison of every index entry with its row. `alone` says that
        nothing else uses the database.
        """

    def repair(self, rest: Rest) -> list[str]:
        """Correct counters that differ from their rows, and make anew indexes that are gone.

        Returns in words what was done; `rest` is called now and then, and says whether to stop.
        Raises InUseError where the janitor is doing it.
        """

    def unaccounted(self, entry: LedgerEntry) -> int:
        """Return how many envelopes a source calls settled and kept that are not stored yet.

        Envelopes that the store counts as missing are left out.
        """

    def accept_missing(self) -> int:
        """Acknowledge the missing envelopes, so that only new losses are reported.

        Returns how many they were.
        """

    def take_canaries(self) -> list[str]:
        """Remove the appliance's own canaries, and their topic with them; return their ids."""

    def rows(self) -> Iterator[tuple[str, str, str | bytes]]:
        """Yield topic, id and body of every message in order, where nothing writes meanwhile."""

    def restore(self, source: Path, progress: Progress) -> AbstractContextManager[Restoration]:
        """Make the backup `source` ready to replace the database, which no process may use.

        Raises InUseError where one does, BackupError where `source` is damaged, no backup or can't
        be read, SchemaError where it is newer than this program, BackupRoomError where there is no
        room for it. Nothing is left behind unless it was put in place.
        """

    def of_backup(self, file: Path) -> "Store":
        """Return the store that a backup's file is, for `verify`."""

    def departing(self) -> AbstractContextManager[MoveSource]:
        """Lend all rows to a move; nobody else writes within the block, and many may read.

        Raises SchemaError unless the database has this program's schema.
        """

    def arriving(self) -> AbstractContextManager[MoveTarget]:
        """Lend the database, which should be empty, to a move that fills it.

        It is brought to this program's schema. Nothing is left behind unless it is committed.
        Raises InUseError where a process uses it, MovedError where its rows were moved away.
        """

    def reopen(self) -> MoveMark | None:
        """Let a database whose rows were moved away take rows again.

        Returns the mark that is gone; None where it had none.
        """
