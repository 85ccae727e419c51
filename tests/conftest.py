"""For all the tests."""

import gc
import signal

from hypothesis import HealthCheck, settings

# Hypothesis times each example by the clock on the wall, which says nothing about the code where
# other programs use the machine too.
settings.register_profile(
    "shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("shared machine")


def pytest_configure():
    """Let Ctrl-C reach the programs that tests start.

    A shell without job control starts what runs in its background with SIGINT ignored, every
    child inherits that, and a test that interrupts a program would wait for ever.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    """Take the tests themselves out of what the garbage collector looks through.

    There are more than ten thousand, each process has them all, and none is garbage before its end:
    a seventh of the CPU of tests that are short went into looking.
    """
    gc.collect()
    gc.freeze()
