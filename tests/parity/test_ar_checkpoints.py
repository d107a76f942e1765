"""Original checkpoint files, whole and in parts, give a small reference the same logits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nemo_cosmos.checkpoint.convert import export_checkpoint, import_checkpoint
from nemo_cosmos.checkpoint.world.config import WorldConfig
from nemo_cosmos.checkpoint.world.folder import load_world, save_world
from nemo_cosmos.errors import CheckpointError, ConfigError, MissingFileError
from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.autoregressive.network.transformer import ARNetwork, TokenInput
from nemo_cosmos.models.autoregressive.process.config import ARProcess
from nemo_cosmos.models.autoregressive.settings import ARSettings
from nemo_cosmos.platform import ensure_model_parallel
from nemo_cosmos.testing.tiny import tiny_tokenizer
from tests.parity.ar_reference import reference_logits

GRID = (3, 4, 5)
TEXT = {"context_channels": 20, "absolute_positions": True, "begin_token": True}


def build(folder: Path, **changes: object) -> Path:
    """A world of random weights, of which none is zero."""
    ensure_model_parallel()
    sizes = {"num_layers": 2, "hidden_size": 48, "ffn_hidden_size": 40, "vocab_size": 75}
    heads = {"num_attention_heads": 4, "num_query_groups": 2, "layer_spec": "local"}
    config = ARConfig(**{**sizes, **heads, **changes})  # type: ignore[arg-type]
    net = ARNetwork(config)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in net.parameters():
            scale, offset = (0.15, 0.0) if parameter.ndim == 2 else (0.3, 1.0)
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale + offset)
    world = WorldConfig(
        family="autoregressive",
        model=ARSettings(config.architecture(), ARProcess(condition_latents=0)),
        text_encoder={"kind": "t5", "path": "nowhere", "max_length": 7, "dim": 20},
        video={"num_frames": 9, "fps": 10.0, "height": 32, "width": 48},
        preset="tiny",
    )
    save_world(folder, net, world, tiny_tokenizer("tokenizer_nano_dv4x8x8", fsq_levels=(5, 5, 3)))
    return folder


def original_state(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of one file, or of two ranks' files, put together as the reference's loader."""
    file = folder / "model.pt"
    files = [file] if file.exists() else sorted(folder.glob("model_model_mp_*.pt"))
    states = [torch.load(one, weights_only=True) for one in files]
    whole = {}
    for name, first in states[0].items():
        kind = name.split(".")[-2]
        if kind in ("wq", "wk", "wv", "w1", "w3", "tok_embeddings", "output"):
            whole[name] = torch.cat([state[name] for state in states], dim=0)
        elif kind in ("wo", "w2"):
            whole[name] = torch.cat([state[name] for state in states], dim=1)
        else:
            whole[name] = first
    return {name.removeprefix("model."): tensor for name, tensor in whole.items()}


@pytest.mark.parametrize("format", ["cosmos", "cosmos-tp2"])
@pytest.mark.parametrize("text", [False, True])
def test_the_same_file_gives_the_same_logits(tmp_path: Path, format: str, text: bool) -> None:
    world = build(tmp_path / "world", **(TEXT if text else {}))
    export_checkpoint(world, tmp_path / "original", format)
    state = original_state(tmp_path / "original")
    assert len(list((tmp_path / "original").glob("*.pt"))) == (2 if format == "cosmos-tp2" else 1)
    net = load_world(import_checkpoint(tmp_path / "original", tmp_path / "again")).net
    generator = torch.Generator().manual_seed(6)
    tokens = torch.randint(75, (2, 60), generator=generator)
    if text:
        tokens[:, 0] = 75
    context = torch.randn(2, 7, 20, generator=generator) if text else None
    places = net.place_table(GRID, torch.device("cpu")).at(torch.arange(60))
    with torch.no_grad():
        found = net(TokenInput(tokens, places, context)).transpose(0, 1)
    expected = reference_logits(state, tokens, GRID, 12, text=context, begins=text, absolute=text)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_nemo_checkpoints_come_back(tmp_path: Path) -> None:
    world = build(tmp_path / "world")
    export_checkpoint(world, tmp_path / "nemo", "nemo")
    again = load_world(import_checkpoint(tmp_path / "nemo", tmp_path / "again")).net.state_dict()
    for name, tensor in load_world(world).net.state_dict().items():
        if isinstance(tensor, torch.Tensor):
            assert torch.equal(again[name], tensor), name


def test_damaged_parts_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    world = build(tmp_path / "world")
    parts = tmp_path / "parts"
    export_checkpoint(world, parts, "cosmos-tp2")
    (parts / "model_model_mp_0.pt").rename(tmp_path / "kept.pt")
    with pytest.raises(MissingFileError, match=r"not 'model_model_mp_0\.pt'"):
        import_checkpoint(parts, tmp_path / "again")
    (tmp_path / "kept.pt").rename(parts / "model_model_mp_0.pt")
    other = torch.load(parts / "model_model_mp_1.pt", weights_only=True)
    norm = "model.layers.0.attention_norm.weight"
    torch.save({**other, norm: other[norm] + 1}, parts / "model_model_mp_1.pt")
    with pytest.raises(CheckpointError, match="different 'model\\.layers"):
        import_checkpoint(parts, tmp_path / "again")
    (parts / "model_model_mp_1.pt").unlink()
    with pytest.raises(CheckpointError, match=r"shape.*part of 1 rank;.*copy their files"):
        import_checkpoint(parts, tmp_path / "again")
    with pytest.raises(ConfigError, match=r"do not divide over 8 ranks"):
        export_checkpoint(
            build(tmp_path / "odd", ffn_hidden_size=42), tmp_path / "out", "cosmos-tp8"
        )
    assert not (tmp_path / "again").exists() and not (tmp_path / "out").exists()
