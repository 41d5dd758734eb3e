"""A rollout engine as a Ray actor."""

import os
import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray

from actors.ray_calls import ProcessAddress, process_address
from rapo_ray.engines.vllm_engine import EngineSettings, Generated, VllmEngine
from rapo_ray.errors import DataError, EngineError
from rapo_ray.models.chat import ChatFormat
from rapo_ray.orchestrator.dispatch import Batches, SampleRequest
from rapo_ray.types import Draft, GeneratedText, Packed, Prompt, Rollout, Sampling

HEARTBEAT = 5.0  # seconds after which an engine answers that nothing has finished


class RolloutActor:
    """Samples completions with one vLLM engine, and takes new weights."""

    def __init__(self, name: str, settings: EngineSettings, system_prompt: str | None, max_prompt_tokens: int) -> None:
        self._name = name
        self._system_prompt = system_prompt
        self._max_prompt_tokens = max_prompt_tokens
        self._max_model_len = settings.max_model_len
        self._version = -1  # of the weights: the model it was started with
        self._call = ""
        self._lock = threading.Lock()
        self._inflight: dict[Future[Generated], SampleRequest] = {}
        self._finished: queue.Queue[tuple[str, Future[Generated]]] = queue.Queue()
        self._engine = VllmEngine(settings)

    def ready(self) -> str:
        """Answers once the engine runs."""
        return self._name

    def prompt_lengths(self, prompts: list[Prompt]) -> list[int]:
        """Tokens of each rendered prompt."""
        return [len(self._tokens_of(prompt)) for prompt in prompts]

    def capacity(self) -> int:
        """Sequences that it runs at once."""
        return self._engine.capacity

    def process_address(self) -> ProcessAddress:
        """Its node and process."""
        return process_address()

    def submit(self, call: str, version: int, batches: Batches) -> None:
        """Start sampling; the rest of another call is cancelled. Raises DataError for a prompt that is too long,
        and EngineError where the engine holds other weights, as one does that has died between two rounds.
        """
        if version != self._version:
            raise EngineError(f"{self._name} holds weights version {self._version}, not {version}")
        with self._lock:
            if call != self._call:
                for future in self._inflight:
                    future.cancel()
                self._inflight.clear()
                self._call = call
            for requests in batches:
                prompts = {request.group: request.prompt for request in requests}
                tokens = {group: self._encode(prompt) for group, prompt in prompts.items()}
                samplings = [(tokens[each.group], replace(each.sampling, seed=each.seed)) for each in requests]
                futures = self._engine.submit(samplings)
                self._inflight.update(zip(futures, requests, strict=True))
                for future in futures:
                    future.add_done_callback(lambda future: self._finished.put((call, future)))

    def collect(self, call: str, version: int, batches: Batches, window: float) -> list[Rollout]:
        """Start sampling `batches`, then return the rollouts finished since the last call: waits for the first one,
        then `window` seconds for others; an empty list is a heartbeat. Raises as `submit` does, and EngineError where
        the engine stopped.
        """
        if batches:
            self.submit(call, version, batches)
        rollouts = Packed[Rollout]()
        ends = time.monotonic() + HEARTBEAT
        while not rollouts or self._inflight:
            try:
                owner, future = self._finished.get(timeout=max(0.0, ends - time.monotonic()))
            except queue.Empty:
                break
            if owner != call or future.cancelled():
                continue
            if not rollouts:
                ends = time.monotonic() + window
            with self._lock:
                request = self._inflight.pop(future)
            rollouts.append(self._rollout(request, future.result()))
        return rollouts

    def write(self, drafts: list[Draft], max_tokens: int) -> list[GeneratedText]:
        """Whole completions of drafts, written greedily, in order; one without room to write comes back truncated."""
        begins = [_begin(draft, self._engine.chat) for draft in drafts]
        prompts = [
            self._engine.encode_chat(draft.system, draft.user, begin, draft.turns)
            for draft, begin in zip(drafts, begins, strict=True)
        ]
        rooms = [min(max_tokens, self._max_model_len - len(tokens)) for tokens in prompts]
        futures = self._engine.submit(
            [
                (tokens, Sampling(0.0, 1.0, room, None, logprobs=False))
                for tokens, room in zip(prompts, rooms, strict=True)
                if room > 0
            ]
        )
        results = (future.result() for future in futures)
        return [
            _continued(begin, next(results) if room > 0 else None) for begin, room in zip(begins, rooms, strict=True)
        ]

    def _rollout(self, request: SampleRequest, generated: Generated) -> Rollout:
        return Rollout(
            group=request.group,
            prompt_id=request.prompt.id,
            sample=request.sample,
            prompt_tokens=generated.prompt_tokens,
            tokens=generated.tokens,
            logprobs=generated.logprobs,
            text=generated.text,
            truncated=generated.truncated,
            policy_version=self._version,
            engine=self._name,
        )

    def _encode(self, prompt: Prompt) -> list[int]:
        tokens = self._tokens_of(prompt)
        if len(tokens) > self._max_prompt_tokens:
            raise DataError(
                f"prompt {prompt.id} has {len(tokens)} tokens, more than rollout.max_prompt_tokens="
                f"{self._max_prompt_tokens}: raise the limit or drop the prompt"
            )
        return tokens

    def _tokens_of(self, prompt: Prompt) -> list[int]:
        return self._engine.encode_chat(self._system_prompt, prompt.text, earlier=prompt.turns)

    def sleep(self) -> None:
        """Leave the GPU to the policy until the next weights arrive."""
        self._engine.sleep(level=2)

    def devices(self) -> list[str]:
        """Its GPUs, as CUDA numbers them on its node."""
        return [device for device in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device]

    def misses(self, path: Path) -> str | None:
        """Its name and node where a file is not on its host; None where it is."""
        return None if path.exists() else f"{self._name} on node {ray.util.get_node_ip_address()}"

    def init_weight_transfer(self, init_info: dict[str, Any]) -> None:
        """Join a new group of the weight transfer, and leave the last one."""
        self._engine.init_weight_transfer(init_info)

    def start_weight_update(self) -> None:
        """Pause stepping, keep what is in flight, and begin a weight update."""
        self._engine.pause()
        self._engine.start_weight_update()

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Take one bucket."""
        self._engine.update_weights(update_info)

    def finish_weight_update(self, version: int) -> None:
        """Finish the update and resume; rollouts carry `version` from now on. Raises EngineError where vLLM holds
        another one, and stays paused.
        """
        self._engine.finish_weight_update(version)
        if (held := self._engine.weight_version()) != str(version):
            raise EngineError(f"after the sync of weights version {version}, {self._name} has {held}")
        self._version = version
        self._engine.resume()

    def weight_checksums(self, dtype: str) -> dict[str, str]:
        """SHA-256 of every weight, read back from the engine."""
        return self._engine.weight_checksums(dtype)


def _begin(draft: Draft, chat: ChatFormat) -> str:
    return "" if draft.thinking is None else chat.begin(draft.thinking, draft.closed)


def _continued(begin: str, generated: Generated | None) -> GeneratedText:
    """The whole completion; without a continuation it is cut."""
    if generated is None:
        return GeneratedText(begin, truncated=True)
    return GeneratedText(begin + generated.text, generated.truncated)
