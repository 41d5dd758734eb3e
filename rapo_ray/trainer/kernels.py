"""DeepSpeed's kernels, compiled on first use by one process of a machine at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.utils.cpp_extension import get_default_build_root


def load_cpu_kernels() -> None:
    """Compile or load the kernel of DeepSpeed's CPU collectives, which it would load with its process group."""
    from deepspeed.comm.torch import build_shm_op

    with compiling(Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())):
        build_shm_op()


@contextmanager
def compiling(folder: Path) -> Iterator[None]:
    """Compile below `folder` alone, without the locks that a killed process left there.

    torch's lock is a file that only its own process removes (torch.utils.file_baton): after one that was killed while
    it compiled, all others would wait for ever. The system releases ours with its process, so while we hold it every
    file of torch's is such a relic.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "rapo_ray.lock").open("w") as own:
        fcntl.flock(own, fcntl.LOCK_EX)
        for relic in folder.rglob("lock"):
            relic.unlink(missing_ok=True)
        yield
