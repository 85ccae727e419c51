"""A connection that is given up where the server doesn't answer in time.

A primary that waits for a standby which is gone answers a commit never, and no setting of the
server's ends that. Nor is it cancelled: a commit that is cancelled says that it is done. So the
connection is closed, and what it was to store is stored again by another one.
"""

import contextlib
from collections.abc import Callable, Generator
from typing import Any, Final

import psycopg
from psycopg import errors, generators

#: Seconds within which the server must answer a writer's statement, and its commit.
STATEMENT_SECONDS: Final = 60.0
COMMIT_SECONDS: Final = 10.0
#: Seconds within which the server must take it that a statement is cancelled.
_CANCEL_SECONDS: Final = 2.0
#: The function of PostgreSQL's that warns of a commit which no standby may have.
_STANDBYS: Final = "SyncRepWaitForLSN"


class ServerSilentError(psycopg.OperationalError):
    """The server did not answer in time; whether it did what it was asked to is not known."""


class WorkStoppedError(psycopg.OperationalError):
    """It was told to stop while the server worked on a statement, which was cancelled."""


class PatientConnection(psycopg.Connection[Any]):
    """A connection of psycopg's that waits for an answer as long as its `patience` lasts.

    It is closed where nobody holds it any more, as SQLite's are.
    """

    #: Seconds; None: it waits for ever.
    patience: float | None = None
    #: Called now and then while the server works on a statement; returns whether to stop.
    rest: Callable[[float], bool] | None = None

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for an answer. Raises OperationalError, and is closed, where none comes in time.

        So it does where `rest` says to stop, unless the wait is for a commit.
        """
        seconds = timeout or self.patience
        if self.rest is not None:
            gen = _resting(gen, self.rest, stops=timeout is None)
        try:
            return super().wait(gen, interval, seconds)
        except errors._WaitTimeout as error:  # noqa: SLF001
            self.pgconn.finish()
            raise ServerSilentError(f"no answer within {seconds:g} s") from error
        except WorkStoppedError:
            with contextlib.suppress(psycopg.Error):
                self.cancel_safe(timeout=_CANCEL_SECONDS)
            self.pgconn.finish()
            raise

    def __del__(self, *_: object) -> None:
        if not self.closed:
            self.close()

    def commit_surely(self, seconds: float | None = None) -> None:
        """Commit; it is on disk here, and at a synchronous standby, when this returns.

        That takes `seconds` at most, by default those of a writer. Raises OperationalError where it
        is not known: nothing may be acknowledged then.
        """
        warnings: list[str] = []

        def note(diagnostic: psycopg.errors.Diagnostic) -> None:
            if diagnostic.source_function == _STANDBYS:
                warnings.append(str(diagnostic.message_primary))

        self.add_notice_handler(note)
        try:
            self.pgconn.send_query(b"COMMIT")
            answers = generators.execute(self.pgconn)
            (result,) = self.wait(answers, timeout=seconds or COMMIT_SECONDS)
        finally:
            self.remove_notice_handler(note)
        if result.status != psycopg.pq.ExecStatus.COMMAND_OK:
            raise errors.error_from_result(result)
        if warnings or result.command_status != b"COMMIT":
            raise psycopg.OperationalError(
                "; ".join(warnings) or "the transaction was undone in place of committed"
            )


def _resting(
    gen: Generator[Any, Any, Any], rest: Callable[[float], bool], *, stops: bool
) -> Generator[Any, Any, Any]:
    """Call `rest` each time that the server has said nothing for a moment."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and rest(0) and stops:
                raise WorkStoppedError("told to stop")
            wanted = gen.send(ready)
    except StopIteration as end:
        return end.value
