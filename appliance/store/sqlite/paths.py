"""The files of a database: the file itself, and those that lie beside it."""

from pathlib import Path
from typing import Final

#: Name of the database in the data folder.
DATABASE: Final = "appliance.db"
#: Suffixes of the write-ahead log and of the shared memory that belong to it.
BESIDE: Final = ("-wal", "-shm")


def wal(database: Path) -> Path:
    """Return the path of the write-ahead log."""
    return with_suffix(database, "-wal")


def shared_memory(database: Path) -> Path:
    """Return the path of the shared memory in which readers and writers hold their locks."""
    return with_suffix(database, "-shm")


def with_suffix(database: Path, suffix: str) -> Path:
    """Return the path of the file beside the database whose name has this suffix more."""
    return database.with_name(database.name + suffix)


def remove(draft: Path) -> None:
    """Remove a database that nobody uses, with all that lies beside it. Raises OSError."""
    for suffix in ("", *BESIDE, ".migrate"):
        with_suffix(draft, suffix).unlink(missing_ok=True)


def size(path: Path) -> int:
    """Return a file's size in bytes; 0 where it can't be read, or there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def search_index(database: Path) -> Path:
    """Return the path of the full-text index, which holds nothing that is not in the database."""
    return database.with_name(f"{database.stem}-search.db")


def damaged_mark(index: Path) -> Path:
    """Return the path of the file that says that the index is damaged."""
    return with_suffix(index, "-damaged")
