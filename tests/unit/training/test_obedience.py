"""A curve of whether the model obeys, and a run that ends where it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nemo_cosmos import api
from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.data.modules import LatentDataModule
from nemo_cosmos.errors import RequirementError, VideoError
from nemo_cosmos.evaluation.metric import Case, CaseMetric
from nemo_cosmos.models.diffusion.controls import TokenizerFacts
from nemo_cosmos.models.diffusion.model import DiffusionModel
from nemo_cosmos.storage.run_curves import read_curves
from nemo_cosmos.testing.tiny import Clips, tiny_network, write_latents
from nemo_cosmos.training.callbacks import obedience as module
from nemo_cosmos.training.callbacks.obedience import Obedience
from nemo_cosmos.training.logger import RunLogger
from nemo_cosmos.training.trainer import WorldTrainer

CLIPS = Clips(with_actions=True, width=48)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    return write_latents(tmp_path_factory.mktemp("data"), CLIPS)


def train(folder: Path, data: Path, obedience: Obedience | None, *controls: str) -> Path:
    return api.pretrain(
        model=DiffusionModel(
            tiny_network(),
            controls=[ControlSpec(name) for name in controls],
            tokenizer=TokenizerFacts(temporal_factor=CLIPS.temporal_factor),
        ),
        data=LatentDataModule(
            str(data), micro_batch_size=2, global_batch_size=2, text_length=5, controls=controls
        ),
        trainer=WorldTrainer(
            max_steps=4,
            log_every_n_steps=1,
            callbacks=[] if obedience is None else [obedience],
        ),
        log=RunLogger(name="run", log_dir=str(folder)),
    )


def measuring(**options) -> Obedience:
    return Obedience(2, num_episodes=3, options={"steps": 2, "guidance": 0.0}, **options)


def test_the_curve_shows_what_was_told_and_training_is_the_same(data, tmp_path, monkeypatch):
    told, make = [], module.ExampleMaker.video

    def video(self, example, controls=None):
        told.append(None if controls is None else controls["action"])
        return make(self, example, controls)

    monkeypatch.setattr(module.ExampleMaker, "video", video)
    lines = read_curves(train(tmp_path / "with", data, measuring(), "action"))
    curve = [line.get("action_sensitivity") for line in lines]
    assert curve[0] is None and curve[1] is not None and lines[1]["step"] == 2
    assert lines[3]["action_sensitivity_low"] <= curve[3] <= lines[3]["action_sensitivity_high"]
    others = [actions for actions in told if actions is not None]
    assert len(told) == 12 and len(others) == 6
    assert not np.array_equal(others[0], others[1])
    plain = read_curves(train(tmp_path / "without", data, None, "action"))
    assert [line["loss"] for line in lines] == [line["loss"] for line in plain]


def test_a_run_that_ignores_its_actions_ends_with_advice(data, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "motion_following", lambda made, truth: 0.5)
    with pytest.raises(RequirementError, match=r"After 2 .*sensitivity is 0\.000.*units"):
        train(tmp_path, data, measuring(stop_after=2), "action")
    following = iter([0.9, 0.1, 0.8, 0.2, 0.9, 0.3] * 2)
    monkeypatch.setattr(module, "motion_following", lambda made, truth: next(following))
    run = train(tmp_path / "obeys", data, measuring(stop_after=2), "action")
    assert len(read_curves(run)) == 4


def test_a_model_without_a_control_is_a_warning(data, tmp_path, caplog):
    train(tmp_path, data, measuring())
    assert "the model has no control" in caplog.text
    assert not Obedience()._is_on, "it is off unless it is told how often"


def test_videos_that_cannot_be_made_are_a_warning(data, tmp_path, caplog):
    one = Obedience(2, num_episodes=1, options={"steps": 1})
    run = train(tmp_path, data, one, "action")
    assert "at least two" in caplog.text and len(read_curves(run)) == 4


def test_a_camera_is_measured_by_its_own_metric(tmp_path, monkeypatch):
    """Each video against the example's own path, whichever it was told; lower is better."""
    torch.manual_seed(1)
    data = write_latents(tmp_path / "data", Clips(with_camera=True, width=48))
    seen: list[Case] = []

    def error(case: Case) -> float:
        seen.append(case)
        if case.recorded["camera"]["poses"][-1, 2, 3] < 0.5:  # the first example's
            raise VideoError("the camera does not travel")
        return [1.0, 4.0][len(seen) % 2]  # the second and third examples: own, then another's

    metric = CaseMetric(
        name="camera_path_error",
        description="a path error",
        higher_is_better=False,
        needs=frozenset({"camera"}),
        compute=error,
    )
    asked = []
    monkeypatch.setattr(module, "choose_metrics", lambda names: asked.append(names) or [metric])
    (line,) = [
        line
        for line in read_curves(train(tmp_path, data, measuring(), "camera"))
        if line["step"] == 2
    ]
    assert asked[0] == ["camera_path_error"]
    assert line["camera_sensitivity"] == 3.0
    assert seen[1].recorded["camera"]["poses"].shape == (9, 4, 4)
    own, other = (case.recorded["camera"]["poses"] for case in seen[1:3])
    np.testing.assert_array_equal(own, other)
