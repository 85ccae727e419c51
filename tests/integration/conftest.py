"""Fixtures of these tests: support/fixtures.py."""

from fixtures import broker, module_stack, pytest_runtest_makereport, stack

__all__ = ["broker", "module_stack", "pytest_runtest_makereport", "stack"]
