"""``nemo-cosmos generate``, ``predict`` and ``extend``: a video from words, frames and controls.

The options of the video and of the model's family are the fields of the dataclasses that Python
users set, so that each is written down once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemo_cosmos.checklist import Check
from nemo_cosmos.cli.kit.checking import CheckOnly, look_first
from nemo_cosmos.cli.kit.launching import launchable
from nemo_cosmos.cli.kit.options import (
    Adapters,
    AllowMismatch,
    AsJson,
    DisableGuard,
    EnableGuard,
    listed,
    number,
    typed,
    with_options,
)
from nemo_cosmos.errors import ConfigError, counted, nearest_names
from nemo_cosmos.home import expanded
from nemo_cosmos.inference.options import GenerationOptions
from nemo_cosmos.models.common.family import generation_options
from nemo_cosmos.options import Range, check_value
from nemo_cosmos.progress import show_progress

if TYPE_CHECKING:
    from nemo_cosmos.checkpoint.adapters.merged import Weighted
    from nemo_cosmos.guardrails import GuardPolicy
    from nemo_cosmos.inference import Request, WorldPipeline
    from nemo_cosmos.inference.request import Task
    from nemo_cosmos.inference.views import Rig
    from nemo_cosmos.progress import Show

PRECISIONS = ("auto", "float32", "bfloat16")
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
RigName = Annotated[
    str | None,
    typer.Option(
        "--rig", help="Cameras of a multi-view model: rig.npz, three, five, six, or FILE.yaml:NAME."
    ),
]
ViewNames = Annotated[
    list[str] | None,
    typer.Option("--views", help="Names of the rig's cameras in order, where it has none."),
]
Whole = Annotated[
    list[str] | None,
    typer.Option("--whole", help="Cameras that are given from begin to end, by name."),
]
Out = Annotated[
    Path, typer.Option("--out", "-o", help="The mp4 to write; its provenance is a .json beside it.")
]
Actions = Annotated[
    Path | None,
    typer.Option(
        help="Robot actions, a .npy with a row for each step; short for --control action=PATH."
    ),
]
Controls = Annotated[
    list[str] | None,
    typer.Option("--control", "-c", help="A signal, NAME=PATH (.npy or .npz). Repeatable."),
]
Begin = Annotated[
    str | None,
    typer.Option(
        help="Frames to continue: first, last, or the number of the first one at the model's "
        "frame rate; default: first with a control, else last."
    ),
]
NumGiven = Annotated[
    int | None, number("How many frames to continue.", "--num-condition-frames", least=1, most=1e6)
]
Chunks = Annotated[int, number("How many times to continue.", least=1, most=100000)]
Precision = Annotated[
    str, typer.Option(help="float32, bfloat16, or auto: bfloat16 on a GPU, float32 on a CPU.")
]
TensorParallel = Annotated[
    int,
    number(
        "Under torchrun: ranks that share the weights; the rest share the video.",
        "--tensor-parallel",
        least=1,
        most=1024,
    ),
]

DecoderFolder = Annotated[
    Path | None,
    typer.Option(
        "--diffusion-decoder",
        help="A diffusion decoder's folder, which makes the pixels of an autoregressive world.",
    ),
]

_with_video_options = with_options(
    options=GenerationOptions,
    **{f"Options of {name} models": cls for name, cls in generation_options().items()},
)


@launchable(shared=True)
@_with_video_options
def generate(
    model: Model,
    prompt: Prompt,
    rig: RigName = None,
    views: ViewNames = None,
    out: Out = Path("outputs/generate.mp4"),
    disable_guard: DisableGuard = None,
    enable_guard: EnableGuard = None,
    precision: Precision = "auto",
    tensor_parallel: TensorParallel = 1,
    adapter: Adapters = None,
    diffusion_decoder: DecoderFolder = None,
    allow_mismatch: AllowMismatch = None,
    check: CheckOnly = False,
    as_json: AsJson = False,
    **options: object,
) -> None:
    """Generate a video from a prompt (Text2World).

    The prompt passes the prompt guards, the video the video guards. The provenance (weights,
    prompt hash, seed, guard verdicts, versions) is written beside the mp4.

    Examples:
        nemo-cosmos generate outputs/quickstart/world/export -p "a robot arm lifts a red block"
        nemo-cosmos generate my_world -p "rain in a city" --seed 7 --steps 20 --out rain.mp4
        nemo-cosmos generate my_cars -p "a drive through a town at dusk" --rig six --json
        torchrun --nproc-per-node 4 -m nemo_cosmos generate my_world -p "rain" --tensor-parallel 2
    """
    asked = _Asked("generate", prompt, options, cameras=_Cameras(rig, views))
    setting = _Setting(
        disable_guard,
        enable_guard,
        precision,
        tensor_parallel,
        allow_mismatch,
        adapter,
        diffusion_decoder,
    )
    _generate(model, asked, out, setting, check, as_json)


@launchable(shared=True)
@_with_video_options
def predict(
    model: Model,
    input: Input,
    prompt: OptionalPrompt = None,
    actions: Actions = None,
    control: Controls = None,
    begin: Begin = None,
    num_condition_frames: NumGiven = None,
    rig: RigName = None,
    views: ViewNames = None,
    whole: Whole = None,
    out: Out = Path("outputs/predict.mp4"),
    disable_guard: DisableGuard = None,
    enable_guard: EnableGuard = None,
    precision: Precision = "auto",
    tensor_parallel: TensorParallel = 1,
    adapter: Adapters = None,
    diffusion_decoder: DecoderFolder = None,
    allow_mismatch: AllowMismatch = None,
    check: CheckOnly = False,
    as_json: AsJson = False,
    **options: Any,
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
        nemo-cosmos predict my_world -i first.png -p "rain" --adapter outputs/rain/adapter=0.7
    """
    given = {"frames": input, "begin": begin, "num_condition_frames": num_condition_frames}
    cameras = _Cameras(rig, views, whole)
    asked = _Asked("predict", prompt, options, given, actions, control, cameras)
    setting = _Setting(
        disable_guard,
        enable_guard,
        precision,
        tensor_parallel,
        allow_mismatch,
        adapter,
        diffusion_decoder,
    )
    _generate(model, asked, out, setting, check, as_json)


