"""Memory: what a large batch took goes back to the system as soon as it is freed."""

import ctypes
from typing import Final

import pyarrow as pa

# malloc.h of glibc; mallopt(3).
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
# The higher it is, the more is kept: docs/performance.md.
_LARGE: Final = 128 * 1024


def return_memory() -> None:
    """Have blocks of 128 KiB and more returned when they are freed, in a process that lasts.

    Left alone, glibc raises that bound up to 32 MiB as soon as one is freed, and then keeps most of
    what arrays for a batch of a million took; Arrow's own allocator does alike. Elsewhere than on
    glibc only Arrow is told.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE)
        mallopt(_TRIM_THRESHOLD, _LARGE)
