"""Memory that was freed goes back to the system, in the server's process."""

import ctypes
import subprocess
import sys

import pytest

# 256 MiB in blocks of 64 KiB, of which every hundredth is kept: they lie between the free ones.
_FRAGMENTED = """
import ctypes, sys, time
import psutil
from hashshare.cli.memory import return_memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
return_memory()
blocks = [libc.malloc(65_536) for _ in range(4096)]
for block in blocks:
    ctypes.memset(block, 1, 65_536)
for number, block in enumerate(blocks, 1):
    if number % 100 and number < 4096:
        libc.free(block)
process = psutil.Process()
most, until = process.memory_info().rss, time.monotonic() + 60
while process.memory_info().rss > most - 200 * 2**20 and time.monotonic() < until:
    pass
sys.exit(process.memory_info().rss > most - 200 * 2**20)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="is not glibc")
def test_what_lies_free_between_others_is_returned() -> None:
    """Of a batch some small pieces stay, and must not keep all the rest."""
    done = subprocess.run([sys.executable, "-c", _FRAGMENTED], check=False)
    assert done.returncode == 0