@launchable(shared=True)
@_with_video_options
def extend(
    model: Model,
    input: Input,
    chunks: Chunks = 3,
    prompt: OptionalPrompt = None,
    actions: Actions = None,
    control: Controls = None,
    begin: Begin = None,
    num_condition_frames: NumGiven = None,
    rig: RigName = None,
    views: ViewNames = None,
    whole: Whole = None,
    out: Out = Path("outputs/extend.mp4"),
    disable_guard: DisableGuard = None,
    enable_guard: EnableGuard = None,
    precision: Precision = "auto",
    tensor_parallel: TensorParallel = 1,
    adapter: Adapters = None,
    diffusion_decoder: DecoderFolder = None,
    allow_mismatch: AllowMismatch = None,
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
    given = {"frames": input, "begin": begin, "num_condition_frames": num_condition_frames}
    given["num_chunks"] = chunks
    cameras = _Cameras(rig, views, whole)
    asked = _Asked("extend", prompt, options, given, actions, control, cameras)
    setting = _Setting(
        disable_guard,
        enable_guard,
        precision,
        tensor_parallel,
        allow_mismatch,
        adapter,
        diffusion_decoder,
    )
    _generate(model, asked, out, setting, check, as_json)


@dataclass(frozen=True)
class _Cameras:
    """The cameras of a model of several, as a person names them.

    Attributes:
        rig: a file, or a name in a table of rigs.
        views: names of the cameras.
        whole: names of those that are given from begin to end.
    """

    rig: str | None = None
    views: list[str] | None = None
    whole: list[str] | None = None

    def find(self) -> Rig | None:
        """Return the rig; None where nothing names one.

        Raises:
            ConfigError: there is no such rig, or it has names of its own.
            MissingFileError: there is no such file.
            SampleError: the file is no rig.
        """
        from nemo_cosmos.inference.views import RecordedRig

        names = listed(self.views)
        if self.rig is None:
            return RecordedRig(tuple(names)) if names else None
        if self.rig.endswith(".npz"):
            return RecordedRig.read(expanded(self.rig), names)
        from post_training.driving.rigs import find_rig

        if names:
            raise ConfigError(f"The rig '{self.rig}' names its cameras; leave out --views.")
        return find_rig(self.rig)


@dataclass(frozen=True)
class _Asked:
    """What a person asks for, before it is checked.

    Attributes:
        task: ``generate``, ``predict`` or ``extend``.
        prompt: what happens.
        options: options of the video and of the model's family.
        given: further fields of a :class:`Request`.
        actions: the file of ``--actions``.
        control: the words of ``--control``.
        cameras: the words of ``--rig``, ``--views`` and ``--whole``.
    """

    task: Task
    prompt: str | None
    options: Mapping[str, Any]
    given: Mapping[str, Any] = field(default_factory=dict)
    actions: Path | None = None
    control: list[str] | None = None
    cameras: _Cameras = field(default_factory=_Cameras)

    def request(self) -> Request:
        """Make the request.

        Raises:
            InputError: a value or a file is wrong.
        """
        from nemo_cosmos.inference import Request
        from nemo_cosmos.inference.views import view_sources

        control = read_controls(self.actions, self.control)
        given = dict(self.given)
        if "frames" in given and Path(given["frames"]).is_dir():
            given["frames"] = view_sources(given["frames"])
        return Request(
            self.task,
            self.prompt,
            self.options,
            **given,
            control=control,
            rig=self.cameras.find(),
            whole=tuple(listed(self.cameras.whole)),
        )


@dataclass(frozen=True)
class _Setting:
    """How a person wants it made: guards, precision, ranks, meant differences, adapters."""

    disabled_guards: list[str] | None
    enabled_guards: list[str] | None
    precision: str
    tp: int
    allow_mismatch: list[str] | None
    adapter: list[str] | None = None
    decoder: Path | None = None

    @property
    def adapters(self) -> list[Weighted]:
        """What is put on the world, each with its weight."""
        from nemo_cosmos.checkpoint.adapters.merged import Weighted

        return [Weighted.parse(text) for text in self.adapter or ()]

    def check(self) -> str:
        """Check the names.

        Raises:
            ConfigError: an unknown precision, guard or kind of difference.
        """
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"There is no precision '{self.precision}'. The nearest are "
                f"{nearest_names(self.precision, PRECISIONS)}."
            )
        from nemo_cosmos.provenance.belonging import check_kinds

        if self.decoder is not None:
            from nemo_cosmos.checkpoint.world.config import read_config
            from nemo_cosmos.storage import exported_folder

            read_config(exported_folder(self.decoder))  # before a world is loaded
        check_kinds(listed(self.allow_mismatch))
        check_value("--tensor-parallel", self.tp, int, Range(least=1))
        self.guards()
        off = ", ".join(listed(self.disabled_guards))
        return f"{self.precision}, guards {f'without {off}' if off else 'as the site has them'}"

    def guards(self) -> GuardPolicy:
        """Return the site's guards with those that are turned on or off by name."""
        from nemo_cosmos.guardrails.site import site_policy

        return site_policy(listed(self.disabled_guards), listed(self.enabled_guards))

    def load(self, model: Path) -> WorldPipeline:
        """Load a world-model folder.

        Raises:
            MissingFileError: the folder does not exist.
            CheckpointError: it is damaged.
        """
        import torch

        from nemo_cosmos.inference import WorldPipeline

        return WorldPipeline.from_folder(
            model,
            self.guards(),
            dtype=None if self.precision == "auto" else getattr(torch, self.precision),
            tp=self.tp,
            allow_mismatch=listed(self.allow_mismatch),
            adapters=self.adapters,
            decoder=self.decoder,
        )


