"""For all the tests."""

import signal


def pytest_configure():
    """Let Ctrl-C reach the programs that tests start.

    A shell without job control starts what runs in its background with SIGINT ignored, every
    child inherits that, and a test that interrupts a program would wait for ever.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
