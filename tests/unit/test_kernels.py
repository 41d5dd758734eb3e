"""The lock around compiled kernels: it is released with its process, and removes what a killed one left."""

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from rapo_ray.trainer.kernels import compiling

pytestmark = pytest.mark.unit

HOLDS = """
import sys, time
from pathlib import Path
from rapo_ray.trainer.kernels import compiling
with compiling(Path(sys.argv[1])):
    (Path(sys.argv[1]) / "op" / "lock").touch()
    print("compiles", flush=True)
    time.sleep(600)
"""


def test_the_lock_of_a_killed_compilation_is_removed(tmp_path: Path) -> None:
    (tmp_path / "op").mkdir()
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "compiles\n"
        with (tmp_path / "rapo_ray.lock").open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)  # while it compiles, nobody else does
        process.kill()
    assert (tmp_path / "op" / "lock").exists()
    with compiling(tmp_path):
        assert not (tmp_path / "op" / "lock").exists()


def test_a_folder_is_made_where_nothing_was_compiled(tmp_path: Path) -> None:
    with compiling(tmp_path / "new" / "folder"):
        assert (tmp_path / "new" / "folder").is_dir()
