"""The endpoint's routes over Ray Serve LLM's ingress: requests checked, answers shaped and stamped with a version."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from ray import serve
from ray.serve.llm.ingress import OpenAiIngress
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse

from rapo_ray.config.serving import ServeConfig
from rapo_ray.serving import answers
from rapo_ray.serving.answers import Seen, Shape
from rapo_ray.serving.guard import Guard
from rapo_ray.serving.metrics import Metrics
from rapo_ray.serving.problems import Problem
from rapo_ray.serving.requests import ChatRequest, CompletionRequest, Sampling
from rapo_ray.serving.versions import Serving

HEALTHY_FOR = 5.0  # seconds that a sign of life counts
PROBE_SECONDS = 30.0
PATIENCE = 5.0  # seconds for a dead engine's replica to leave the router
PAUSE = 0.25
NO_RESTRICTIONS: dict[str, Any] = {"docs_url": None, "redoc_url": None, "openapi_url": "/openapi.json"}

log = logging.getLogger(__name__)


def make_app(config: ServeConfig) -> FastAPI:
    """The FastAPI application: our errors, our guard, no CORS, no pages."""
    app = FastAPI(title="rapo_ray", version="1", **NO_RESTRICTIONS)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Problem, _problem)
    app.add_middleware(Guard, api_keys=config.api_keys, limits=config.limits)
    return app


class RapoIngress:
    """Answers requests with one version of the model; `reconfigure` changes to another between two requests."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = ServeConfig.model_validate(config)
        self._metrics = Metrics()
        self._serving: Serving | None = None
        self._inner: OpenAiIngress | None = None
        self._alive = 0.0
        self._probe: asyncio.Task[None] | None = None

    def reconfigure(self, target: dict[str, Any]) -> None:
        """Take requests with this version from now on; those under way end with theirs."""
        from ray.llm._internal.serve.core.configs.openai_api_models import ModelCard

        serving = Serving(**target)
        handle = serve.get_app_handle(serving.app)
        metadata = {"weights_version": serving.version, "checksum": serving.checksum, "run": serving.run}
        card = ModelCard(id=serving.name, object="model", owned_by="rapo_ray", permission=[], metadata=metadata)
        self._inner = OpenAiIngress(llm_deployments={serving.name: handle}, model_cards={serving.name: card})
        self._serving = serving
        self._alive = 0.0
        self._metrics.version(serving)

    async def models(self) -> JSONResponse:
        """The one model there is."""
        inner, serving = self._current()
        listed = await inner.models()
        return JSONResponse(listed.model_dump(), headers=serving.headers())

    async def model_data(self, model: str) -> JSONResponse:
        """One model."""
        inner, serving = self._current()
        self._check_name(model, serving)
        card = await inner.model_data(serving.name)
        return JSONResponse(card.model_dump(), headers=serving.headers())

    async def chat(self, body: ChatRequest, request: Request) -> Response:
        """POST /v1/chat/completions."""
        inner, serving = self._current()
        self._check(body, serving)
        if body.reasoning is not None and self._config.withhold_reasoning:
            raise Problem(403, "this endpoint gives no reasoning: leave `reasoning` out")
        from ray.llm._internal.serve.core.configs.openai_api_models import ChatCompletionRequest

        asked = _engine_request(ChatCompletionRequest, body.for_engine(serving.name, serving.system_prompt))
        return await self._answer(inner, serving, body, asked, "chat", body.reasoning or self._config.reasoning)

    async def completions(self, body: CompletionRequest, request: Request) -> Response:
        """POST /v1/completions."""
        inner, serving = self._current()
        self._check(body, serving)
        if self._config.withhold_reasoning:
            raise Problem(403, "this endpoint gives no reasoning, and plain completions cannot leave it out: use chat")
        from ray.llm._internal.serve.core.configs.openai_api_models import CompletionRequest as EngineRequest

        asked = _engine_request(EngineRequest, body.for_engine(serving.name))
        return await self._answer(inner, serving, body, asked, "completions", "inline")

    async def health(self) -> JSONResponse:
        """200 where the engine has made a token within the last seconds, if need be one for this; else 503."""
        if time.monotonic() - self._alive > HEALTHY_FOR:
            if self._probe is None or self._probe.done():
                self._probe = asyncio.ensure_future(self._make_a_token())
            await asyncio.shield(self._probe)
        _, serving = self._current()
        return JSONResponse({"status": "ok", "version": serving.version}, headers=serving.headers())

    async def _make_a_token(self) -> None:
        inner, serving = self._current()
        from ray.llm._internal.serve.core.configs.openai_api_models import CompletionRequest as EngineRequest

        asked = EngineRequest.model_validate({"model": serving.name, "prompt": "a", "max_tokens": 1})
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                async for answer in inner._get_response(body=asked, call_method="completions"):
                    _raise_errors(answer)
        except Problem:
            raise
        except Exception:
            log.warning("the engine of %s does not answer", serving.app, exc_info=True)
            raise Problem(503, "the engine does not answer", retry_after=5.0) from None
        self._alive = time.monotonic()

    async def _answer(
        self, inner: OpenAiIngress, serving: Serving, body: Sampling, asked: Any, method: str, reasoning: Any
    ) -> Response:
        shape = Shape(reasoning, self._config.withhold_reasoning, serving.id, body.wants_usage)
        started = time.monotonic()
        first, responses = await self._begin(inner, serving, asked, method)
        self._metrics.first_token(time.monotonic() - started)
        self._alive = time.monotonic()
        chat, seen = method == "chat", Seen()
        if not body.stream:
            whole = (answers.shape_whole if chat else answers.shape_plain)(first.model_dump(), shape, seen)
            self._metrics.request(seen, serving)
            return JSONResponse(whole, headers=serving.headers())
        stream = self._stream(first, responses, shape, seen, chat, serving)
        return StreamingResponse(stream, media_type="text/event-stream", headers=serving.headers())

    async def _begin(self, inner: OpenAiIngress, serving: Serving, asked: Any, method: str) -> tuple[Any, Any]:
        """What comes first, and the rest; who is sent to an engine that has just died is sent to another."""
        ends = time.monotonic() + PATIENCE
        while True:
            responses = inner._get_response(body=asked, call_method=method)
            try:
                first: Any = await anext(responses)
                _raise_errors(first)
            except Exception as error:
                problem = error if isinstance(error, Problem) else self._engine_problem(error, serving)
                if problem.status != 503 or time.monotonic() > ends:
                    raise problem from None
                await asyncio.sleep(PAUSE)
            else:
                return first, responses

    async def _stream(
        self, first: Any, rest: Any, shape: Shape, seen: Seen, chat: bool, serving: Serving
    ) -> AsyncIterator[str]:
        """Events as they come; what breaks off raises, and the guard ends the stream with an error event."""

        async def events() -> AsyncIterator[dict[str, Any]]:
            async for batch in _chain(first, rest):
                _raise_errors(batch)
                for event in answers.read_events("".join(batch) if isinstance(batch, list) else batch):
                    if "error" in event:
                        raise Problem(503, "the engine failed")
                    yield event

        try:
            async for event in answers.shape_stream(events(), shape, seen, chat):
                self._alive = time.monotonic()
                yield answers.write_event(event)
        except Problem:
            raise
        except Exception as error:
            raise self._engine_problem(error, serving) from None
        yield f"{answers.DATA}{answers.DONE}\n\n"
        self._metrics.request(seen, serving)

    def _current(self) -> tuple[OpenAiIngress, Serving]:
        if self._inner is None or self._serving is None:
            raise Problem(503, "no model is served yet", retry_after=5.0)
        return self._inner, self._serving

    def _check(self, body: Sampling, serving: Serving) -> None:
        if body.model is not None:
            self._check_name(body.model, serving)
        if (why := body.over(self._config.limits)) is not None:
            raise Problem(400, why)

    @staticmethod
    def _check_name(model: str, serving: Serving) -> None:
        if model != serving.name:
            raise Problem(404, f"there is no such model here; the model is {serving.name}")

    def _engine_problem(self, error: Exception, serving: Serving) -> Problem:
        """The engine's side failed: full, dead, or refusing; its own text stays in the log."""
        if type(error).__name__ == "BackPressureError":
            return Problem(429, "the queue is full", retry_after=1.0)
        self._alive = 0.0  # /health asks the engine anew
        log.warning("the engine of %s failed", serving.app, exc_info=error)
        return Problem(503, "the engine failed", retry_after=5.0)


