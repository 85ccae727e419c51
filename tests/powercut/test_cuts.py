"""The power is cut at an instant; whatever was answered 202 before it is there, once, in order."""

import random
import time

from cuts import kept
from load import MIXED, Load


def test_under_steady_load(bench, share, examine):
    one, cuts = bench(), []
    stack = one.start()
    with Load(stack, "steady", senders=8, styles=MIXED, rate=300) as load:
        load.wait_accepted(100)
        for _ in range(share(0.2)):
            time.sleep(random.uniform(0.1, 0.8))
            cuts.append(one.cut(load))
    kept(examine(one, cuts))


def test_while_no_worker_runs(bench, share, examine):
    """What is answered meanwhile is in the queue only: it is read from the broker's log again."""
    one, cuts = bench(), []
    stack = one.start()
    with Load(stack, "queued", senders=8, styles=MIXED, rate=300) as load:
        load.wait_accepted(100)
        stack.workers[0].kill()
        for _ in range(share(0.12)):
            time.sleep(random.uniform(0.1, 0.8))
            cuts.append(one.cut(load))
    outcomes = kept(examine(one, cuts))
    assert all(outcome.from_queue for outcome in outcomes)


def test_in_the_first_seconds_of_a_data_folder(bench, share, examine):
    """From the instant at which nothing is there; most of them just after the first 202."""
    left = share(0.24)
    while left > 0:
        one, cuts = bench(), []
        stack = one.stack
        with Load(stack, "first", senders=6, styles=MIXED, rate=150) as load:
            stack.broker.start()
            for process in (stack.api, *stack.workers):
                process.start()
            stack.cli("migrate").check_returncode()
            time.sleep(random.uniform(0, 4))
            cuts.append(one.cut(load))
            load.wait_accepted(1)
            for _ in range(min(left, 5) - 1):
                time.sleep(random.uniform(0, 1.0))
                cuts.append(one.cut(load))
        left -= len(cuts)
        kept(examine(one, cuts))


def test_while_the_broker_starts(bench, share, examine):
    """With what is in its log and nowhere else."""
    one, cuts = bench(), []
    stack = one.start()
    broker = stack.broker.process
    with Load(stack, "starting", senders=8, styles=MIXED, rate=300) as load:
        load.wait_accepted(100)
        stack.workers[0].kill()
        left = share(0.14)
        while left > 0:
            load.wait_accepted(300)
            broker.kill()
            broker.start()
            for _ in range(min(left, 4)):
                time.sleep(random.uniform(0, 1.2))
                cuts.append(one.cut(load))
                left -= 1
    outcomes = kept(examine(one, cuts))
    assert all(outcome.from_queue for outcome in outcomes)
