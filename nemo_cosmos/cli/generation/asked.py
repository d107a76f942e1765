"""What a person asks of a world model, and how it is to be made: options of several commands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemo_cosmos.cli.kit.options import (
    Adapters,
    AllowMismatch,
    DisableGuard,
    EnableGuard,
    Offload,
    listed,
    number,
)
from nemo_cosmos.errors import ConfigError, nearest_names
from nemo_cosmos.home import expanded
from nemo_cosmos.options import Range, check_value

if TYPE_CHECKING:
    from nemo_cosmos.checkpoint.adapters.merged import Weighted
    from nemo_cosmos.guardrails import GuardPolicy
    from nemo_cosmos.inference import WorldPipeline
    from nemo_cosmos.inference.views import Rig

PRECISIONS = ("auto", "float32", "bfloat16")

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
ViewPrompts = Annotated[
    list[str] | None,
    typer.Option("--view-prompt", help="What one of several cameras shows, VIEW=TEXT. Repeatable."),
]
Whole = Annotated[
    list[str] | None,
    typer.Option("--whole", help="Cameras that are given from begin to end, by name."),
]
Actions = Annotated[
    Path | None,
    typer.Option(
        help="Robot actions, a .npy with a row for each step; short for --control action=PATH."
    ),
]
Controls = Annotated[
    list[str] | None,
    typer.Option(
        "--control",
        "-c",
        help="A signal, NAME=PATH (.npy or .npz; layout=FOLDER of videos). Repeatable.",
    ),
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


@dataclass(frozen=True)
class Cameras:
    """The cameras of a model of several, as a person names them.

    Attributes:
        rig: a file, or a name in a table of rigs.
        views: names of the cameras.
        view_prompt: what single ones show, each ``VIEW=TEXT``.
    """

    rig: RigName = None
    views: ViewNames = None
    view_prompt: ViewPrompts = None

    def prompts(self) -> dict[str, str]:
        """Return what single cameras show, by their names.

        Raises:
            ConfigError: an entry is not VIEW=TEXT, or a camera is named twice.
        """
        found: dict[str, str] = {}
        for entry in self.view_prompt or ():
            view, _, text = entry.partition("=")
            if not (view and text.strip()):
                raise ConfigError(
                    f"--view-prompt '{entry}' is not VIEW=TEXT. Write for example --view-prompt "
                    '"rear=a red car follows".'
                )
            if view in found:
                raise ConfigError(f"The view '{view}' has two prompts; give it one.")
            found[view] = text
        return found

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
class Given:
    """What a video goes on from, and what steers it.

    Attributes:
        actions: the file of robot actions.
        control: signals, each ``NAME=PATH``.
        begin: the frames to continue.
        num_condition_frames: how many of them.
        whole: names of the cameras that are given from begin to end.
    """

    actions: Actions = None
    control: Controls = None
    begin: Begin = None
    num_condition_frames: NumGiven = None
    whole: Whole = None

    def fields(self, frames: Path) -> dict[str, Any]:
        """The fields of a :class:`Request` that it fills.

        Args:
            frames: an image, a video, or a folder of several cameras' videos.

        Raises:
            InputError: a file is missing or contains something else.
        """
        from nemo_cosmos.inference.views import view_sources

        return {
            "frames": view_sources(frames) if frames.is_dir() else frames,
            "begin": self.begin,
            "num_condition_frames": self.num_condition_frames,
            "control": read_controls(self.actions, self.control),
            "whole": tuple(listed(self.whole)),
        }


@dataclass(frozen=True)
class Setting:
    """How a video is made: guards, precision, ranks, memory, adapters, meant differences.

    Attributes:
        disable_guard: names of guards that are turned off.
        enable_guard: names of guards that are asked although the site has them off.
        precision: one of :data:`PRECISIONS`.
        tensor_parallel: ranks that share the weights.
        adapter: adapters, each ``FOLDER`` or ``FOLDER=WEIGHT``.
        diffusion_decoder: the folder of what makes the pixels of an autoregressive world.
        offload: parts that wait in the CPU's memory.
        allow_mismatch: kinds of difference between parts that are meant.
    """

    disable_guard: DisableGuard = None
    enable_guard: EnableGuard = None
    precision: Precision = "auto"
    tensor_parallel: TensorParallel = 1
    adapter: Adapters = None
    diffusion_decoder: DecoderFolder = None
    offload: Offload = None
    allow_mismatch: AllowMismatch = None

    @property
    def adapters(self) -> list[Weighted]:
        """What is put on the world, each with its weight."""
        from nemo_cosmos.checkpoint.adapters.merged import Weighted

        return [Weighted.parse(text) for text in self.adapter or ()]

    def check(self) -> str:
        """Check the names; return a line about them.

        Raises:
            ConfigError: an unknown precision, guard, part or kind of difference.
        """
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"There is no precision '{self.precision}'. The nearest are "
                f"{nearest_names(self.precision, PRECISIONS)}."
            )
        from nemo_cosmos.inference.offloading import check_offload
        from nemo_cosmos.provenance.belonging import check_kinds

        has_decoder = self.diffusion_decoder is not None
        check_offload(listed(self.offload), self.tensor_parallel, has_decoder)
        if self.diffusion_decoder is not None:
            from nemo_cosmos.checkpoint.world.config import read_config
            from nemo_cosmos.storage import exported_folder

            read_config(exported_folder(self.diffusion_decoder))  # before a world is loaded
        check_kinds(listed(self.allow_mismatch))
        check_value("--tensor-parallel", self.tensor_parallel, int, Range(least=1))
        self.guards()
        off = ", ".join(listed(self.disable_guard))
        return f"{self.precision}, guards {f'without {off}' if off else 'as the site has them'}"

    def guards(self) -> GuardPolicy:
        """Return the site's guards with those that are turned on or off by name."""
        from nemo_cosmos.guardrails.site import site_policy

        return site_policy(listed(self.disable_guard), listed(self.enable_guard))

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
            tp=self.tensor_parallel,
            allow_mismatch=listed(self.allow_mismatch),
            adapters=self.adapters,
            decoder=self.diffusion_decoder,
            offload=listed(self.offload),
        )


def read_controls(actions: Path | None, controls: list[str] | None) -> dict[str, Any]:
    """Return the signal files of ``--actions`` and ``--control NAME=PATH``, which can be read.

    Raises:
        ConfigError: an entry is not NAME=PATH, or a name is given twice.
        MissingFileError: a file does not exist.
        SampleError: a file contains no plain NumPy arrays.
    """
    from nemo_cosmos.controls import read_signal
    from nemo_cosmos.inference.layouts import is_layout_video

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
        if not is_layout_video(name, file):
            read_signal(file)  # what is no signal is refused before a world is looked at
        signals[name] = file  # not what it holds: messages about it name the file
    return signals
