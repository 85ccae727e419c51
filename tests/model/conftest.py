"""A database to copy, and a log that is silent."""

import tempfile
from pathlib import Path

import pytest
import structlog
from machine import PromiseMachine
from world import make_template, quiet


@pytest.fixture(scope="module")
def template():
    """A data folder to copy. In memory where that is to be had: no disk is tried here."""
    memory = Path("/dev/shm")
    quiet()
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        PromiseMachine.template = make_template(Path(folder) / "template")
        yield PromiseMachine.template
    structlog.reset_defaults()
