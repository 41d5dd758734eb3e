"""A tiny model that answers given questions with given texts: any chat template, marks and endings on real engines."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rapo_ray.models.chat_template import read_format
from tests.tiny import CHAT_TEMPLATE, tiny_model

STEPS = 600
LEARNING_RATE = 4e-3
CERTAIN = 0.02  # nats a token, at most, for the least certain reply: rounding in an engine then changes nothing


def scripted_model(
    path: Path,
    replies: Mapping[str | tuple[str | None, str], str],
    template: str = CHAT_TEMPLATE,
    special_tokens: Sequence[str] = (),
    systems: Sequence[str | None] = (None,),
    seed: int = 0,
    begun: Mapping[tuple[str, str], str] | None = None,
) -> Path:
    """Write a tiny model whose greedy completion of each user's text is its reply and the end of turn.

    Every reply is the text behind the rendered generation prompt, marks included, under each of the system turns, or
    under the one that a pair of system turn and user's text names. `begun` has the rest of the completion where its
    thinking begins with a given text, by user's text and beginning.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tiny_model(path, seed=seed, template=template, special_tokens=special_tokens)
    tokenizer: Any = AutoTokenizer.from_pretrained(path)
    model: Any = AutoModelForCausalLM.from_pretrained(path)
    pairs = [
        (_prompt(tokenizer, system, user), [*_ids(tokenizer, reply), tokenizer.eos_token_id])
        for key, reply in replies.items()
        for system, user in ([key] if isinstance(key, tuple) else [(system, key) for system in systems])
    ]
    pairs += [
        (
            _prompt(tokenizer, system, user) + _ids(tokenizer, beginning),
            [*_ids(tokenizer, rest), tokenizer.eos_token_id],
        )
        for (user, thinking), rest in (begun or {}).items()
        for beginning in [read_format(tokenizer).begin(thinking)]
        for system in systems
    ]
    _memorise(model, pairs)
    for prompt, reply in pairs:
        written = _greedy(model, prompt, len(reply), tokenizer.eos_token_id)
        assert written == reply, f"the model writes {tokenizer.decode(written)!r} for {tokenizer.decode(reply)!r}"
    model.save_pretrained(path)
    return path


def _prompt(tokenizer: Any, system: str | None, user: str) -> list[int]:
    turns = read_format(tokenizer).turns(system, user)
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return _ids(tokenizer, text)


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


def _memorise(model: Any, pairs: list[tuple[list[int], list[int]]]) -> None:
    """Train until every reply is certain."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    length = max(len(prompt) + len(reply) for prompt, reply in pairs)
    input_ids = torch.zeros(len(pairs), length, dtype=torch.long)  # (pairs, tokens), padded on the right
    labels = torch.full_like(input_ids, -100)
    for row, (prompt, reply) in enumerate(pairs):
        input_ids[row, : len(prompt) + len(reply)] = torch.tensor(prompt + reply)
        labels[row, len(prompt) : len(prompt) + len(reply)] = torch.tensor(reply)
    model.train()
    for _ in range(STEPS):
        logits = model(input_ids=input_ids).logits[:, :-1]
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels[:, 1:], reduction="none")
        if losses.max() < CERTAIN:
            break
        optimizer.zero_grad()
        losses[labels[:, 1:] != -100].mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()


@torch.no_grad()
def _greedy(model: Any, prompt: list[int], limit: int, end: int) -> list[int]:
    ids = list(prompt)
    while len(ids) < len(prompt) + limit and ids[-1:] != [end]:
        ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]
