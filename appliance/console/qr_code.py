"""QR codes as paths of an SVG image: a phone reads an address without anyone typing it. Pure."""

from dataclasses import dataclass
from typing import Final

import segno

#: Modules of white around the code, as the standard wants it.
_BORDER: Final = 4


@dataclass(frozen=True, slots=True)
class QrCode:
    """`path` draws the dark modules in a square of `side` units."""

    path: str
    side: int


def qr_code(text: str) -> QrCode:
    """Return the code of a text of some hundred characters at most."""
    rows = [list(row) for row in segno.make(text, micro=False).matrix]
    steps = [
        f"M{x + _BORDER} {y + _BORDER}h1v1h-1z"
        for y, row in enumerate(rows)
        for x, dark in enumerate(row)
        if dark
    ]
    return QrCode("".join(steps), len(rows) + 2 * _BORDER)
