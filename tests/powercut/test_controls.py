"""Controls: what must lose messages in a power cut loses them here; they fail if nothing is lost.

Nothing in the appliance can be set so. Its processes are changed from outside, as they start.
"""

import os

from cuts import Bench
from harness import Stack
from load import Load

#: Seconds; what a control loses is gone at once.
PATIENCE = 3.0

COMMITS_WITHOUT_SYNC = """
from appliance.store.sqlite import writer
connect = writer.connect
def relaxed(path, **options):
    link = connect(path, **options)
    link.execute("PRAGMA synchronous = NORMAL")
    return link
writer.connect = relaxed
"""

CONFIRMS_WITHOUT_SYNC = """
from appliance.broker import topology
topology.queue_arguments = lambda: {"x-queue-type": "classic", "x-queue-version": 2}
"""


class Changed(Bench):
    """An appliance of which the processes that `changed` names run `code` as they start."""

    code = ""
    changed = ""

    def prepare(self, stack: Stack) -> Stack:
        folder = self._folder / "changes"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(self.code)
        for process in (stack.api, *stack.workers):
            if process.name == self.changed:
                process.env = {**process.env, "PYTHONPATH": str(folder)}
        return stack


class CommitsWithoutSync(Changed):
    code = COMMITS_WITHOUT_SYNC
    changed = "worker"


class ConfirmsWithoutSync(Changed):
    code = CONFIRMS_WITHOUT_SYNC
    changed = "api"


def losses(outcomes):
    """Return how many messages were lost; whatever else went wrong proves nothing."""
    faults = [fault for outcome in outcomes for fault in outcome.faults]
    assert all("answered 202 and missing" in fault for fault in faults), faults
    return sum(outcome.lost for outcome in outcomes)


def test_a_file_that_is_not_synced_is_lost_and_one_that_is_synced_is_kept(bench):
    one = bench()
    files = one.disk.files
    cuts = []
    with (files / "synced").open("wb") as synced, (files / "left").open("wb") as left:
        for number in range(5):
            left.write(b"%08d" % number * 512)
            left.flush()
            synced.write(b"%08d" % number * 512)
            synced.flush()
            os.fsync(synced.fileno())
            cuts.append(one.disk.cut(f"file-{number}"))
    one.disk.off()
    for number, cut in enumerate(cuts):
        with one.disk.after(cut):
            assert (files / "synced").stat().st_size == 4096 * (number + 1)
            assert (files / "left").read_bytes() == b""


def test_commits_that_are_not_synced_are_lost(bench, examine):
    """`synchronous=NORMAL`: the row is told to the broker as stored, and is not on disk."""
    one, cuts = bench(CommitsWithoutSync), []
    stack = one.start()
    with Load(stack, "commits", senders=8, rate=300) as load:
        load.wait_accepted(300)
        cuts.append(one.cut(load))
    assert losses(examine(one, cuts, patience=PATIENCE)) > 0


def test_confirms_that_are_not_synced_are_lost(bench, examine):
    """A classic queue: RabbitMQ confirms what it has written and not synced."""
    one, cuts = bench(ConfirmsWithoutSync, workers=0), []
    stack = one.start()
    with Load(stack, "confirms", senders=8, rate=300) as load:
        load.wait_accepted(300)
        cuts.append(one.cut(load))
    assert losses(examine(one, cuts, patience=PATIENCE)) > 0
