"""Scripts in an evaluation: each scripted user's turn is answered by the model, and the last answer is judged.

An answer becomes history as a user would read it: without its thinking, and whole where no mark ends that. A turn
without any answer ends the dialogue, whose row is then malformed; a turn that an endpoint filters or fails to answer
ends it as filtered or failed, and so does one whose prompt has grown too long (failed). Nobody was asked the last turn
then, so nothing is judged.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rapo_ray.models.chat import ChatFormat
from rapo_ray.roles import Responder, Responses
from rapo_ray.types import Prompt, Response, Turn


@dataclass(frozen=True, slots=True)
class _Dialogue:
    """A prompt under way: the turns that have happened, and the user's turns that are yet to come."""

    group: int
    prompt: Prompt
    turns: tuple[Turn, ...]
    left: tuple[Turn, ...]  # of the script, its answered turns included

    @property
    def at(self) -> Prompt:
        """The prompt of the present turn; that of the last one is the prompt itself."""
        return replace(self.prompt, text=self.left[0].content, turns=self.turns)

    @property
    def is_last(self) -> bool:
        """True where the present turn is the one to judge."""
        return len(self.left) == 1

    def answered(self, answer: str) -> "_Dialogue":
        """The same dialogue after the model's answer to the present turn."""
        turns = (*self.turns, self.left[0], Turn("assistant", answer))
        return _started(self.group, self.prompt, turns, self.left[1:])


class TrajectoryResponder:
    """A responder that also takes scripts; its responses to them carry the dialogue that came about."""

    def __init__(self, responder: Responder, chat: ChatFormat, max_prompt_tokens: int) -> None:
        self._responder = responder
        self._chat = chat
        self._max_prompt_tokens = max_prompt_tokens

    def respond(self, prompts_P: list[Prompt]) -> Iterator[Responses]:
        """One response to each prompt: to its last turn, or the one that ended a script early."""
        waiting = [_started(group, prompt, (), _with_request(prompt)) for group, prompt in enumerate(prompts_P)]
        while waiting:
            waiting, long = self._fitting(waiting)
            yield [_ended(dialogue, _failure(dialogue, detail)) for dialogue, detail in long]
            following: dict[int, _Dialogue] = {}
            for batch in self._responder.respond([dialogue.at for dialogue in waiting]) if waiting else ():
                done = []
                for response in batch:
                    dialogue = waiting[response.group]
                    outcome = self._after(dialogue, response)
                    if isinstance(outcome, _Dialogue):
                        following[response.group] = outcome
                    else:
                        done.append(_ended(dialogue, outcome))
                yield done
            waiting = [following[index] for index in sorted(following)]  # whatever order they were answered in

    def prompt_lengths(self, prompts: list[Prompt]) -> list[int] | None:
        """Tokens of each rendered prompt, of a script those up to its first answer; None where nobody knows."""
        return self._responder.prompt_lengths(
            [_started(group, prompt, (), _with_request(prompt)).at for group, prompt in enumerate(prompts)]
        )

    def _after(self, dialogue: _Dialogue, response: Response) -> "Response | _Dialogue":
        """The dialogue after an answer, or the response that ends it."""
        if dialogue.is_last:
            return response
        if response.reply in ("failed", "filtered"):
            return replace(response, text="", detail=_at(dialogue, response.detail))
        answer = self._chat.inert(self._chat.answer_of(response.text))
        if not answer:
            return replace(response, text="", detail=_at(dialogue, "no answer"))
        return dialogue.answered(answer)

    def _fitting(self, waiting: list[_Dialogue]) -> tuple[list[_Dialogue], list[tuple[_Dialogue, str]]]:
        """The dialogues that the engines take, and those that the model's answers made too long, with the reason."""
        grown = [dialogue for dialogue in waiting if dialogue.prompt.is_script and dialogue.turns]
        lengths = self._responder.prompt_lengths([dialogue.at for dialogue in grown]) if grown else None
        if lengths is None:
            return waiting, []
        limit = self._max_prompt_tokens
        long = {
            dialogue.group: _at(dialogue, f"{length} prompt tokens, more than rollout.max_prompt_tokens={limit}")
            for dialogue, length in zip(grown, lengths, strict=True)
            if length > limit
        }
        fitting = [dialogue for dialogue in waiting if dialogue.group not in long]
        return fitting, [(dialogue, long[dialogue.group]) for dialogue in waiting if dialogue.group in long]


def _with_request(prompt: Prompt) -> tuple[Turn, ...]:
    return (*prompt.turns, Turn("user", prompt.text))


def _started(group: int, prompt: Prompt, turns: tuple[Turn, ...], left: tuple[Turn, ...]) -> _Dialogue:
    """The dialogue at the next user's turn without an answer."""
    while len(left) > 1 and left[1].role == "assistant":
        turns, left = (*turns, *left[:2]), left[2:]
    return _Dialogue(group, prompt, turns, left)


def _ended(dialogue: _Dialogue, response: Response) -> Response:
    """The response in the prompt's own place; to a script with its turns as they came about."""
    turns = dialogue.turns if dialogue.prompt.is_script else None
    return replace(response, group=dialogue.group, turns=turns)


def _failure(dialogue: _Dialogue, detail: str) -> Response:
    return Response(dialogue.group, 0, dialogue.prompt.id, "", False, 0, "failed", detail)


def _at(dialogue: _Dialogue, reason: str) -> str:
    number = 1 + sum(turn.role == "user" for turn in dialogue.turns)
    users = number - 1 + sum(turn.role == "user" for turn in dialogue.left)
    return f"turn {number} of {users}: {reason}"
