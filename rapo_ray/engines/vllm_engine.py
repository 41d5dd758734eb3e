"""A vLLM engine with its own step loop: requests in, futures out, paused around weight updates.

The engine core runs in this process. Requests submitted together are all queued before their first step, so that
batches, and with them the last bits of the logits, do not depend on timing.
"""

import itertools
import threading
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from rapo_ray.engines.memory import STEP_TOKENS
from rapo_ray.errors import EngineError
from rapo_ray.models.chat import PLAIN, ChatFormat, Conversation
from rapo_ray.models.chat_template import load_tokenizer, special_ids
from rapo_ray.models.source import ModelSource
from rapo_ray.types import Sampling, Turn

CUT = "\ufffd"  # what bytes that are no whole character decode to
TAIL = 8  # tokens that decide whether a text ends within a character, which has four bytes at most
WORKER_EXTENSION = "rapo_ray.engines.worker_extension.RapoWorkerExtension"


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Settings that a vLLM engine starts with."""

    model: ModelSource
    dtype: str
    max_model_len: int
    max_num_seqs: int
    tensor_parallel: int
    memory_share: float
    enforce_eager: bool
    chunked_prefill: bool  # off on CPU, where vLLM cannot rewind a seeded request's generator after a chunk
    seed: int
    weight_backend: str | None = None  # shm, ipc or nccl; None for an engine whose weights never change
    sleeps: bool = False  # lets `sleep` free memory; GPUs only
    expected_tokens: int | None = None  # of a sequence: bounds how many run at once by what the KV cache holds
    block_tokens: int | None = None  # KV-cache block size; only whole blocks of a shared prefix are reused
    chat: ChatFormat = PLAIN


@dataclass(frozen=True, slots=True)
class Generated:
    """One finished completion."""

    prompt_tokens: tuple[int, ...]
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    truncated: bool
    label_logprobs: tuple[float, ...] = ()


@dataclass(slots=True)
class _Request:
    """A prompt in flight, with the tokens of its labels."""

    tokens: list[int]
    sampling: Sampling
    labels: list[int]
    future: "Future[Generated]" = field(default_factory=Future)

    def end(self, outcome: Generated | EngineError) -> None:
        """Resolve the future, unless it was cancelled."""
        if not self.future.set_running_or_notify_cancel():
            return
        if isinstance(outcome, EngineError):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


class VllmEngine:
    """A vLLM engine and the thread that steps it."""

    def __init__(self, settings: EngineSettings) -> None:
        self._llm = _start(settings)
        self.chat = settings.chat
        self._tokenizer = load_tokenizer(settings.model.on_this_node())  # vLLM's own may be Mistral's: no template
        self._hidden = special_ids(self._tokenizer).difference(settings.chat.mark_ids)
        self._sleeps = settings.sleeps
        self._engine = self._llm.llm_engine
        self.capacity = capacity(self._engine.vllm_config.cache_config, settings)
        self._wakeup = threading.Condition()  # held only briefly, so that `submit` never waits for a step
        self._stepping = threading.Lock()  # held during a step
        self._paused = False
        self._asleep = False
        self._stopped: EngineError | None = None
        self._queued: list[_Request] = []
        self._inflight: dict[str, _Request] = {}  # touched only by the stepping thread
        self._decoding = ThreadPoolExecutor(1, "engine-texts")  # texts of finished completions, while it steps on
        threading.Thread(target=self._run, name="engine-steps", daemon=True).start()

    def submit(self, requests: list[tuple[list[int], Sampling]]) -> list[Future[Generated]]:
        """Queue token prompts together; each future resolves to a completion or an EngineError, or is cancelled.

        Raises EngineError for a label of several tokens, and once the engine has stopped.
        """
        new = [
            _Request(tokens, sampling, [self._label_token(label) for label in sampling.labels])
            for tokens, sampling in requests
        ]
        with self._wakeup:
            if self._stopped is not None:
                raise self._stopped
            self._queued += new
            self._wakeup.notify_all()
        return [request.future for request in new]

    def encode_chat(self, system: str | None, user: str, begin: str = "", earlier: Sequence[Turn] = ()) -> list[int]:
        """Tokenize a user's turn behind earlier ones, with the model's thinking on; its turn continues from `begin`."""
        prompt = self.encode_text(self.render(self.chat.turns(system, user, earlier), self.chat.on))
        return prompt + self.encode_text(begin) if begin else prompt

    def render(self, turns: Conversation, arguments: Mapping[str, Any] = MappingProxyType({})) -> str:
        """The prompt that the model's chat template makes of a conversation, up to the reply; raises EngineError."""
        from jinja2 import TemplateError

        try:
            prompt = self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False, **arguments)
        except (TemplateError, TypeError, ValueError) as error:
            raise EngineError(f"the model's chat template fails: {error}") from None
        return str(prompt)

    def encode_text(self, text: str) -> list[int]:
        """Tokenize a complete input that already contains its special tokens."""
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def pause(self) -> None:
        """Stop stepping once the current step is done; requests in flight stay in the engine."""
        with self._wakeup:
            self._paused = True
        with self._stepping:
            pass

    def resume(self) -> None:
        """Resume stepping."""
        with self._wakeup:
            self._paused = False
            self._wakeup.notify_all()

    def sleep(self, level: int) -> None:
        """Stop stepping and free the GPU; weights move to host memory at level 1 and are dropped at level 2."""
        self.pause()
        if self._sleeps:
            self._llm.sleep(level=level)
            self._asleep = True

    def wake(self) -> None:
        """Take the GPU again and go on; after level 2 a weight update does both."""
        if self._asleep:
            self._llm.wake_up()
            self._asleep = False
        self.resume()

    def init_weight_transfer(self, init_info: dict[str, Any]) -> None:
        """Open the workers' side of a weight transfer, in place of an earlier one, while the engine does not step."""
        with self._stepping:  # a communicator is made by all workers at once, with nothing else on their streams
            self._llm.collective_rpc("close_weight_transfer")
            self._llm.init_weight_transfer_engine({"init_info": init_info})

    def start_weight_update(self) -> None:
        """Begin a weight update, waking a sleeping engine; raises EngineError unless the engine is paused."""
        if not self._paused:
            raise EngineError("weights may change only while the engine is paused")
        if self._asleep:
            self._llm.wake_up(tags=["weights"])  # the KV cache only once the weights are there
        self._llm.start_weight_update()

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Load one bucket of weights."""
        self._llm.update_weights({"update_info": update_info})

    def finish_weight_update(self, version: int) -> None:
        """Finish the update as `version` and drop the caches computed with the old weights."""
        self._llm.finish_weight_update(str(version))
        if self._asleep:
            self._llm.wake_up(tags=["kv_cache"])
            self._asleep = False
        if not self._llm.reset_prefix_cache(reset_running_requests=True):
            raise EngineError("the prefix cache could not be reset: it would serve KV entries of the old weights")

    def weight_version(self) -> str:
        """Version of the loaded weights, as vLLM reports it."""
        return str(self._llm.get_weight_version())

    def weight_checksums(self, dtype: str) -> dict[str, str]:
        """SHA-256 of every weight in `dtype`, read back from the running model, keyed by the trainer's names."""
        merged: dict[str, str] = {}
        for part in self._llm.collective_rpc("weight_checksums", args=(dtype,)):
            merged.update(part)
        return merged

    def _run(self) -> None:
        for number in itertools.count():
            with self._wakeup:
                self._wakeup.wait_for(
                    lambda: not self._paused and (self._queued or self._engine.has_unfinished_requests())
                )
                room = self.capacity - len(self._inflight)  # more would be preempted, and computed a second time
                new, self._queued = self._queued[:room], self._queued[room:]
                self._stepping.acquire()
            try:
                named = {f"{number}-{index}": request for index, request in enumerate(new)}
                self._inflight |= named
                for request_id, request in named.items():
                    self._add(request_id, request)
                self._abort_cancelled()
                finished = [output for output in self._engine.step() if output.finished]
            except Exception as error:
                self._fail_all(error)
                raise
            finally:
                self._stepping.release()
            for output in finished:
                self._decoding.submit(self._end, self._inflight.pop(output.request_id), output)

    def _end(self, request: "_Request", output: Any) -> None:
        try:
            generated = _generated(output, request.labels, self._tokenizer, self._hidden)
            request.end(replace(generated, text=self.chat.canonical(generated.text)))
        except Exception as error:  # of a tokenizer; nobody else would see it
            request.end(EngineError(f"the completion could not be decoded: {type(error).__name__}: {error}"))

    def _add(self, request_id: str, request: "_Request") -> None:
        from vllm import SamplingParams, TokensPrompt
        from vllm.exceptions import VLLMClientError
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        sampling, labels = request.sampling, request.labels
        params = SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=1 if labels else sampling.max_tokens,
            allowed_token_ids=labels or None,
            seed=sampling.seed,
            stop_token_ids=list(self.chat.stops),  # vLLM itself knows the tokenizer's end alone
            logprobs=len(labels) if labels else 0 if sampling.logprobs else None,
            output_kind=RequestOutputKind.FINAL_ONLY,
            detokenize=False,  # token by token it would take longer than the rest of a step's work on the CPU
            structured_outputs=StructuredOutputsParams(choice=list(sampling.choices)) if sampling.choices else None,
        )
        try:
            self._engine.add_request(request_id, TokensPrompt(prompt_token_ids=request.tokens), params)
        except (VLLMClientError, ValueError) as error:  # this request's fault, such as a prompt that is too long
            del self._inflight[request_id]
            request.end(EngineError(f"vLLM refuses the request: {error}"))

    def _abort_cancelled(self) -> None:
        cancelled = [request_id for request_id, request in self._inflight.items() if request.future.cancelled()]
        for request_id in cancelled:
            del self._inflight[request_id]
        if cancelled:
            self._engine.abort_request(cancelled)

    def _fail_all(self, error: Exception) -> None:
        with self._wakeup:
            self._stopped = EngineError(f"the vLLM engine stopped: {type(error).__name__}: {error}")
            unfinished = [*self._inflight.values(), *self._queued]
        for request in unfinished:
            request.end(self._stopped)

    def _label_token(self, label: str) -> int:
        tokens = self.encode_text(label)
        if len(tokens) != 1:
            raise EngineError(
                f"the judge's tokenizer splits the label {label!r}: use judge.*.reply=choice, or the model of the guard"
            )
        return tokens[0]


