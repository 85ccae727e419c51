"""Gives memory that was freed back to the system.

The C library keeps what was freed below something that is still in use. After much work that can be
most of what the process took for it, and nobody else can use it.
"""

import ctypes


def give_back() -> None:
    """Have the C library give back all whole pages that are free; takes a millisecond or two.

    A C library without this call, such as musl, gives back what it can by itself.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
