"""``nemo-cosmos predict``: what happens after an image or video."""

from __future__ import annotations

from pathlib import Path

from nemo_cosmos.cli import generation as g


def command(
    model: g.Model,
    input: g.Input,
    prompt: g.OptionalPrompt = None,
    actions: g.Actions = None,
    control: g.Controls = None,
    num_condition_frames: g.NumGiven = None,
    out: g.Out = Path("outputs/predict.mp4"),
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
    """Continue an image or video (Video2World), steered by a prompt and by controls.

    The last frame of the input is continued, or as many as --num-condition-frames says; they are
    also the first frames of the result. Control arrays start at the first given frame.

    Examples:
      nemo-cosmos predict my_world --input first.png -p "the robot arm moves to the left"

      nemo-cosmos predict my_robot --input episode.mp4 --actions actions.npy --guidance 0

      nemo-cosmos predict my_world -i clip.mp4 -p "the car turns" --num-condition-frames 5 --json
    """
    arrays = g.read_controls(actions, control)
    frames_THWC = g.read_frames(input)
    pipe = g.load_pipeline(model, disable_guard, precision, enable_guard, tensor_parallel)
    g.run_and_save(
        "Predicting",
        out,
        as_json,
        lambda progress: pipe.predict(
            prompt,
            frames_THWC,
            num_condition_frames=num_condition_frames or 1,
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
