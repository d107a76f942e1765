"""Import, export and import again; what wrong, incomplete and malicious checkpoints say."""

from __future__ import annotations

import json
import shutil
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nemo_cosmos.checkpoint.convert import export_checkpoint, import_checkpoint
from nemo_cosmos.checkpoint.formats import safetensors as safetensors_files
from nemo_cosmos.checkpoint.formats.safetensors import SafetensorsSource
from nemo_cosmos.checkpoint.world.config import read_config
from nemo_cosmos.checkpoint.world.folder import load_world
from nemo_cosmos.errors import (
    CheckpointError,
    ConfigError,
    InputError,
    MissingFileError,
    NumericsError,
)
from nemo_cosmos.testing.tiny import write_world

WEIGHTS = "model.safetensors"


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    source = SafetensorsSource(folder / WEIGHTS)
    return {name: source.read(name) for name in source.specs}


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert tensor.dtype == right[name].dtype and torch.equal(tensor, right[name]), name


def without(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if not name.startswith(prefix)}


@pytest.mark.parametrize("task", ["text2world", "video2world"])
@pytest.mark.parametrize("format", ["diffusers", "cosmos", "nemo"])
def test_import_export_and_import_again(make_world, tmp_path, task, format):
    world = make_world(task)
    export_checkpoint(world, tmp_path / "first", format)
    once = import_checkpoint(tmp_path / "first", tmp_path / "once")
    export_checkpoint(once, tmp_path / "second", format)
    twice = import_checkpoint(tmp_path / "second", tmp_path / "twice")
    assert_same(tensors(once), tensors(twice))
    assert_same(tensors(once / "tokenizer"), tensors(twice / "tokenizer"))
    # diffusers has no place for the learned variance of the training loss
    whole = tensors(world)
    assert_same(tensors(once), without(whole, "logvar.") if format == "diffusers" else whole)
    config = read_config(once)
    assert (
        config.model.network == read_config(world).model.network and config.video["num_frames"] == 9
    )
    assert config.model.process.edm.learned_variance == (format != "diffusers")
    loaded = load_world(once)
    torch.testing.assert_close(loaded.tokenizer.stats.std, torch.full((16,), 0.7))


def test_the_control_goes_into_nemo_and_nowhere_else(make_world, tmp_path):
    world = make_world("video2world", "action")
    for format in ("diffusers", "cosmos"):
        with pytest.raises(ConfigError, match=r"control 'action'.*--format nemo"):
            export_checkpoint(world, tmp_path / format, format)
        assert not (tmp_path / format).exists()
    export_checkpoint(world, tmp_path / "nemo", "nemo")
    assert_same(tensors(import_checkpoint(tmp_path / "nemo", tmp_path / "again")), tensors(world))


def test_several_cameras_go_into_nemo_and_nowhere_else(tmp_path):
    """Their embedding would be lost without a word; the settings come back as they were."""
    world = write_world(tmp_path / "world", view_slots=("front", "left"), max_given_views=1)
    for format in ("diffusers", "cosmos"):
        with pytest.raises(ConfigError, match=r"several cameras \(front, left\).*--format nemo"):
            export_checkpoint(world, tmp_path / format, format)
        assert not (tmp_path / format).exists()
    export_checkpoint(world, tmp_path / "nemo", "nemo")
    again = import_checkpoint(tmp_path / "nemo", tmp_path / "again")
    assert_same(tensors(again), tensors(world))
    assert {"view_embed.names", "view_embed.rig_2.weight"} <= tensors(again).keys()
    before, after = (read_config(folder).model for folder in (world, again))
    assert after.process == before.process and after.process.views.max_given == 1
    assert load_world(again).net.config.view_slots == ("front", "left")


@pytest.mark.parametrize("wrapper", ["model", "ema"])
def test_original_files_with_wrappers_prefixes_and_extras(make_world, tmp_path, wrapper):
    world = make_world()
    export_checkpoint(world, tmp_path / "cosmos", "cosmos")
    file = tmp_path / "cosmos" / "model.pt"
    state = torch.load(file, weights_only=True)
    assert "net.blocks.block1.blocks.0.block.attn.to_q.1.weight" in state
    assert state["logvar.1.weight"].shape == (1, 128)
    bare = {name.removeprefix("net."): value for name, value in state.items()}
    bare["pos_embedder.seq"] = torch.zeros(240)
    torch.save({"model": {"x": torch.zeros(1)}, wrapper: bare, "step": 7}, file)
    again = import_checkpoint(tmp_path / "cosmos", tmp_path / "again")
    assert_same(tensors(again), tensors(world))


