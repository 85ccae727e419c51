#!/usr/bin/env python3
"""Cells: puts topics on several appliances, and shows the load of each, and what a change moves.

A cell is a whole appliance with topics of its own. Where a topic is, everybody can reckon: the
cell whose name, hashed together with the topic's, gives the largest number (rendezvous hashing).
So there is no list to keep but that of the cells; a new cell takes topics from all others, and
nothing else moves. The topics here are made up, with a load as Zipf's law has it, or read from a
file. Nothing is random: the same arguments print the same figures. Standard library only.
"""

import argparse
import functools
import hashlib
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_EXAMPLES = """
examples:
  tools/cells.py                             8 cells, 10,000 topics, 100,000 messages a second
  tools/cells.py --cells 20 --load 400000    more of both
  tools/cells.py --pins 16                   the 16 heaviest topics placed by hand
  tools/cells.py --cells eu-1,eu-2,us-1 --where orders.berlin
  tools/cells.py --topics-file loads.txt     your own: lines of a topic and its load
"""

#: Cells and topics that are reckoned with at most: a run stays within seconds.
_MOST_CELLS = 1000
_MOST_TOPICS = 1_000_000
_MOST_EXPONENT = 10


class Change(NamedTuple):
    """How much of all topics, and of all load, is elsewhere after a change; shares from 0 to 1."""

    topics: int
    topic_share: float
    load_share: float


def place(topic: str, cells: Iterable[str]) -> str:
    """Return the cell of a topic. Raises ValueError where there is no cell."""
    name = topic.encode()
    return max(
        cells,
        key=lambda cell: (hashlib.blake2b(name, key=_key(cell), digest_size=8).digest(), cell),
    )


@functools.lru_cache(maxsize=_MOST_CELLS + 1)
def _key(cell: str) -> bytes:
    return hashlib.sha256(cell.encode()).digest()


def zipf(topics: int, exponent: float, load: float) -> dict[str, float]:
    """Return topics with their load: the second has 1/2**exponent of the first, and so on."""
    shares = [1 / rank**exponent for rank in range(1, topics + 1)]
    each = load / sum(shares)
    return {f"topic-{rank:07}": each * share for rank, share in enumerate(shares, 1)}


def spread(
    loads: Mapping[str, float], cells: Sequence[str], pins: Mapping[str, str]
) -> dict[str, str]:
    """Return the cell of each topic; one that is pinned to a cell of these is there."""
    return {
        topic: by_hand if (by_hand := pins.get(topic)) in cells else place(topic, cells)
        for topic in loads
    }


def pinned(loads: Mapping[str, float], cells: Sequence[str], count: int) -> dict[str, str]:
    """Return a cell for each of the `count` heaviest topics, placed by hand.

    Each goes to the cell that has least, of all the topics that are hashed and the heavier ones.
    """
    by_load = sorted(loads, key=lambda topic: (-loads[topic], topic))
    rest = {topic: loads[topic] for topic in by_load[count:]}
    sums = totals(rest, spread(rest, cells, {}), cells)
    pins: dict[str, str] = {}
    for topic in by_load[:count]:
        pins[topic] = min(cells, key=lambda cell: (sums[cell], cell))
        sums[pins[topic]] += loads[topic]
    return pins


def totals(
    loads: Mapping[str, float], where: Mapping[str, str], cells: Iterable[str]
) -> dict[str, float]:
    """Return the load of each cell."""
    sums = dict.fromkeys(cells, 0.0)
    for topic, cell in where.items():
        sums[cell] += loads[topic]
    return sums


def change(
    loads: Mapping[str, float], before: Mapping[str, str], after: Mapping[str, str]
) -> Change:
    """Return what is elsewhere after a change of the cells."""
    moved = [topic for topic in loads if before[topic] != after[topic]]
    load = sum(loads.values())
    moved_load = sum(loads[topic] for topic in moved)
    return Change(len(moved), len(moved) / len(loads), moved_load / load)


def without(where: Mapping[str, str], cell: str, others: Sequence[str]) -> dict[str, str]:
    """Return where topics are once a cell is gone: its own go to others, and no other topic."""
    return {
        topic: place(topic, others) if place_now == cell else place_now
        for topic, place_now in where.items()
    }


def read(path: Path) -> dict[str, float]:
    """Return the topics of a file with their loads. Raises ValueError with the line's number."""
    loads: dict[str, float] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            topic, load = line.split()
            loads[topic] = float(load)
        except ValueError:
            raise ValueError(f"{path}, line {number}: expected TOPIC LOAD") from None
        if not 0 <= loads[topic] < float("inf"):
            raise ValueError(f"{path}, line {number}: a load is 0 or more")
    return loads


