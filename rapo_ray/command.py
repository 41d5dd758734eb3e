"""How every command ends: its exit status, or one line where it failed in a way that we explain."""

import sys
import traceback
from collections.abc import Callable


def finish(body: Callable[[], int], debug: bool, stopped: str = "stopped; the same command goes on") -> int:
    """Run a command's body: its status, 130 after an interrupt, 1 after an error, which is one line if it is ours."""
    try:
        return body()
    except KeyboardInterrupt:
        print(f"\n{stopped}", file=sys.stderr)
        return 130
    except Exception as error:
        from rapo_ray.errors import RapoError

        if debug or not isinstance(error, RapoError | OSError):
            traceback.print_exc()
        else:
            print(f"error: {error}", file=sys.stderr)
        return 1