async def _chain(first: Any, rest: Any) -> AsyncIterator[Any]:
    yield first
    async for one in rest:
        yield one


def _engine_request(kind: Any, fields: dict[str, Any]) -> Any:
    try:
        return kind.model_validate(fields)
    except ValueError:
        raise Problem(400, "the request holds values that the engine does not take") from None


def _raise_errors(answer: Any) -> None:
    """Turn what the engine says of a request into a problem in our words."""
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
    raise Problem(400, "the engine does not take this request")


async def _invalid(request: Request, error: Any) -> Response:
    """What is wrong with which field, without what it held."""
    first = error.errors()[0] if error.errors() else {"loc": (), "msg": "invalid"}
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    return _response(request, Problem(400, f"{where[:200] or 'body'}: {str(first['msg'])[:200]}"))


async def _refused(request: Request, error: Any) -> Response:
    words = {404: "there is nothing here", 405: "this is no method of this path"}
    return _response(request, Problem(error.status_code, words.get(error.status_code, "the request is not valid")))


async def _problem(request: Request, error: Any) -> Response:
    return _response(request, error)


def _response(request: Request, problem: Problem) -> Response:
    request_id = request.scope["state"]["request_id"]
    headers = {name.decode(): value.decode() for name, value in problem.headers()}
    return Response(problem.body(request_id), problem.status, headers)
