"""The errors that users see: each is one clear line, picklable, and a subclass of the stdlib error it refines."""

import argparse
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import FrameType

PLACES_SHOWN = 5


class RapoError(Exception):
    """Base class of every error that rapo_ray explains to the user in one line."""


class ConfigError(RapoError, ValueError):
    """A setting is unknown, has the wrong type, or cannot be combined with another one."""


class DataError(RapoError, ValueError):
    """A data file is missing, has the wrong columns, or has too many bad rows."""


class ModelError(RapoError, ValueError):
    """A model is missing, incomplete, or does not match its checksum."""


class CheckpointError(RapoError, RuntimeError):
    """A checkpoint could not be written, or fails verification."""


class PlacementError(RapoError, RuntimeError):
    """The cluster lacks the requested resources, or did not provide them in time."""


class JudgeError(RapoError, RuntimeError):
    """More verdicts failed than the budget allows, or a judge could not be started."""


class EngineError(RapoError, RuntimeError):
    """A rollout engine failed, or holds the wrong weights."""


class ActorDied(EngineError):
    """An actor died and did not come back within its restarts."""


class RoundLost(EngineError):
    """A prefetched round lost an engine whose weights cannot be restored; the round must be resampled."""


class TrainingError(RapoError, RuntimeError):
    """The policy update failed: a non-finite loss, or ranks that disagree."""


class NonFiniteStep(TrainingError):
    """A policy step had a non-finite loss or left non-finite weights; the run restarts from its checkpoint."""


class AlarmRaised(RapoError, RuntimeError):
    """An alarm that is set to `stop` is active."""


class ServingError(RapoError, RuntimeError):
    """The endpoint could not be started or changed."""


class ReportError(RapoError, ValueError):
    """A folder contains nothing to report on, or a file that cannot be read."""


def named(places: Sequence[str]) -> str:
    """The first few of many places with a mistake, and their number."""
    return "; ".join(places[:PLACES_SHOWN]) + (f"; ... {len(places)} in all" if len(places) > PLACES_SHOWN else "")


def run_command(
    parser: argparse.ArgumentParser,
    arguments: list[str] | None,
    body: Callable[[argparse.Namespace], int],
    stopped: str = "stopped; the same command goes on",
) -> int:
    """Parse a command's arguments, and --debug, and run its body; returns the exit status."""
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    options = parser.parse_intermixed_args(arguments)  # settings may stand before, between and after options
    return finish(lambda: body(options), options.debug, stopped)


def interrupt_on_sigterm() -> None:
    """Treat the first SIGTERM like Ctrl-C and ignore later ones: what follows is the clean end."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def finish(body: Callable[[], int], debug: bool, stopped: str = "stopped") -> int:
    """Run a command's body and return its exit status: 130 after an interrupt, 1 after an error (one line if ours)."""
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
