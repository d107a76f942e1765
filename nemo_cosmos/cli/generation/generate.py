"""``nemo-cosmos generate``, ``predict`` and ``extend``: a video from words, frames and controls.

The options of the video and of the model's family are the fields of the dataclasses that Python
users set, so that each is written down once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemo_cosmos.checklist import Check
from nemo_cosmos.cli.generation.asked import Cameras, Controls, Given, Setting, read_controls
from nemo_cosmos.cli.kit.checking import CheckOnly, look_first
from nemo_cosmos.cli.kit.grouped import grouped
from nemo_cosmos.cli.kit.launching import launchable
from nemo_cosmos.cli.kit.options import AsJson, listed, number, typed, with_options
from nemo_cosmos.errors import counted
from nemo_cosmos.inference.options import GenerationOptions
from nemo_cosmos.models.common.family import generation_options
from nemo_cosmos.progress import show_progress

if TYPE_CHECKING:
    from nemo_cosmos.inference import Request, WorldPipeline
    from nemo_cosmos.inference.request import Task
    from nemo_cosmos.progress import Show

LABELS = {"generate": "Generating", "predict": "Predicting", "extend": "Extending"}

Model = Annotated[Path, typer.Argument(help="World-model folder, such as <run>/export.")]
Prompt = Annotated[
    str, typer.Option("--prompt", "-p", callback=typed, help="What happens in the video.")
]
OptionalPrompt = Annotated[
    str | None,
    typer.Option(
        "--prompt", "-p", callback=typed, help="What happens; optional where a control steers."
    ),
]
Input = Annotated[
    Path,
    typer.Option(
        "--input", "-i", help="Image or video to continue; of several cameras, a folder of them."
    ),
]
Chunks = Annotated[int, number("How many times to continue.", least=1, most=100000)]
Out = Annotated[
    Path, typer.Option("--out", "-o", help="The mp4 to write; its provenance is a .json beside it.")
]

_with_video_options = with_options(
    options=GenerationOptions,
    **{f"Options of {name} models": cls for name, cls in generation_options().items()},
)


@launchable(shared=True)
@_with_video_options
@grouped
def generate(
    model: Model,
    *,
    prompt: Prompt,
    control: Controls = None,
    cameras: Cameras,
    out: Out = Path("outputs/generate.mp4"),
    setting: Setting,
    check: CheckOnly = False,
    as_json: AsJson = False,
    **options: object,
) -> None:
    """Generate a video from a prompt (Text2World), and from controls where the model has them.

    The prompt passes the prompt guards, the video the video guards. The provenance (weights,
    prompt hash, seed, guard verdicts, versions) is written beside the mp4.

    Examples:
        nemo-cosmos generate outputs/quickstart/world/export -p "a robot arm lifts a red block"
        nemo-cosmos generate my_world -p "rain in a city" --seed 7 --steps 20 --out rain.mp4
        nemo-cosmos generate my_cars -p "a town at dusk" --rig six --view-prompt "rear=a red car"
        torchrun --nproc-per-node 4 -m nemo_cosmos generate my_world -p "rain" --tensor-parallel 2
    """

    def request() -> Request:
        control_files = read_controls(None, control)
        return _request("generate", prompt, options, cameras, control=control_files)

    _generate(model, request, None, out, setting, check, as_json)


@launchable(shared=True)
@_with_video_options
@grouped
def predict(
    model: Model,
    *,
    input: Input,
    prompt: OptionalPrompt = None,
    given: Given,
    cameras: Cameras,
    out: Out = Path("outputs/predict.mp4"),
    setting: Setting,
    check: CheckOnly = False,
    as_json: AsJson = False,
    **options: object,
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
        nemo-cosmos predict my_cars -i drive/ --rig six -c trajectory=path.npy -p "a town"
        nemo-cosmos predict my_maps -i drive/ --rig six -c layout=maps/ -p "a town in the rain"
        nemo-cosmos predict my_world -i first.png -p "rain" --adapter outputs/rain/adapter=0.7
    """

    def request() -> Request:
        return _request("predict", prompt, options, cameras, **given.fields(input))

    _generate(model, request, input, out, setting, check, as_json)


