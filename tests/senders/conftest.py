"""Fixtures of these tests: support/fixtures.py."""

from fixtures import idle_brokers, module_stack, pytest_runtest_makereport

__all__ = ["idle_brokers", "module_stack", "pytest_runtest_makereport"]
