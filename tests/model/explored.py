"""Runs a machine for a number of stories, each of up to forty steps."""

from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test


def explore(machine: type, *, examples: int, shrink: bool = False, **options: Any) -> None:
    """Raise AssertionError, with the steps that lead there, where one of them breaks the promise.

    `shrink` looks for the shortest such story, which takes minutes.
    """
    phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            phases=phases,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            **options,
        ),
    )
