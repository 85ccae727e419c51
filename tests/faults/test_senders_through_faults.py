"""What real senders send is kept through faults: inbox addresses, gzip, bad lines, quarantine."""

import pytest
from harness import START_SECONDS
from senders_load import SendersLoad, Way
from test_killed import kill, kill_all


@pytest.mark.parametrize("program", ["api", "worker:worker_0", "broker", "everything"])
def test_program_killed_under_the_load_of_real_senders_loses_nothing(running, under_load, program):
    ways = [*Way, Way.SIGNED, Way.GZIP_LINES]
    with under_load(running, kind=SendersLoad, ways=ways) as load:
        for _ in range(2):
            load.wait_accepted(200, START_SECONDS)
            if program == "everything":
                kill_all(running)
                running.start().wait_ready()
            else:
                kill(running, program)
        load.wait_accepted(200, START_SECONDS)
    load.note(kills=2)
    load.verify()
