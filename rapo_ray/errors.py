"""The errors a user can meet: each is one clear line, picklable, and also of the stdlib kind it refines."""

import sys
import traceback
from collections.abc import Callable


class RapoError(Exception):
    """Base of every error that rapo_ray explains to the user in one line."""


class ConfigError(RapoError, ValueError):
    """A setting is unknown, of the wrong type, or impossible beside another one."""


class DataError(RapoError, ValueError):
    """A data file is missing, has the wrong columns, or too many of its rows are bad."""


class ModelError(RapoError, ValueError):
    """A model is missing, incomplete, or not what its checksum says."""


class CheckpointError(RapoError, RuntimeError):
    """A checkpoint could not be written, or does not verify."""


class PlacementError(RapoError, RuntimeError):
    """The cluster does not have, or did not give in time, what the run asks for."""


class JudgeError(RapoError, RuntimeError):
    """More verdicts failed than the budget allows, or a judge could not be started."""


class EngineError(RapoError, RuntimeError):
    """A rollout engine failed, or holds other weights than it should."""


class ActorDied(EngineError):
    """An actor ended by itself and did not come back within its restarts."""


class RoundLost(EngineError):
    """A round that was drawn ahead lost an engine that cannot be given its weights any more; it must be drawn anew."""


class TrainingError(RapoError, RuntimeError):
    """The policy update went wrong: a non-finite loss, or ranks that disagree."""


class NonFiniteStep(TrainingError):
    """A step of the policy was refused, or left weights of no use: the run starts over from its checkpoint."""


class ServingError(RapoError, RuntimeError):
    """The endpoint could not be started or changed."""


class ReportError(RapoError, ValueError):
    """A folder holds nothing to report on, or a file in it that cannot be read."""


def finish(body: Callable[[], int], debug: bool, stopped: str = "stopped; the same command goes on") -> int:
    """Run a command's body: its status, 130 after an interrupt, 1 after an error, which is one line if it is ours."""
    try:
        return body()
    except KeyboardInterrupt:
        print(f"\n{stopped}", file=sys.stderr)
        return 130
    except Exception as error:
        line = _explanation(error)
        if debug or line is None:
            traceback.print_exc()
        else:
            print(f"error: {line}", file=sys.stderr)
        return 1


def _explanation(error: Exception) -> str | None:
    """The error in one line for the user; None for an error that only a traceback explains."""
    if isinstance(error, RapoError | OSError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        if package not in ("rapo_ray", "actors"):
            return f"the package `{package}` is not installed: install rapo-ray with its extra `cpu` or `gpu`"
    return None
