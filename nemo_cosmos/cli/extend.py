"""``nemo-cosmos extend``: a long video, chunk by chunk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nemo_cosmos.cli import generation as g


def command(
    model: g.Model,
    input: g.Input,
    chunks: Annotated[int, typer.Option(help="How many times to continue.")] = 3,
    prompt: g.OptionalPrompt = None,
    actions: g.Actions = None,
    control: g.Controls = None,
    num_condition_frames: g.NumGiven = None,
    out: g.Out = Path("outputs/extend.mp4"),
    num_frames: g.NumFrames = None,
    height: g.Height = None,
    width: g.Width = None,
    fps: g.Fps = None,
    guidance: g.Guidance = 7.0,
    guide_control: g.GuideControl = False,
    steps: g.Steps = 35,
    sampler: g.Sampler = "res_2ab",
    seed: g.Seed = 1,
    negative_prompt: g.Negative = None,
    disable_guard: g.DisableGuard = None,
    enable_guard: g.EnableGuard = None,
    precision: g.Precision = "float32",
    tensor_parallel: g.TensorParallel = 1,
    as_json: g.AsJson = False,
) -> None:
    """Continue an image or video chunk by chunk, each from the last frames of the one before.

    --num-frames is the length of a chunk. Control arrays cover the whole new video, from its first
    given frame on.

    Examples:
      nemo-cosmos extend my_world --input first.png -p "the arm stacks the blocks" --chunks 4

      nemo-cosmos extend my_robot --input episode.mp4 --actions actions.npy --chunks 2

      nemo-cosmos extend my_world -i clip.mp4 -p "the car drives on" --json
    """
    arrays = g.read_controls(actions, control)
    frames_THWC = g.read_frames(input)
    pipe = g.load_pipeline(model, disable_guard, precision, enable_guard, tensor_parallel)
    g.run_and_save(
        "Extending",
        out,
        as_json,
        lambda progress: pipe.extend(
            prompt,
            frames_THWC,
            chunks,
            num_condition_frames=num_condition_frames,
            control=arrays,
            progress=progress,
            num_frames=num_frames,
            height=height,
            width=width,
            fps=fps,
            guidance=guidance,
            guide_control=guide_control,
            steps=steps,
            sampler=sampler,
            seed=seed,
            negative_prompt=negative_prompt,
        ),
    )
