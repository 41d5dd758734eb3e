"""Simulated actors that only wait, many in one process, behind handles like those of real ones."""

import asyncio
import gc
import random
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from rapo_ray.orchestrator.dispatch import Batches
from rapo_ray.simulation.profile import PROMPT_TOKENS, Profile
from rapo_ray.simulation.timing import Decoding, Judging, SharedCard, Tenant
from rapo_ray.trainer.batch import MicroBatch, Step
from rapo_ray.types import Completion, Form, GeneratedText, Packed, Prompt, Rollout, Status, Verdict

HEARTBEAT = 5.0
COMPLETION = Completion(Form.OK, "A trace.", "A trace.", "An answer.")


@dataclass(frozen=True, slots=True)
class Clock:
    """Simulated seconds, `speed` of which pass in a real one."""

    speed: float = 1.0

    def now(self) -> float:
        """The time in simulated seconds."""
        return time.monotonic() * self.speed

    async def sleep(self, seconds: float) -> None:
        """Wait for simulated seconds."""
        await asyncio.sleep(seconds / self.speed)

    @property
    def real(self) -> bool:
        """True where nothing is shortened, so that the driver's own work on tokens counts as it would."""
        return self.speed == 1.0


class TimedCard:
    """A card whose tenants' work passes with the clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._time = SharedCard(clock.now())
        self._timer: asyncio.TimerHandle | None = None
        self._watchers: list[Callable[[], None]] = []

    def add(self, tenant: Tenant, finished: Callable[[], None]) -> None:
        """Work on this card; `finished` is called whenever something may have finished."""
        self._time.tenants.append(tenant)
        self._watchers.append(finished)

    def advance(self) -> None:
        """Let the tenants work until now; call it before a tenant is given more work."""
        self._time.advance(self._clock.now())

    def wake(self) -> None:
        """Tell the tenants what has finished, and come back when something else does."""
        self.advance()
        for watcher in self._watchers:
            watcher()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        finish = self._time.next_finish()
        if finish is not None:
            wait = max(0.0, finish - self._clock.now()) / self._clock.speed
            self._timer = asyncio.get_running_loop().call_later(wait, self.wake)

    @property
    def busy(self) -> float:
        """Seconds in which any tenant worked."""
        self.advance()
        return self._time.busy


class SimulatedEngine:
    """A rollout engine: as many steps as the longest completion of its batch has tokens."""

    def __init__(self, name: str, profile: Profile, clock: Clock, card: TimedCard, max_num_seqs: int) -> None:
        self._name = name
        self._clock = clock
        self._card = card
        self._profile = profile
        self._decoding = Decoding[tuple[int, int, int, str]](profile, max_num_seqs)
        self._changed = asyncio.Event()
        self._version = -1
        card.add(self._decoding, self._changed.set)

    async def capacity(self) -> int:
        """Sequences that it runs at once."""
        return self._decoding.most

    async def process_address(self) -> tuple[str, int]:
        """Its node and process."""
        from actors.ray_calls import process_address

        return process_address()

    async def submit(self, call: str, version: int, batches: Batches) -> None:
        """Schedule the requests."""
        profile = self._profile
        self._card.advance()
        for request in (request for requests in batches for request in requests):
            length = profile.completion_tokens * _spread(profile.completion_spread, request.seed)
            tokens = max(1, min(request.sampling.max_tokens, round(length)))
            self._decoding.add(tokens, (request.group, request.sample, tokens, request.prompt.id))
        self._card.wake()

    async def collect(self, call: str, version: int, batches: Batches, window: float) -> list[Rollout]:
        """Rollouts that have finished: waits for the first, then for others as a real engine does."""
        await self.submit(call, version, batches)
        if not await self._until(lambda: bool(self._decoding.finished), HEARTBEAT):
            return []
        await self._until(lambda: not self._decoding.running, window)
        finished, self._decoding.finished = self._decoding.finished, []
        return Packed(self._rollout(*tag) for tag in finished)

    async def _until(self, holds: Callable[[], bool], seconds: float) -> bool:
        """True once something holds, False after so many real seconds."""
        deadline = time.monotonic() + seconds
        while not holds():
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), deadline - time.monotonic())
            except TimeoutError:
                return False
        return True

    def _rollout(self, group: int, sample: int, tokens: int, prompt: str) -> Rollout:
        written: tuple[int, ...] = (group % 251,) * tokens
        logprobs: tuple[float, ...] = (-1.0,) * tokens
        if not self._clock.real:  # only their number matters, and the driver would carry them in real time
            written = logprobs = cast(tuple[int, ...], range(tokens))
        text = f"{group} {sample} {self._version}"  # what the verdict is drawn by
        return Rollout(
            group, prompt, sample, (group,) * PROMPT_TOKENS, written, logprobs, text, False, self._version, self._name
        )

    def take_weights(self, version: int) -> None:
        """Rollouts carry `version` from now on."""
        self._version = version

    async def sleep(self) -> None:
        """Leave the card: nothing is copied, as new weights come."""

    async def busy(self) -> tuple[float, float]:
        """Seconds in which it had completions to sample, and in which its cards worked for it or for a guest."""
        return self._decoding.busy, self._card.busy


def _spread(sigma: float, seed: int | None) -> float:
    """Lognormal with a mean of 1."""
    return random.Random(seed).lognormvariate(-(sigma**2) / 2, sigma) if sigma else 1.0


class SimulatedJudge:
    """A judge whose verdicts are drawn, so that groups differ."""

    def __init__(self, name: str, profile: Profile, clock: Clock, card: TimedCard) -> None:
        self._name = name
        self._profile = profile
        self._clock = clock
        self._card = card
        self._judging = Judging[asyncio.Future[None]](profile)
        card.add(self._judging, self._resolve)

    def _resolve(self) -> None:
        finished, self._judging.finished = self._judging.finished, []
        for call in finished:
            call.set_result(None)

    async def judge(self, prompts: list[Prompt], texts: list[GeneratedText], parts: object) -> list[Any]:
        """A verdict on each."""
        self._card.advance()
        calls = [asyncio.get_running_loop().create_future() for _ in texts]
        for call in calls:
            self._judging.add(call)
        self._card.wake()
        await asyncio.gather(*calls)
        return Packed((COMPLETION, self._verdict(each.text)) for each in texts)

    def _verdict(self, text: str) -> Verdict:
        drawn = zlib.crc32(text.encode())
        risk, general = (-1.0, 0.0, 1.0)[drawn % 3], (-1.0, 1.0)[drawn // 3 % 2]
        return Verdict(Status.OK, self._name, level=1, risk=risk, general=general)

    async def sleep(self) -> None:
        """Move its weights to host memory."""
        await self._clock.sleep(self._profile.judge_turn_seconds)

    async def wake(self) -> None:
        """Move its weights back."""
        await self._clock.sleep(self._profile.judge_turn_seconds)

    async def busy(self) -> tuple[float, float]:
        """Seconds in which it judged, and in which its cards worked for it or for its host."""
        return self._judging.busy, self._card.busy


class SimulatedTrainer:
    """A policy rank or a reference actor: tokens over a rate."""

    def __init__(self, _name: str, profile: Profile, clock: Clock, _card: TimedCard) -> None:
        self._profile = profile
        self._clock = clock
        self._busy = 0.0

    async def _work(self, micro_batches: Sequence[MicroBatch], rate: float | None) -> int:
        sequences = [sequence for batch in micro_batches if not batch.filler for sequence in batch.sequences]
        tokens = sum(len(sequence.completion) for sequence in sequences)
        seconds = tokens / rate if rate else 0.0
        self._busy += seconds
        await self._clock.sleep(seconds)
        return tokens

    async def update(self, steps: list[Step]) -> dict[str, float]:
        """Wait for all steps."""
        rate = self._profile.update_tokens_per_second
        tokens = sum([await self._work(step.micro_batches, rate) for step in steps])
        return {"tokens": float(tokens), "optimizer_steps": float(len(steps))}

    async def logprobs(self, micro_batches: list[MicroBatch]) -> list[list[list[float]]]:
        """Wait, and give a log-prob a token, or none where time is shortened."""
        await self._work(micro_batches, self._profile.reference_tokens_per_second)
        share = 1 if self._clock.real else 0
        return [[[-1.0] * share * len(each.completion) for each in batch.sequences] for batch in micro_batches]

    async def reference_logprobs(self, micro_batches: list[MicroBatch]) -> list[list[list[float]]]:
        """The same of a policy rank, whose weights change places with those that training started from."""
        await self._clock.sleep(self._profile.swap_seconds)
        return await self.logprobs(micro_batches)

    async def leave_card(self) -> None:
        """Move its states to host memory."""
        await self._clock.sleep(self._profile.turn_seconds)

    async def return_to_card(self) -> None:
        """Move its states back."""
        await self._clock.sleep(self._profile.turn_seconds)

    async def send_weights(self, version: int, engines: list[int] | None) -> None:
        """Wait for as long as the transfer takes."""
        await self._clock.sleep(self._profile.sync_seconds)

    async def busy(self) -> tuple[float, float]:
        """Seconds in which it worked, twice."""
        return self._busy, self._busy


class SimulatedHost:
    """One process with many simulated actors."""

    def __init__(self, profile: Profile, clock: Clock) -> None:
        from actors.cluster import GARBAGE_PACE

        gc.set_threshold(*GARBAGE_PACE)
        self._profile = profile
        self._clock = clock
        self._actors: dict[str, Any] = {}
        self._cards: dict[str, TimedCard] = {}

    async def add(self, kind: str, name: str, card: str, *arguments: int) -> None:
        """Make an actor on a card by name, which it shares with others there."""
        kinds: dict[str, Any] = {"engine": SimulatedEngine, "judge": SimulatedJudge, "trainer": SimulatedTrainer}
        place = self._cards.setdefault(card, TimedCard(self._clock))
        self._actors[name] = kinds[kind](name, self._profile, self._clock, place, *arguments)

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
