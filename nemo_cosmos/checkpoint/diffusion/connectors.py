"""NeMo's connectors of the diffusion model; importing this module registers them.

::

    import nemo_cosmos.checkpoint.diffusion.connectors

    model = DiffusionModel.import_from("diffusers:///models/Cosmos-1.0-Diffusion-7B-Text2World")
    DiffusionModel.exporter("cosmos", "runs/mine/checkpoints/step=001000")(Path("mine_cosmos"))

Imports read ``diffusers``, ``cosmos`` and ``world`` folders; exports of a NeMo checkpoint write the
same. Both pass through a world folder, tensor by tensor, beside their output.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from nemo.lightning import io

from nemo_cosmos.checkpoint.convert import export_checkpoint, import_checkpoint
from nemo_cosmos.checkpoint.foreign import open_world, tokenizer_place
from nemo_cosmos.checkpoint.tokenizer.files import import_tokenizer
from nemo_cosmos.checkpoint.world.config import TOKENIZER_FOLDER, format_of, read_config
from nemo_cosmos.models.common.family import WorldInfo
from nemo_cosmos.models.diffusion.controls import TokenizerFacts
from nemo_cosmos.models.diffusion.model import DiffusionModel
from nemo_cosmos.models.diffusion.settings import diffusion_settings

FORMATS = ("diffusers", "cosmos", "world")


class WorldImporter(io.ModelConnector):
    """From a checkpoint of another format to a model and a NeMo distributed checkpoint."""

    def init(self) -> DiffusionModel:
        """Return the checkpoint's model, without its weights."""
        source = Path(str(self))
        if format_of(source):
            tokenizer_folder = source / TOKENIZER_FOLDER
            tokenizer = import_tokenizer(tokenizer_folder)
            config = read_config(source)
        else:
            tokenizer_folder = tokenizer_place(source, None)
            tokenizer = import_tokenizer(tokenizer_folder)
            config = open_world(source, tokenizer.config, None, use_average=True).config
        world = WorldInfo(str(tokenizer_folder), config.text_encoder, config.video)
        settings = diffusion_settings(config.model)
        return DiffusionModel(
            settings.network_config(),
            settings.process,
            controls=config.controls,
            tokenizer=TokenizerFacts.of(tokenizer.config),
            preset=config.preset,
            world=world,
        )

    def apply(self, output_path: Path, **_: object) -> Path:
        """Write the NeMo checkpoint."""
        source = Path(str(self))
        with _folder_beside(output_path) as folder:
            world = source if format_of(source) else import_checkpoint(source, folder / "world")
            return export_checkpoint(world, Path(str(output_path)), "nemo")


class WorldExporter(io.ModelConnector):
    """From a NeMo distributed checkpoint to another format."""

    format: ClassVar[str]

    def apply(self, output_path: Path, **_: object) -> Path:
        """Write the export, with the moving average of the weights where there is one."""
        target = Path(str(output_path))
        if self.format == "world":
            return import_checkpoint(str(self), target)
        with _folder_beside(target) as folder:
            world = import_checkpoint(str(self), folder / "world")
            return export_checkpoint(world, target, self.format)


@contextmanager
def _folder_beside(output: Path) -> Iterator[Path]:
    """Provide a folder on the same disk, and delete it afterwards."""
    parent = Path(str(output)).absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=parent) as name:
        yield Path(name)


def _register() -> None:
    for name in FORMATS:
        io.model_importer(DiffusionModel, name)(type(f"From_{name}", (WorldImporter,), {}))
        exporter = type(f"To_{name}", (WorldExporter,), {"format": name})
        io.model_exporter(DiffusionModel, name)(exporter)


_register()