def capacity(cache: Any, settings: EngineSettings) -> int:
    """Sequences that an engine runs at once: as many of expected length as its KV cache (vLLM's CacheConfig) holds."""
    if settings.expected_tokens is None:
        return settings.max_num_seqs
    tokens: int = cache.num_gpu_blocks * cache.block_size
    return max(1, min(settings.max_num_seqs, tokens // settings.expected_tokens))


def _start(settings: EngineSettings) -> Any:
    from vllm import LLM
    from vllm.config import WeightTransferConfig

    transfer = None
    if settings.weight_backend is not None:
        from rapo_ray.engines import shared_memory

        shared_memory.register()
        transfer = WeightTransferConfig(backend=settings.weight_backend)
    return LLM(
        model=str(settings.model.on_this_node()),
        dtype=settings.dtype,  # type: ignore[arg-type]
        max_model_len=settings.max_model_len,
        max_num_seqs=settings.max_num_seqs,
        tensor_parallel_size=settings.tensor_parallel,
        gpu_memory_utilization=settings.memory_share,
        enforce_eager=settings.enforce_eager,
        enable_chunked_prefill=settings.chunked_prefill,
        max_num_batched_tokens=max(STEP_TOKENS, 0 if settings.chunked_prefill else settings.max_model_len),
        enable_prefix_caching=True,
        block_size=settings.block_tokens,
        seed=settings.seed,
        logprobs_mode="processed_logprobs",
        generation_config="vllm",
        trust_remote_code=False,
        tokenizer_mode="hf",  # the one that the chat format was read from; Mistral's own has no template
        config_format="hf",
        disable_log_stats=True,
        weight_transfer_config=transfer,
        enable_sleep_mode=settings.sleeps,
        worker_extension_cls=WORKER_EXTENSION,
        distributed_executor_backend="uni" if settings.tensor_parallel == 1 else "mp",
    )


def _generated(output: Any, labels: list[int], tokenizer: Any, hidden: AbstractSet[int]) -> Generated:
    completion = output.outputs[0]
    logprobs: tuple[float, ...] = ()
    if completion.logprobs is not None:
        logprobs = tuple(
            entry[token].logprob for entry, token in zip(completion.logprobs, completion.token_ids, strict=True)
        )
    shown = completion.token_ids[:-1] if completion.finish_reason == "stop" else completion.token_ids
    return Generated(
        tuple(output.prompt_token_ids),
        tuple(completion.token_ids),
        logprobs,
        text_of(list(output.prompt_token_ids), list(shown), tokenizer, hidden),
        completion.finish_reason == "length",
        tuple(completion.logprobs[0][token].logprob for token in labels),
    )


def text_of(prompt: list[int], tokens: list[int], tokenizer: Any, hidden: AbstractSet[int]) -> str:
    """The text of `tokens` behind `prompt`, as vLLM's own detokenizer gives it but for what is hidden: up to the last
    token that ends a character.
    """

    def decode(ids: list[int]) -> str:
        shown = [each for each in ids if each not in hidden]
        text: str = tokenizer.decode(shown, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    before = decode(prompt)  # some tokenizers drop the space that a text begins with
    while tokens and (text := decode(prompt + tokens)).endswith(CUT):
        tokens = tokens[:-1]
        while tokens and decode(tokens[-TAIL:]).endswith(CUT):
            tokens = tokens[:-1]
    return text[len(before) :] if tokens else ""
