"""Tables in Markdown, which people read as text too."""

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Draw a table in Markdown, its columns aligned."""
    widths = [max(len(row[n]) for row in [heads, *rows]) for n in range(len(heads))]
    for row in [heads, ["-" * width for width in widths], *rows]:
        rest = zip(row[1:], widths[1:], strict=True)
        cells = [f"{row[0]:<{widths[0]}}", *(f"{cell:>{width}}" for cell, width in rest)]
        yield "| " + " | ".join(cells) + " |"
