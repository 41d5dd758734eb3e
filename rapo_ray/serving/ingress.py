"""The endpoint's routes over Ray Serve LLM's ingress: checked requests, shaped answers stamped with a version."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import Request
from ray import serve
from starlette.responses import JSONResponse, Response, StreamingResponse

from rapo_ray.config.serving import ServeConfig
from rapo_ray.models.chat_template import load_tokenizer
from rapo_ray.serving import answers
from rapo_ray.serving.answers import Seen, Shape
from rapo_ray.serving.metrics import Metrics
from rapo_ray.serving.problems import Problem
from rapo_ray.serving.prompts import PromptReader
from rapo_ray.serving.requests import ChatRequest, CompletionRequest, Sampling
from rapo_ray.serving.versions import Serving

HEALTHY_SECONDS = 5.0  # after a token, without a new probe
PROBE_SECONDS = 30.0
FAILOVER_SECONDS = 5.0  # for a dead engine's replica to leave the router
RETRY_SECONDS = 0.25
DRAIN_POLL_SECONDS = 0.1
ENDING_RETRY = 30.0  # seconds in which another endpoint may be at this address

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Current:
    """The version that answers new requests, with what its answers need."""

    serving: Serving
    card: dict[str, Any]  # the model as it is listed
    engines: Any  # Serve's handle, whose calls stream
    prompts: PromptReader


class InFlight:
    """The answers in flight, counted from the request to the last byte, and whether further ones begin."""

    def __init__(self) -> None:
        self.count = 0
        self.closed = False

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Count an answer for as long as the block runs."""
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1


class _Stream(StreamingResponse):
    """A stream that is in flight until it has been sent."""

    def __init__(self, events: AsyncIterator[str], headers: dict[str, str], in_flight: InFlight) -> None:
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._in_flight = in_flight

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        with self._in_flight.one():
            await super().__call__(scope, receive, send)


