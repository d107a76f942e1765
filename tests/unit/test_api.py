"""The functions of the API on tiny real models: tokenizer, world, post-training, one process."""

from __future__ import annotations

import io

import fiddle as fdl
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import nemo_cosmos.api as api
from data_curation import OPTIONAL_STAGES, CurateSettings, MotionSettings, SplitSettings
from nemo_cosmos.controls import encode_arrays
from nemo_cosmos.data.schema import ClipRecord
from nemo_cosmos.data.shards.writer import CuratedWriter
from nemo_cosmos.data.tokenize.config import TokenizeConfig
from nemo_cosmos.data.tokenize.run import tokenize_shards
from nemo_cosmos.storage.run_curves import read_curves
from nemo_cosmos.video import Video, encode_video
from post_training.camera.moves import camera_path, camera_signal, parse_move
from recipes.overrides import apply_overrides
from recipes.registry import get_recipe

NUM_FRAMES, HEIGHT, WIDTH = 5, 32, 32
LATENT_SHAPE = (16, 2, HEIGHT // 8, WIDTH // 8)


def record(key: str) -> ClipRecord:
    return ClipRecord(
        key=key,
        source="film.mp4",
        span_s=(0.0, 1.0),
        fps=8.0,
        num_frames=NUM_FRAMES,
        width=WIDTH,
        height=HEIGHT,
        caption="a square moves",
        caption_source="template",
    )


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Four clips of noise, as curated shards."""
    root = tmp_path_factory.mktemp("clips")
    generator = np.random.default_rng(0)
    with CuratedWriter(root / "shards") as writer:
        for number in range(4):
            frames = generator.integers(0, 255, (NUM_FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
            encode_video(root / "clip.mp4", Video(frames, fps=8.0))
            actions = npy(np.full((NUM_FRAMES - 1, 7), number, np.float32))
            path = camera_path([parse_move(f"dolly:{number}")], NUM_FRAMES)
            camera = encode_arrays("camera.npz", camera_signal(path, (HEIGHT, WIDTH)))
            files = {"action.npy": actions, "camera.npz": camera}
            files["mp4"] = (root / "clip.mp4").read_bytes()
            writer.add(record(f"clip{number}"), files)
    return root / "shards"


@pytest.fixture(scope="module")
def tokenizer(clips, tmp_path_factory):
    """A trained tokenizer's run."""
    return train(
        "tokenizer_nano_cv4x8x8",
        clips,
        tmp_path_factory.mktemp("runs"),
        "trainer.max_steps=2",
        "model.config.channels=8",
        f"data.num_frames={NUM_FRAMES}",
        f"data.size=[{HEIGHT}, {WIDTH}]",
        "data.image_ratio=0.5",
        "model.losses.perceptual.values=[0]",
        "model.losses.perceptual.boundaries=[]",
        "model.stats_batches=4",
    )


@pytest.fixture(scope="module")
def latents(clips, tokenizer, tmp_path_factory):
    """The clips, tokenised."""
    from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer

    folder = tmp_path_factory.mktemp("latents") / "windows"
    text = {"kind": "embedded", "path": None, "max_length": 64, "dim": 16}
    tokenize_shards(
        clips,
        folder,
        encode=VideoTokenizer.from_folder(tokenizer / "export").encode,
        encode_text=lambda texts: (torch.ones(len(texts), 3, 16), torch.ones(len(texts), 3)),
        config=TokenizeConfig(window_frames=NUM_FRAMES, size=(HEIGHT, WIDTH)),
        describe={"tokenizer": str(tokenizer / "export"), "text_encoder": text},
    )
    return folder


TINY = (
    "model.config.num_layers=1",
    "model.config.hidden_size=64",
    "model.config.num_attention_heads=2",
    "model.config.crossattn_emb_channels=16",
    "model.config.adaln_lora_dim=8",
    "data.micro_batch_size=2",
    "data.global_batch_size=4",
    "trainer.log_every_n_steps=1",
)


def train(name, data, outputs, *words, post_training=False):
    recipe = get_recipe(name, post_training)
    apply_overrides(recipe, [f"data.path={data}", f"log.log_dir={outputs}", *words])
    return fdl.build(recipe)()


@pytest.fixture(scope="module")
def world(latents, tmp_path_factory):
    outputs = tmp_path_factory.mktemp("runs")
    return train("diffusion_nano_video2world", latents, outputs, "trainer.max_steps=3", *TINY)


def test_a_tokenizer_recipe_exports_a_tokenizer(tokenizer):
    from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer

    trained = VideoTokenizer.from_folder(tokenizer / "export")
    assert trained.stats is not None
    z = trained.encode(torch.zeros(1, 3, NUM_FRAMES, HEIGHT, WIDTH))
    assert z.shape == (1, *LATENT_SHAPE)
    assert "loss/color" in read_curves(tokenizer)[-1]


def test_a_world_recipe_exports_a_world(world):
    from nemo_cosmos.checkpoint.world.folder import load_world

    loaded = load_world(world / "export")
    assert loaded.config.preset == "diffusion_nano_video2world"
    line = read_curves(world)[-1]
    assert line["tokens_per_s"] > 0 and line["tflops_per_device"] > 0
    assert line["consumed_samples"] == 12


@pytest.mark.parametrize("control", ["action", "camera"])
def test_a_control_is_added_in_post_training(control, world, latents, tmp_path):
    from nemo_cosmos.checkpoint.world.folder import load_world

    tuned = train(
        f"diffusion_nano_{control}",
        latents,
        tmp_path,
        "trainer.max_steps=2",
        f"resume.restore_config.path={world / 'export'}",
        *TINY,
        post_training=True,
    )
    loaded = load_world(tuned / "export")
    assert [spec.name for spec in loaded.config.controls] == [control]
    assert control in loaded.net.controls


def test_training_goes_on_to_more_steps(world, latents):
    words = ("trainer.max_steps=4", *TINY)
    again = train("diffusion_nano_video2world", latents, world.parent, *words)
    assert [line["step"] for line in read_curves(again)] == [1, 2, 3, 4]


def test_generate_predict_and_extend_ask_the_pool_of_this_process(monkeypatch):
    import nemo_cosmos.inference

    class Pool:
        def run(self, world, request, progress):
            return world, request, progress

    monkeypatch.setattr(nemo_cosmos.inference, "default_pool", Pool)
    frames = np.zeros((1, 8, 8, 3), np.uint8)
    world, request, _ = api.generate("w", "a cat", steps=2, seed=None)
    assert (world, request.task, request.prompt) == ("w", "generate", "a cat")
    assert request.options == {"steps": 2}
    actions = {"action": np.zeros((8, 7))}
    _, request, _ = api.predict("w", None, frames, begin="last", control=actions)
    assert (request.task, request.begin, request.control) == ("predict", "last", actions)
    _, request, progress = api.extend("w", "go", frames, 2, num_condition_frames=5, progress=print)
    assert (request.num_chunks, request.num_condition_frames, progress) == (2, 5, print)


def test_evaluate_compares_two_videos():
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    frames[..., :8] = 90
    assert api.evaluate(frames, frames, metrics=["ssim"]) == {"ssim": pytest.approx(1.0)}


def test_weights_go_out_and_in_again(world, tmp_path):
    exported = world / "export"
    out = api.export_ckpt(exported, tmp_path / "diffusers", "diffusers")
    back = api.import_ckpt(out, tmp_path / "world")
    before, after = (load_file(folder / "model.safetensors") for folder in (exported, back))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_plan_names_a_layout_for_a_recipe():
    recipe = get_recipe("diffusion_7b_text2world")
    found = api.plan(recipe, 64, gpu="h100").to_dict()
    assert found["layout"]["data_parallel_size"] >= 1
    assert found["memory_gb_per_gpu"]["total"] <= 80


def test_curate_makes_shards(tmp_path, moving_square_THWC):
    (tmp_path / "raw").mkdir()
    encode_video(tmp_path / "raw" / "square.mp4", Video(moving_square_THWC, fps=10.0))
    settings = CurateSettings(
        split=SplitSettings(method="none", min_clip_s=1),
        motion=MotionSettings(min_global_mean=0, min_per_patch=0),
        skip=OPTIONAL_STAGES,
    )
    summary = api.curate(str(tmp_path / "raw"), tmp_path / "shards", settings)
    assert summary.num_clips == 1
    assert len(list((tmp_path / "shards" / "v0").rglob("*.tar"))) >= 1
