"""Memory: what a large batch took goes back to the system as soon as it is freed."""

import ctypes
import threading
import time
from collections.abc import Callable
from typing import Final

import pyarrow as pa

# malloc.h of glibc; mallopt(3).
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
# The higher it is, the more is kept: docs/performance.md.
_LARGE: Final = 128 * 1024
_TRIM_SECONDS: Final = 1.0
_BUSY_SHARE: Final = 0.1


def return_memory() -> None:
    """Have memory returned when it is freed, in a process that lasts.

    Left alone, glibc raises the size from which on a block is returned up to 32 MiB as soon as one
    is freed, and then keeps most of what arrays for a batch of a million took; Arrow's own
    allocator does alike. Smaller blocks it returns only from the end of its heaps: what lies
    between others is returned each second after work. Elsewhere than on glibc only Arrow is told.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    libc = ctypes.CDLL(None)
    mallopt = getattr(libc, "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE)
        mallopt(_TRIM_THRESHOLD, _LARGE)
    trim = getattr(libc, "malloc_trim", None)
    if trim is not None:
        threading.Thread(target=_trim_after_work, args=(trim,), name="memory", daemon=True).start()


def _trim_after_work(trim: Callable[[int], object]) -> None:
    """Return what is free, whenever the process was busy for a while; takes some milliseconds."""
    seen = time.process_time()
    while True:
        time.sleep(_TRIM_SECONDS)
        if time.process_time() - seen > _TRIM_SECONDS * _BUSY_SHARE:
            trim(0)
            seen = time.process_time()
