"""The tests' own economy: a stack gets the running broker of one that ended, and nothing else."""

import contextlib

from fixtures import stacks
from load import amqp

from appliance.broker import topology


def test_a_stack_on_the_broker_of_another_has_nothing_of_what_that_one_left(
    tmp_path_factory, idle_brokers
):
    make_stacks = contextlib.contextmanager(stacks)
    with make_stacks(tmp_path_factory, idle_brokers) as make:
        first = make(workers=0)
        assert first.publish("left", b"in the queue").status_code == 202
        with amqp(first) as link:
            link.channel().basic_publish(topology.DEAD, "left", b"among the dead")
    with make_stacks(tmp_path_factory, idle_brokers) as make:
        second = make()
        assert second.broker is first.broker
        assert second.publish("own", b"x", Prefer="wait=20").status_code == 201
        assert [row["topic"] for row in second.rows()] == ["own"]
        assert second.query("SELECT * FROM dead_letters") == []
        assert second.query("SELECT count(*) FROM sources")[0][0] == 1
        assert second.cli("verify").returncode == 0
