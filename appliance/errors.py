"""Every error the appliance raises, and what each means.

ApplianceError
├── ConfigError            a setting is wrong; the message begins with its name
├── HostError              the machine can't run the appliance as it is; `doctor` says more
│   ├── OccupiedError      another program uses the address or the folder
│   └── FolderError        a folder can't be made, read or written
├── InputError             a request can't be accepted; nothing of it was kept
│   ├── TopicError         not a topic's name
│   ├── BodyError          empty, or a line that is not what it claims to be
│   ├── TooLargeError      more bytes or messages than a limit allows
│   ├── EncodingError      compressed in a way that is not taken
│   ├── FormatError        a format that can't be read
│   ├── MisfitError        a message that its topic's JSON Schema does not allow
│   ├── QuarantineFullError  too much is quarantined already
│   ├── KeyReusedError     an idempotency key came again with another body
│   ├── RedriveError       a dead letter that would only die again as it is
│   ├── AmbiguousError     a name that several things have
│   ├── ExistsError        a name that another thing has already
│   ├── LimitError         as many of these as there can be
│   └── RestartError       a process that can't be restarted as it is
├── EnvelopeError          a message from the broker can't be decoded
├── BrokerError            the broker can't be used now
│   ├── RefusedError       the broker did not take it: it was not kept
│   ├── DeadlineError      not confirmed in time: it may have been kept or not
│   └── NodeError          our own node can't be set up or started
├── StoreError             the database can't be used now
│   ├── SchemaError        the database is older or newer than this program
│   ├── TablesError        its tables were changed so that they take no row
│   ├── DamagedError       its file is damaged
│   ├── LostCommitsError   what was stored last was taken out of it by another program
│   ├── OldPrimaryError    another server of PostgreSQL has taken its place
│   ├── FewCopiesError     fewer servers have what is stored than the settings ask for
│   ├── InUseError         another process uses it, or is restoring it
│   ├── MovedError         its messages were moved to another database
│   ├── MoveError          they can't be moved: nothing was changed, or the message says what
│   ├── UnstorableError    the database is well, but refuses what is to be stored
│   ├── SlowReadError      a search that came to nothing in its time
│   │   └── SearchBusyError    a search that had little time, beside those of others
│   ├── StoreFullError     no room on the store's disk
│   └── BackupError        a copy of the database can't be made or used
│       ├── BackupBusyError    another one is being made
│       ├── BackupRoomError    no room for it
│       └── BackupElsewhereError  the database program's own tools make them
├── HandlerError           a handler can't be loaded, or has failed
├── BusyError              what is asked for is being done for others
├── MissingExtraError      what is asked for needs a package that is not installed
├── UndeliveredError       a webhook did not take what it was told
├── NotRunningError        no appliance runs here that a command could operate
├── TokenRefusedError      the API refused the token of the command line
└── ClientError            the command line could not reach the API, or the API failed

Third-party exceptions are caught at the layer that knows the third party and raised as one of
these, `from` the original.
"""


class ApplianceError(Exception):
    """Root of everything the appliance raises on purpose.

    The message is for the log and the command line: it can name a path or quote SQL.
    """

    @property
    def public(self) -> str:
        """The words that a client may see; the message itself in classes where that is safe."""
        return "the appliance's log has the details"


class ConfigError(ApplianceError):
    """A setting is wrong; the message begins with its name."""


class HostError(ApplianceError):
    """The machine can't run the appliance as it is; `appliance doctor` says more."""


class OccupiedError(HostError):
    """Another program uses the address or the folder; the message begins with the setting."""


class FolderError(HostError):
    """A folder can't be made, read or written; the message begins with the setting or option."""


class InputError(ApplianceError):
    """A request can't be accepted; nothing of it was kept."""

    @property
    def public(self) -> str:
        """The message: it speaks of what the client sent."""
        return str(self)


class TopicError(InputError):
    """Not a topic's name."""


class BodyError(InputError):
    """Empty, or a line that is not what it claims to be."""


class TooLargeError(InputError):
    """More bytes or messages than a limit allows."""


class EncodingError(InputError):
    """Compressed in a way that is not taken."""


class FormatError(InputError):
    """A format that can't be read."""


class MisfitError(InputError):
    """A message that its topic's JSON Schema does not allow."""


