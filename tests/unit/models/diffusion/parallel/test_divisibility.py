"""Which latents divide over processes, and what an error advises where they do not."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemo_cosmos.batch import DataSpec
from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.errors import ConfigError, WrongSizeError
from nemo_cosmos.models.diffusion.model import DiffusionModel
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.parallel.cp_box import LatentBox
from nemo_cosmos.models.diffusion.parallel.divisibility import Sharing

sizes = st.integers(1, 8)


@given(st.tuples(sizes, sizes, sizes), sizes, sizes, st.booleans(), st.booleans())
def test_what_divides_can_be_cut(
    grid: tuple[int, int, int], context: int, sequence: int, each_frame: bool, even: bool
) -> None:
    if not Sharing(context, sequence, each_frame, even).divides(grid):
        return
    window = LatentBox.of(grid, (1, 1, 1), context, 0)
    frames, rows, columns = window.size_thw
    assert not (even and context > 1 and frames * rows * columns % 2)
    tokens_each, rest = divmod(frames * rows * columns, sequence)
    assert not rest
    if each_frame and frames > 1:
        assert tokens_each % (rows * columns) == 0, "processes hold whole frames"


@given(st.tuples(sizes, sizes, sizes), sizes, sizes, st.booleans(), st.booleans())
def test_the_advice_of_an_error_holds(
    grid: tuple[int, int, int], context: int, sequence: int, each_frame: bool, even: bool
) -> None:
    sharing = Sharing(context, sequence, each_frame, even)
    if sharing.divides(grid):
        sharing.check([grid], num_text_tokens=sequence)
        return
    with pytest.raises(ConfigError, match="Training has not started") as error:
        sharing.check([grid], num_text_tokens=sequence)
    advice = dict(re.findall(r"(\w+)_parallel_size to one of \[([\d, ]+)\]", str(error.value)))
    for size in map(int, advice.get("context", "").split(", ") if "context" in advice else ()):
        Sharing(size, sequence, each_frame, even).check([grid], num_text_tokens=sequence)
    for size in map(int, advice.get("tensor_model", "1").split(", ")):
        assert size == 1 or Sharing(context, size, each_frame, even).divides(grid)


def test_an_error_names_sizes_that_all_latents_divide_over() -> None:
    grids = [(3, 2, 2), (1, 2, 2)]
    Sharing(context_parallel=2).check(grids, 7)
    with pytest.raises(ConfigError, match=r"12 tokens \(3 x 2 x 2\).*over 5.*one of \[1, 2, 4\]"):
        Sharing(context_parallel=5).check(grids, 7)
    with pytest.raises(ConfigError, match=r"text_length to a multiple of 4, such as 8"):
        Sharing(sequence_parallel=4).check(grids, 7)


def setup(latent_thw: tuple[int, int, int], control: str | None = None, **layout: object) -> None:
    config = DiTConfig(
        num_layers=4, hidden_size=48, num_attention_heads=4, crossattn_emb_channels=12,
        adaln_lora_dim=8, **{"layer_spec": "local", **layout},
    )  # fmt: skip
    controls = () if control is None else (ControlSpec(control),)
    model = DiffusionModel(config, controls=controls)
    data = SimpleNamespace(data_spec=lambda: DataSpec((latent_thw,), num_text_tokens=8))
    model._trainer = SimpleNamespace(datamodule=data, strategy=SimpleNamespace(fsdp=None))
    model.setup("fit")


def test_transformer_engine_needs_an_even_number_of_tokens_on_a_rank() -> None:
    """Its attention over context-parallel ranks cuts a rank's tokens in two under any mask."""
    setup((3, 2, 4), context_parallel_size=2)  # two boxes of three tokens
    setup((3, 2, 4), layer_spec="transformer_engine")
    setup((3, 4, 4), context_parallel_size=2, layer_spec="transformer_engine")
    with pytest.raises(ConfigError, match=r"even number of tokens each.*to one of \[1, 3\]"):
        setup((3, 2, 4), context_parallel_size=2, layer_spec="transformer_engine")


def test_the_model_refuses_data_before_it_is_built() -> None:
    setup((3, 4, 4), context_parallel_size=3)
    with pytest.raises(ConfigError, match=r"over 5 context.*\[1, 2, 3, 4, 6, 12\]"):
        setup((3, 4, 4), context_parallel_size=5)
    with pytest.raises(WrongSizeError, match="multiples of 2"):
        setup((3, 5, 4))


def test_processes_share_frames_that_a_control_steers() -> None:
    layout = {"tensor_model_parallel_size": 2, "sequence_parallel": True}
    setup((3, 4, 4), **layout)
    setup((4, 4, 4), "action", **layout)
    with pytest.raises(ConfigError, match=r"share whole frames.*sequence_parallel=false"):
        setup((3, 4, 4), "action", **layout)
