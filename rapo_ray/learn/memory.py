"""How glibc treats freed memory while a policy updates on CPU."""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # of malloc.h
NEVER = -1
OWN_LIMITS = {M_MMAP_MAX: 65536, M_MMAP_THRESHOLD: 32 << 20, M_TRIM_THRESHOLD: 64 << 20}  # where glibc's own grow to


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep what is freed in the process until the end, then give all of it back to the kernel.

    Every micro-batch frees and takes the same gigabytes; faulting them in anew takes a good part of an update. Kept for
    longer, fragments would add up from round to round until Ray ends the process. Other C libraries do as they do.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, NEVER)
    try:
        yield
    finally:
        for option, value in OWN_LIMITS.items():
            libc.mallopt(option, value)
        libc.malloc_trim(0)