@launchable(shared=True)
@_with_video_options
@grouped
def extend(
    model: Model,
    *,
    input: Input,
    chunks: Chunks = 3,
    prompt: OptionalPrompt = None,
    given: Given,
    cameras: Cameras,
    out: Out = Path("outputs/extend.mp4"),
    setting: Setting,
    check: CheckOnly = False,
    as_json: AsJson = False,
    **options: object,
) -> None:
    """Continue an image or video chunk by chunk, each from the last frames of the one before.

    --num-frames is the length of a chunk. Control arrays cover exactly the whole new video, from
    its first given frame on.

    Examples:
        nemo-cosmos extend my_world --input first.png -p "the arm stacks the blocks" --chunks 4
        nemo-cosmos extend my_robot --input episode.mp4 --actions actions.npy --chunks 2
        nemo-cosmos extend my_world -i clip.mp4 -p "the car drives on" --json
    """

    def request() -> Request:
        fields = given.fields(input)
        return _request("extend", prompt, options, cameras, num_chunks=chunks, **fields)

    _generate(model, request, input, out, setting, check, as_json)


def _request(
    task: Task, prompt: str | None, options: Mapping[str, object], cameras: Cameras, **given: Any
) -> Request:
    """Make the request of what a person asked for.

    Raises:
        InputError: a value or a file is wrong.
    """
    from nemo_cosmos.inference import Request

    rig, words = cameras.find(), cameras.prompts()
    return Request(task, prompt, options, rig=rig, view_prompts=words, **given)


def _generate(
    model: Path,
    request: Callable[[], Request],
    frames: Path | None,
    out: Path,
    setting: Setting,
    only_check: bool,
    as_json: bool,
) -> None:
    """Check everything, load the world, make the video and save it.

    Args:
        model: the world's folder.
        request: makes the request, which reads its files.
        frames: what the video goes on from.
        out: the video's file.
        setting: how it is made.
        only_check: stop after the checks.
        as_json: report for a program.
    """
    from nemo_cosmos.inference import check_output
    from nemo_cosmos.storage.outputs import check_apart

    check_apart(out, [] if frames is None else [frames])
    if not only_check:
        check_output(out)  # before the seconds that torch takes to import
    from nemo_cosmos.inference.checks import generation_checks
    from nemo_cosmos.platform import num_processes

    checks = generation_checks(
        model,
        request,
        out,
        whole=only_check,
        allow_mismatch=listed(setting.allow_mismatch),
        adapters=setting.adapters,
    )
    if num_processes() == 1:  # of several ranks, each checks its part while it loads
        look_first([Check("options", setting.check), *checks], only_check, as_json)
    asked = request()
    setting.check()
    _run_and_save(setting.load(model), asked, out, as_json)


def _run_and_save(pipe: WorldPipeline, request: Request, out: Path, as_json: bool) -> None:
    """Make the video with a progress bar, save it and report where it is.

    Of several ranks that generate together, the first one saves and reports.
    """
    from nemo_cosmos.inference.result import notices
    from nemo_cosmos.platform import is_first_process

    if not is_first_process():
        pipe.run(request)
        return
    started_s = time.perf_counter()
    show: Show = "json" if as_json else "people"
    with show_progress(LABELS[request.task], "steps", show) as update:
        result = pipe.run(request, update)
    record = result.save(out)
    views = {view: str(out.with_suffix("") / f"{view}.mp4") for view in result.by_view}
    video, seconds = result.video, time.perf_counter() - started_s
    if as_json:
        summary = {
            "video": str(out),
            "provenance": str(record),
            "num_frames": video.num_frames,
            "height": video.height,
            "width": video.width,
            "fps": video.fps,
            "seconds": round(seconds, 3),
            "notices": notices(result.provenance),
            **({"views": views} if views else {}),
        }
        typer.echo(json.dumps(summary))
        return
    typer.echo(
        f"{out}: {counted(video.num_frames, 'frame')} of {video.width}x{video.height} at "
        f"{video.fps:g} fps "
        f"in {seconds:.1f} s; provenance in {record}"
    )
    if views:
        typer.echo(f"It shows {', '.join(views)} in step; {out.with_suffix('')}/ has each alone.")
    for notice in notices(result.provenance):
        typer.echo(f"Note: {notice}.")
