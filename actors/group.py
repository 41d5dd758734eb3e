"""Typed fan-out: one object per role that speaks to all its actors, with a limit on every wait."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from actors.rollout import SampleRequest
from rapo_ray.config import LimitsConfig, PolicyConfig, RolloutConfig
from rapo_ray.engines.vllm_engine import Sampling
from rapo_ray.errors import CheckpointError, EngineError, RapoError
from rapo_ray.judging.parts import PARTS, Part, join_parts
from rapo_ray.learn.batch import MicroBatch, pack_rows, plan_steps, split_by_tokens
from rapo_ray.learn.files import random_state_file
from rapo_ray.seeds import chosen, derive_seed
from rapo_ray.types import Completion, Prompt, Rollout, Sequence, UpdateResult, Verdict
from rapo_ray.warmup.synthesis import Draft, Written

Handle = Any


def get_all(refs: list[Any], limit: float, what: str, setting: str) -> list[Any]:
    """Results of all calls; raises the actor's own RapoError, or EngineError for a death or a missed limit."""
    try:
        return list(ray.get(refs, timeout=limit))
    except GetTimeoutError:
        raise EngineError(f"{what} took longer than {setting}={limit:g} s: raise it, or see the actor's log") from None
    except RayActorError as error:
        raise EngineError(f"{what} failed, an actor died: {_first_line(error)}") from None
    except RayTaskError as error:
        raise unwrap(error, what) from error


