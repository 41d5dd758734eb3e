"""Waiting for actors: a limit on every wait, and one clear line for everything that can go wrong."""

import logging
import os
import signal
import time
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, OutOfMemoryError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rapo_ray.errors import ActorDied, EngineError, RapoError

log = logging.getLogger(__name__)

ActorHandle = Any
ProcessAddress = tuple[str, int]  # node and process

ASK_AGAIN = 1.0  # seconds between two looks at an actor that starts again


def get_all(refs: list[Any], limit: float, what: str, setting: str) -> list[Any]:
    """Results of all calls; raises the actor's own RapoError, ActorDied, or EngineError for a missed limit."""
    try:
        return list(ray.get(refs, timeout=limit))
    except GetTimeoutError:
        raise EngineError(f"{what} took longer than {setting}={limit:g} s: raise it, or see the actor's log") from None
    except RayTaskError as error:
        raise unwrap(error, what) from error
    except RayError as error:
        raise died(error, what) from None


def wait_for_some(refs: list[Any], timeout: float) -> list[Any]:
    """The calls that have ended by the time that a tenth has: a wait costs as much as it spans, and what comes together
    goes on in fewer messages. None where none ends within `timeout` seconds.
    """
    ended, _ = ray.wait(refs, num_returns=max(1, len(refs) // 10), timeout=timeout)
    return ray.wait(refs, num_returns=len(refs), timeout=0)[0] if ended else []


def outcomes(refs: list[Any]) -> list[Any]:
    """What each call that has ended gave, or the RayError that it ended with; fetched together, which is quicker."""
    try:
        return list(ray.get(refs))
    except RayError:
        return [_outcome(ref) for ref in refs]


def _outcome(ref: Any) -> Any:
    try:
        return ray.get(ref)
    except RayError as error:
        return error


def died(error: BaseException, what: str) -> ActorDied:
    """The error of one line for an actor's death, of whichever cause: Ray has many errors, one for want of memory."""
    return ActorDied(f"{what} failed, an actor died: {first_line(error)}")


def unwrap(error: RayTaskError, what: str) -> Exception:
    """The error an actor meant: its own where it is ours, or one that names what failed."""
    cause = error.cause
    if isinstance(cause, RapoError | OSError):
        return cause
    if isinstance(cause, RayError):
        return died(cause, what)
    return EngineError(f"{what} failed: {type(cause).__name__}: {first_line(cause)}")


def first_line(error: BaseException) -> str:
    """What an error says first, or its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def wait_until_back(actor: ActorHandle, name: str, limit: float) -> None:
    """Wait for an actor that Ray starts again; raises ActorDied where it does not come back within `limit` seconds."""
    ends = time.monotonic() + limit
    while True:
        try:
            ray.get(actor.ready.remote(), timeout=max(0.0, ends - time.monotonic()))
            return
        except (ActorUnavailableError, OutOfMemoryError) as error:
            if time.monotonic() >= ends:
                raise died(error, f"waiting for {name}") from None
            time.sleep(ASK_AGAIN)
        except GetTimeoutError:
            raise ActorDied(f"{name} did not come back within limits.start={limit:g} s: see its log") from None
        except RayError as error:
            raise died(error, f"starting {name} again") from None


def end_process(where: ProcessAddress, name: str) -> None:
    """End a process that does not answer, on whichever node it is; one that is gone already is what we want."""
    node, pid = where
    kill = ray.remote(num_cpus=0, max_retries=0)(_kill).options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
    )
    try:
        ray.get(kill.remote(pid), timeout=60)
    except RayError as error:
        log.warning("could not end %s (process %d): %s", name, pid, first_line(error))


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def process_address() -> ProcessAddress:
    """Node and process of the calling actor."""
    return ray.get_runtime_context().get_node_id(), os.getpid()
