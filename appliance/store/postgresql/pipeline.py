"""Statements in one round trip: prepared once, values in binary, counts of rows as they must be.

What psycopg does for each value and each statement took longer than the server takes to store a
message.
"""

import struct
from collections.abc import Generator, Sequence
from typing import Any, Final

import psycopg
from psycopg import errors, generators
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.waiting import READY_R, WAIT_R, WAIT_RW

from appliance.store.postgresql.patience import PatientConnection

_BINARY: Final = 1
#: PostgreSQL's numbers of the types in arrays.
TEXT: Final = 25
BYTES: Final = 17
NUMBER: Final = 20
_LENGTH: Final = struct.Struct(">i")
_NUMBER: Final = struct.Struct(">q")
_HEAD: Final = struct.Struct(">iiIii")
_NULL: Final = _LENGTH.pack(-1)
_SIZE_OF_NUMBER: Final = _LENGTH.pack(8)


def array(kind: int, values: Sequence[bytes | None]) -> bytes:
    """Return an array of values of a type, each as PostgreSQL sends it in binary."""
    pack = _LENGTH.pack
    parts = [_HEAD.pack(1, 0, kind, len(values), 1)]
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            parts += (pack(len(value)), value)
    if _NULL in parts:
        parts[0] = _HEAD.pack(1, 1, kind, len(values), 1)
    return b"".join(parts)


def texts(values: Sequence[str]) -> bytes:
    """Return an array of texts."""
    return array(TEXT, [value.encode() for value in values])


def numbers(values: Sequence[int]) -> bytes:
    """Return an array of numbers."""
    return array(NUMBER, [_NUMBER.pack(value) for value in values])


def nothing(kind: int) -> bytes:
    """Return an array without values; beside others `unnest` takes it for one of NULLs."""
    return struct.pack(">iiI", 0, 0, kind)


def bound(value: object) -> bytes | None:
    """Return a value as PostgreSQL gets it in binary."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, int):
        return _NUMBER.pack(value)
    if value is None or isinstance(value, bytes):
        return value
    raise TypeError(f"no value of PostgreSQL's: {type(value).__name__}")


def unbound(value: bytes) -> int:
    """Return the number that `bound` has made this of."""
    return int(_NUMBER.unpack(value)[0])


class UnexpectedError(Exception):
    """A statement changed another number of rows than it was to; the transaction is open."""


class Pipeline:
    """Runs statements on a connection within one transaction, whose commit is the caller's."""

    def __init__(self, connection: PatientConnection) -> None:
        self._driver = connection
        self._names: dict[str, bytes] = {}

    def prepare(self, statement: str) -> bytes:
        """Return the name of a statement, whose parameters are `?` or numbered."""
        name = self._names.get(statement)
        if name is None:
            name = b"appliance_%d" % len(self._names)
            text = statement
            for number in range(1, statement.count("?") + 1):
                text = text.replace("?", f"${number}", 1)
            connection = self._driver.pgconn
            connection.send_prepare(name, text.encode())
            (result,) = self._driver.wait(generators.execute(connection))
            if result.status != ExecStatus.COMMAND_OK:
                raise errors.error_from_result(result)
            self._names[statement] = name
        return name

    def run(self, steps: Sequence[tuple[bytes, Sequence[bytes | None], int | None]]) -> None:
        """Begin a transaction, and run the statements: names, values, rows that each must change.

        Raises psycopg's error, or UnexpectedError; the transaction is open then.
        """
        connection = self._driver.pgconn
        connection.enter_pipeline_mode()
        connection.send_query_params(b"BEGIN", None)
        for name, values, _ in steps:
            connection.send_query_prepared(name, values, (_BINARY,) * len(values))
        connection.pipeline_sync()
        begun, *answers = self._driver.wait(_answers(connection))
        connection.exit_pipeline_mode()
        for answer in (begun, *answers):
            if answer.status == ExecStatus.FATAL_ERROR:
                raise errors.error_from_result(answer)
        for (_, _, count), answer in zip(steps, answers, strict=True):
            if count is not None and answer.command_tuples != count:
                raise UnexpectedError


def _answers(connection: Any) -> Generator[int, int, list[Any]]:
    """Send what is to be sent yet, and return an answer for each statement up to the sync."""
    found: list[Any] = []
    while True:
        wanted = WAIT_RW if connection.flush() else WAIT_R
        while not connection.is_busy():
            answer = connection.get_result()
            if answer is not None and answer.status == ExecStatus.PIPELINE_SYNC:
                return found
            if answer is not None:
                found.append(answer)
            elif connection.status != ConnStatus.OK:
                raise psycopg.OperationalError("the connection is lost")
        if (yield wanted) & READY_R:
            connection.consume_input()