def report(loads: Mapping[str, float], cells: Sequence[str], pins: int, capacity: float) -> str:
    """Return the figures as text."""
    by_hand = pinned(loads, cells, pins)
    where = spread(loads, cells, by_hand)
    sums, counts = totals(loads, where, cells), Counter(where.values())
    load = sum(sums.values())
    heaviest = max(loads, key=lambda topic: (loads[topic], topic))
    head = (
        f"{len(loads):,} topics, {load:,.0f} messages a second; the heaviest, {heaviest}, has "
        f"{100 * loads[heaviest] / load:.1f} % of them\n"
        f"{len(cells)} cells that take {capacity:,.0f} a second each; {len(by_hand)} topics placed "
        "by hand, the others by hashing\n"
    )
    rows = [
        f"{'':<12} {'':>9} {'':>11} {'':>11} {'of its':>9}  if it is lost, the fullest",
        (
            f"{'cell':<12} {'topics':>9} {'messages/s':>11} {'of the mean':>11} {'capacity':>9}"
            "  other, of its capacity"
        ),
    ]
    for cell in cells:
        others = [each for each in cells if each != cell]
        fullest = "-"
        if others:
            after = totals(loads, without(where, cell, others), others)
            fullest = f"{max(after.values()) / capacity:.2f}"
        rows.append(
            f"{cell:<12} {counts[cell]:>9,} {sums[cell]:>11,.0f} "
            f"{sums[cell] * len(cells) / load:>11.2f} {sums[cell] / capacity:>9.2f}  {fullest:>22}"
        )
    added = change(loads, where, spread(loads, [*cells, "new-cell"], by_hand))
    worst = max(cells, key=lambda cell: (sums[cell], cell))
    changes = (
        f"\na cell more: {added.topics:,} topics move ({100 * added.topic_share:.1f} %) with "
        f"{100 * added.load_share:.1f} % of the load, all to the new cell; an even share is "
        f"{100 / (len(cells) + 1):.1f} %\n"
        f"a cell lost: at worst ({worst}) {100 * counts[worst] / len(loads):.1f} % of the topics "
        f"with {100 * sums[worst] / load:.1f} % of the load wait until it is back, or others take "
        "them"
    )
    return "\n".join([head, *rows, changes])


def _cells(text: str) -> list[str]:
    """Return the cells that an argument names, or counts."""
    names = [f"cell-{n}" for n in range(1, int(text) + 1)] if text.isdecimal() else text.split(",")
    if not 1 <= len(names) <= _MOST_CELLS or "" in names or len(set(names)) < len(names):
        raise ValueError(f"expected 1 to {_MOST_CELLS}, or as many different names")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--cells", default="8", help="number of cells, or their names (default 8)")
    add("--topics", type=int, default=10_000, help="topics (default 10000)")
    add(
        "--zipf",
        type=float,
        default=1.0,
        metavar="EXPONENT",
        help="how unequal they are: 0 is even, 1 (default) as words of a text are",
    )
    add(
        "--load",
        type=float,
        default=100_000,
        help="messages a second, all together (default 100000)",
    )
    add(
        "--topics-file",
        type=Path,
        metavar="FILE",
        help="lines of a topic and its load, in place of the three above",
    )
    add(
        "--capacity",
        type=float,
        default=20_000,
        help="messages a second that one cell takes (default 20000)",
    )
    add(
        "--pins",
        type=int,
        default=0,
        metavar="N",
        help="the N heaviest topics are placed by hand (default 0)",
    )
    add("--where", metavar="TOPIC", help="print the cell of this topic, and end")
    return parser


def _answer(options: argparse.Namespace) -> str:
    """Return what was asked for. Raises OSError, ValueError."""
    cells = _cells(options.cells)
    if options.where:
        return place(options.where, cells)
    if not 1 <= options.topics <= _MOST_TOPICS or options.pins < 0:
        raise ValueError(f"--topics: 1 to {_MOST_TOPICS:,}; --pins: 0 or more")
    if options.load <= 0 or options.capacity <= 0 or not 0 <= options.zipf <= _MOST_EXPONENT:
        raise ValueError(f"--load, --capacity: more than 0; --zipf: 0 to {_MOST_EXPONENT}")
    file = options.topics_file
    loads = read(file) if file else zipf(options.topics, options.zipf, options.load)
    if sum(loads.values()) <= 0:
        raise ValueError(f"{file}: no topic has a load")
    return report(loads, cells, options.pins, options.capacity)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; 2 for an argument that makes no sense."""
    try:
        print(_answer(_parser().parse_args(arguments)))
    except (OSError, ValueError) as error:
        print(f"cells: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
