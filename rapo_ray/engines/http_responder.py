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
from rapo_ray.engines.http_outcome import is_filter_reason, is_filtered, is_refusal_reason
from rapo_ray.engines.http_refusal import EndpointRefused, endpoint_words, remedies, without_secrets
from rapo_ray.errors import EngineError
from rapo_ray.models.chat import PLAIN, ChatFormat, conversation
from rapo_ray.seeds import derive_seed
from rapo_ray.types import EndpointReply, Prompt, Response

REPLY_TIMEOUT = 600.0  # seconds for one completion, retries included
OF_ONE_PROMPT = (400, 413, 422)  # statuses by which an endpoint that has answered others refuses one prompt
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


@dataclass(frozen=True, slots=True)
class _Failure:
    """A prompt without an answer."""

    error: EngineError
    response: Response
    of_one_prompt: bool  # the endpoint refused this prompt, not the caller


class HttpResponder:
    """A model behind an endpoint; reasoning that arrives in a field of its own is put before the answer again."""

    def __init__(self, settings: HttpModel) -> None:
        self._settings = settings
        self._answered = False  # it has answered a prompt

    def probe(self) -> None:
        """Send a harmless prompt; raises EngineError with the endpoint's words and the settings to change."""

        async def once() -> None:
            endpoint = ChatEndpoint(self._settings.endpoint)
            try:
                await self._one(endpoint, 0, PROBE)
                self._answered = True
            finally:
                await endpoint.close()

        asyncio.run(once())

    def respond(self, prompts_P: list[Prompt]) -> Iterator[list[Response]]:
        """Responses in the order in which they finish, of `reply` failed where there is none to one prompt.

        Raises EngineError where the endpoint answers none of them and does not merely refuse each.
        """
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
                asyncio.ensure_future(self._answer(endpoint, group, prompt)) for group, prompt in enumerate(prompts_P)
            ]
            failures: list[_Failure] = []
            answered = 0
            try:
                for task in asyncio.as_completed(tasks):
                    result = await task
                    if isinstance(result, _Failure):
                        failures.append(result)
                    else:
                        answered += 1
                        arrived.put(result)
            finally:
                for task in tasks:
                    task.cancel()
            self._answered = self._answered or answered > 0
            self._give_up(failures, answered)
            for failure in failures:
                arrived.put(failure.response)

        try:
            asyncio.run(every())
            arrived.put(None)
        except Exception as error:  # handed to the thread that waits
            arrived.put(error)

    def _give_up(self, failures: "list[_Failure]", answered: int) -> None:
        """Raise the first failure that is not about one prompt, where nothing else came."""
        if failures and not answered:
            fatal = [failure for failure in failures if not (failure.of_one_prompt and self._answered)]
            if fatal:
                raise fatal[0].error

    async def _answer(self, endpoint: ChatEndpoint, group: int, prompt: Prompt) -> "Response | _Failure":
        try:
            return await self._one(endpoint, group, prompt)
        except EngineError as error:
            response = Response(group, 0, prompt.id, "", False, 0, "failed", str(error))
            refused = error.__cause__
            return _Failure(error, response, isinstance(refused, EndpointRefused) and refused.status in OF_ONE_PROMPT)

    async def _one(self, endpoint: ChatEndpoint, group: int, prompt: Prompt) -> Response:
        settings = self._settings
        place = f"{without_secrets(settings.endpoint.url)}: {prompt.id}"
        try:
            content = await asyncio.wait_for(endpoint.post(self._body(group, prompt)), REPLY_TIMEOUT)
        except TimeoutError:
            raise EngineError(f"{place}: no completion in {REPLY_TIMEOUT:g} s") from None
        except EndpointRefused as refused:
            if refused.filtered:
                return Response(group, 0, prompt.id, "", False, 0, "filtered", refused.words)
            changes = remedies(refused.words, settings.request, "evaluation", REMEDIES)
            raise EngineError(f"{place}: {refused}{f'; set {changes}' if changes else ''}") from refused
        except EngineError as error:
            raise EngineError(f"{place}: {error}") from None
        return read_completion(content, settings, group, prompt)

    def _body(self, group: int, prompt: Prompt) -> dict[str, Any]:
        settings = self._settings
        messages = conversation(settings.system_prompt, prompt.text, prompt.turns)
        body = request_body(settings.model, messages, settings.request, settings.max_tokens, settings.temperature)
        if settings.request.seed:
            body["seed"] = derive_seed(settings.seed, 0, group, prompt.id, 0) % 2**31
        return body


def read_completion(content: bytes, settings: HttpModel, group: int, prompt: Prompt) -> Response:
    """A chat completion as a response, a refusal in a field of its own as its answer; raises EngineError for others."""
    try:
        body = json.loads(content)
        if not body.get("choices") and is_filtered(content):
            return Response(group, 0, prompt.id, "", False, 0, "filtered", endpoint_words(content, _texts_of(prompt)))
        choice = body["choices"][0]
        reason = choice.get("finish_reason")
        message = choice.get("message") or {} if is_filter_reason(reason) else choice["message"]
        text, thought = _parts_of(message.get("content"))
        refusal = message.get("refusal") or ""
        thinking = message.get("reasoning_content") or message.get("reasoning") or thought
        tokens = int((body.get("usage") or {}).get("completion_tokens") or 0)
        if not isinstance(text or refusal, str) or not (thinking is None or isinstance(thinking, str)):
            raise TypeError
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        words = endpoint_words(content, _texts_of(prompt)) if b'"error"' in content else ""
        raise EngineError(
            f"{without_secrets(settings.endpoint.url)}: the reply for {prompt.id} is no chat completion"
            + (f": {words}" if words else "")
        ) from None
    reply: EndpointReply = "answered"
    if is_filter_reason(reason):
        reply = "filtered"
    elif not text and (refusal or is_refusal_reason(reason)):
        reply = "refused"
    text = text or refusal
    if thinking:
        text = settings.chat.compose(settings.chat.inert(thinking), text)
    return Response(group, 0, prompt.id, text, reason == "length", tokens, reply)


def _texts_of(prompt: Prompt) -> list[str]:
    return [*(turn.content for turn in prompt.turns), prompt.text]


def _parts_of(content: Any) -> tuple[Any, str]:
    """Text and thinking of a message's content, which some endpoints give as a list of parts."""
    if not isinstance(content, list):
        return content, ""
    text = "".join(part["text"] for part in content if part.get("type") == "text")
    thoughts = [part["thinking"] for part in content if part.get("type") == "thinking"]
    thinking = "".join(_parts_of(thought)[0] for thought in thoughts)
    return text, thinking
