"""Folders of synchronous videos to drives: made ones, and the six real HD-map views."""

from __future__ import annotations

import json
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from megatron.core.optimizer import OptimizerConfig
from nemo import lightning as nl

from nemo_cosmos.controls import RIG, ControlSpec, read_signal
from nemo_cosmos.controls.camera import pixel_rays
from nemo_cosmos.controls.rig import camera_of
from nemo_cosmos.data.modules import LatentDataModule
from nemo_cosmos.data.shards.recorded import shard_recordings
from nemo_cosmos.data.tokenize.config import TokenizeConfig
from nemo_cosmos.data.tokenize.run import tokenize_shards
from nemo_cosmos.errors import ConfigError, InputError, MissingFileError, SampleError
from nemo_cosmos.models.diffusion.controls import TokenizerFacts
from nemo_cosmos.models.diffusion.model import DiffusionModel
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.training.lifecycle import fresh_globals
from nemo_cosmos.training.strategy import WorldStrategy
from nemo_cosmos.training.trainer import WorldTrainer
from nemo_cosmos.video import Video, encode_video, probe
from post_training.driving.conversion import RigReading, convert_rig, find_views

VIEWS = {"front": "front", "left": "cross_left"}
LENS = {"height": 720, "width": 1280, "center": [640, 360], "bw_poly": [0, 0.0016, 1e-7]}
PINHOLE = {"height": 720, "width": 1280, "fx": 900, "fy": 900, "cx": 640, "cy": 360}

