"""One rank of the policy: a round's update, its weights, and its state on disk (no Ray)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from rapo_ray.config.learning import PolicyConfig
from rapo_ray.errors import CheckpointError, NonFiniteStep
from rapo_ray.trainer.batch import MicroBatch, Step
from rapo_ray.trainer.deepspeed_setup import backward, gathered_on, load_policy, make_engine, whole_parameters
from rapo_ray.trainer.files import hash_own_files, random_state_file, write_random_states
from rapo_ray.trainer.lora import add_lora, named_weights
from rapo_ray.trainer.model import (
    ActionLogProbs,
    Collated,
    collate,
    load_language_model,
    save_language_model,
    scatter_to_mask,
)
from rapo_ray.trainer.objective import Objective, TokenInputs
from rapo_ray.trainer.pair_objective import PairObjective
from rapo_ray.trainer.turns import CardStates, StartWeights

DEEPSPEED_TAG = "policy"


class PolicyRank:
    """A DeepSpeed engine over the language model; every method is a collective over the ranks."""

    def __init__(
        self,
        config: PolicyConfig,
        model: Path,
        rank: int,
        temperature: float,
        total_steps: int,
        seed: int,
        shares_card: bool = False,
    ) -> None:
        torch.manual_seed(seed)
        self._config = config
        self._rank = rank
        language_model = load_policy(model, config)
        if config.lora_rank:
            add_lora(language_model, config.lora_rank, config.lora_alpha)
        self._engine = make_engine(
            ActionLogProbs(language_model, temperature),
            config,
            config.learning_rate,
            config.ranks,
            lambda optimizer: _schedule(config, optimizer, total_steps),
        )
        objective = PairObjective if config.learns_from_pairs else Objective
        self._objective = objective(config, config.ranks)
        self._device: torch.device = self._engine.device
        if shares_card:
            self._states = CardStates(self._engine, config.zero_stage, config.offload)
        if shares_card and config.needs_reference:
            self._start_weights = StartWeights(self._engine, config.zero_stage)
        self._finite_loss = True  # of the current optimizer step

    def update(self, steps: list[Step]) -> dict[str, float]:
        """Take this rank's share of a round's optimizer steps; returns sums over its action tokens.

        Raises NonFiniteStep on all ranks together: if any rank's loss is not finite, before the optimizer step that
        would have used it, and if any rank's weights are not finite at the end.
        """
        sums: dict[str, float] = {"optimizer_steps": float(len(steps))}
        old_logprobs = self._old_logprobs(steps)
        for number, step in enumerate(steps):
            self._finite_loss = True
            for index, micro_batch in enumerate(step.micro_batches):
                terms = self._forward_backward(micro_batch, step, old_logprobs.get((number, index)), number == 0)
                for name, value in terms.items():
                    reduce = max if name.endswith("_max") else float.__add__
                    sums[name] = reduce(sums.get(name, 0.0), value)
            self._agree(self._finite_loss, "the loss is not finite")
            self._engine.step()
            if (norm := self._engine.get_global_grad_norm()) is not None:  # DeepSpeed keeps none without ZeRO
                sums["grad_norm"] = sums.get("grad_norm", 0.0) + float(norm)
        sums["learning_rate"] = float(self._engine.get_lr()[0])
        self._agree(self._finite_weights(), "the step left weights that are not finite")
        return sums

    def _agree(self, fine: bool, problem: str) -> None:
        """Raise NonFiniteStep on every rank if any rank has a problem: one that went on alone would block forever."""
        flag = torch.tensor(float(fine), device=self._device)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MIN)
        if not flag.item():
            raise NonFiniteStep(f"policy rank {self._rank}: {problem if not fine else 'another rank stopped'}")

    def _finite_weights(self) -> bool:
        shards = (getattr(parameter, "ds_tensor", parameter) for parameter in self._language_model().parameters())
        return all(bool(torch.isfinite(shard.detach()).all()) for shard in shards)

    def _old_logprobs(self, steps: list[Step]) -> dict[tuple[int, int], torch.Tensor]:
        """Log-probs before the first step; a single step needs none, since its own are the old ones."""
        if len(steps) < 2 or self._config.old_logprobs == "rollout" or self._config.learns_from_pairs:
            return {}
        with torch.no_grad():
            return {
                (number, index): self._engine(collate(micro_batch).to(self._device))[0]
                for number, step in enumerate(steps)
                for index, micro_batch in enumerate(step.micro_batches)
            }

    def _forward_backward(
        self, micro_batch: MicroBatch, step: Step, old_logprobs: torch.Tensor | None, first_step: bool
    ) -> dict[str, float]:
        batch = collate(micro_batch).to(self._device)
        logprobs, entropies = self._engine(batch)
        rollout = scatter_to_mask([row.rollout_logprobs for row in micro_batch.sequences], batch.action_mask)
        if self._config.old_logprobs == "rollout":
            old = rollout
        else:
            old = logprobs.detach() if old_logprobs is None else old_logprobs
        inputs = self._inputs(micro_batch, batch, logprobs, old, rollout)
        terms = self._objective(inputs, step.total_sequences, step.total_tokens)
        self._finite_loss = self._finite_loss and bool(torch.isfinite(terms.loss))
        backward(self._engine, terms.loss * 0.0 if micro_batch.filler else terms.loss)
        if micro_batch.filler:
            return {}
        sums = {**terms.sums, "loss": float(terms.loss.detach()) / self._config.ranks}
        sums |= {"entropy": float(entropies.sum()), "entropy_tokens": float(len(entropies))}
        if first_step:  # later the policy has moved, so the difference no longer measures trainer against engine
            gap = (logprobs.detach() - rollout).abs() * inputs.mask
            sums.update(gap=float(gap.sum()), gap_max=float(gap.max()), gap_tokens=float(inputs.mask.sum()))
        return sums

    def _inputs(
        self,
        micro_batch: MicroBatch,
        batch: Collated,
        logprobs: torch.Tensor,
        old: torch.Tensor,
        rollout: torch.Tensor,
    ) -> TokenInputs:
        rows = micro_batch.sequences
        reference = None
        if self._config.needs_reference:
            reference = scatter_to_mask([row.reference_logprobs or () for row in rows], batch.action_mask)
        advantages = torch.tensor([[row.advantage] for row in rows], device=self._device)
        return TokenInputs(logprobs, old, rollout, reference, advantages, batch.action_mask.float())

    def reference_logprobs(self, micro_batches: list[MicroBatch]) -> list[list[list[float]]]:
        """Log-probs [T] of the sequences of each micro-batch, under the weights that training started from."""
        with self._start_weights.in_place():
            return _logprobs(self._engine, micro_batches, self._device)

    def leave_card(self) -> None:
        """Move all states to host memory, for an engine on the same card; weights can still be read and saved."""
        self._states.leave()

    def return_to_card(self) -> None:
        """Move all states back."""
        self._states.come_back()

    def release_memory(self) -> None:
        """Give the GPU memory that torch caches back, for an engine on the same card."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def weights(self, dtype: str) -> Iterator[tuple[str, torch.Tensor]]:
        """Iterate over the full parameters of the language model in `dtype`, in the same order on all ranks."""
        whole = (self._config.zero_stage, getattr(torch, dtype), self._device)
        return whole_parameters(self._language_model(), *whole)

    def weights_metadata(self) -> list[tuple[str, tuple[int, ...]]]:
        """Name and full shape of every parameter, in the order of `weights`."""
        return [
            (name, tuple(getattr(parameter, "ds_shape", parameter.shape)))
            for name, parameter, _ in named_weights(self._language_model())
        ]

    @property
    def tied(self) -> bool:
        """True if the LM head shares the embedding's weight."""
        return bool(self._language_model().config.tie_word_embeddings)

    def _language_model(self) -> Any:
        return self._engine.module.language_model

    def export(self, folder: Path, dtype: str) -> None:
        """Write the language model as safetensors that transformers and vLLM load (rank 0 writes)."""
        state = gathered_on(self._rank == 0, self.weights(dtype))
        if self._rank == 0:
            save_language_model(self._language_model(), state, folder, dtype)

    def save(self, folder: Path) -> dict[str, str]:
        """Save weights, optimizer, schedule and this rank's random state; returns the SHA-256 of the files it wrote."""
        self._engine.save_checkpoint(str(folder), tag=DEEPSPEED_TAG, save_latest=False)
        states = {"torch": torch.get_rng_state()}
        if self._device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state()
        write_random_states(folder, self._rank, states)
        return hash_own_files(folder, self._rank)

    def load(self, folder: Path) -> None:
        """Restore the state that `save` wrote; raises CheckpointError if DeepSpeed finds nothing to load."""
        path, _ = self._engine.load_checkpoint(str(folder), tag=DEEPSPEED_TAG)
        if path is None:
            raise CheckpointError(f"{folder}: DeepSpeed found no checkpoint of {self._config.ranks} rank(s) here")
        states = load_file(str(folder / random_state_file(self._rank)))
        torch.set_rng_state(states["torch"])
        if "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"])


def _schedule(config: PolicyConfig, optimizer: Any, total_steps: int) -> Any:
    from transformers import get_scheduler

    return get_scheduler(config.schedule, optimizer, config.warmup_steps, max(1, total_steps))


class ReferenceModel:
    """The frozen reference model of the KL term, which only computes log-probs."""

    def __init__(self, model: Path, dtype: str, temperature: float, device: str) -> None:
        self._device = torch.device("cuda" if device == "gpu" else "cpu")
        language_model = load_language_model(model, dtype).requires_grad_(False)
        self._module = ActionLogProbs(language_model, temperature).to(self._device).eval()

    def logprobs(self, micro_batches: list[MicroBatch]) -> list[list[list[float]]]:
        """Log-probs [T] of the sequences of each micro-batch."""
        return _logprobs(self._module, micro_batches, self._device)


def _logprobs(module: Any, micro_batches: list[MicroBatch], device: torch.device) -> list[list[list[float]]]:
    out: list[list[list[float]]] = []
    with torch.no_grad():
        for micro_batch in micro_batches:
            batch = collate(micro_batch).to(device)
            values, _ = module(batch)
            out.append([row[mask].tolist() for row, mask in zip(values, batch.action_mask, strict=True)])
    return out
