"""`python -m benchmarks.gpu_check`."""

from benchmarks.gpu_check.runner import main

if __name__ == "__main__":  # the engine's stage spawns a process, which loads this module again
    raise SystemExit(main())
