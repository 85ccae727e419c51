"""The text that Prometheus reads (format 0.0.4), of values by metric and labels. Pure."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from appliance.metrics.families import FAMILIES, PREFIX, Family
from appliance.model.tallies import BOUNDS

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

#: Name of a metric -> values of its labels -> value; of a histogram: its buckets, then its sum.
Samples = Mapping[str, Mapping[tuple[str, ...], float | Sequence[float]]]


def text(samples: Samples) -> str:
    """Return the text of all samples; a metric without any is left out."""
    return "".join(f"{line}\n" for line in _lines(samples))


def _lines(samples: Samples) -> Iterator[str]:
    for family in FAMILIES:
        values = samples.get(family.name)
        if values is None:
            continue
        name = PREFIX + family.name
        yield f"# HELP {name} {family.help}"
        yield f"# TYPE {name} {family.kind}"
        for labels, value in values.items():
            if len(labels) != len(family.labels):  # of an earlier version, in the run folder
                continue
            if isinstance(value, int | float):
                yield f"{name}{_labels(family, labels)} {_number(value)}"
            elif len(value) == len(BOUNDS) + 2:
                yield from _histogram(name, value)


def _histogram(name: str, values: Sequence[float]) -> Iterator[str]:
    *buckets, total = values
    count = 0.0
    for bound, inside in zip((*BOUNDS, math.inf), buckets, strict=True):
        count += inside
        yield f'{name}_bucket{{le="{_number(bound)}"}} {_number(count)}'
    yield f"{name}_sum {_number(total)}"
    yield f"{name}_count {_number(count)}"


def _labels(family: Family, values: tuple[str, ...]) -> str:
    if not family.labels:
        return ""
    pairs = zip(family.labels, values, strict=True)
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(float(value))