def test_a_published_size_is_found_by_its_shapes(tmp_path):
    from nemo_cosmos.checkpoint.diffusion.descriptions import original_preset
    from nemo_cosmos.models.diffusion.presets import DIFFUSION

    for preset in DIFFUSION.values():
        config = preset.config()
        width = config.input_channels * config.patch_volume
        shapes = {"net.x_embedder.proj.1.weight": (config.hidden_size, width)}
        shapes |= {f"net.blocks.block{i}.x": (1,) for i in range(config.num_layers)}
        assert original_preset(shapes, "model.pt", None) is preset
    with pytest.raises(CheckpointError, match="it has 1 blocks"):
        original_preset({"net.blocks.block0.x": (1,)}, "model.pt", None)


def test_shards_with_an_index(make_world, tmp_path, monkeypatch):
    world = make_world()
    export_checkpoint(world, tmp_path / "nemo", "nemo")
    monkeypatch.setattr(safetensors_files.write_safetensors, "__defaults__", (100_000,))
    again = import_checkpoint(tmp_path / "nemo", tmp_path / "again")
    shards = sorted(path.name for path in again.glob("*.safetensors"))
    assert len(shards) > 3 and shards[0] == f"model-00001-of-{len(shards):05d}.safetensors"
    together = {}
    for shard in shards:  # each is a file that the safetensors library reads
        part = load_file(again / shard)
        assert sum(value.nbytes for value in part.values()) <= 100_000 or len(part) == 1
        together |= part
    assert_same(together, tensors(world))
    index = json.loads((again / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == together.keys()
    load_world(again)
    (again / shards[1]).unlink()
    with pytest.raises(MissingFileError, match=shards[1]):
        load_world(again)


@pytest.mark.parametrize("format", ["diffusers", "cosmos", "nemo"])
def test_only_a_few_tensors_are_in_memory(make_world, tmp_path, format, monkeypatch):
    """What makes 14B convert in little memory: never more than the parts of one weight."""
    world = make_world()
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    most = 0

    def watch(read):
        def reading(self, name):
            nonlocal most
            tensor = read(self, name)
            if not {"vae", "tokenizer"} & set(Path(self.place).parts):  # small, read as a whole
                alive.add(tensor)
            most = max(most, len(alive))
            return tensor

        return reading

    from nemo_cosmos.checkpoint.formats.nemo_weights import NemoSource
    from nemo_cosmos.checkpoint.formats.torch import TorchFileSource

    for source in (SafetensorsSource, TorchFileSource, NemoSource):
        monkeypatch.setattr(source, "read", watch(source.read))
    export_checkpoint(world, tmp_path / "out", format)
    assert 0 < most <= 2
    most = 0
    import_checkpoint(tmp_path / "out", tmp_path / "again")
    assert 0 < most <= 4, "the queries, keys and values of one layer, and the one before"


def test_nothing_is_overwritten(make_world, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("all I have")
    with pytest.raises(InputError, match="exists and is not empty"):
        export_checkpoint(make_world(), tmp_path / "full", "cosmos")
    with pytest.raises(InputError, match=r"folder of ours already.*nemo-cosmos export"):
        import_checkpoint(make_world(), tmp_path / "new")
    with pytest.raises(ConfigError, match=r"'onnx'.*diffusers, cosmos, nemo"):
        export_checkpoint(make_world(), tmp_path / "new", "onnx")
    with pytest.raises(MissingFileError, match="nowhere"):
        import_checkpoint(tmp_path / "nowhere", tmp_path / "new")
    with pytest.raises(CheckpointError, match="not a known checkpoint"):
        import_checkpoint(tmp_path / "full", tmp_path / "new")


class RunsCode:
    def __reduce__(self):
        return Path.touch, (Path("/tmp/nemo_cosmos_pwned"),)


def spoil_state(change):
    def apply(folder: Path) -> None:
        file = folder / "model.pt"
        state = torch.load(file, weights_only=True)
        change(state)
        torch.save(state, file)

    return apply


KEY = "net.blocks.block0.blocks.2.block.layer1.weight"
DAMAGES = {
    "missing": (spoil_state(lambda s: s.pop(KEY)), CheckpointError, rf"1 missing \({KEY}\)"),
    "unknown": (
        spoil_state(lambda s: s.update({"net.lora.a": torch.ones(1)})),
        CheckpointError,
        r"1 unexpected \(net\.lora\.a\)",
    ),
    "prefixed": (
        spoil_state(lambda s: [s.update({f"model.{name}": s.pop(name)}) for name in list(s)]),
        CheckpointError,
        r"0 tensors matched, \d+ unexpected \(model\..*one more prefix",
    ),
    "shape": (
        spoil_state(lambda s: s.update({KEY: torch.ones(3, 48)})),
        CheckpointError,
        rf"1 of another shape \({KEY} \(3, 48\) instead of \(192, 48\)\)",
    ),
    "nan": (spoil_state(lambda s: s[KEY].fill_(float("nan"))), NumericsError, "linear_fc1"),
    "code": (
        spoil_state(lambda s: s.update(evil=RunsCode())),
        CheckpointError,
        "could run code, so it was not loaded",
    ),
    "truncated": (
        lambda f: (f / "model.pt").write_bytes((f / "model.pt").read_bytes()[:-5000]),
        CheckpointError,
        "only partly copied",
    ),
    "empty": (lambda f: torch.save({}, f / "model.pt"), CheckpointError, "holds no weights"),
    "no_tokenizer": (
        lambda f: shutil.rmtree(f / "tokenizer"),
        InputError,
        "--tokenizer FOLDER",
    ),
    "other_preset": (
        lambda f: (f / "nemo_cosmos.json").unlink(),
        CheckpointError,
        "2 blocks and a patch embedding",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_wrong_original_file_is_one_clear_error(make_world, tmp_path, damage):
    export_checkpoint(make_world(), tmp_path / "cosmos", "cosmos")
    change, error, message = DAMAGES[damage]
    change(tmp_path / "cosmos")
    with pytest.raises(error, match=message):
        import_checkpoint(tmp_path / "cosmos", tmp_path / "again")
    assert not (tmp_path / "again").exists(), "nothing half-written stays"
    assert not Path("/tmp/nemo_cosmos_pwned").exists()


def test_a_preset_that_does_not_fit_says_what_differs(make_world, tmp_path):
    export_checkpoint(make_world(), tmp_path / "cosmos", "cosmos")
    (tmp_path / "cosmos" / "nemo_cosmos.json").unlink()
    with pytest.raises(CheckpointError, match=r"40 missing .*of another shape.*--model"):
        import_checkpoint(
            tmp_path / "cosmos", tmp_path / "again", model="diffusion_nano_text2world"
        )


@pytest.mark.parametrize("format", ["diffusers", "cosmos", "nemo"])
def test_a_named_model_is_not_ignored_where_the_files_say_another(make_world, tmp_path, format):
    export_checkpoint(make_world(), tmp_path / "out", format)
    with pytest.raises(InputError, match=r"num_layers=2, 'diffusion_nano_text2world' 4"):
        import_checkpoint(tmp_path / "out", tmp_path / "x", model="diffusion_nano_text2world")
    with pytest.raises(ConfigError, match="no model called 'tinny'"):
        import_checkpoint(tmp_path / "out", tmp_path / "x", model="tinny")
    vae = tmp_path / "out" / ("vae" if format == "diffusers" else "tokenizer")
    if format != "nemo":  # whose tokenizer is a folder of ours
        with pytest.raises(InputError, match=r"--tokenizer .* has no use"):
            import_checkpoint(vae, tmp_path / "x", tokenizer=vae)
        with pytest.raises(InputError, match="built in another way"):
            import_checkpoint(vae, tmp_path / "x", model="tokenizer_cv8x8x8")
    assert not (tmp_path / "x").exists()


def test_a_wrong_diffusers_folder(make_world, tmp_path):
    export_checkpoint(make_world(), tmp_path / "hf", "diffusers")
    weights = tmp_path / "hf" / "transformer" / "diffusion_pytorch_model.safetensors"
    config = tmp_path / "hf" / "transformer" / "config.json"
    text = config.read_text()
    config.write_text(text.replace("CosmosTransformer3DModel", "WanTransformer3DModel"))
    with pytest.raises(CheckpointError, match="WanTransformer3DModel"):
        import_checkpoint(tmp_path / "hf", tmp_path / "again")
    config.write_text(text.replace('"num_layers": 2', '"num_layers": 3'))
    with pytest.raises(CheckpointError, match="describes two networks"):
        import_checkpoint(tmp_path / "hf", tmp_path / "again")
    (tmp_path / "hf" / "nemo_cosmos.json").unlink()
    with pytest.raises(CheckpointError, match=r"20 missing \(transformer_blocks\.2\."):
        import_checkpoint(tmp_path / "hf", tmp_path / "again")
    config.write_text(text)
    state = load_file(weights)
    save_file({**state, "controlnet.weight": torch.zeros(1)}, weights)
    with pytest.raises(CheckpointError, match=r"1 unexpected \(controlnet\.weight\)"):
        import_checkpoint(tmp_path / "hf", tmp_path / "again")
    save_file(state, weights)
    import_checkpoint(tmp_path / "hf", tmp_path / "again")
    assert read_config(tmp_path / "again").text_encoder["path"] == "google-t5/t5-11b"


def edit(name: str, **changes):
    """Change fields of one of a diffusers folder's configurations."""

    def apply(folder: Path) -> None:
        data = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**data, **changes}))

    return apply


SCHEDULER = "scheduler/scheduler_config.json"
OTHER_KINDS = {
    "pipeline": (edit("model_index.json", _class_name="Cosmos2VideoToWorldPipeline"), "Cosmos2"),
    "scheduler": (edit(SCHEDULER, _class_name="FlowMatchEulerDiscreteScheduler"), "FlowMatch"),
    "prediction": (edit(SCHEDULER, prediction_type="v_prediction"), "'v_prediction', but only"),
    "noise": (edit(SCHEDULER, sigma_max=200.0), r"sigma_max=200\.0, but only 80\.0"),
    "network": (edit("transformer/config.json", qk_norm="layer_norm"), "qk_norm='layer_norm'"),
    "context": (edit("transformer/config.json", use_crossattn_projection=True), "use_crossattn"),
    "tokenizer": (edit("vae/config.json", scaling_factor=0.18), r"scaling_factor=0\.18"),
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_no_field_of_a_foreign_configuration_is_ignored(make_world, tmp_path, kind):
    folder = export_checkpoint(make_world(), tmp_path / "hf", "diffusers")
    change, message = OTHER_KINDS[kind]
    change(folder)
    with pytest.raises(CheckpointError, match=message):
        import_checkpoint(folder, tmp_path / "again")


def test_the_scale_of_the_data_is_taken_over(make_world, tmp_path):
    folder = export_checkpoint(make_world(), tmp_path / "hf", "diffusers")
    (folder / "nemo_cosmos.json").unlink()
    edit(SCHEDULER, sigma_data=1.0)(folder)
    again = import_checkpoint(folder, tmp_path / "again")
    assert read_config(again).model.process.edm.sigma_data == 1.0


def test_weights_of_a_variant_are_found(make_world, tmp_path):
    folder = export_checkpoint(make_world(), tmp_path / "hf", "diffusers")
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    halved = {name: value.half() for name, value in load_file(file).items()}
    save_file(halved, file.with_name("diffusion_pytorch_model.fp16.safetensors"))
    file.unlink()
    again = tensors(import_checkpoint(folder, tmp_path / "again"))
    assert {value.dtype for value in again.values()} == {torch.float16}


def test_a_variant_in_shards_is_found_as_diffusers_names_it(make_world, tmp_path):
    folder = export_checkpoint(make_world(), tmp_path / "hf", "diffusers")
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    whole = import_checkpoint(folder, tmp_path / "whole")
    names = sorted(weights := load_file(file))
    file.unlink()
    shards = {
        f"diffusion_pytorch_model.fp16-0000{number}-of-00002.safetensors": names[number - 1 :: 2]
        for number in (1, 2)
    }
    for shard, held in shards.items():
        save_file({name: weights[name].half() for name in held}, file.with_name(shard))
    index = {"weight_map": {name: shard for shard, held in shards.items() for name in held}}
    Path(f"{file}.index.fp16.json").write_text(json.dumps(index))
    again = tensors(import_checkpoint(folder, tmp_path / "again"))
    assert again.keys() == tensors(whole).keys()
    assert {value.dtype for value in again.values()} == {torch.float16}
