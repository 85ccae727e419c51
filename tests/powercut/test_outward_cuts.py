"""The power is cut while messages go out again: what was not done is done after it, and in order.

Receiver and consumer are other machines: the cut takes nothing of what they know.
"""

import json
import random
import time
from dataclasses import dataclass
from typing import Any

from cuts import Bench, kept
from harness import Process, Stack, wait_until
from load import Load, Style
from outward import Consumer, Outward, client

#: Messages of which a consumer forgets one.
FORGETS = 10
#: Messages that are sent to be stored later, and after how many seconds the last of them is due.
LATER, LONGEST = 40, 5
STYLES = (Style.PLAIN, Style.KEYED)
#: Messages that the database says an endpoint has, and a subscription's consumers have done.
DELIVERED = """
    topic IN (SELECT value FROM json_each(?))
    AND seq <= (SELECT cursor FROM endpoints WHERE name = ?)
    AND seq NOT IN (
        SELECT due.seq FROM deliveries_due AS due, endpoints AS e
        WHERE due.endpoint = e.id AND e.name = ?
    )
"""
HANDED_OUT = """
    topic IN (SELECT value FROM json_each(?))
    AND seq <= (SELECT cursor FROM subscriptions WHERE name = ?)
    AND seq NOT IN (
        SELECT leases.seq FROM leases, subscriptions AS s
        WHERE leases.subscription = s.number AND s.name = ?
    )
"""


class DeliveringStack(Stack):
    """With the process that delivers."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.deliver = Process("deliver", self.env, self.folder)

    @property
    def processes(self) -> list[Process]:
        return [*super().processes, self.deliver]

    def close_but_broker(self) -> None:
        self.deliver.kill()
        super().close_but_broker()


@dataclass(frozen=True)
class Known:
    """What the other machines had got, a moment after a cut, and who had sent what before it."""

    delivered: dict[str, list[str]]  # endpoint -> ids of messages
    received: set[str]
    done: set[str]
    later: set[str]


class OutwardBench(Bench):
    """An appliance that delivers, hands out under leases and keeps messages for later."""

    out: Outward

    def __init__(self, folder: Any) -> None:
        super().__init__(folder, deliver_allow="127.0.0.1")
        self.known: dict[str, Known] = {}
        self.later: set[str] = set()

    def _stack(self, name: str, workers: int = 1) -> Stack:
        folder = self._folder / name
        folder.mkdir()
        settings = {**self._settings, "data": self.disk.files / "data"}
        return DeliveringStack(folder, workers, settings)

    def start(self) -> Stack:
        stack = super().start()
        stack.deliver.start()
        return stack

    def send_later(self) -> None:
        """Send messages that are due before the cut, amid it and after it."""
        with client(self.stack) as http:
            for number in range(LATER):
                path = "/v1/topics/later/messages"
                delay = f"{1 + number % LONGEST}s"
                answer = http.post(path, params={"delay": delay}, content=b"%d" % number)
                assert answer.status_code == 202, answer.text
                self.later.add(answer.json()["id"])

    def cut(self, *loads: Load, during: bool = True):
        later = set(self.later)
        cut = super().cut(*loads, during=during)
        out = self.out
        refusing = [each for each in out.refusing.ids if each not in out.refused]
        self.known[cut.name] = Known(
            {"ordered": out.ordered.ids, "refusing": refusing},
            set(out.consumer.received), set(out.consumer.done), later,
        )  # fmt: skip
        return cut

    def _hold(self, stack, cut, outcome, patience) -> None:
        self._now = self.known[cut.name]
        super()._hold(stack, cut, outcome, patience)

    def go(self, stack) -> None:
        self._places_are_true(stack)
        out = self.out
        self._before = {"ordered": len(out.ordered.ids), "refusing": len(out.refusing.ids)}
        super().go(stack)
        stack.deliver.start()

    def _places_are_true(self, stack) -> None:
        """Hold the places of endpoints and subscription to what was done, before anything runs."""
        done = {f"{self.out.name}-{kind}": set(ids) for kind, ids in self._now.delivered.items()}
        for condition, names in (
            (DELIVERED, done),
            (HANDED_OUT, {self.out.name: self._now.done}),
        ):
            for name, known in names.items():
                passed = _ids(stack, condition, json.dumps(self.out.topics), name, name)
                skipped = set(passed) - known
                assert not skipped, f"{name}: {len(skipped)} of {len(passed)} passed over"

    def drain(self, stack) -> None:
        super().drain(stack)
        wait_until(
            lambda: not self._missing_later(stack),
            "what was for later",
            more=lambda: (
                f"missing: {len(self._missing_later(stack))} of {len(self._now.later)}, "
                f"{stack.count('later')} rows, waiting: {stack.get('/v1/delayed').text}\n"
                f"{stack.logs()}"
            ),
        )
        later = _ids(stack, "topic = 'later'")
        assert len(later) == len(set(later))
        self._everything_goes_out(stack)

    def _missing_later(self, stack) -> set[str]:
        return self._now.later - set(_ids(stack, "topic = 'later'"))

    def _everything_goes_out(self, stack) -> None:
        out, now = self.out, self._now
        stored = _ids(stack, "topic IN (SELECT value FROM json_each(?))", json.dumps(out.topics))
        consumer = Consumer(stack, out.name)
        try:

            def came() -> dict[str, list[str]]:
                consumer.check()
                since = {
                    "ordered": out.ordered.ids[self._before["ordered"] :],
                    "refusing": out.refusing.ids[self._before["refusing"] :],
                }
                both = {kind: now.delivered[kind] + ids for kind, ids in since.items()}
                return {**both, "pulled": [*now.done, *consumer.done]}

            wait_until(
                lambda: all(set(stored) <= set(ids) for ids in came().values()),
                "everything goes out",
                60,
                lambda: (
                    f"{ {name: len(set(stored) - set(ids)) for name, ids in came().items()} }\n"
                    f"{stack.logs()}\n{stack.deliver.log[-3000:]}"
                ),
            )
        finally:
            consumer.end()
        first = list(dict.fromkeys(each for each in came()["ordered"] if each in set(stored)))
        for topic in out.topics:
            ids = _ids(stack, "topic = ?", topic)
            assert [each for each in first if each in set(ids)] == ids
        lent = (now.received - now.done) & set(stored)
        assert lent <= set(consumer.received)


def _ids(stack, condition, *values):
    query = f"SELECT id FROM messages WHERE {condition} ORDER BY seq"
    return [row["id"] for row in stack.query(query, *values)]


def test_while_messages_go_out_again(bench, share, examine):
    one, cuts = bench(OutwardBench), []
    stack = one.start()
    load = Load(stack, "outward", senders=4, styles=STYLES, rate=200)
    topics = list(load.styles)
    with Outward(stack, topics, FORGETS) as one.out, load:
        load.wait_accepted(200)
        for _ in range(share(0.1)):
            one.send_later()
            time.sleep(random.uniform(0.1, 0.8))
            cuts.append(one.cut(load))
    try:
        known = [one.known[cut.name] for cut in cuts]
        for each in known:
            assert each.delivered["ordered"]
            assert each.received - each.done
        kept(examine(one, cuts))
    finally:
        one.out.close()
