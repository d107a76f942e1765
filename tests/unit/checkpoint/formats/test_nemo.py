"""Distributed checkpoints from elsewhere: verified, and read without running what they say."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch

from nemo_cosmos.checkpoint.convert import export_checkpoint, import_checkpoint
from nemo_cosmos.checkpoint.formats.nemo import NemoBoxes, verify_checkpoint
from nemo_cosmos.errors import CheckpointError, InputError, MissingFileError


@pytest.fixture
def checkpoint(make_world, tmp_path) -> Path:
    return export_checkpoint(make_world(), tmp_path / "nemo", "nemo")


class RunsCode:
    def __reduce__(self):
        return Path.touch, (Path("/tmp/nemo_cosmos_pwned"),)


def cut(name: str, num_bytes: int = 1):
    def apply(weights: Path) -> None:
        (weights / name).write_bytes((weights / name).read_bytes()[:-num_bytes])

    return apply


def flip(name: str):
    def apply(weights: Path) -> None:
        content = bytearray((weights / name).read_bytes())
        content[content.index(b"content_metadata")] ^= 1
        (weights / name).write_bytes(content)

    return apply


DAMAGES = {
    "data cut": (cut("__0_0.distcp"), CheckpointError, r"__0_0\.distcp.*bytes"),
    "data gone": (lambda w: (w / "__0_0.distcp").unlink(), CheckpointError, "has 0 of at least"),
    "table cut": (cut(".metadata", 200), CheckpointError, "not the table"),
    "table gone": (lambda w: (w / ".metadata").unlink(), MissingFileError, "incomplete"),
    "table runs code": (
        lambda w: (w / ".metadata").write_bytes(pickle.dumps(RunsCode())),
        CheckpointError,
        r"it holds the name pathlib\.",
    ),
    "common cut": (cut("common.pt", 30), CheckpointError, r"common\.pt"),
    "common flipped": (flip("common.pt"), CheckpointError, "checksum"),
    "unfinished": (lambda w: (w / "metadata.json").unlink(), CheckpointError, "written last"),
    "format cut": (cut("metadata.json", 9), CheckpointError, "not the description"),
    "other format": (
        lambda w: (w / "metadata.json").write_text(json.dumps({"sharded_backend": "zarr"})),
        CheckpointError,
        "'zarr'",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_before_anything_is_loaded(checkpoint, damage):
    change, error, message = DAMAGES[damage]
    change(checkpoint / "weights")
    with pytest.raises(error, match=message):
        verify_checkpoint(checkpoint)
    assert not Path("/tmp/nemo_cosmos_pwned").exists()


def test_any_box_of_a_tensor(checkpoint, make_world):
    boxes = NemoBoxes(checkpoint)
    key = "module.blocks.layers.self_attention.linear_qkv.weight"
    whole = boxes.read_box(key, ((0, 0, 0), (2, 144, 48)))
    part = boxes.read_box(key, ((0, 100, 7), (2, 20, 11)))
    assert torch.equal(part, whole[:, 100:120, 7:18]), "a box over two chunks"


def test_megatron_reads_what_we_write(checkpoint, make_world):
    """With Megatron-Core's own loader, into a network built as training builds it."""
    from megatron.core import dist_checkpointing

    from nemo_cosmos.checkpoint.world.folder import load_world

    world = load_world(make_world())
    state = world.net.sharded_state_dict(prefix="module.")
    for entry in state.values():
        if isinstance(getattr(entry, "data", None), torch.Tensor):
            entry.data = torch.full_like(entry.data, torch.nan)
    loaded = dist_checkpointing.load(state, str(checkpoint / "weights"))
    for name, value in world.net.state_dict().items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(loaded[f"module.{name}"], value), name


def test_a_checkpoint_that_does_not_say_what_it_is(checkpoint, tmp_path):
    (checkpoint / "nemo_cosmos.json").unlink()
    with pytest.raises(InputError, match="--model diffusion_7b_text2world"):
        import_checkpoint(checkpoint, tmp_path / "again")
    with pytest.raises(CheckpointError, match=r"of another shape .*module\."):
        import_checkpoint(checkpoint, tmp_path / "again", model="diffusion_nano_text2world")
