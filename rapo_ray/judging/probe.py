"""The first call of an `http` judge, a harmless question: what its endpoint refuses stops the start in one line."""

import asyncio

from rapo_ray.config.judge import JudgeBackendConfig
from rapo_ray.engines.http_refusal import EndpointRefused, remedies
from rapo_ray.errors import EngineError, JudgeError
from rapo_ray.judging import rubrics
from rapo_ray.judging.guards.families import guard_questions
from rapo_ray.judging.http import HttpAsk
from rapo_ray.judging.questions import Field, JudgeFailure, Question, make_question
from rapo_ray.models.chat import PLAIN
from rapo_ray.types import Completion, Form, Prompt

REQUEST = "How long does an egg take to boil?"
TRACE = "The user asks about cooking. There is no risk in the request."
ANSWER = "A soft egg takes six minutes, a hard one ten."


async def probe(ask: HttpAsk, judge: JudgeBackendConfig, part: str) -> str | None:
    """Send the question; returns a warning where thinking used up the reply's tokens, None where all is well.

    Raises JudgeError in one line, with the endpoint's words and the settings to change, where there is no reply.
    """
    place = f"judge.{part} at {judge.url}"
    question = probe_question(judge)
    try:
        reply = await asyncio.wait_for(ask(question), judge.timeout)
    except EndpointRefused as refused:
        changes = remedies(refused.words, judge.request, f"judge.{part}", _settings(judge, part))
        raise JudgeError(f"{place}: {refused}{f'; set {changes}' if changes else ''}") from None
    except TimeoutError:
        raise JudgeError(f"{place}: no reply to the first call in judge.{part}.timeout={judge.timeout:g} s") from None
    except EngineError as error:
        raise JudgeError(f"{place}: {error}; check judge.{part}.url") from None
    except JudgeFailure as failure:
        raise JudgeError(f"{place}: {failure.detail}; check judge.{part}.url and judge.{part}.model") from None
    cut = reply.truncated or ask.limit(question) == 1  # a letter is no cut reply
    if not cut or not _thinks_only(reply.text):
        return None
    return (
        f"{place}: its thinking used all {ask.limit(question)} tokens of a reply: set "
        f"judge.{part}.max_thinking_tokens, or judge.{part}.template_kwargs={{enable_thinking: false}}"
    )


def probe_question(judge: JudgeBackendConfig) -> Question:
    """A harmless question in the form of the judge's own."""
    if judge.guard is not None:
        prompt = Prompt("probe", REQUEST, False, 1, "probe", "judge")
        return guard_questions(judge.guard, prompt, Completion(Form.OK, TRACE, TRACE, ANSWER))[0]
    return make_question(rubrics.HELPS, [Field("helps", (True, False))], judge.reply, request=REQUEST, answer=ANSWER)


def _settings(judge: JudgeBackendConfig, part: str) -> dict[str, str]:
    """The settings that change a request, by the field that an endpoint may refuse."""
    section = f"judge.{part}"
    form = {}
    if judge.guard is None and judge.reply == "choice":
        form = dict.fromkeys(("response_format", "json_schema"), f"{section}.reply=text")
    if judge.guard is None and judge.reply == "label":
        form = dict.fromkeys(("logprobs", "top_logprobs"), f"{section}.reply=choice")
    temperature = {} if judge.request.temperature is None else {"temperature": f"{section}.request.temperature=null"}
    template = {"chat_template_kwargs": f"{section}.template_kwargs={{}}"} if judge.template_kwargs else {}
    return {**temperature, **form, **template}


def _thinks_only(text: str) -> bool:
    """True for a text with nothing behind its thinking, which may have arrived in a field of its own."""
    _, end, answer = text.rpartition(PLAIN.close_mark)
    return not answer.strip() or (not end and text.startswith(PLAIN.open_mark))
