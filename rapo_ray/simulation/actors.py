"""Simulated actors that only wait, many in one process, behind handles like those of real ones."""

import asyncio
import gc
import heapq
import random
import time
import zlib
from types import SimpleNamespace
from typing import Any

from rapo_ray.orchestrator.dispatch import Batches
from rapo_ray.simulation.profile import PROMPT_TOKENS, Profile
from rapo_ray.trainer.batch import MicroBatch, Step
from rapo_ray.types import Completion, Form, GeneratedText, Packed, Prompt, Rollout, Status, Verdict

HEARTBEAT = 5.0
COMPLETION = Completion(Form.OK, "A trace.", "A trace.", "An answer.")


class Slots:
    """A fixed number of slots that work takes in the order of its arrival."""

    def __init__(self, count: int) -> None:
        self._free = [0.0] * count
        self.busy = 0.0  # seconds in which any place was taken
        self._taken_until = 0.0

    def take(self, seconds: float) -> float:
        """The time at which work submitted now ends."""
        now = time.monotonic()
        begins = max(now, self._free[0])
        ends = begins + seconds
        heapq.heapreplace(self._free, ends)
        if ends > self._taken_until:
            self.busy += ends - max(now, self._taken_until)
            self._taken_until = ends
        return ends


class SimulatedEngine:
    """A rollout engine: as many steps as the longest completion of its batch has tokens."""

    def __init__(self, name: str, profile: Profile, max_num_seqs: int) -> None:
        self._name = name
        self._profile = profile
        self._slots = Slots(max_num_seqs)
        self._running: list[tuple[float, int, int, int, str]] = []
        self._version = -1

    async def process_address(self) -> tuple[str, int]:
        """Its node and process."""
        from actors.ray_calls import process_address

        return process_address()

    async def submit(self, call: str, version: int, batches: Batches) -> None:
        """Schedule the requests."""
        profile = self._profile
        for request in (request for requests in batches for request in requests):
            length = profile.completion_tokens * _spread(profile.completion_spread, request.seed)
            tokens = max(1, min(request.sampling.max_tokens, round(length)))
            ends = self._slots.take(tokens * profile.step_seconds)
            heapq.heappush(self._running, (ends, request.group, request.sample, tokens, request.prompt.id))

    async def collect(self, call: str, version: int, batches: Batches, window: float) -> list[Rollout]:
        """Rollouts that have finished: waits for the first, then for others as a real engine does."""
        await self.submit(call, version, batches)
        if not self._running:
            await asyncio.sleep(HEARTBEAT)
            return []
        wait = self._running[0][0] - time.monotonic()
        if wait > HEARTBEAT:
            await asyncio.sleep(HEARTBEAT)
            return []
        await asyncio.sleep(max(0.0, wait))
        last = max(running[0] for running in self._running)
        await asyncio.sleep(max(0.0, min(window, last - time.monotonic())))
        now = time.monotonic()
        finished = Packed[Rollout]()
        while self._running and self._running[0][0] <= now:
            _, group, sample, tokens, prompt = heapq.heappop(self._running)
            finished.append(self._rollout(group, sample, tokens, prompt))
        return finished

    def _rollout(self, group: int, sample: int, tokens: int, prompt: str) -> Rollout:
        written = (group % 251,) * tokens
        prompt_tokens = (group,) * PROMPT_TOKENS
        text = f"{group} {sample} {self._version}"  # what the verdict is drawn by
        return Rollout(
            group, prompt, sample, prompt_tokens, written, (-1.0,) * tokens, text, False, self._version, self._name
        )

    def take_weights(self, version: int) -> None:
        """Rollouts carry `version` from now on."""
        self._version = version

    async def busy(self) -> float:
        """Seconds in which it had completions to sample."""
        return self._slots.busy


def _spread(sigma: float, seed: int | None) -> float:
    """Lognormal with a mean of 1."""
    return random.Random(seed).lognormvariate(-(sigma**2) / 2, sigma) if sigma else 1.0


class SimulatedJudge:
    """A judge whose verdicts are drawn, so that groups differ."""

    def __init__(self, name: str, profile: Profile) -> None:
        self._name = name
        self._seconds = profile.judge_seconds
        self._slots = Slots(profile.judge_concurrency)

    async def judge(self, prompts: list[Prompt], texts: list[GeneratedText], parts: object) -> list[Any]:
        """A verdict on each."""
        ends = max(self._slots.take(self._seconds) for _ in texts)
        await asyncio.sleep(max(0.0, ends - time.monotonic()))
        return Packed((COMPLETION, self._verdict(each.text)) for each in texts)

    def _verdict(self, text: str) -> Verdict:
        drawn = zlib.crc32(text.encode())
        risk, general = (-1.0, 0.0, 1.0)[drawn % 3], (-1.0, 1.0)[drawn // 3 % 2]
        return Verdict(Status.OK, self._name, level=1, risk=risk, general=general)

    async def busy(self) -> float:
        """Seconds in which it judged."""
        return self._slots.busy


class SimulatedTrainer:
    """A policy rank or a reference actor: tokens over a rate."""

    def __init__(self, _name: str, rate: float | None) -> None:
        self._rate = rate
        self._busy = 0.0

    async def _work(self, micro_batches: list[MicroBatch]) -> int:
        sequences = [sequence for batch in micro_batches if not batch.filler for sequence in batch.sequences]
        tokens = sum(len(sequence.completion) for sequence in sequences)
        seconds = tokens / self._rate if self._rate else 0.0
        self._busy += seconds
        await asyncio.sleep(seconds)
        return tokens

    async def update(self, steps: list[Step]) -> dict[str, float]:
        """Wait for all steps."""
        tokens = sum([await self._work(list(step.micro_batches)) for step in steps])
        return {"tokens": float(tokens), "optimizer_steps": float(len(steps))}

    async def logprobs(self, micro_batches: list[MicroBatch]) -> list[list[float]]:
        """Wait, and give a log-prob a token."""
        await self._work(micro_batches)
        return [[-1.0] * len(sequence.completion) for batch in micro_batches for sequence in batch.sequences]

    async def busy(self) -> float:
        """Seconds in which it worked."""
        return self._busy


class SimulatedHost:
    """One process with many simulated actors."""

    def __init__(self) -> None:
        from actors.cluster import GARBAGE_PACE

        gc.set_threshold(*GARBAGE_PACE)
        self._actors: dict[str, Any] = {}

    async def add(self, kind: str, name: str, *arguments: Any) -> None:
        """Make an actor."""
        kinds = {"engine": SimulatedEngine, "judge": SimulatedJudge, "trainer": SimulatedTrainer}
        self._actors[name] = kinds[kind](name, *arguments)

    async def take_weights(self, version: int) -> None:
        """Give all its engines these weights: in a real run the policy sends them, not the driver."""
        for actor in self._actors.values():
            if isinstance(actor, SimulatedEngine):
                actor.take_weights(version)

    async def call(self, request: tuple[str, str, tuple[Any, ...]]) -> Any:
        """The result of one actor's method; one argument, as each argument of a call costs the driver time."""
        name, method, arguments = request
        return await getattr(self._actors[name], method)(*arguments)


class Hosted:
    """A handle of one simulated actor: `handle.method.remote(...)`."""

    def __init__(self, host: Any, name: str) -> None:
        self._host = host
        self._name = name

    def __getattr__(self, method: str) -> Any:
        if method.startswith("_"):
            raise AttributeError(method)
        call, name = self._host.call, self._name
        return SimpleNamespace(remote=lambda *arguments: call.remote((name, method, arguments)))
