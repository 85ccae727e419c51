"""Refusals: whether an error of PostgreSQL's is a row's, the tables', or the database's own.

The class of its SQLSTATE decides, which PostgreSQL chooses and, but for P0001, no trigger.
"""

from typing import Final

import psycopg

from appliance.errors import TablesError

#: Classes of the errors of values: data, integrity, what functions and triggers raise, a check of a
#: view, and limits that a value exceeds (an index's row, say).
_OF_VALUES: Final = ("21", "22", "23", "27", "2F", "38", "39", "44", "54", "P0")
#: Of syntax and names: a statement does not fit the tables, or a trigger names what is not there.
_OF_TABLES: Final = "42"
#: ... but for a right that is lacking, which the database's administrator can give.
_NO_RIGHT: Final = "42501"


def is_of_values(error: Exception) -> bool:
    """Whether a row's values can have caused an error.

    A value that could not be handed over (with a NUL, say) has no SQLSTATE.
    """
    state = getattr(error, "sqlstate", None)
    if state is None:
        return isinstance(error, psycopg.DataError) and not isinstance(
            error, psycopg.OperationalError
        )
    return str(state).startswith(_OF_VALUES)


def is_of_contents(error: Exception) -> bool:
    """Whether what was to be stored, or the tables, can have caused an error."""
    state = str(getattr(error, "sqlstate", None) or "")
    return is_of_values(error) or state.startswith(_OF_TABLES)


def blame(error: Exception) -> None:
    """Return where a row's values are at fault.

    Raises TablesError where the tables are, and the error itself where the database is.
    """
    if is_of_values(error):
        return
    state = getattr(error, "sqlstate", None) or ""
    if state.startswith(_OF_TABLES) and state != _NO_RIGHT:
        raise TablesError(f"the tables are not as they must be: {words(error)}") from error
    raise error


def words(error: Exception) -> str:
    """Return an error's words in one line."""
    return " ".join(str(error).split())
