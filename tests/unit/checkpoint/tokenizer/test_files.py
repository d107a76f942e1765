"""Tokenizers of diffusers and of original files, TorchScript archives among them."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from nemo_cosmos.checkpoint.convert import export_checkpoint, import_checkpoint
from nemo_cosmos.checkpoint.formats.jit import JitSource
from nemo_cosmos.checkpoint.tokenizer.files import import_tokenizer
from nemo_cosmos.errors import CheckpointError, ConfigError, InputError, MissingFileError
from nemo_cosmos.models.tokenizer.latent_stats import LatentStats
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer

NANO = "tokenizer_nano_cv4x8x8"


def make_tokenizer(name: str = NANO, frames: int = 5, **changes) -> VideoTokenizer:
    torch.manual_seed(3)
    config = replace(TOKENIZERS[name], **changes)
    stats = (
        None
        if config.discrete
        else LatentStats(torch.randn(16, frames), torch.rand(16, frames) + 0.5)
    )
    return VideoTokenizer(TokenizerNetwork(config), stats)


def assert_same_function(left: VideoTokenizer, right: VideoTokenizer) -> None:
    frames = 1 if left.config.kind == "image" else 9
    video = torch.rand(1, 3, frames, 32, 32) * 2 - 1
    latents = left.encode(video)
    torch.testing.assert_close(latents, right.encode(video), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(left.decode(latents), right.decode(latents), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("format", "name"),
    [
        ("diffusers", NANO),
        ("cosmos", NANO),
        ("cosmos", "tokenizer_nano_dv4x8x8"),
        ("cosmos", "tokenizer_nano_ci8x8"),
    ],
)
def test_there_and_back(tmp_path, format, name):
    ours = make_tokenizer(name)
    ours.save(tmp_path / "ours")
    export_checkpoint(tmp_path / "ours", tmp_path / "theirs", format)
    once = import_checkpoint(tmp_path / "theirs", tmp_path / "once")
    again = VideoTokenizer.from_folder(once)
    # Nano tokenizers raise fine wavelet bands by 8, which others do not know: it is folded into
    # the first and last convolution.
    assert again.config.high_band_gain == 1.0 != ours.config.high_band_gain
    assert_same_function(ours, again)
    export_checkpoint(once, tmp_path / "second", format)
    twice = VideoTokenizer.from_folder(import_checkpoint(tmp_path / "second", tmp_path / "twice"))
    for key, value in again.state_dict().items():
        assert torch.equal(twice.state_dict()[key], value), key


def scripted(tokenizer: VideoTokenizer, file: Path, *parts: str) -> None:
    """A TorchScript archive with the parameters of some parts of a network."""

    class Holder(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    root = Holder()
    for name, value in tokenizer.net.state_dict().items():
        if parts and not name.startswith(parts):
            continue
        *path, leaf = name.split(".")
        module = root
        for step in path:
            if not hasattr(module, step):
                module.add_module(step, Holder())
            module = getattr(module, step)
        module.register_buffer(leaf, value.clone())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(root), str(file))


def test_torchscript_archives_are_read_without_running_them(tmp_path):
    ours = make_tokenizer("tokenizer_cv4x8x8", channels=8, num_res_blocks=1)
    for folder, files in (
        ("one", {"autoencoder.jit": ()}),
        ("two", {"encoder.jit": ("encoder", "quant"), "decoder.jit": ("decoder", "post_quant")}),
    ):
        (tmp_path / folder).mkdir()
        for name, parts in files.items():
            scripted(ours, tmp_path / folder / name, *parts)
        torch.save(
            (ours.stats.mean.flatten(), ours.stats.std.flatten()), tmp_path / folder / "mean_std.pt"
        )
        with pytest.raises(CheckpointError, match=r"not a known tokenizer.*nearest is"):
            import_tokenizer(tmp_path / folder)
    source = JitSource(tmp_path / "one" / "autoencoder.jit")
    state = ours.net.state_dict()
    assert source.specs.keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(source.read(name), value), name


@pytest.mark.slow
def test_a_published_tokenizer_is_found_by_its_weights(tmp_path):
    ours = make_tokenizer("tokenizer_cv8x8x8", frames=16)
    ours = VideoTokenizer(ours.net.to(torch.bfloat16), ours.stats)
    scripted(ours, tmp_path / "autoencoder.jit")
    torch.save([ours.stats.mean, ours.stats.std], tmp_path / "mean_std.pt")
    found = import_tokenizer(tmp_path)
    assert found.config == ours.config and torch.equal(found.stats.mean, ours.stats.mean)
    for key, value in ours.net.named_parameters():
        assert torch.equal(found.net.get_parameter(key), value.float()), key


def with_table(file: Path, content: bytes) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x/data.pkl", content)
        archive.writestr("x/code/y.py", "")


class RunsCode:
    def __reduce__(self):
        return Path.touch, (Path("/tmp/nemo_cosmos_pwned"),)


def test_malicious_and_damaged_archives(tmp_path):
    file = tmp_path / "autoencoder.jit"
    with_table(file, pickle.dumps(RunsCode()))
    with pytest.raises(CheckpointError, match=r"the name pathlib\..*nothing of it was run"):
        import_tokenizer(file)
    with_table(file, pickle.dumps({"a": 1}))
    with pytest.raises(CheckpointError, match="no tensor"):
        import_tokenizer(file)
    file.write_bytes(b"PK no more")
    with pytest.raises(CheckpointError, match="not a TorchScript archive"):
        import_tokenizer(file)
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(1)}, buffer)
    file.write_bytes(buffer.getvalue())
    with pytest.raises(CheckpointError, match="no module tree and code"):
        import_tokenizer(file)
    with pytest.raises(MissingFileError):
        JitSource(tmp_path / "nowhere.jit")
    assert not Path("/tmp/nemo_cosmos_pwned").exists()


def test_what_diffusers_cannot_hold(tmp_path):
    make_tokenizer("tokenizer_nano_dv4x8x8").save(tmp_path / "dv")
    with pytest.raises(ConfigError, match="--format cosmos"):
        export_checkpoint(tmp_path / "dv", tmp_path / "out", "diffusers")
    with pytest.raises(ConfigError, match="not exported as a NeMo"):
        export_checkpoint(tmp_path / "dv", tmp_path / "out", "nemo")
    with pytest.raises(InputError, match="of ours already"):
        import_checkpoint(tmp_path / "dv", tmp_path / "out")


def test_wrong_statistics(tmp_path):
    make_tokenizer().save(tmp_path / "ours")
    export_checkpoint(tmp_path / "ours", tmp_path / "theirs", "cosmos")
    torch.save((torch.ones(7), torch.ones(7)), tmp_path / "theirs" / "mean_std.pt")
    with pytest.raises(CheckpointError, match="statistics of 16 channels"):
        import_tokenizer(tmp_path / "theirs", NANO)
    torch.save(torch.ones(16), tmp_path / "theirs" / "mean_std.pt")
    with pytest.raises(CheckpointError, match="holds Tensor"):
        import_tokenizer(tmp_path / "theirs", NANO)
