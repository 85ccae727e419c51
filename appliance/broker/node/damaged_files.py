"""Damaged files of the queues: each is kept as it was, beside what replaces it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from appliance.broker.node.layout import Layout
from appliance.machine import files

#: Damaged entries of a file that are mended.
MOST_ENTRIES: Final = 8
_ASIDE: Final = "damaged"
_STAMP: Final = "%Y%m%dT%H%M%SZ"
#: Files that are kept: beyond, the oldest go.
_MOST_KEPT: Final = 16


@dataclass(frozen=True)
class MendedFile:
    """A file with so many entries that were put right or replaced, and the copy of it as it was."""

    name: str
    corrected: int
    replaced: int
    kept: Path


def replace(
    layout: Layout, path: Path, old: bytes, new: bytes, *, corrected: int, replaced: int
) -> MendedFile:
    """Write a file anew, and keep it as it was. Raises OSError."""
    aside = layout.home / _ASIDE
    aside.mkdir(mode=0o700, exist_ok=True)
    name = f"{path.parent.name}-{path.name}" if path.suffix == ".segment" else path.name
    kept = aside / f"{name}-{datetime.now(UTC).strftime(_STAMP)}"
    for place, content in ((kept, old), (path, new)):
        files.write_private(place, content.decode("latin-1"), encoding="latin-1")
    for oldest in sorted(aside.iterdir(), key=lambda each: each.stat().st_mtime)[:-_MOST_KEPT]:
        oldest.unlink()
    return MendedFile(name, corrected, replaced, kept)
