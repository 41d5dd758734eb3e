"""Messages between actors survive pickling unchanged."""

import pickle
from dataclasses import fields, is_dataclass, replace

import pytest

from rapo_ray.attacks.attacker import Outcome
from rapo_ray.orchestrator.dispatch import SampleRequest
from rapo_ray.trainer.batch import MicroBatch, Step
from rapo_ray.types import Attack, GeneratedText, Message, Packed, Sampling, Sequence, Turn
from tests.make import failed, make_completion, make_prompt, make_rollout, scored

pytestmark = pytest.mark.unit

SAMPLING = Sampling(1.2, 0.9, 128, 7, logprobs=True, labels=("A", "B"))
SEQUENCE = Sequence((1,), (2, 3), -0.5, (-0.1, -0.2))
MICRO_BATCH = MicroBatch(((SEQUENCE,),), filler=True)
ATTACK = Attack(make_prompt(harmful=True), ("base64",), "bandit", 3, 4)
MESSAGES: list[Message] = [
    replace(make_prompt(harmful=True), turns=(Turn("user", "Hi."), Turn("assistant", "Hello."))),
    Turn("user", "Hi."),
    ATTACK,
    Outcome(replace(make_prompt(), attack=ATTACK), None, "reply"),
    make_rollout(),
    make_rollout().response,
    make_completion(),
    scored(2.0),
    replace(scored(0.0), second=failed()),
    GeneratedText("text", truncated=True),
    SEQUENCE,
    MICRO_BATCH,
    Step((MICRO_BATCH,), 1, 2),
    SAMPLING,
    SampleRequest(0, make_prompt(), 1, 7, SAMPLING),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_survives_pickling(message: Message) -> None:
    copy = pickle.loads(pickle.dumps(message))
    assert copy == message
    assert type(copy) is type(message)


def test_packed_messages_unpickle_as_a_list() -> None:
    copy = pickle.loads(pickle.dumps(Packed(MESSAGES)))
    assert copy == MESSAGES
    assert type(copy) is list


def test_every_kind_is_tried() -> None:
    kinds = {type(message) for message in MESSAGES}
    assert {kind.__name__ for kind in kinds} == {kind.__name__ for kind in Message.__subclasses__()}
    for kind in kinds:
        assert is_dataclass(kind)
        assert kind.__slots__ == tuple(field.name for field in fields(kind)), "pickled by position"
        assert len(kind.__slots__) > 1, "attrgetter gives a tuple only for several fields"
