"""The control that post_training/custom.md adds, taken from the page itself and installed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import fiddle as fdl
import numpy as np
import pytest
import torch
from PIL import Image

import recipes.diffusion  # noqa: F401 - NeMo does not import while standard output is captured
from nemo_cosmos.cli.main import Exit
from nemo_cosmos.controls import get_control, known_signal
from nemo_cosmos.errors import SampleError
from nemo_cosmos.guardrails.audit import AUDIT_VARIABLE
from nemo_cosmos.models.diffusion.controls import NetworkDims
from nemo_cosmos.testing.tiny import write_world
from nemo_cosmos.video import decode

PAGE = Path(__file__).parents[3] / "post_training" / "custom.md"
DIMS = NetworkDims(hidden_size=8, context_size=4, temporal_factor=4, spatial_factor=8)


def block(language: str, number: int = 0) -> str:
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)[number]


@pytest.fixture(autouse=True)
def installed(tmp_path, monkeypatch):
    """A package as pip would install it: the page's file, and the entry point of its TOML."""
    site = tmp_path / "site"
    info = site / "my_depth-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "my_depth.py").write_text(block("python"), encoding="utf-8")
    header, entry = block("toml").splitlines()
    group = re.fullmatch(r'\[project\.entry-points\."(.+)"\]', header)
    assert group is not None
    (info / "entry_points.txt").write_text(f"[{group[1]}]\n{entry.replace(chr(34), '')}\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-depth\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv(AUDIT_VARIABLE, str(tmp_path / "audit.jsonl"))
    yield
    sys.modules.pop("my_depth", None)


def test_every_command_knows_its_signal():
    signal = known_signal("depth.npy")
    assert signal is not None
    values = signal.values(np.ones((9, 6, 8), np.float32))
    signal.check(values, num_frames=9)
    assert signal.batch(values, 2, 5)["depth"].shape == (5, 6, 8)
    with pytest.raises(SampleError, match="9 rows; expected 10"):
        signal.check(values, num_frames=10)


def test_its_embedder_starts_without_effect_and_learns():
    embedder = get_control("depth").embedder("diffusion").build(DIMS, far_m=4.0)
    depth_BTHW = torch.full((2, 9, 12, 16), 4.0)
    depth_BTHW[:, 8, :6] = 1.0  # the upper half comes near at the end
    latent_shape = (2, 16, 3, 4, 6)
    channel = embedder({"depth": depth_BTHW}, latent_shape).latent_channels_BCTHW
    assert channel.shape == (2, 1, 3, 4, 6) and not channel.any()
    torch.nn.init.ones_(embedder.gain)
    channel = embedder({"depth": depth_BTHW}, latent_shape).latent_channels_BCTHW
    assert not channel[:, :, :2].any() and not channel[:, :, 2, 2:].any()
    torch.testing.assert_close(channel[:, :, 2, :2], torch.full((2, 1, 2, 6), 0.75))
    channel.sum().backward()
    assert embedder.gain.grad.item() != 0
    with pytest.raises(SampleError, match=r"depth\.npy"):
        embedder({}, latent_shape)


def test_a_world_with_it_is_steered_by_files(run_cli, tmp_path):
    world = write_world(
        tmp_path / "world",
        controls=("depth",),
        text_encoder={"kind": "embedded", "path": None, "max_length": 32, "dim": 512},
        control_channels=1,
        crossattn_emb_channels=512,
        std=0.3,
    )
    Image.new("RGB", (48, 32)).save(tmp_path / "start.png")
    np.save(tmp_path / "near.npy", np.zeros((9, 6, 8), np.float32))
    np.save(tmp_path / "far.npy", np.full((9, 6, 8), 10, np.float32))
    np.save(tmp_path / "few.npy", np.zeros((8, 6, 8), np.float32))

    def predict(depth: str):
        words = ["--control", f"depth={tmp_path / depth}.npy", "--out", tmp_path / f"{depth}.mp4"]
        words += ["--guidance", "0", "--steps", "1", "--disable-guard", "face_blur"]
        return run_cli("predict", world, "--input", tmp_path / "start.png", *words)

    videos = []
    for name in ("near", "far"):
        ran = predict(name)
        assert ran.code == Exit.DONE, ran.err
        videos.append(decode(tmp_path / f"{name}.mp4").frames_THWC)
    assert not np.array_equal(*videos)
    ran = predict("few")
    assert ran.code == Exit.WRONG_USE and "few.npy" in ran.err.replace("\n", "")


def test_its_recipe_makes_a_model_with_it():
    *lines, last = block("python", 1).strip().splitlines()
    assert last == "run.run(recipe, direct=True)", "training itself is the recipes' test"
    names: dict[str, object] = {}
    exec(compile("\n".join(lines), str(PAGE), "exec"), names)  # our own page
    recipe = names["recipe"]
    assert recipe.data.controls == ["depth"]
    model = fdl.build(recipe.model)
    assert [(spec.name, dict(spec.options)) for spec in model.controls] == [
        ("depth", {"far_m": 5.0})
    ]
    assert model.config.control_channels == 1
