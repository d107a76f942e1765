"""``nemo-cosmos generate``: a video from a prompt."""

from __future__ import annotations

from pathlib import Path

from nemo_cosmos.cli import generation as g


def command(
    model: g.Model,
    prompt: g.Prompt,
    out: g.Out = Path("outputs/generate.mp4"),
    num_frames: g.NumFrames = None,
    height: g.Height = None,
    width: g.Width = None,
    fps: g.Fps = None,
    guidance: g.Guidance = 7.0,
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
    """Generate a video from a prompt (Text2World).

    The prompt passes the prompt guards, the video the video guards. The provenance (weights,
    prompt hash, seed, guard verdicts, versions) lies beside the mp4.

    Examples:
      nemo-cosmos generate outputs/quickstart/world/export -p "a robot arm lifts a red block"

      nemo-cosmos generate my_world -p "rain in a city" --seed 7 --steps 20 --out rain.mp4

      nemo-cosmos generate my_world -p "rain in a city" --json

      torchrun --nproc-per-node 4 -m nemo_cosmos generate my_world -p "rain" --tensor-parallel 2
    """
    pipe = g.load_pipeline(model, disable_guard, precision, enable_guard, tensor_parallel)
    g.run_and_save(
        "Generating",
        out,
        as_json,
        lambda progress: pipe.generate(
            prompt,
            progress=progress,
            num_frames=num_frames,
            height=height,
            width=width,
            fps=fps,
            guidance=guidance,
            steps=steps,
            sampler=sampler,
            seed=seed,
            negative_prompt=negative_prompt,
        ),
    )
