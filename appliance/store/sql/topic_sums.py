"""The additions of a transaction to the counters of each topic. Pure."""

from collections.abc import Iterable, Sequence

#: Topic, messages, bytes, first time, last time.
Sum = tuple[str, int, int, str, str]


class TopicSums:
    """Messages that are to be rows: how many of each topic, their bytes, their times."""

    def __init__(self) -> None:
        self._sums: dict[str, Sum] = {}

    @property
    def messages(self) -> int:
        """How many they are."""
        return sum(messages for _, messages, *_ in self._sums.values())

    def rows(self) -> Iterable[Sum]:
        """Return the sums, one for each topic."""
        return self._sums.values()

    def add(self, topic: str, messages: int, size: int, since: str, until: str) -> None:
        """Add messages of one topic, received from `since` to `until`."""
        if (known := self._sums.get(topic)) is not None:
            _, more, bytes_, first, last = known
            messages, size = messages + more, size + bytes_
            since, until = min(since, first), max(until, last)
        self._sums[topic] = (topic, messages, size, since, until)

    def add_each(
        self, topics: Sequence[str], bodies: Sequence[str | bytes], times: Sequence[str]
    ) -> None:
        """Add messages of several topics, each with its body and its time."""
        sums = self._sums
        for topic, body, at in zip(topics, bodies, times, strict=True):
            is_whole = isinstance(body, bytes) or body.isascii()
            size = len(body) if is_whole else len(body.encode())  # type: ignore[union-attr]
            if (known := sums.get(topic)) is None:
                sums[topic] = (topic, 1, size, at, at)
            else:
                _, messages, bytes_, first, last = known
                first, last = min(first, at), max(last, at)
                sums[topic] = (topic, messages + 1, bytes_ + size, first, last)