class QuarantineFullError(InputError):
    """Too much is quarantined already."""


class KeyReusedError(InputError):
    """An idempotency key came again with another body."""


class RedriveError(InputError):
    """A dead letter that would only die again as it is."""


class AmbiguousError(InputError):
    """A name that several things have."""


class ExistsError(InputError):
    """A name that another thing has already."""


class LimitError(InputError):
    """As many of these as there can be."""


class RestartError(InputError):
    """A process that can't be restarted as it is."""


class EnvelopeError(ApplianceError):
    """A message from the broker can't be decoded.

    `reason` is a stable word for `dead_letters.reason`; the message is for people.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class BrokerError(ApplianceError):
    """The broker can't be used now."""

    @property
    def public(self) -> str:
        """The message: it says what became of the client's messages."""
        return str(self)


class RefusedError(BrokerError):
    """The broker did not take it: it was not kept."""


class DeadlineError(BrokerError):
    """Not confirmed in time: it may have been kept or not."""


class NodeError(BrokerError):
    """Our own node can't be set up or started."""


class StoreError(ApplianceError):
    """The database can't be used now."""

    @property
    def public(self) -> str:
        """A sentence without the database's own words."""
        return "the appliance's log has the details; no accepted message is lost"


class SchemaError(StoreError):
    """The database is older or newer than this program."""


class TablesError(StoreError):
    """The database's tables were changed so that they take no row; the words are SQLite's."""


class DamagedError(StoreError):
    """The database's file is damaged; the message says how to go on."""


class LostCommitsError(StoreError):
    """Another program took messages that were stored last out of the database.

    A worker must let go of its deliveries: those that it has stored and not acknowledged come
    again, and are stored again.
    """


class OldPrimaryError(StoreError):
    """A server of PostgreSQL takes writes, and another one has taken its place."""


class FewCopiesError(StoreError):
    """Fewer servers of PostgreSQL have what is stored than the settings ask for."""


class InUseError(StoreError):
    """Another process uses the database, or is restoring it."""


class MovedError(StoreError):
    """The messages of the database were moved to another one; the message says how to go on."""


class MoveError(StoreError):
    """Messages can't be moved to another database; nothing was changed, or the message says it."""


class UnstorableError(StoreError):
    """The database is well, but refuses what is to be stored."""


class SlowReadError(StoreError):
    """A search that came to nothing in its time."""

    @property
    def public(self) -> str:
        """The message: it speaks of what the client asked."""
        return str(self)


class SearchBusyError(SlowReadError):
    """A search that had little time, beside those of others, and came to nothing in it."""


class StoreFullError(StoreError):
    """No room on the store's disk."""


class StoreLockedError(StoreError):
    """Another program writes to the store's file, for longer than a write waits."""


class BackupError(StoreError):
    """A copy of the database can't be made or used."""


class BackupBusyError(BackupError):
    """Another copy is being made."""

    @property
    def public(self) -> str:
        """The message: it names no path."""
        return str(self)


class BackupRoomError(BackupError):
    """No room for a copy."""

    @property
    def public(self) -> str:
        """The message: it names no path, only sizes."""
        return str(self)


class BackupElsewhereError(BackupError):
    """Backups of this database are made and restored by its program's own tools."""

    @property
    def public(self) -> str:
        """The message: it names these tools."""
        return str(self)


class HandlerError(ApplianceError):
    """A handler's function can't be loaded, or has failed with a message."""


class BusyError(ApplianceError):
    """What is asked for is being done for others; later it can be had."""

    @property
    def public(self) -> str:
        """The message: it names what is being done."""
        return str(self)


class MissingExtraError(ApplianceError):
    """What is asked for needs a package that is not installed."""

    @property
    def public(self) -> str:
        """The message: it names a package."""
        return str(self)


class NotRunningError(ApplianceError):
    """No appliance runs here that a command could operate."""


class TokenRefusedError(ApplianceError):
    """The API refused the token of the command line."""


class UndeliveredError(ApplianceError):
    """A webhook did not take what it was told; `is_final` where it never will."""

    def __init__(self, text: str, *, is_final: bool = False) -> None:
        super().__init__(text)
        self.is_final = is_final


class ClientError(ApplianceError):
    """The command line could not reach the API, or the API failed."""
