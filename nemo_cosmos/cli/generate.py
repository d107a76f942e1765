"""``nemo-cosmos generate``, ``predict`` and ``extend``: a video from words, frames and controls."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemo_cosmos.cli.options import AsJson, DisableGuard, EnableGuard, listed
from nemo_cosmos.progress import show_progress

if TYPE_CHECKING:
    from nemo_cosmos.inference import Result, WorldPipeline
    from nemo_cosmos.models.common.generator import Progress

PRECISIONS = ("float32", "bfloat16")

Model = Annotated[Path, typer.Argument(help="World-model folder, such as <run>/export.")]
Prompt = Annotated[str, typer.Option("--prompt", "-p", help="What happens in the video.")]
OptionalPrompt = Annotated[
    str | None,
    typer.Option("--prompt", "-p", help="What happens; may be left out where a control steers."),
]
Input = Annotated[Path, typer.Option("--input", "-i", help="Image or video to continue.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="The mp4 to write; a .json lies beside.")]
NumFrames = Annotated[int | None, typer.Option(help="Frames; default: as the model was trained.")]
Height = Annotated[int | None, typer.Option(help="Height in pixels; default: as trained.")]
Width = Annotated[int | None, typer.Option(help="Width in pixels; default: as trained.")]
Fps = Annotated[float | None, typer.Option(help="Frames a second; default: as trained.")]
Guidance = Annotated[float, typer.Option(help="How strongly to follow the prompt; 0 is faster.")]
Steps = Annotated[int, typer.Option(help="Sampling steps.")]
Sampler = Annotated[str, typer.Option(help="res_2ab or edm_euler.")]
Seed = Annotated[int, typer.Option(help="The same seed and inputs give the same video.")]
Negative = Annotated[str | None, typer.Option("--negative-prompt", help="What to keep away from.")]
Actions = Annotated[
    Path | None,
    typer.Option(help="Robot actions, a .npy of (frames - 1, 7); short for --control action=PATH."),
]
Controls = Annotated[
    list[str] | None,
    typer.Option("--control", "-c", help="A signal, NAME=PATH (.npy or .npz); repeat for more."),
]
Begin = Annotated[
    str | None,
    typer.Option(
        help="Which frames to continue: first, last, or the number of the first one at the model's "
        "rate; default: first with a control, else last."
    ),
]
NumGiven = Annotated[
    int | None, typer.Option("--num-condition-frames", help="How many frames to continue.")
]
GuideControl = Annotated[
    bool, typer.Option("--guide-control", help="Let guidance strengthen the control, too.")
]
Precision = Annotated[str, typer.Option(help="float32 or bfloat16.")]
TensorParallel = Annotated[
    int,
    typer.Option(
        "--tensor-parallel",
        help="Under torchrun: processes that share the weights; the rest share the video.",
    ),
]
Chunks = Annotated[int, typer.Option(help="How many times to continue.")]


def generate(
    model: Model,
    prompt: Prompt,
    out: Out = Path("outputs/generate.mp4"),
    num_frames: NumFrames = None,
    height: Height = None,
    width: Width = None,
    fps: Fps = None,
    guidance: Guidance = 7.0,
    steps: Steps = 35,
    sampler: Sampler = "res_2ab",
    seed: Seed = 1,
    negative_prompt: Negative = None,
    disable_guard: DisableGuard = None,
    enable_guard: EnableGuard = None,
    precision: Precision = "float32",
    tensor_parallel: TensorParallel = 1,
    as_json: AsJson = False,
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
    from nemo_cosmos.inference import Request, check_output

    check_output(out)
    request = Request(
        "generate",
        prompt,
        {
            "num_frames": num_frames,
            "height": height,
            "width": width,
            "fps": fps,
            "guidance": guidance,
            "steps": steps,
            "sampler": sampler,
            "seed": seed,
            "negative_prompt": negative_prompt,
        },
    )
    pipe = load_pipeline(model, disable_guard, precision, enable_guard, tensor_parallel)
    run_and_save("Generating", out, as_json, lambda progress: pipe.run(request, progress))


def predict(
    model: Model,
    input: Input,
    prompt: OptionalPrompt = None,
    actions: Actions = None,
    control: Controls = None,
    begin: Begin = None,
    num_condition_frames: NumGiven = None,
    out: Out = Path("outputs/predict.mp4"),
    num_frames: NumFrames = None,
    height: Height = None,
    width: Width = None,
    fps: Fps = None,
    guidance: Guidance = 7.0,
    guide_control: GuideControl = False,
    steps: Steps = 35,
    sampler: Sampler = "res_2ab",
    seed: Seed = 1,
    negative_prompt: Negative = None,
    disable_guard: DisableGuard = None,
    enable_guard: EnableGuard = None,
    precision: Precision = "float32",
    tensor_parallel: TensorParallel = 1,
    as_json: AsJson = False,
) -> None:
    """Continue an image or video (Video2World), steered by a prompt and by controls.

    The last frame of the input is continued, or the first one where a control steers; --begin and
    --num-condition-frames choose others. Given frames are also the first frames of the result.
    Control arrays start at the first given frame and have exactly the rows that the video needs. Of
    a video, frames at the model's frame rate are taken.

    Examples:
        nemo-cosmos predict my_world --input first.png -p "the robot arm moves to the left"
        nemo-cosmos predict my_robot --input episode.mp4 --actions actions.npy --guidance 0
        nemo-cosmos predict my_world -i clip.mp4 -p "the car turns" --num-condition-frames 5 --json
    """
    from nemo_cosmos.inference import Request, check_output

    check_output(out)
    request = Request(
        "predict",
        prompt,
        {
            "num_frames": num_frames,
            "height": height,
            "width": width,
            "fps": fps,
            "guidance": guidance,
            "guide_control": guide_control,
            "steps": steps,
            "sampler": sampler,
            "seed": seed,
            "negative_prompt": negative_prompt,
        },
        frames=input,
        begin=begin,
        num_condition_frames=num_condition_frames,
        control=read_controls(actions, control),
    )
    pipe = load_pipeline(model, disable_guard, precision, enable_guard, tensor_parallel)
    run_and_save("Predicting", out, as_json, lambda progress: pipe.run(request, progress))


def extend(
    model: Model,
    input: Input,
    chunks: Chunks = 3,
    prompt: OptionalPrompt = None,
    actions: Actions = None,
    control: Controls = None,
    begin: Begin = None,
    num_condition_frames: NumGiven = None,
    out: Out = Path("outputs/extend.mp4"),
    num_frames: NumFrames = None,
    height: Height = None,
    width: Width = None,
    fps: Fps = None,
    guidance: Guidance = 7.0,
    guide_control: GuideControl = False,
    steps: Steps = 35,
    sampler: Sampler = "res_2ab",
    seed: Seed = 1,
    negative_prompt: Negative = None,
    disable_guard: DisableGuard = None,
    enable_guard: EnableGuard = None,
    precision: Precision = "float32",
    tensor_parallel: TensorParallel = 1,
    as_json: AsJson = False,
) -> None:
    """Continue an image or video chunk by chunk, each from the last frames of the one before.

    --num-frames is the length of a chunk. Control arrays cover the whole new video and no more,
    from its first given frame on.

    Examples:
        nemo-cosmos extend my_world --input first.png -p "the arm stacks the blocks" --chunks 4
        nemo-cosmos extend my_robot --input episode.mp4 --actions actions.npy --chunks 2
        nemo-cosmos extend my_world -i clip.mp4 -p "the car drives on" --json
    """
    from nemo_cosmos.inference import Request, check_output

    check_output(out)
    request = Request(
        "extend",
        prompt,
        {
            "num_frames": num_frames,
            "height": height,
            "width": width,
            "fps": fps,
            "guidance": guidance,
            "guide_control": guide_control,
            "steps": steps,
            "sampler": sampler,
            "seed": seed,
            "negative_prompt": negative_prompt,
        },
        frames=input,
        begin=begin,
        num_condition_frames=num_condition_frames,
        num_chunks=chunks,
        control=read_controls(actions, control),
    )
    pipe = load_pipeline(model, disable_guard, precision, enable_guard, tensor_parallel)
    run_and_save("Extending", out, as_json, lambda progress: pipe.run(request, progress))


def load_pipeline(
    model: Path,
    disabled_guards: list[str] | None,
    precision: str,
    enabled_guards: list[str] | None = None,
    tp: int = 1,
) -> WorldPipeline:
    """Load a world-model folder with the site's guards and those that are turned on or off by name.

    Raises:
        ConfigError: an unknown precision or guard.
        MissingFileError: the folder is not there.
        CheckpointError: it is damaged.
    """
    from nemo_cosmos.errors import ConfigError, nearest_names

    if precision not in PRECISIONS:
        raise ConfigError(
            f"There is no precision '{precision}'. The nearest are "
            f"{nearest_names(precision, PRECISIONS)}."
        )
    from nemo_cosmos.platform.quiet import quiet_libraries

    quiet_libraries()
    import torch

    from nemo_cosmos.guardrails.site import site_policy
    from nemo_cosmos.inference import WorldPipeline

    guards = site_policy(listed(disabled_guards), listed(enabled_guards))
    return WorldPipeline.from_folder(model, guards, dtype=getattr(torch, precision), tp=tp)


def read_controls(actions: Path | None, controls: list[str] | None) -> dict[str, Any]:
    """Read control arrays from ``--actions`` and ``--control NAME=PATH``.

    Raises:
        ConfigError: an entry is not NAME=PATH, or a name is given twice.
        MissingFileError: a file is not there.
        SampleError: a file holds no plain NumPy arrays.
    """
    from nemo_cosmos.controls import read_signal
    from nemo_cosmos.errors import ConfigError

    pairs = [] if actions is None else [("action", str(actions))]
    for entry in controls or ():
        name, equals, path = entry.partition("=")
        if not (name and equals and path):
            raise ConfigError(
                f"--control '{entry}' is not NAME=PATH. Write for example --control action=a.npy."
            )
        pairs.append((name, path))
    arrays: dict[str, Any] = {}
    for name, path in pairs:
        if name in arrays:
            raise ConfigError(f"The control '{name}' is given twice; give it once.")
        arrays[name] = read_signal(path)
    return arrays


def run_and_save(label: str, out: Path, as_json: bool, make: Callable[[Progress], Result]) -> None:
    """Generate with a progress bar, save the video and tell where it is.

    Of several processes that generate together, the first saves and tells.
    """
    from nemo_cosmos.platform import is_first_process

    if not is_first_process():
        make(lambda done, total: None)
        return
    started_s = time.perf_counter()
    with show_progress(label, "steps", "json" if as_json else "people") as progress:
        result = make(progress)
    record = result.save(out)
    video = result.video
    told: dict[str, Any] = {
        "video": str(out),
        "provenance": str(record),
        "num_frames": video.num_frames,
        "height": video.height,
        "width": video.width,
        "fps": video.fps,
        "seconds": round(time.perf_counter() - started_s, 3),
    }
    if as_json:
        typer.echo(json.dumps(told))
        return
    typer.echo(
        f"{out}: {video.num_frames} frames of {video.width}x{video.height} at {video.fps:g} fps "
        f"in {told['seconds']:.1f} s; provenance in {record}"
    )
