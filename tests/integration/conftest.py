"""Fixtures of these tests: support/fixtures.py."""

from fixtures import broker, idle_brokers, module_stack, pytest_runtest_makereport, stack
from order import longest_first

__all__ = ["broker", "idle_brokers", "module_stack", "pytest_runtest_makereport", "stack"]


def pytest_collection_modifyitems(items):
    """Begin with what takes a minute and more."""
    longest_first(
        items,
        (
            "test_reported_cases.py",
            "test_run.py",
            "test_promise.py",
            "test_verify.py",
            "test_drill.py",
            "test_drained_queues.py",
            "test_upgrade.py",
            "test_door_mqtt.py",
            "test_given_up.py",
            "test_moved_folder.py",
            "test_door_amqp.py",
        ),
    )
