"""Masks of packed rows, in every form, against the definition of what a token sees."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import create_block_mask, create_mask

from rapo_ray.trainer import packing as packing_module
from rapo_ray.trainer.batch import MicroBatch
from rapo_ray.trainer.model import collate
from rapo_ray.trainer.packing import BLOCK
from rapo_ray.types import Sequence

pytestmark = pytest.mark.cluster  # torch, no Ray

Rows = tuple[tuple[Sequence, ...], ...]
SEQUENCES = st.builds(
    lambda prompt, length: Sequence((prompt,) * (3 * prompt), (9,) * length, 1.0, ()),
    st.integers(1, 3),
    st.integers(1, 40),
)
ROWS = st.lists(st.lists(SEQUENCES, min_size=1, max_size=5).map(tuple), min_size=1, max_size=3).map(tuple)


def seen(rows: Rows) -> torch.Tensor:
    """Visible keys [R, L, L] by the definition: each token of a sequence sees its prompt and itself, up to it."""
    places: list[list[list[int]]] = []  # of each sequence, the columns of its tokens
    width = 0
    for row in rows:
        end, before, prompt = 0, None, range(0)
        places.append([])
        for each in row:
            if each.prompt != before:
                before, prompt = each.prompt, range(end, end + len(each.prompt))
                end = prompt.stop
            places[-1].append([*prompt, *range(end, end + len(each.completion))])
            end += len(each.completion)
        width = max(width, end)
    visible = torch.zeros(len(rows), width, width, dtype=torch.bool)
    for number, columns in enumerate(places):
        for each in columns:
            for index, query in enumerate(each):
                visible[number, query, each[: index + 1]] = True
        used = max(max(each) for each in columns) + 1
        visible[number, used:, used:] = torch.ones(width - used, width - used).tril().bool()
    return visible


def as_one(mask: torch.Tensor, size: int) -> torch.Tensor:
    """Masks [R, L, L] along the diagonal of one of `size`, whose padding is causal."""
    padding = size - mask.shape[0] * mask.shape[1]
    return torch.block_diag(*mask.int(), torch.ones(padding, padding).int().tril()).bool()


@given(ROWS)
@settings(max_examples=15, deadline=None)
def test_all_forms_of_a_mask_say_what_each_token_sees(rows: Rows) -> None:
    packing = collate(MicroBatch(rows)).packing
    visible = seen(rows)
    assert torch.equal(packing.dense().squeeze(1), visible)
    blocks = packing.blocks()
    size = packing.size
    expected = as_one(visible, size)
    assert torch.equal(create_mask(blocks.mask_mod, 1, 1, size, size, "cpu")[0, 0], expected)
    theirs = create_block_mask(blocks.mask_mod, 1, 1, size, size, "cpu")
    for mine, their in zip(blocks.as_tuple(), theirs.as_tuple(), strict=True):
        assert torch.equal(mine, their) if isinstance(mine, torch.Tensor) else mine is their or mine == their
    if not packing.shared:
        segments = [torch.ones(length, length).tril() for length in packing.ends.diff().tolist()]
        assert torch.equal(torch.block_diag(*segments).bool(), expected)
        assert packing.longest == max(packing.ends.diff())


@given(ROWS)
@settings(max_examples=15, deadline=None)
def test_rows_know_if_they_hold_several_sequences_and_share_prompts(rows: Rows) -> None:
    packing = collate(MicroBatch(rows)).packing
    assert packing.several == any(len(row) > 1 for row in rows)
    assert packing.shared == any(a.prompt == b.prompt for row in rows for a, b in pairwise(row))


def test_blocks_are_counted_a_slab_of_queries_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the dense mask of a long row is never alive, and the result is the same."""
    packing = collate(MicroBatch(((Sequence((1,) * 300, (2,) * 500, 1.0, ()),) * 2,))).packing
    whole = packing.blocks()
    monkeypatch.setattr(packing_module, "SLAB", BLOCK)
    largest = []
    visibility = packing_module.visibility

    def watched(*parts: torch.Tensor) -> packing_module.Visible:
        visible = visibility(*parts)
        return lambda *indices: largest.append(len(indices[2])) or visible(*indices)

    monkeypatch.setattr(packing_module, "visibility", watched)
    in_slabs = packing.blocks()
    assert largest == [BLOCK] * (packing.size // BLOCK)
    assert torch.equal(in_slabs.kv_indices, whole.kv_indices)
    assert torch.equal(in_slabs.kv_num_blocks, whole.kv_num_blocks)
