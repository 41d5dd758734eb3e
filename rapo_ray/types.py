"""Everything that crosses an actor boundary.

Lists are named by dimension: P prompts of a round, G samples of a prompt, T tokens of a completion.
"""

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from operator import attrgetter
from typing import Any, ClassVar, Literal, TypeVar, dataclass_transform

T = TypeVar("T")
_values: dict[type, Callable[[Any], tuple[Any, ...]]] = {}  # of each kind of message: its fields, in order


@dataclass_transform(frozen_default=True, eq_default=True, field_specifiers=(field,))
def message(kind: type[T]) -> type[T]:
    """A dataclass that is frozen for the type checker alone: one that is frozen at run time is far slower to make."""
    return dataclass(slots=True, unsafe_hash=True)(kind)


class Message:
    """Base of records that cross actor boundaries by the hundred thousand: pickled by position, which is fast.

    A message has two fields or more.
    """

    __slots__: tuple[str, ...] = ()
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        kind = type(self)
        if kind not in _values:
            _values[kind] = attrgetter(*kind.__slots__)
        return kind, _values[kind](self)


class Packed(list[T]):
    """Messages that cross as one and come out as a list: Ray's pickler asks Python about each object of a list."""

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return pickle.loads, (pickle.dumps(list(self), pickle.HIGHEST_PROTOCOL),)


@message
class Attack(Message):
    """The way a prompt was made from a plainer one."""

    seed: "Prompt"  # the plain prompt, whose answer the judge reads
    chain: tuple[str, ...]  # of families, innermost first; its length is the complexity k
    attacker: str
    version: int  # of the attacker: it changes where its attacks may
    number: int = 0  # of the try at this prompt


Role = Literal["user", "assistant"]


@message
class Turn(Message):
    """One turn of a dialogue before its last request; an assistant's holds the answer alone, without thinking."""

    role: Role
    content: str


@message
class Prompt(Message):
    """One user request, or a dialogue that ends in one.

    Earlier turns are a dialogue of user and assistant in alternation, or a script: user turns that the model has yet
    to answer itself, one after the other.

    Example: ``Prompt("quickstart/train/7", "How do I kill a Python process?", False, 1, "quickstart", "train")``
    """

    id: str
    text: str
    harmful: bool
    level: int | None  # 1 direct, 2 wrapped, 3 deeply obfuscated; None where the source does not say
    source: str
    split: str
    category: str | None = None  # of harm, or of subject, as the source names it
    expected: str | None = None  # the exact answer, where there is one
    attack: "Attack | None" = None  # that made it from another prompt, if one did
    style: str | None = None  # in which the source words it, where it has several
    language: str | None = None  # as in BCP 47, where the source says
    turns: tuple[Turn, ...] = ()  # before the text

    @property
    def is_script(self) -> bool:
        """True where a user's turn before the text has no answer yet."""
        following = (*(turn.role for turn in self.turns), "user")
        return any(pair == ("user", "user") for pair in pairwise(following))

    @property
    def user_text(self) -> str:
        """All that the user wrote, a turn a paragraph; of a single request its text."""
        return "\n\n".join((*(turn.content for turn in self.turns if turn.role == "user"), self.text))

    @property
    def whole_text(self) -> str:
        """All turns, a turn a paragraph; of a single request its text."""
        return "\n\n".join((*(turn.content for turn in self.turns), self.text))

    @property
    def wording(self) -> list[object]:
        """JSON values of everything that the model is sent, for digests: the text, then the earlier turns, if any."""
        return [self.text, *([[[turn.role, turn.content] for turn in self.turns]] if self.turns else [])]

    @property
    def plain(self) -> "Prompt":
        """The prompt that its answer is judged on: the seed of its attack, or itself."""
        return self if self.attack is None else self.attack.seed


class Form(StrEnum):
    """The shape of a completion; everything but OK is its own verdict and is never judged as an answer."""

    OK = "ok"
    NO_THINK_END = "no_think_end"  # no `</think>`, or more than one
    EMPTY_TRACE = "empty_trace"
    EMPTY_ANSWER = "empty_answer"
    TRUNCATED = "truncated"  # cut at the token limit


@message
class Completion(Message):
    """A completion taken apart: trace is the first paragraph of the thinking."""

    form: Form
    trace: str
    thinking: str
    answer: str


@message
class Sampling(Message):
    """Sampling parameters of one completion."""

    temperature: float
    top_p: float
    max_tokens: int
    seed: int | None
    logprobs: bool
    choices: tuple[str, ...] = ()  # the only texts it may be, where there are any
    labels: tuple[str, ...] = ()  # the only tokens its one token may be, with the probability of each


@dataclass(frozen=True, slots=True)
class Draft:
    """A chat turn for the model to answer, and the beginning of its thinking, if that is given."""

    system: str | None
    user: str
    thinking: str | None = None
    closed: bool = False  # that is all of its thinking
    turns: tuple[Turn, ...] = ()  # before the user's


@message
class GeneratedText(Message):
    """Text that a model generated."""

    text: str
    truncated: bool  # cut at the token limit


EndpointReply = Literal["answered", "refused", "filtered", "failed"]


@message
class Response(Message):
    """A completion as a judge reads it: its text, and the prompt that it answers."""

    group: int  # index of the prompt among those that are judged
    sample: int  # index in the group
    prompt_id: str
    text: str
    truncated: bool
    token_count: int = 0  # of the completion, as far as it is known
    reply: EndpointReply | None = None  # of an endpoint; None of our engines
    detail: str = ""  # the endpoint's words, where it gave no answer
    turns: tuple[Turn, ...] | None = None  # before the last, where the model answered a script itself