def _generate(
    model: Path, asked: _Asked, out: Path, setting: _Setting, only_check: bool, as_json: bool
) -> None:
    """Check everything, load the world, make the video and save it."""
    from nemo_cosmos.inference import check_output
    from nemo_cosmos.storage.outputs import check_apart

    given = asked.given.get("frames")
    check_apart(out, [] if given is None else [given])
    if not only_check:
        check_output(out)  # before the seconds that torch takes to import
    from nemo_cosmos.inference.checks import generation_checks
    from nemo_cosmos.platform import num_processes

    allowed = listed(setting.allow_mismatch)
    checks = generation_checks(
        model,
        asked.request,
        out,
        whole=only_check,
        allow_mismatch=allowed,
        adapters=setting.adapters,
    )
    if num_processes() == 1:  # of several ranks, each checks its part while it loads
        look_first([Check("options", setting.check), *checks], only_check, as_json)
    request = asked.request()
    setting.check()
    _run_and_save(setting.load(model), request, out, as_json)


def read_controls(actions: Path | None, controls: list[str] | None) -> dict[str, Any]:
    """Return the signal files of ``--actions`` and ``--control NAME=PATH``, which can be read.

    Raises:
        ConfigError: an entry is not NAME=PATH, or a name is given twice.
        MissingFileError: a file does not exist.
        SampleError: a file contains no plain NumPy arrays.
    """
    from nemo_cosmos.controls import read_signal

    pairs = [] if actions is None else [("action", str(actions))]
    for entry in controls or ():
        name, equals, path = entry.partition("=")
        if not (name and equals and path):
            raise ConfigError(
                f"--control '{entry}' is not NAME=PATH. Write for example --control action=a.npy."
            )
        pairs.append((name, path))
    signals: dict[str, object] = {}
    for name, path in pairs:
        if name in signals:
            raise ConfigError(f"The control '{name}' is given twice; give it once.")
        file = expanded(path)
        read_signal(file)  # what is no signal is refused before a world is looked at
        signals[name] = file  # not what it holds: messages about it name the file
    return signals


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
