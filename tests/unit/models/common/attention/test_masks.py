from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from megatron.core.transformer.enums import AttnMaskType

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.attention.masks import (
    CAUSAL,
    FULL,
    BlockCausalMask,
    CausalMask,
    RunMask,
    TreeMask,
    Visibility,
    key_ranges,
    mask_of,
)
from nemo_cosmos.models.common.attention.transformer_engine import te_mask

CPU = torch.device("cpu")


def sees(mask: RunMask, query: int, key: int) -> bool:
    """The masks in other words: pair by pair."""
    if isinstance(mask, CausalMask):
        return key <= query and (mask.window is None or query - key < mask.window)
    if isinstance(mask, BlockCausalMask):
        distance = query // mask.block_size - key // mask.block_size
        return distance >= 0 and (mask.window_blocks is None or distance < mask.window_blocks)
    return True


masks = st.one_of(
    st.just(FULL),
    st.builds(CausalMask, st.none() | st.integers(1, 9)),
    st.builds(BlockCausalMask, st.integers(1, 5), st.none() | st.integers(1, 3)),
)
runs = st.tuples(st.integers(0, 12), st.integers(1, 8)).map(lambda run: range(run[0], sum(run)))


@given(mask=masks, queries=runs, keys=runs)
@settings(max_examples=300, deadline=None)
def test_a_block_is_visible_as_its_pairs_are(mask: RunMask, queries: range, keys: range) -> None:
    expected = torch.tensor([[sees(mask, query, key) for key in keys] for query in queries])
    found = mask.is_visible(torch.tensor(list(queries)), torch.tensor(list(keys)))
    assert torch.equal(found, expected)
    visibility = mask.visibility(queries, keys)
    if visibility is Visibility.ALL:
        assert expected.all()
    elif visibility is Visibility.NOTHING:
        assert not expected.any()
    if expected.all():
        assert visibility is Visibility.ALL, "a whole block needs no comparison"


@given(mask=masks, num_queries=st.integers(1, 8), offsets=st.lists(st.integers(0, 9), min_size=1))
@settings(max_examples=200, deadline=None)
def test_ranges_are_the_mask_of_a_cache(
    mask: RunMask, num_queries: int, offsets: list[int]
) -> None:
    """Samples of different lengths: what lies behind a sample's own tokens is hidden."""
    num_keys = max(offsets) + num_queries
    ranges = key_ranges(mask, num_queries, num_keys, offsets)
    for sample, offset in enumerate(offsets):
        expected = torch.tensor(
            [
                [
                    sees(mask, offset + query, key) and key < offset + num_queries
                    for key in range(num_keys)
                ]
                for query in range(num_queries)
            ]
        )
        if ranges is None:
            assert expected.all()
            continue
        seen = ranges.mask(num_keys)
        assert torch.equal(seen if seen.dim() == 2 else seen[sample, 0], expected)
        assert not ranges.is_triangle or torch.equal(expected, torch.ones_like(expected).tril())


def test_one_query_behind_all_keys_needs_no_mask() -> None:
    assert key_ranges(CAUSAL, 1, 6, [5]) is None
    assert key_ranges(FULL, 4, 7) is None, "of two sequences"
    ranges = key_ranges(CAUSAL, 6, 6)
    assert ranges is not None and ranges.is_triangle


@given(data=st.data(), offsets=st.lists(st.integers(0, 9), min_size=1, max_size=3))
@settings(max_examples=100, deadline=None)
def test_a_node_sees_the_sequence_and_its_ancestors(
    data: st.DataObject, offsets: list[int]
) -> None:
    num_nodes = data.draw(st.integers(1, 7))
    parents = [data.draw(st.integers(-1, node - 1)) for node in range(num_nodes)]
    num_keys = max(offsets) + num_nodes
    seen = key_ranges(TreeMask(tuple(parents)), num_nodes, num_keys, offsets)
    assert seen is not None and not seen.is_triangle
    table = seen.mask(num_keys)
    for sample, offset in enumerate(offsets):
        for node in range(num_nodes):
            visible, ancestor = set(range(offset)), node
            while ancestor >= 0:
                visible.add(offset + ancestor)
                ancestor = parents[ancestor]
            row = (table if table.dim() == 2 else table[sample, 0])[node]
            assert set(row.nonzero()[:, 0].tolist()) == visible


def test_trees_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="Node 1 of a tree has the parent 1"):
        TreeMask((-1, 1))
    with pytest.raises(ConfigError, match="3 nodes masks 2 queries"):
        key_ranges(TreeMask((-1, 0, 1)), 2, 5, [3])
    kind, hidden = te_mask(TreeMask((-1, 0, 0)), 3, 5, [2], CPU)
    assert kind is AttnMaskType.arbitrary and hidden is not None
    assert hidden[0, 0, 2].tolist() == [False, False, False, True, False]


def test_transformer_engine_has_words_for_the_usual_masks() -> None:
    assert te_mask(FULL, 4, 9, [0], CPU) == (AttnMaskType.no_mask, None)
    assert te_mask(CAUSAL, 4, 4, [0], CPU) == (AttnMaskType.causal, None)
    assert te_mask(CAUSAL, 1, 4, [3], CPU) == (AttnMaskType.no_mask, None)
    assert te_mask(CAUSAL, 2, 4, [2], CPU) == (AttnMaskType.causal_bottom_right, None)
    kind, hidden = te_mask(BlockCausalMask(2), 4, 4, [0], CPU)
    assert kind is AttnMaskType.arbitrary and hidden is not None
    assert hidden[0, 0, 0].tolist() == [False, False, True, True]


def test_masks_that_hide_everything_are_refused() -> None:
    with pytest.raises(ConfigError, match="window=0"):
        CausalMask(0)
    with pytest.raises(ConfigError, match="block_size=0"):
        BlockCausalMask(0)
    with pytest.raises(ConfigError, match=r"padding.*no_mask or causal"):
        mask_of(AttnMaskType.padding)
