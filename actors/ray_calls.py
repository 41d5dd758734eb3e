"""Calls to Ray actors: a limit on every wait, and a one-line error for everything that can go wrong."""

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

RETRY_INTERVAL = 1.0  # seconds between two looks at an actor that is restarting


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
    """The calls that have finished by the time a tenth of them has; empty where none finishes within `timeout` seconds.

    A wait costs as much as the calls it spans, and results that arrive together travel on in fewer messages.
    """
    done, _ = ray.wait(refs, num_returns=max(1, len(refs) // 10), timeout=timeout)
    return ray.wait(refs, num_returns=len(refs), timeout=0)[0] if done else []


def outcomes(refs: list[Any]) -> list[Any]:
    """The result of each finished call, or the RayError that it failed with; fetched together, which is quicker."""
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
    """A one-line error for an actor's death, whatever the cause: Ray has many errors, one of them for out of memory."""
    return ActorDied(f"{what} failed, an actor died: {first_line(error)}")


def unwrap(error: RayTaskError, what: str) -> Exception:
    """The error that an actor raised where it is one of ours, else one that names what failed."""
    cause = error.cause
    if isinstance(cause, RapoError | OSError):
        return cause
    if isinstance(cause, RayError):
        return died(cause, what)
    return EngineError(f"{what} failed: {type(cause).__name__}: {first_line(cause)}")


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def wait_until_back(actor: ActorHandle, name: str, limit: float) -> None:
    """Wait for an actor that Ray restarts; raises ActorDied where it is not back within `limit` seconds."""
    ends = time.monotonic() + limit
    while True:
        try:
            ray.get(actor.ready.remote(), timeout=max(0.0, ends - time.monotonic()))
            return
        except (ActorUnavailableError, OutOfMemoryError) as error:
            if time.monotonic() >= ends:
                raise died(error, f"waiting for {name}") from None
            time.sleep(RETRY_INTERVAL)
        except GetTimeoutError:
            raise ActorDied(f"{name} did not come back within limits.start={limit:g} s: see its log") from None
        except RayError as error:
            raise died(error, f"starting {name} again") from None


def end_process(where: ProcessAddress, name: str) -> None:
    """Kill a process that does not answer, on whichever node it runs; one that is gone already is fine."""
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
