"""Both environments: the simulated table is the studio's, the imagined one is the world's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nemo_cosmos.checkpoint.world.folder import load_world
from nemo_cosmos.errors import ConfigError, InputError, SampleError
from nemo_cosmos.models.common.family import get_family
from nemo_cosmos.models.common.generator import Shot
from nemo_cosmos.testing.tiny import write_world
from nemo_cosmos.video import frames_to_tensor, tensor_to_frames
from post_training.robotics.simulation import SimulationSettings, Studio
from post_training.robotics.simulation.tasks import TASK_CYCLE
from post_training.robotics.usefulness.environment import Moment, Scene
from post_training.robotics.usefulness.imagined import Imagination, ImaginedTable
from post_training.robotics.usefulness.simulated import TASK, SimulatedTable


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"), controls=["action"])


@pytest.fixture(scope="module")
def imagined(world: Path) -> ImaginedTable:
    return ImaginedTable.from_folder(world, Imagination(steps=1, batch=2))


def _actions(num: int, num_actions: int, seed: int = 0) -> np.ndarray:
    actions_NKA = np.random.default_rng(seed).uniform(-0.5, 0.5, (num, num_actions, 7))
    actions_NKA[..., 3:6] *= 0.2
    actions_NKA[..., 6] = 1
    return actions_NKA


def _scene(form) -> Scene:
    frame_HWC = np.random.default_rng(1).integers(
        0, 256, (form.height, form.width, 3), dtype=np.uint8
    )
    return Scene(0, [], np.zeros(3), 1.0, frame_HWC, None)


def test_simulated_chunks_are_what_the_studio_replays(table: SimulatedTable) -> None:
    number = TASK_CYCLE.index(TASK)
    studio = Studio(SimulationSettings(fps=table.form.fps, seed=table.seed), "software")
    (actions_KA,) = _actions(1, 8)
    replayed = studio.replay(number, actions_KA)
    moments = [table.begin(table.scene(number))]
    parts = [moments[0].frame_HWC[None]]
    for chunk in np.split(actions_KA, 2):
        moments, frames_NKHWC = table.step(moments, chunk[None])
        parts.append(frames_NKHWC[0])
    np.testing.assert_array_equal(np.concatenate(parts), replayed.video.frames_THWC)
    # The studio reads the pose of a step before the last one's end.
    np.testing.assert_allclose(table.gripper_m(moments[0]), replayed.states[-1, :3], atol=1e-3)


def test_a_simulated_moment_can_be_gone_on_from_again_and_again(table: SimulatedTable) -> None:
    begin = table.begin(table.scene(0))
    actions_NKA = _actions(3, 4)
    together, frames_NKHWC = table.step([begin] * 3, actions_NKA)
    _, last_NKHWC = table.step([begin] * 3, actions_NKA[::-1], every_frame=False)
    np.testing.assert_array_equal(last_NKHWC[::-1, 0], frames_NKHWC[:, -1])
    assert not np.allclose(table.gripper_m(together[0]), table.gripper_m(together[1]))
    again, _ = table.step([together[0]], actions_NKA[:1])
    other_scene = table.begin(table.scene(3))
    table.step([other_scene], actions_NKA[:1])
    same, _ = table.step([together[0]], actions_NKA[:1])
    np.testing.assert_array_equal(table.gripper_m(again[0]), table.gripper_m(same[0]))


def test_imagined_chunks_are_what_the_generator_makes(world: Path, imagined: ImaginedTable) -> None:
    form = imagined.form
    assert (form.num_actions, form.height, form.width, form.fps) == (8, 32, 48, 10.0)
    moment = imagined.begin(_scene(form))
    actions_NKA = _actions(3, 8).astype(np.float32)
    after, frames_NKHWC = imagined.step([moment] * 3, actions_NKA, seed=4)
    loaded = load_world(world, torch.float32)
    generator = get_family("diffusion").make_generator(
        loaded.net, loaded.config.model, loaded.tokenizer
    )
    text_BLD = torch.zeros(1, 8, 12)
    for actions_KA, frames_KHWC in zip(actions_NKA, frames_NKHWC, strict=True):
        shot = Shot(
            text_BLD=text_BLD,
            negative_text_BLD=text_BLD,
            num_frames=9,
            height=32,
            width=48,
            fps=10.0,
            seed=4,
            options=generator.options_class(guidance=0.0, steps=1),
            given_BCTHW=frames_to_tensor(moment.frame_HWC[None])[None],
            controls={"action": actions_KA},
        )
        alone_THWC = tensor_to_frames(generator.generate(shot)[0])
        assert np.abs(alone_THWC[1:].astype(int) - frames_KHWC).max() <= 1
    assert [one.num_chunks for one in after] == [1, 1, 1]
    np.testing.assert_array_equal(after[2].frame_HWC, frames_NKHWC[2, -1])


def test_chunks_are_chained_from_the_imagined_picture(imagined: ImaginedTable) -> None:
    moments = [imagined.begin(_scene(imagined.form))]
    actions_NKA = _actions(1, 8)
    moments, _ = imagined.step(moments, actions_NKA)
    _, second_NKHWC = imagined.step(moments, actions_NKA, every_frame=False)
    assert second_NKHWC.shape == (1, 1, 32, 48, 3)
    fresh = Moment(moments[0].frame_HWC)
    _, other_NKHWC = imagined.step([fresh], actions_NKA, every_frame=False)
    assert not np.array_equal(second_NKHWC, other_NKHWC), "a later chunk has noise of its own"


def test_refuses_what_it_cannot_be_told(imagined: ImaginedTable) -> None:
    moment = imagined.begin(_scene(imagined.form))
    with pytest.raises(SampleError):
        imagined.step([moment], _actions(1, 5))


@pytest.mark.parametrize("controls", [[], ["camera"]])
def test_refuses_a_world_that_no_action_steers(tmp_path: Path, controls: list[str]) -> None:
    from nemo_cosmos.checkpoint.world.config import read_config
    from post_training.robotics.usefulness.imagined import form_of

    folder = write_world(tmp_path / "world", controls=["action"])
    text = (folder / "config.json").read_text("utf-8")
    named = text.replace('"name": "action"', '"name": "camera"')
    if not controls:
        folder = write_world(tmp_path / "plain")
        named = (folder / "config.json").read_text("utf-8")
    (folder / "config.json").write_text(named, "utf-8")
    with pytest.raises(InputError, match="expected the control 'action' alone"):
        form_of(read_config(folder), str(folder))


def test_refuses_a_world_without_a_first_frame(tmp_path: Path) -> None:
    folder = write_world(tmp_path / "text", controls=["action"], condition_mask=False)
    with pytest.raises(InputError, match="from text alone"):
        ImaginedTable.from_folder(folder)


def test_refuses_steps_that_the_sampler_cannot_take(world: Path) -> None:
    with pytest.raises(ConfigError):
        ImaginedTable.from_folder(world, Imagination(steps=0))
