"""What ``generate``, ``predict`` and ``extend`` share: options, loading, progress and output."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np

    from nemo_cosmos.guardrails import GuardPolicy
    from nemo_cosmos.inference import Result, WorldPipeline
    from nemo_cosmos.inference.pipeline import Progress

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
    typer.Option("--control", "-c", help="A control array, NAME=PATH.npy; repeat for more."),
]
NumGiven = Annotated[
    int | None, typer.Option("--num-condition-frames", help="How many last frames to continue.")
]
GuideControl = Annotated[
    bool, typer.Option("--guide-control", help="Let guidance strengthen the control, too.")
]
DisableGuard = Annotated[
    list[str] | None,
    typer.Option("--disable-guard", help="Turn off a guard by its name; recorded. Repeatable."),
]
EnableGuard = Annotated[
    list[str] | None,
    typer.Option("--enable-guard", help="Ask a guard that is off by default, too. Repeatable."),
]
Precision = Annotated[str, typer.Option(help="float32 or bfloat16.")]
TensorParallel = Annotated[
    int,
    typer.Option(
        "--tensor-parallel",
        help="Under torchrun: processes that share the weights; the rest share the video.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON line on standard output.")]


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

    from nemo_cosmos.inference import WorldPipeline

    guards = site_guards(disabled_guards, enabled_guards)
    return WorldPipeline.from_folder(model, guards, dtype=getattr(torch, precision), tp=tp)


def site_guards(
    disabled_guards: list[str] | None, enabled_guards: list[str] | None = None
) -> GuardPolicy:
    """The guards that the site's settings ask for, and those that are turned on or off by name.

    Raises:
        ConfigError: an unknown guard.
    """
    from nemo_cosmos.guardrails import GuardPolicy
    from nemo_cosmos.platform import is_first_process
    from nemo_cosmos.site import compose_site

    site = compose_site()["guardrails"]
    audit_path = site["audit_log"]
    if not is_first_process():  # each process asks the guards; one of them keeps the log
        audit_path = Path(tempfile.mkdtemp(prefix="nemo_cosmos_audit_")) / "audit.jsonl"
    disabled = [*site["disabled"], *(disabled_guards or ())]
    return GuardPolicy.default(
        disabled,
        audit_path=audit_path,
        enabled=[*site["enabled"], *(enabled_guards or ())],
        record_text=site["audit_text"],
    )


def read_frames(path: Path) -> np.ndarray:
    """Read an image or video as uint8 frames (T,H,W,3)."""
    from nemo_cosmos.video import decode

    return decode(path).frames_THWC


def read_controls(actions: Path | None, controls: list[str] | None) -> dict[str, np.ndarray]:
    """Read control arrays from ``--actions`` and ``--control NAME=PATH``.

    Raises:
        ConfigError: an entry is not NAME=PATH, or a name is given twice.
        MissingFileError: a file is not there.
        SampleError: a file is not a plain NumPy array.
    """
    from nemo_cosmos.errors import ConfigError

    pairs = [] if actions is None else [("action", str(actions))]
    for entry in controls or ():
        name, equals, path = entry.partition("=")
        if not (name and equals and path):
            raise ConfigError(
                f"--control '{entry}' is not NAME=PATH. Write for example --control action=a.npy."
            )
        pairs.append((name, path))
    arrays: dict[str, np.ndarray] = {}
    for name, path in pairs:
        if name in arrays:
            raise ConfigError(f"The control '{name}' is given twice; give it once.")
        arrays[name] = _read_array(Path(path))
    return arrays


def _read_array(path: Path) -> np.ndarray:
    import numpy as np

    from nemo_cosmos.errors import MissingFileError, SampleError

    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise MissingFileError(f"There is no file '{path}'. Check the spelling.") from error
    except (OSError, ValueError, EOFError) as error:
        raise SampleError(
            f"'{path}' is not a NumPy array of numbers: {error}. Write one with numpy.save."
        ) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise SampleError(f"'{path}' holds several arrays (.npz); give one, as a .npy file.")
    return array


@contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """Show a bar of sampling steps on standard error, with rate and time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    speed = TextColumn("{task.fields[rate]}")
    with Bar(*columns, speed, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=None, rate="")
        started_s = time.perf_counter()

        def update(done: int, total: int) -> None:
            rate = done / (time.perf_counter() - started_s)
            bar.update(task, completed=done, total=total, rate=f"{rate:.2f} steps/s")

        yield update


def run_and_save(label: str, out: Path, as_json: bool, make: Callable[[Progress], Result]) -> None:
    """Generate with a progress bar, save the video and tell where it is.

    Of several processes that generate together, the first saves and tells.
    """
    from nemo_cosmos.platform import is_first_process

    if not is_first_process():
        make(lambda done, total: None)
        return
    started_s = time.perf_counter()
    with progress_bar(label) as progress:
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
