"""Memory that was freed goes back to the system, in the server's process."""

import platform
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
process = psutil.Process()
# Before any is freed: from then on they may be returned at any time.
most = process.memory_info().rss
for number, block in enumerate(blocks, 1):
    if number % 100 and number < 4096:
        libc.free(block)
until = time.monotonic() + 60
while process.memory_info().rss > most - 200 * 2**20 and time.monotonic() < until:
    pass
sys.exit(process.memory_info().rss > most - 200 * 2**20)
"""


# By what the system is, and not by what the code looks for: it would hide that this is not found.
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to return memory")
def test_what_lies_free_between_others_is_returned() -> None:
    """Of a batch some small pieces stay, and must not keep all the rest."""
    done = subprocess.run([sys.executable, "-c", _FRAGMENTED], check=False)
    assert done.returncode == 0