def unwrap(error: RayTaskError, what: str) -> Exception:
    """The error an actor meant: its own where it is ours, or one that names what failed."""
    cause = error.cause
    if isinstance(cause, RapoError | OSError):
        return cause
    return EngineError(f"{what} failed: {type(cause).__name__}: {_first_line(cause)}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class RolloutGroup:
    """All engines; prompts are dealt over them in order, so that a run repeats exactly."""

    def __init__(
        self, engines: list[Handle], config: RolloutConfig, limits: LimitsConfig, seed: int, write_tokens: int
    ) -> None:
        self.engines = engines
        self._write_tokens = write_tokens
        self._config = config
        self._limits = limits
        self._seed = seed

    def check(self, prompts: list[Prompt]) -> None:
        """Raises DataError for a prompt that no engine would take."""
        get_all([self.engines[0].check.remote(prompts)], self._limits.start, "checking prompts", "limits.start")

    def lengths(self, prompts: list[Prompt]) -> list[int]:
        """The tokens of each prompt as it is asked."""
        found: list[int] = get_all(
            [self.engines[0].lengths.remote(prompts)], self._limits.start, "measuring prompts", "limits.start"
        )[0]
        return found

    def sampling(self, temperature: float, max_new_tokens: int) -> "RolloutGroup":
        """The same engines, sampled otherwise; temperature 0 is greedy."""
        config = self._config.model_copy(update={"temperature": temperature, "max_new_tokens": max_new_tokens})
        return RolloutGroup(self.engines, config, self._limits, self._seed, max_new_tokens)

    def generate(self, prompts_P: list[Prompt], samples: range, round_number: int) -> Iterator[Rollout]:
        """Stream rollouts as they end; a measurement is round 0, sampled like any other with seeds of its own."""
        requests = [
            SampleRequest(group, prompt, sample, self._sampling(round_number, group, prompt, sample))
            for group, prompt in enumerate(prompts_P)
            for sample in samples
        ]
        count = len(self.engines)
        streams = [
            engine.generate.options(num_returns="streaming").remote(
                [request for request in requests if request.group % count == index]
            )
            for index, engine in enumerate(self.engines)
        ]
        yield from self._merge(streams)

    def write(self, drafts: list[Draft]) -> list[Written]:
        """Continue drafts greedily, dealt over the engines; results in order."""
        count = len(self.engines)
        refs = [
            engine.write.remote(drafts[index::count], self._write_tokens) for index, engine in enumerate(self.engines)
        ]
        out: list[Any] = [None] * len(drafts)
        for index, written in enumerate(get_all(refs, self._limits.warmup, "synthesis", "limits.warmup")):
            out[index::count] = written
        return out

    def _sampling(self, round_number: int, group: int, prompt: Prompt, sample: int) -> Sampling:
        seed = derive_seed(self._seed, round_number, group, prompt.id, sample)
        return Sampling(self._config.temperature, self._config.top_p, self._config.max_new_tokens, seed, logprobs=True)

    def _merge(self, streams: list[Any]) -> Iterator[Rollout]:
        while streams:
            ready, _ = ray.wait(streams, num_returns=1, timeout=self._limits.generate)
            if not ready:
                limit = self._limits.generate
                raise EngineError(f"no completion in limits.generate={limit:g} s from {len(streams)} engine(s)")
            stream: Any = ready[0]
            try:
                ref = next(stream)
            except StopIteration:
                streams.remove(stream)
                continue
            yield get_all([ref], self._limits.generate, "a rollout engine", "limits.generate")[0]

    def weight_versions(self) -> list[str]:
        """What each engine's vLLM reports."""
        return self._on_all("weight_version")

    def pause(self) -> None:
        """Stop stepping on all engines."""
        self._on_all("pause")

    def resume(self) -> None:
        """Step again on all engines."""
        self._on_all("resume")

    def weight_checksums(self, dtype: str) -> list[dict[str, str]]:
        """Per engine: SHA-256 of every weight, read back."""
        return self._on_all("weight_checksums", dtype)

    def _on_all(self, method: str, *arguments: object) -> list[Any]:
        refs = [getattr(engine, method).remote(*arguments) for engine in self.engines]
        return get_all(refs, self._limits.sync, f"{method} of the rollout engines", "limits.sync")


class JudgeGroup:
    """All judges of a run: `risk` gives R and `general` gives G, or without the second the first gives both."""

    def __init__(
        self,
        risk: list[Handle],
        general: list[Handle],
        limits: LimitsConfig,
        second: list[Handle] | None = None,
        second_share: float = 0.0,
    ) -> None:
        self._askings: list[tuple[tuple[Part, ...], list[Handle]]] = (
            [(("risk",), risk), (("general",), general)] if general else [(PARTS, risk)]
        )
        self._limits = limits
        self._second = second or []
        self._second_share = second_share

    def score(
        self, prompts_P: list[Prompt], rollouts: Iterable[Rollout]
    ) -> Iterator[tuple[Rollout, Completion, Verdict]]:
        """Judge each rollout the moment it comes; verdicts come back as they are ready."""
        pending: dict[Any, tuple[Rollout, int]] = {}
        partial: dict[tuple[int, int], dict[int, tuple[Completion, Verdict]]] = {}
        for rollout in rollouts:
            for number, (parts, judges) in enumerate(self._asked(rollout)):
                judge = judges[rollout.group % len(judges)]  # a prompt's samples share its level, so they share a judge
                pending[judge.judge.remote(prompts_P[rollout.group], rollout, parts)] = (rollout, number)
            yield from self._collect(pending, partial, 0.0)
        while pending:
            before = len(pending)
            yield from self._collect(pending, partial, self._limits.judge)
            if len(pending) == before:
                limit = self._limits.judge
                raise EngineError(f"{before} verdicts did not come in limits.judge={limit:g} s: see the judges' logs")

    def _asked(self, rollout: Rollout) -> list[tuple[tuple[Part, ...], list[Handle]]]:
        """Who judges this rollout: all of the first judges, and for its share of the samples the second one."""
        if not self._second or not chosen(self._second_share, "second", rollout.prompt_id, rollout.text):
            return self._askings
        return [*self._askings, (PARTS, self._second)]

    def _collect(
        self,
        pending: dict[Any, tuple[Rollout, int]],
        partial: dict[tuple[int, int], dict[int, tuple[Completion, Verdict]]],
        wait: float,
    ) -> Iterator[tuple[Rollout, Completion, Verdict]]:
        ready, _ = ray.wait(list(pending), num_returns=1 if wait else len(pending), timeout=wait)
        firsts = len(self._askings)
        for ref in ready:
            rollout, number = pending.pop(ref)
            answers = partial.setdefault((rollout.group, rollout.sample), {})
            answers[number] = _verdict(ref)
            if len(answers) == len(self._asked(rollout)):
                verdict = join_parts([answers[index][1] for index in range(firsts)])
                second = answers[firsts][1] if firsts in answers else None
                yield rollout, answers[0][0], replace(verdict, second=second)


def _verdict(ref: Any) -> tuple[Completion, Verdict]:
    try:
        completion, verdict = ray.get(ref)
    except RayActorError as error:
        raise EngineError(f"a judge died: {_first_line(error)}") from None
    except RayTaskError as error:
        raise unwrap(error, "a judge") from error
    return completion, verdict


class ReferenceGroup:
    """All reference actors."""

    def __init__(self, actors: list[Handle], limits: LimitsConfig, max_tokens: int, row_tokens: int) -> None:
        self._actors = actors
        self._limits = limits
        self._max_tokens = max_tokens
        self._row_tokens = row_tokens

    def attach_logprobs(self, sequences: list[Sequence]) -> list[Sequence]:
        """The sequences with the reference's log-probs, in the same order."""
        numbers = {id(sequence): number for number, sequence in enumerate(sequences)}
        rows = pack_rows([(sequence,) for sequence in sequences], self._row_tokens)
        micro_batches = [
            MicroBatch(tuple(tuple(unit[0] for unit in rows[index]) for index in indices))
            for indices in split_by_tokens(rows, self._max_tokens)
        ]
        count = len(self._actors)
        shares = [micro_batches[index::count] for index in range(count)]
        refs = [actor.logprobs.remote(share) for actor, share in zip(self._actors, shares, strict=True)]
        results = get_all(refs, self._limits.update, "the reference's log-probs", "limits.update")
        out = list(sequences)
        for share, values in zip(shares, results, strict=True):
            asked = (sequence for micro_batch in share for sequence in micro_batch.sequences)
            for sequence, logprobs in zip(asked, values, strict=True):
                out[numbers[id(sequence)]] = replace(sequence, reference_logprobs=tuple(logprobs))
        return out


class PolicyGroup:
    """All ranks of the policy."""

    def __init__(self, actors: list[Handle], config: PolicyConfig, limits: LimitsConfig) -> None:
        self._actors = actors
        self._config = config
        self._limits = limits

    def update(self, sequences: list[Sequence]) -> UpdateResult:
        """Take a round's optimizer steps on all ranks."""
        config = self._config
        unit = 2 if config.learns_from_pairs else 1
        limits = (config.micro_batch_tokens, config.row_tokens)
        shares = plan_steps(sequences, config.steps_per_round, config.ranks, *limits, unit)
        refs = [actor.update.remote(share) for actor, share in zip(self._actors, shares, strict=True)]
        return UpdateResult(_sum_ranks(get_all(refs, self._limits.update, "the policy update", "limits.update")))

    def send_weights(self, version: int) -> None:
        """Send the weights to the engines."""
        self._on_all("send_weights", version, limit=self._limits.sync, setting="limits.sync")

    def save(self, folder: Path) -> None:
        """Write a checkpoint; raises CheckpointError where a rank's files are not on the driver's file system."""
        self._on_all("save", folder.resolve())
        for rank in range(self._config.ranks):
            if not (folder / random_state_file(rank)).exists():
                raise CheckpointError(
                    f"policy-{rank} wrote elsewhere: {folder} must be on storage that all nodes share"
                )

    def load(self, folder: Path) -> None:
        """Restore a checkpoint."""
        self._on_all("load", folder.resolve())

    def export(self, folder: Path, dtype: str) -> None:
        """Write the model for transformers and vLLM."""
        self._on_all("export", folder.resolve(), dtype)

    def weight_checksums(self, dtype: str) -> dict[str, str]:
        """SHA-256 of every weight in `dtype`."""
        checksums: dict[str, str] = self._on_all("weight_checksums", dtype)[0]
        return checksums

    def _on_all(
        self, method: str, *arguments: object, limit: float | None = None, setting: str = "limits.update"
    ) -> list[Any]:
        refs = [getattr(actor, method).remote(*arguments) for actor in self._actors]
        return get_all(refs, limit or self._limits.update, f"{method} of the policy", setting)


RANK_ALIKE = ("learning_rate", "grad_norm", "optimizer_steps")  # the same figure on every rank


def _sum_ranks(per_rank: list[dict[str, float]]) -> dict[str, float]:
    out: dict[str, float] = {}
    for name in sorted({name for sums in per_rank for name in sums}):
        values = [sums[name] for sums in per_rank if name in sums]
        if name in RANK_ALIKE:
            out[name] = values[0]
        else:
            out[name] = max(values) if name.endswith("_max") else sum(values)
    return out