class RapoIngress:
    """Ingress for one version of the model; `reconfigure` switches to another between two requests."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = ServeConfig.model_validate(config)
        self._metrics = Metrics()
        self._answering: Current | None = None
        self._last_token = 0.0  # monotonic seconds
        self._probe: asyncio.Task[None] | None = None
        self._in_flight = InFlight()

    async def refuse(self) -> int:
        """Refuse new requests from now on; the number of answers in flight, which go on."""
        self._in_flight.closed = True
        return self._in_flight.count

    async def drained(self) -> None:
        """Return when no answer is in flight."""
        while self._in_flight.count:
            await asyncio.sleep(DRAIN_POLL_SECONDS)

    async def reconfigure(self, target: dict[str, Any]) -> None:
        """Answer new requests with this version; requests in flight finish with theirs."""
        serving = Serving.from_json(target)
        handle = serve.get_app_handle(serving.app)
        tokenizer = await asyncio.to_thread(load_tokenizer, Path(serving.folder))
        prompts = PromptReader(tokenizer, serving.chat, serving.system_prompt)
        self._answering = Current(serving, serving.card(), handle.options(stream=True), prompts)
        self._last_token = 0.0
        self._metrics.version(serving)

    async def models(self) -> JSONResponse:
        """GET /v1/models, a list of one."""
        current = self._current()
        listed = {"object": "list", "data": [current.card]}
        return JSONResponse(listed, headers=current.serving.headers())

    async def model_data(self, model: str) -> JSONResponse:
        """GET /v1/models/{model}."""
        current = self._current()
        self._check_name(model, current.serving)
        return JSONResponse(current.card, headers=current.serving.headers())

    async def chat(self, body: ChatRequest, request: Request) -> Response:
        """POST /v1/chat/completions."""
        with self._in_flight.one():
            return await self._chat(body, request)

    async def _chat(self, body: ChatRequest, request: Request) -> Response:
        current = self._current()
        serving = current.serving
        self._check(body, serving)
        if body.reasoning is not None and self._config.withhold_reasoning:
            raise Problem(403, "this endpoint returns no reasoning: leave `reasoning` out")
        if body.answer_schema is not None and not self._config.structured_output:
            raise Problem(400, 'response_format: only {"type": "text"} is taken here')
        from ray.llm._internal.serve.core.configs.openai_api_models import ChatCompletionRequest

        withheld = self._config.withhold_reasoning
        reasoning = "split" if withheld else body.reasoning or self._config.reasoning
        split = reasoning == "split"
        prompt = await asyncio.to_thread(current.prompts.read, body.turns(serving.system_prompt), split, withheld)
        fields = body.for_engine(serving.name, prompt.turns, serving.chat, split, prompt.beginning)
        shape = Shape(
            reasoning, withheld, serving.id, body.wants_usage or not body.stream,
            self._config.reasoning_fields, serving.chat, prompt.beginning, body.stops if split else (),
            current.prompts.strays, current.prompts.mark_tokens, body.n,
        )  # fmt: skip
        engine_request = _engine_request(ChatCompletionRequest, fields, request)
        return await self._answer(current, body, engine_request, "chat", shape)

    async def completions(self, body: CompletionRequest, request: Request) -> Response:
        """POST /v1/completions."""
        with self._in_flight.one():
            return await self._completions(body, request)

    async def _completions(self, body: CompletionRequest, request: Request) -> Response:
        current = self._current()
        serving = current.serving
        self._check(body, serving)
        if self._config.withhold_reasoning:
            raise Problem(403, "this endpoint returns no reasoning, which plain completions would include: use chat")
        from ray.llm._internal.serve.core.configs.openai_api_models import CompletionRequest as EngineRequest

        engine_request = _engine_request(EngineRequest, body.for_engine(serving.name, serving.chat), request)
        shape = Shape("inline", False, serving.id, body.wants_usage, strays=current.prompts.strays, n=body.choices)
        return await self._answer(current, body, engine_request, "completions", shape)

    async def health(self) -> JSONResponse:
        """GET /health: 200 if the engine produced a token in the last seconds, if necessary for this call; else 503."""
        if time.monotonic() - self._last_token > HEALTHY_SECONDS:
            if self._probe is None or self._probe.done():
                self._probe = asyncio.ensure_future(self._generate_token())
            await asyncio.shield(self._probe)
        serving = self._current().serving
        return JSONResponse({"status": "ok", "version": serving.version}, headers=serving.headers())

    async def _generate_token(self) -> None:
        current = self._current()
        serving = current.serving
        from ray.llm._internal.serve.core.configs.openai_api_models import CompletionRequest as EngineRequest

        probe = EngineRequest.model_validate({"model": serving.name, "prompt": "a", "max_tokens": 1})
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                async for answer in current.engines.completions.remote(probe, None):
                    _raise_errors(answer)
        except Problem:
            raise
        except Exception:
            log.warning("the engine of %s does not answer", serving.app, exc_info=True)
            raise Problem(503, "the engine does not answer", retry_after=5.0) from None
        self._last_token = time.monotonic()

    async def _answer(
        self, current: Current, body: Sampling, engine_request: Any, method: str, shape: Shape
    ) -> Response:
        serving = current.serving
        started = time.monotonic()
        first, responses = await self._begin(current, engine_request, method)
        self._metrics.first_token(time.monotonic() - started)
        self._last_token = time.monotonic()
        chat, seen = method == "chat", Seen()
        if not engine_request.stream:
            whole = (answers.shape_whole if chat else answers.shape_plain)(first.model_dump(), shape, seen)
            self._metrics.request(seen, serving)
            return JSONResponse(whole, headers=serving.headers())
        shaped = self._shaped(first, responses, shape, seen, chat, serving)
        if not body.stream:
            return JSONResponse(await answers.collect(shaped, shape), headers=serving.headers())
        return _Stream(_written(shaped), serving.headers(), self._in_flight)

    async def _begin(self, current: Current, engine_request: Any, method: str) -> tuple[Any, Any]:
        """The first response and the rest; a request that reaches a dead engine is retried on another."""
        deadline = time.monotonic() + FAILOVER_SECONDS
        while True:
            responses = getattr(current.engines, method).remote(engine_request, None)
            try:
                first: Any = await anext(responses)
                _raise_errors(first)
            except asyncio.CancelledError:
                responses.cancel()  # no caller waits for them any more
                raise
            except Exception as error:
                problem = error if isinstance(error, Problem) else self._engine_problem(error, current.serving)
                if problem.status != 503 or time.monotonic() > deadline:
                    raise problem from None
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return first, responses

    async def _shaped(
        self, first: Any, rest: Any, shape: Shape, seen: Seen, chat: bool, serving: Serving
    ) -> AsyncIterator[dict[str, Any]]:
        """Events as they arrive; a broken stream raises, and the guard ends it with an error event.

        However it ends, the engine goes on with nothing that no caller waits for.
        """

        async def events() -> AsyncIterator[dict[str, Any]]:
            reader = answers.EventReader()
            async for batch in _chain(first, rest):
                _raise_errors(batch)
                for event in reader.feed("".join(batch) if isinstance(batch, list) else batch):
                    if "error" in event:
                        raise Problem(503, "the engine failed")
                    yield event

        try:
            async for event in (answers.shape_stream if chat else answers.shape_plain_stream)(events(), shape, seen):
                self._last_token = time.monotonic()
                yield event
        except Problem:
            raise
        except Exception as error:
            raise self._engine_problem(error, serving) from None
        finally:
            rest.cancel()
        self._metrics.request(seen, serving)

    def _current(self) -> Current:
        if self._in_flight.closed:
            raise Problem(503, "the endpoint is ending", retry_after=ENDING_RETRY)
        if self._answering is None:
            raise Problem(503, "no model is served yet", retry_after=5.0)
        return self._answering

    def _check(self, body: Sampling, serving: Serving) -> None:
        if body.model is not None:
            self._check_name(body.model, serving)
        if (excess := body.over(self._config.limits)) is not None:
            raise Problem(400, excess)

    @staticmethod
    def _check_name(model: str, serving: Serving) -> None:
        if model != serving.name:
            raise Problem(404, f"no such model here: the model is {serving.name}")

    def _engine_problem(self, error: Exception, serving: Serving) -> Problem:
        """The problem to report for an engine that is full, dead or refusing; its own text stays in the log."""
        if type(error).__name__ == "BackPressureError":
            return Problem(429, "the queue is full", retry_after=1.0)
        self._last_token = 0.0  # so that /health probes the engine
        log.warning("the engine of %s failed", serving.app, exc_info=error)
        return Problem(503, "the engine failed", retry_after=5.0)


async def _written(events: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
    async for event in events:
        yield answers.write_event(event)
    yield f"{answers.DATA} {answers.DONE}\n\n"


async def _chain(first: Any, rest: Any) -> AsyncIterator[Any]:
    yield first
    async for one in rest:
        yield one


def _engine_request(kind: Any, fields: dict[str, Any], request: Request) -> Any:
    """The engine's request under our own id: Serve would take the caller's header for it, whatever it holds."""
    try:
        return kind.model_validate({**fields, "request_id": request.scope["state"]["request_id"]})
    except ValueError:
        raise Problem(400, "the request has values that the engine does not accept") from None


def _raise_errors(answer: Any) -> None:
    """Raise an engine's error as a Problem in our words."""
    first = answer[0] if isinstance(answer, list) and answer else answer
    error = getattr(first, "error", None)
    if error is None:
        return
    code, message = int(getattr(error, "code", 500) or 500), str(getattr(error, "message", ""))
    if code >= 500:
        log.warning("the engine failed on a request with code %d", code)
        raise Problem(503, "the engine failed", retry_after=5.0)
    if "context length" in message or "max_tokens" in message or "longer than" in message:
        raise Problem(400, "prompt and max_tokens together are longer than the model's context")
    raise Problem(400, "the engine does not accept this request")
