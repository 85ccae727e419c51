"""Samples of a topic: its newest bodies, for whoever asks which shape they have."""

from collections.abc import Iterator
from typing import Final

from appliance.store.base import Reader
from appliance.store.rows import Window

#: Messages of a sample, and bytes of their bodies, at most.
SAMPLE_ROWS: Final = 1000
_SAMPLE_BYTES: Final = 16 * 2**20


def newest_bodies(reader: Reader, topic: str) -> Iterator[bytes]:
    """Yield the bodies of a topic's newest messages, newest first."""
    size = 0
    for rows in reader.pieces(Window(topic), SAMPLE_ROWS):
        for row in rows:
            yield row.body
            size += len(row.body)
        if size > _SAMPLE_BYTES:
            return
