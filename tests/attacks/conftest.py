"""Fixtures of these tests: support/fixtures.py."""

from fixtures import broker, idle_brokers, module_stack, pytest_runtest_makereport, stack

__all__ = ["broker", "idle_brokers", "module_stack", "pytest_runtest_makereport", "stack"]
