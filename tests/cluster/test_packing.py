"""Rows of several sequences against one sequence per row: the same log-probs and gradients (a real model, float64)."""

from pathlib import Path

import pytest
import torch

from rapo_ray.trainer import attention
from rapo_ray.trainer.batch import MicroBatch
from rapo_ray.trainer.model import ActionLogProbs, collate, load_language_model
from rapo_ray.types import Sequence
from tests.tiny import VOCAB_SIZE, tiny_model

pytestmark = pytest.mark.cluster  # a model, no Ray


def sequence(prompt: tuple[int, ...], length: int, seed: int) -> Sequence:
    """Make a sequence of random completion tokens after a prompt."""
    tokens = torch.randint(0, VOCAB_SIZE, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return Sequence(prompt, tuple(tokens), 1.0, ())


SHORT, LONG = tuple(range(10, 15)), tuple(range(20, 43))
SEQUENCES = [sequence(LONG, 7, 1), sequence(LONG, 1, 2), sequence(LONG, 19, 3), sequence(SHORT, 11, 4)]
LAYOUTS = {
    "one per row": [(s,) for s in SEQUENCES],
    "all in one row": [tuple(SEQUENCES)],
    "two rows": [tuple(SEQUENCES[:2]), tuple(SEQUENCES[2:])],
    "a prompt that recurs": [(SEQUENCES[3], SEQUENCES[0]), (SEQUENCES[1],), (SEQUENCES[2],)],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"), seed=0)


def run(
    folder: Path, rows: list[tuple[Sequence, ...]], temperature: float
) -> tuple[dict[int, list[float]], torch.Tensor]:
    """Return the log-probs by sequence, and the gradient of a weighted sum of them."""
    language_model = load_language_model(folder, "float32")
    module = ActionLogProbs(language_model, temperature).double()
    assert language_model.config._attn_implementation == attention.NAME
    batch = collate(MicroBatch(tuple(rows)))
    logprobs, _ = module(batch)
    sequences = [s for row in rows for s in row]
    by_sequence = {id(s): row[mask] for s, row, mask in zip(sequences, logprobs, batch.action_mask, strict=True)}
    loss = sum((by_sequence[id(s)] * (number + 1)).sum() for number, s in enumerate(SEQUENCES))
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in module.parameters() if parameter.grad is not None])
    return {key: values.tolist() for key, values in by_sequence.items()}, gradient


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "one per row"])
def test_packed_rows_give_the_same_logprobs_and_gradients(model: Path, layout: str, temperature: float) -> None:
    plain, plain_gradient = run(model, LAYOUTS["one per row"], temperature)
    packed, packed_gradient = run(model, LAYOUTS[layout], temperature)
    for key, values in plain.items():
        assert packed[key] == pytest.approx(values, abs=1e-5)
    assert plain_gradient.norm() > 0
    assert (packed_gradient - plain_gradient).abs().max() <= 1e-5


@pytest.mark.parametrize("rows", [1, 5, 16])
def test_logits_in_chunks_give_the_same_logprobs_and_gradients(
    model: Path, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, whole_gradient = run(model, LAYOUTS["two rows"], 0.7)
    monkeypatch.setattr("rapo_ray.trainer.head.LOGIT_ROWS", rows)
    chunked, gradient = run(model, LAYOUTS["two rows"], 0.7)
    for key, values in whole.items():
        assert chunked[key] == pytest.approx(values, abs=1e-5)
    assert (gradient - whole_gradient).abs().max() <= 1e-5


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_logprobs_are_transformers_own(model: Path, temperature: float) -> None:
    language_model = load_language_model(model, "float32")
    logprobs, _ = run(model, LAYOUTS["all in one row"], temperature)
    for one in SEQUENCES:
        logits = language_model(torch.tensor([one.tokens])).logits[0, len(one.prompt) - 1 : -1] / temperature
        labels = torch.tensor(one.completion)
        expected = torch.log_softmax(logits, -1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        assert logprobs[id(one)] == pytest.approx(expected.tolist(), abs=1e-4)


def test_the_entropies_are_of_every_fourth_token(model: Path) -> None:
    module = ActionLogProbs(load_language_model(model, "float32"), 1.0)
    one = SEQUENCES[2]
    _, entropies = module(collate(MicroBatch(((one,),))))
    logits = module.language_model(torch.tensor([one.tokens])).logits[0, len(one.prompt) - 1 : -1]
    expected = torch.distributions.Categorical(logits=logits).entropy()[::4]
    assert entropies.tolist() == pytest.approx(expected.tolist(), abs=1e-4)
