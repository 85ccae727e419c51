"""A database to copy, and a log that is silent."""

import functools
import os
import tempfile
from pathlib import Path

import pytest
import structlog
from machine import PromiseMachine
from world import make_template, quiet

from appliance.machine import memory


@pytest.fixture(scope="module", autouse=True)
def one_processor():
    """Keep the threads of a story on one processor: there is always one of them alone that runs.

    From one processor to another each turn costs a fifth more, and takes twice as long.
    """
    all_of_them = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(all_of_them)})
    yield
    os.sched_setaffinity(0, all_of_them)


@pytest.fixture(scope="module")
def template():
    """A data folder to copy. In memory where that is to be had: no disk is tried here."""
    in_memory = Path("/dev/shm")
    quiet()
    with (
        tempfile.TemporaryDirectory(dir=in_memory if in_memory.is_dir() else None) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        # Thousands of processes begin, and each would read the files that tell it.
        patch.setattr(memory, "limit", functools.cache(memory.limit))
        PromiseMachine.template = make_template(Path(folder) / "template")
        yield PromiseMachine.template
    structlog.reset_defaults()
