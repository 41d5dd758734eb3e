"""An OpenAI-compatible endpoint in the place of the rollout engines."""

import asyncio
import json
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rapo_ray.config.request import ModelRequestConfig
from rapo_ray.engines.http_chat import ChatEndpoint, EndpointSettings, request_body
from rapo_ray.engines.http_refusal import EndpointRefused, remedies
from rapo_ray.errors import EngineError
from rapo_ray.models.chat import PLAIN, ChatFormat, conversation
from rapo_ray.seeds import derive_seed
from rapo_ray.types import Prompt, Response

REPLY_TIMEOUT = 600.0  # seconds for one completion, retries included
PROBE = Prompt("the first call", "How long does an egg take to boil?", False, 1, "probe", "probe")
REMEDIES = {"temperature": "evaluation.temperature=null", "seed": "evaluation.request.seed=false"}


@dataclass(frozen=True, slots=True)
class HttpModel:
    """One model of an endpoint, and its sampling parameters."""

    endpoint: EndpointSettings
    model: str
    system_prompt: str | None
    temperature: float | None  # None: not sent
    max_tokens: int
    seed: int
    request: ModelRequestConfig
    chat: ChatFormat = PLAIN  # that a separate field of reasoning is put together in


class HttpResponder:
    """A model behind an endpoint; reasoning that arrives in a field of its own is put before the answer again."""

    def __init__(self, settings: HttpModel) -> None:
        self._settings = settings

    def probe(self) -> None:
        """Send a harmless prompt; raises EngineError with the endpoint's words and the settings to change."""

        async def once() -> None:
            endpoint = ChatEndpoint(self._settings.endpoint)
            try:
                await self._one(endpoint, 0, PROBE)
            finally:
                await endpoint.close()

        asyncio.run(once())

    def respond(self, prompts_P: list[Prompt]) -> Iterator[list[Response]]:
        """Responses in the order in which they finish; raises EngineError where the endpoint fails for good."""
        arrived: queue.Queue[Response | Exception | None] = queue.Queue()
        threading.Thread(target=lambda: self._fill(prompts_P, arrived), daemon=True).start()
        while (item := arrived.get(timeout=2 * REPLY_TIMEOUT)) is not None:
            if isinstance(item, Exception):
                raise item
            yield [item]

    def prompt_lengths(self, prompts: list[Prompt]) -> None:
        """None: only the endpoint knows its tokens, and refuses a prompt that is too long itself."""

    def _fill(self, prompts_P: list[Prompt], arrived: "queue.Queue[Response | Exception | None]") -> None:
        async def every() -> None:
            endpoint = ChatEndpoint(self._settings.endpoint)
            tasks = [
                asyncio.ensure_future(self._one(endpoint, group, prompt)) for group, prompt in enumerate(prompts_P)
            ]
            try:
                for task in asyncio.as_completed(tasks):
                    arrived.put(await task)
            finally:
                for task in tasks:
                    task.cancel()

        try:
            asyncio.run(every())
            arrived.put(None)
        except Exception as error:  # handed to the thread that waits
            arrived.put(error)

    async def _one(self, endpoint: ChatEndpoint, group: int, prompt: Prompt) -> Response:
        settings = self._settings
        place = f"{settings.endpoint.url}: {prompt.id}"
        try:
            content = await asyncio.wait_for(endpoint.post(self._body(group, prompt)), REPLY_TIMEOUT)
        except TimeoutError:
            raise EngineError(f"{place}: no completion in {REPLY_TIMEOUT:g} s") from None
        except EndpointRefused as refused:
            changes = remedies(refused.words, settings.request, "evaluation", REMEDIES)
            raise EngineError(f"{place}: {refused}{f'; set {changes}' if changes else ''}") from None
        except EngineError as error:
            raise EngineError(f"{place}: {error}") from None
        return read_completion(content, settings, group, prompt)

    def _body(self, group: int, prompt: Prompt) -> dict[str, Any]:
        settings = self._settings
        messages = conversation(settings.system_prompt, prompt.text)
        body = request_body(settings.model, messages, settings.request, settings.max_tokens, settings.temperature)
        if settings.request.seed:
            body["seed"] = derive_seed(settings.seed, 0, group, prompt.id, 0) % 2**31
        return body


def read_completion(content: bytes, settings: HttpModel, group: int, prompt: Prompt) -> Response:
    """A chat completion as a response, a refusal in a field of its own as its answer; raises EngineError for others."""
    try:
        body = json.loads(content)
        choice = body["choices"][0]
        message = choice["message"]
        text, thought = _parts_of(message.get("content"))
        text = text or message.get("refusal") or ""
        thinking = message.get("reasoning_content") or message.get("reasoning") or thought
        tokens = int((body.get("usage") or {}).get("completion_tokens") or 0)
        if not isinstance(text, str) or not (thinking is None or isinstance(thinking, str)):
            raise TypeError
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise EngineError(f"{settings.endpoint.url}: the reply for {prompt.id} is no chat completion") from None
    if thinking:
        text = settings.chat.compose(settings.chat.inert(thinking), text)
    truncated = choice.get("finish_reason") == "length"
    return Response(group, 0, prompt.id, text, truncated, tokens)


def _parts_of(content: Any) -> tuple[Any, str]:
    """Text and thinking of a message's content, which some endpoints give as a list of parts."""
    if not isinstance(content, list):
        return content, ""
    text = "".join(part["text"] for part in content if part.get("type") == "text")
    thoughts = [part["thinking"] for part in content if part.get("type") == "thinking"]
    thinking = "".join(_parts_of(thought)[0] for thought in thoughts)
    return text, thinking