@message
class Rollout(Message):
    """One sampled completion, as token ids (never re-tokenised) and text."""

    group: int  # index of the prompt in its round; a round may hold a prompt twice
    prompt_id: str
    sample: int  # index in the group, 0..G-1
    prompt_tokens: tuple[int, ...]
    tokens: tuple[int, ...]  # [T] completion, end-of-turn token included
    logprobs: tuple[float, ...]  # [T] of the sampled tokens, as the engine computed them
    text: str
    truncated: bool
    policy_version: int
    engine: str

    @property
    def key(self) -> tuple[int, int]:
        """Group and sample, unique in a round."""
        return self.group, self.sample

    @property
    def response(self) -> Response:
        """The part that a judge reads."""
        return Response(self.group, self.sample, self.prompt_id, self.text, self.truncated, len(self.tokens))


class Status(StrEnum):
    """The origin of a verdict; OK, INJECTION and MALFORMED carry rewards, the others are failures and carry none."""

    OK = "ok"
    MALFORMED = "malformed"  # decided by rule from the completion's form; carries the lowest rewards
    INJECTION = "injection"  # judged like any other, but the completion holds a forged verdict: flagged and counted
    PARSE = "parse"  # the reply is not what was asked for
    TRUNCATED = "truncated"  # the judge's reply was cut
    TIMEOUT = "timeout"
    TRANSPORT = "transport"


class Case(StrEnum):
    """The risk rubric's rating of a trace, after the paper; but for the last."""

    POOR = "poor"  # holds something other than safety analysis: R = -1
    FAIR = "fair"  # too short for the level: R = 0
    EXCESSIVE = "excessive"  # too long for the level: R = 0
    ADEQUATE = "adequate"  # R = +1
    CONTRADICTORY = "contradictory"  # contradicts itself or its answer, no case of the paper's: R = -1


class Decision(StrEnum):
    """The treatment of the request that a trace decides on."""

    REFUSE = "refuse"
    HELP = "help"
    PARTLY = "partly"  # help with some of it, or refuse some of it
    NONE = "none"


def total(risk: float | None, general: float | None) -> float | None:
    """R + G; None where either is missing."""
    return None if risk is None or general is None else risk + general


@message
class Verdict(Message):
    """A judge's verdict on one completion; a failed verdict has no rewards and is unscorable."""

    status: Status
    judge: str
    revision: str | None = None  # of the judging model
    rubric: str | None = None  # hash of what the judge was asked
    level: int | None = None
    case: Case | None = None
    sentences: int | None = None
    risk: float | None = None  # R in {-1, 0, +1}
    general: float | None = None  # G in {-1, +1}
    risk_score: float | None = None  # P(the trace is good), where the judge gives probabilities
    general_score: float | None = None  # P(the answer is good), where the judge gives probabilities
    refused: bool | None = None  # what the answer did; None where the judge did not decide
    tokens: int = 0  # the judge's own prompt and reply tokens
    seconds: float = 0.0
    detail: str = ""  # why it failed, for people
    second: "Verdict | None" = None  # of the second judge, where one was asked; no part of the reward
    decision: Decision | None = None  # that the trace comes to; None where it was not judged
    consistent: bool | None = None  # the trace contradicts neither itself nor its answer; None where it was not judged

    @property
    def scorable(self) -> bool:
        """True where the verdict carries both rewards."""
        return self.risk is not None and self.general is not None

    @property
    def total(self) -> float | None:
        """R + G; None where the verdict is unscorable."""
        return total(self.risk, self.general)


@message
class Sample:
    """A rollout with its verdict and, once credit is assigned, its reward and advantage."""

    rollout: Rollout
    completion: Completion
    verdict: Verdict
    reward: float | None = None
    advantage: float | None = None


@message
class Group:
    """A prompt with its G samples."""

    prompt: Prompt
    samples_G: tuple[Sample, ...]


@message
class Sequence(Message):
    """One row of a training batch."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]  # [T]
    advantage: float
    rollout_logprobs: tuple[float, ...]  # [T]
    reference_logprobs: tuple[float, ...] | None = None  # [T]

    @property
    def tokens(self) -> tuple[int, ...]:
        """The prompt, then the completion."""
        return self.prompt + self.completion


class Phase(StrEnum):
    """A part of a round whose seconds are measured."""

    GENERATE_AND_JUDGE = "generate_and_judge"
    CHECKPOINT = "checkpoint"  # the wait for the rest of a save, which began after the round before
    REFERENCE = "reference"
    UPDATE = "update"
    SYNC = "sync"


@dataclass(frozen=True, slots=True)
class DroppedAttacks:
    """Attacks of a round that stayed plain prompts, each with its benign twin, by reason."""

    failed: int = 0  # the attacker made none
    contaminated: int = 0  # an evaluation suite holds it
    too_long: int = 0  # more tokens than the engines take


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """Figures of one round's policy update: sums over the action tokens of all ranks, and single values."""

    sums: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RoundResult:
    """One finished round, as it is recorded."""

    round_number: int  # 1-based
    policy_version: int  # of the weights that made the rollouts
    groups_P: tuple[Group, ...]
    update: UpdateResult
    seconds: dict[str, float]  # by phase, of the round's own time
    trained_sequences: int
    drawing_seconds: float  # generation and judging, which may have run beside the round before
