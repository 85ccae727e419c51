"""The image, with its own RabbitMQ: the same promise, and a control that must lose."""

import random
import time

from contained import ContainedBench
from cuts import kept
from load import MIXED, Load
from test_controls import CONFIRMS_WITHOUT_SYNC, PATIENCE, losses


def test_a_container_under_steady_load_and_in_its_first_seconds(bench, share, examine):
    one, cuts = bench(ContainedBench), []
    one.stack.begin()
    with Load(one.stack, "contained", senders=8, styles=MIXED, rate=200) as load:
        load.wait_accepted(1)
        count = share(0.1)
        for number in range(count):
            if number == count // 2:
                one.stack.container.exec("supervisorctl", "stop", "worker:*")
            time.sleep(random.uniform(0.05, 1.0))
            cuts.append(one.cut(load))
    outcomes = kept(examine(one, cuts))
    assert outcomes[-1].from_queue


def test_confirms_of_a_classic_queue_of_rabbitmq_4_are_lost(bench, examine, tmp_path):
    changes = tmp_path / "changes"
    changes.mkdir(mode=0o755)
    (changes / "sitecustomize.py").write_text(CONFIRMS_WITHOUT_SYNC)
    changes.chmod(0o755)

    class Classic(ContainedBench):
        options = ("--volume", f"{changes}:/changes:ro", "--env", "PYTHONPATH=/changes")

    one = bench(Classic)
    stack = one.start()
    version = stack.container.exec("cat", "/data/broker/version")
    assert version.startswith("4."), version
    stack.container.exec("supervisorctl", "stop", "worker:*")
    with Load(stack, "classic", senders=8, rate=200) as load:
        load.wait_accepted(300)
        cuts = [one.cut(load)]
    assert losses(examine(one, cuts, patience=PATIENCE)) > 0