TWICE = [[2.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]


def pose(yaw_deg, right_m=0.0):
    turn = np.radians(yaw_deg)
    return [
        [np.cos(turn), 0, -np.sin(turn), right_m],
        [0, 1, 0, 0],
        [np.sin(turn), 0, np.cos(turn), 0.5],
        [0, 0, 0, 1],
    ]


def calibration():
    return {
        "intrinsics_front": LENS,
        "intrinsics_cross_left": PINHOLE,
        "pose_cross_left": pose(60, -0.9),
    }


@pytest.fixture
def clip(tmp_path):
    """A folder of two views, their calibration and the car's path."""
    folder = tmp_path / "clip"
    folder.mkdir()
    for number, name in enumerate(("front", "left", "rear_left")):
        frames = np.full((12, 72, 128, 3), 60 * number, np.uint8)
        encode_video(folder / f"run7_{name}.mp4", Video(frames, 10.0))
    (folder / "calibration.json").write_text(json.dumps(calibration()))
    path = np.stack([np.arange(12) * 0.5, np.zeros(12), np.zeros(12)], axis=1)
    np.save(folder / "ego.npy", path)
    return folder


def reading(folder, **changes):
    known = {
        "cameras": VIEWS,
        "calibration": str(folder / "calibration.json"),
        "trajectory": str(folder / "ego.npy"),
        "size": (36, 64),
        "drive_frames": 5,
        "mount_m": (1.7, 0.0, 1.4),
    }
    return RigReading(**{**known, **changes})


def test_a_folder_becomes_drives_of_even_parts(clip, tmp_path):
    out = tmp_path / "drives"
    report = convert_rig(clip, out, reading(clip, layouts=str(clip)))
    assert (report.num_converted, report.rejected) == (3, {})
    lengths = [probe(out / f"drive_{number:06d}.left.mp4").num_frames for number in range(3)]
    assert lengths == [5, 5, 2]
    assert (out / "drive_000000.left.layout.mp4").exists()
    path = read_signal(out / "drive_000001.trajectory.npy")
    assert path[:, 0].tolist() == [2.5, 3.0, 3.5, 4.0, 4.5]
    rig = RIG.values(out / "drive_000000.rig.npz")
    assert rig["size"].tolist() == [[36, 64]] * 2
    assert rig["poses"][1, :3, 3] == pytest.approx([1.7 + 0.5, 0.9, 1.4])
    ahead = rig["poses"][:, :3, 2]
    assert ahead[0] == pytest.approx([1, 0, 0])
    assert ahead[1] == pytest.approx([0.5, np.sqrt(0.75), 0])  # 60 degrees to the left
    fisheye, pinhole = (camera_of(rig, view, np.eye(4)[None]) for view in range(2))
    assert "angle_polynomial" not in pinhole
    (ray,) = pixel_rays(fisheye, 0, np.array([[64.0, 18.0]]))  # 640 pixels of the calibration
    assert np.arccos(ray[2]) == pytest.approx(0.0016 * 640 + 1e-7 * 640**2)
    assert convert_rig(clip, out, reading(clip, layouts=str(clip))).num_reused == 3
    assert shard_recordings(out, tmp_path / "shards").num_samples == 3


def test_a_drive_without_a_path_and_with_a_rig_of_the_table(clip, tmp_path):
    chosen = reading(clip, cameras={"front": "front", "left": "left"}, calibration="six")
    report = convert_rig(clip, tmp_path / "out", RigReading(chosen.cameras, "six", drive_frames=12))
    assert report.num_converted == 1
    assert not (tmp_path / "out" / "drive_000000.trajectory.npy").exists()
    assert shard_recordings(tmp_path / "out", tmp_path / "shards").num_samples == 1
    for view in ("front", "left"):
        frames = np.zeros((3, 96, 96, 3), np.uint8)
        encode_video(tmp_path / "square" / f"{view}.mp4", Video(frames, 10.0))
    convert_rig(tmp_path / "square", tmp_path / "squares", RigReading(chosen.cameras, "six"))
    made = RIG.values(tmp_path / "squares" / "drive_000000.rig.npz")
    assert made["intrinsics"][0, 0, 0] == pytest.approx(made["intrinsics"][0, 1, 1]), "stretched"


def test_zero_distortion_is_none(clip, tmp_path):
    change(*of_left(distortion=[0, 0, 0, 0, 0]))(clip)
    assert convert_rig(clip, tmp_path / "out", reading(clip)).num_converted == 3


def test_the_longest_name_of_a_view_counts(clip):
    assert find_views(clip, ["left"])["left"].name == "run7_left.mp4"
    (clip / "run8_left.mp4").write_bytes(b"")
    with pytest.raises(SampleError, match="several videos of the view 'left'"):
        find_views(clip, ["left"])


def change(entry, value):
    def apply(folder):
        data = calibration()
        data[entry] = value
        if value is None:
            del data[entry]
        (folder / "calibration.json").write_text(json.dumps(data))

    return apply


def of_left(**changes):
    return "intrinsics_cross_left", {**PINHOLE, **changes}


def film(shape, fps):
    return lambda folder: encode_video(
        folder / "run7_left.mp4", Video(np.zeros((*shape, 3), np.uint8), fps)
    )


@pytest.mark.parametrize(
    ("damage", "error", "reason"),
    [
        (film((11, 72, 128), 10), SampleError, r"run7_left\.mp4' has 11 frames .* one length"),
        (film((12, 72, 128), 12), SampleError, r"at 12/s"),
        (film((12, 48, 64), 10), SampleError, r"of 48x64"),
        (lambda f: (f / "run7_left.mp4").unlink(), MissingFileError, "no video of the view 'left'"),
        (change("pose_cross_left", TWICE), SampleError, "'pose_cross_left' has a .* no rotation"),
        (change("pose_cross_left", None), SampleError, "is missing: only the first camera"),
        (change("intrinsics_cross_left", None), SampleError, "no camera 'cross_left'"),
        (change("intrinsics_front", {**LENS, "model": "mei"}), SampleError, "of the model 'mei'"),
        (change("intrinsics_front", {"k1": 2}), SampleError, "which is not read; expected"),
        (change(*of_left(distortion=[0.1, 0, 0, 0])), SampleError, "'distortion', which is not re"),
        (change(*of_left(k1=0.1)), SampleError, "the distortion 'k1'"),
        (change(*of_left(fx="wide")), SampleError, "'intrinsics_cross_left' has 'wide' as 'fx'"),
        (change(*of_left(cx=float("nan"))), SampleError, "has nan as 'cx'"),
        (change(*of_left(width=0)), SampleError, "of pictures of 720x0"),
        (change(*of_left(width=720)), SampleError, "videos are 72x128: of another shape"),
        (change("intrinsics_front", {**LENS, "center": [640]}), SampleError, "expected x and y"),
        (change("intrinsics_front", {**LENS, "bw_poly": [0, -1]}), SampleError, "positive second"),
        (change("intrinsics_front", {**LENS, "bw_poly": []}), SampleError, "positive second"),
        (lambda f: (f / "calibration.json").write_text("{"), SampleError, "not valid JSON"),
        (lambda f: np.save(f / "ego.npy", np.zeros((9, 3))), SampleError, "9 rows"),
        (lambda f: np.save(f / "ego.npy", np.zeros((12, 2))), SampleError, r"expected \(T, 3\)"),
        (lambda f: np.save(f / "ego.npy", np.full((12, 3), np.inf)), SampleError, "infinity"),
        (lambda f: np.save(f / "ego.npy", np.tile(TWICE, (12, 1, 1))), SampleError, "no rotation"),
        (lambda f: np.save(f / "ego.npy", np.full((12, 3), 4e6)), SampleError, "first position"),
        (lambda f: np.save(f / "ego.npy", 100.0 * np.eye(12, 3)), SampleError, "moves at 1414 m/s"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_nothing_is_written(clip, tmp_path, damage, error, reason):
    damage(clip)
    with pytest.raises(error, match=reason):
        convert_rig(clip, tmp_path / "out", reading(clip))
    assert not (tmp_path / "out").exists()


def test_wrong_use_is_refused(clip, tmp_path):
    with pytest.raises(InputError):
        convert_rig(clip, clip / "drives", reading(clip))
    with pytest.raises(ConfigError, match="first frame before an end"):
        reading(clip, frames=(5, 5))
    with pytest.raises(SampleError, match="has 12 frames"):
        convert_rig(clip, tmp_path / "out", reading(clip, frames=(0, 13)))
    with pytest.raises(MissingFileError, match=r"no folder '.*nowhere'"):
        convert_rig(clip / "nowhere", tmp_path / "out", reading(clip))


REAL = {
    "front": "front",
    "front_left": "cross_left",
    "front_right": "cross_right",
    "rear": "rear_tele",
    "rear_left": "rear_left",
    "rear_right": "rear_right",
}


def mean_of_cells(video_BCTHW):
    """A stand-in for an encoder: colours of cells, repeated to 16 channels."""
    frames = (video_BCTHW.shape[2] - 1) // 4 + 1
    small = torch.nn.functional.adaptive_avg_pool3d(video_BCTHW, (frames, 4, 8))
    return small.repeat(1, 6, 1, 1, 1)[:, :16]


def test_six_real_views_are_converted_tokenised_and_trained_on(samples_dir: Path, tmp_path: Path):
    source = samples_dir / "driving_multiview"
    cut = RigReading(
        REAL,
        str(source / "av22_calibration.json"),
        layouts=str(source),
        size=(32, 64),
        frames=(0, 9),
        mount_m=(1.7, 0.0, 1.4),
    )
    report = convert_rig(source, tmp_path / "drives", cut)
    assert report.num_converted == 1, report.rejected
    path = np.stack([np.arange(9) * 0.4, np.zeros(9), np.zeros(9)], axis=1)  # no path is shipped
    np.save(tmp_path / "drives" / "drive_000000.trajectory.npy", path)
    rig = RIG.values(tmp_path / "drives" / "drive_000000.rig.npz")
    ahead = {view: rig["poses"][row, :3, 2] for row, view in enumerate(REAL)}
    assert ahead["front_left"][1] > 0.8 and ahead["front_right"][1] < -0.8
    assert ahead["rear"][0] < -0.9 and ahead["rear_left"][0] < -0.7
    shard_recordings(tmp_path / "drives", tmp_path / "shards")
    info = tokenize_shards(
        tmp_path / "shards",
        tmp_path / "latents",
        encode=mean_of_cells,
        encode_text=lambda texts: (torch.ones(len(texts), 3, 12), torch.ones(len(texts), 3)),
        config=TokenizeConfig(window_frames=9, size=(32, 64)),
    )
    assert info["latent_shape"] == [16, 6 * 3, 4, 8]
    controls = (ControlSpec("driving"), ControlSpec("layout"))
    losses, model = train(tmp_path / "latents", tuple(REAL), tmp_path)
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    controls = model.network().controls
    for weight in (controls["driving"].tokens.weight, controls["layout"].patches.weight):
        assert weight.abs().max() > 0, "the control is trained"


class Losses(pl.Callback):
    """Remembers the losses of training."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_train_batch_end(self, trainer, *args, **kwargs) -> None:
        self.found.append(float(trainer.callback_metrics["reduced_train_loss"]))


def train(
    latents: Path, views: tuple[str, ...], folder: Path
) -> tuple[list[float], DiffusionModel]:
    """A few steps of the smallest network on a folder of latents."""
    config = DiTConfig(
        num_layers=1,
        hidden_size=48,
        num_attention_heads=2,
        crossattn_emb_channels=12,
        adaln_lora_dim=8,
        max_frames=4,
        max_height=8,
        max_width=8,
        condition_mask=True,
        layer_spec="local",
        view_slots=views,
    )
    controls = [ControlSpec("driving"), ControlSpec("layout")]
    adam = OptimizerConfig(
        optimizer="adam", lr=3e-3, use_distributed_optimizer=True, weight_decay=0.0
    )
    model = DiffusionModel(
        config,
        optim=nl.MegatronOptimizerModule(config=adam),
        controls=controls,
        tokenizer=TokenizerFacts(temporal_factor=4),
    )
    data = LatentDataModule(
        latents,
        micro_batch_size=1,
        global_batch_size=1,
        controls=("driving", "layout"),
        text_length=4,
    )
    losses = Losses()
    with fresh_globals():
        trainer = WorldTrainer(
            max_steps=12,
            strategy=WorldStrategy(seed=7),
            limit_val_batches=0,
            log_every_n_steps=1,
            callbacks=[losses],
            default_root_dir=str(folder),
        )
        trainer.fit(model, datamodule=data)
    return losses.found, model
