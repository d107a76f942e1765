"""Adapters merged into a world: the sum, its parts, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nemo_cosmos.checkpoint.adapters.folder import open_adapter
from nemo_cosmos.checkpoint.adapters.merged import Weighted, adapted_config, merge_adapters
from nemo_cosmos.checkpoint.convert import export_checkpoint
from nemo_cosmos.checkpoint.world.config import read_config
from nemo_cosmos.checkpoint.world.folder import load_world
from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.errors import (
    CheckpointError,
    ConfigError,
    InputError,
    MissingFileError,
    NemoCosmosError,
    NumericsError,
)
from nemo_cosmos.testing.tiny import write_ar_world, write_world

QKV = "blocks.layers.1.self_attention.linear_qkv"


def merged_weights(base: Path, *adapters: Weighted) -> dict[str, torch.Tensor]:
    source = merge_adapters(base, adapters).source
    return {name: source.read(name) for name in source.specs}


def delta(adapter: Path, name: str = QKV) -> torch.Tensor:
    tensors = load_file(adapter / "adapter_model.safetensors")
    return 2.0 * tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]


def test_two_adapters_are_the_weighted_sum(base, make_adapter):
    one, other = make_adapter("one", 1), make_adapter("other", 2)
    before = load_file(base / "model.safetensors")
    after = merged_weights(base, Weighted(one), Weighted(other, -0.5))
    for stem in (QKV, "blocks.layers.0.mlp.linear_fc2"):
        expected = before[f"{stem}.weight"] + delta(one, stem) - 0.5 * delta(other, stem)
        torch.testing.assert_close(after[f"{stem}.weight"], expected, rtol=0, atol=1e-6)
    untouched = [name for name in before if "adaln" in name or not name.startswith("blocks")]
    assert all(torch.equal(before[name], after[name]) for name in untouched)


def test_a_rank_reads_its_part(base, make_adapter):
    source = merge_adapters(base, [Weighted(make_adapter())]).source
    whole = source.read(f"{QKV}.weight")
    part = (slice(72, 144), slice(0, 24))
    torch.testing.assert_close(source.read_part(f"{QKV}.weight", part), whole[part])


def test_weights_trained_in_full_move_by_their_share(base, make_adapter):
    name = "final_layer.linear.weight"
    before = load_file(base / "model.safetensors")[name]
    adapter = make_adapter(extra={name: before + 1.0})
    after = merged_weights(base, Weighted(adapter, 0.25))[name]
    torch.testing.assert_close(after, before + 0.25)


def test_export_writes_a_world_with_both(base, make_adapter, tmp_path):
    one, other = Weighted(make_adapter("one", 1)), Weighted(make_adapter("other", 2), 0.5)
    said: list[str] = []
    export_checkpoint(base, tmp_path / "mixed", "world", adapters=[one, other], say=said.append)
    assert [line.split("'")[1] for line in said] == [str(one.path), str(other.path)]
    assert all("28 tensors matched, 0 missing, 0 unexpected; 14 of" in line for line in said)
    assert "(times 0.5)" in said[1]
    written = load_world(tmp_path / "mixed").net.state_dict()
    for name, value in merged_weights(base, one, other).items():
        assert torch.equal(written[name], value), name


@pytest.mark.parametrize(
    ("text", "path", "weight"), [("a/b", "a/b", 1.0), ("a=0.5", "a", 0.5), ("x=y=-2", "x=y", -2.0)]
)
def test_paths_with_weights(text, path, weight):
    assert Weighted.parse(text) == Weighted(Path(path), weight)


@pytest.mark.parametrize("text", ["a=0", "a=much", "a=nan", "a=", "a=-inf"])
def test_weights_that_are_none(text):
    with pytest.raises(InputError, match="other than 0"):
        Weighted.parse(text)


@pytest.mark.parametrize("text", ["", "=0.5", " "])
def test_an_adapter_without_a_folder(text):
    with pytest.raises(InputError, match="named without its folder"):
        Weighted.parse(text)


def test_an_adapter_that_is_named_twice_is_refused(base, make_adapter, tmp_path):
    adapter = make_adapter()
    (tmp_path / "link").symlink_to(adapter)
    with pytest.raises(ConfigError, match="named twice"):
        merge_adapters(base, [Weighted(adapter), Weighted(tmp_path / "link", 0.5)])


def test_a_path_with_an_equals_sign(tmp_path):
    folder = tmp_path / "step=3"
    folder.mkdir()
    assert Weighted.parse(str(folder)).weight == 1.0


def refused(base: Path, adapter: Path, error: type[NemoCosmosError], words: str) -> None:
    with pytest.raises(error, match=words):
        merge_adapters(base, [Weighted(adapter)])


def test_an_adapter_of_other_weights_is_refused_with_both_names(base, make_adapter, tmp_path):
    other = write_world(tmp_path / "other", std=0.2)
    adapter = make_adapter(of=other)
    refused(base, adapter, ConfigError, f"trained on '{other}'.*but '{base}'")
    merged = merge_adapters(base, [Weighted(adapter)], allow_mismatch=["weights"])
    assert merged.applied[0].changed == 14


def test_an_adapter_of_another_size_is_refused_with_both_names(base, make_adapter, tmp_path):
    other = write_world(tmp_path / "other", hidden_size=96, num_attention_heads=4)
    adapter = make_adapter(of=other)
    refused(base, adapter, ConfigError, f"'{base}' has hidden_size=48, but '{adapter}'")


def test_an_adapter_of_another_tokenizer_or_family_is_refused(base, make_adapter):
    world = read_config(base)
    made = {**world.made_with, "encoder_sha256": "0" * 64}
    adapter = make_adapter("tokenizer", world=replace(world, made_with=made))
    refused(base, adapter, ConfigError, "two tokenizers")
    adapter = make_adapter("family")
    file = adapter / "adapter_config.json"
    file.write_text(file.read_text().replace("nemo_cosmos.diffusion", "nemo_cosmos.autoregressive"))
    refused(base, adapter, NemoCosmosError, "adapter_config.json' cannot be used")


def test_tensors_without_a_place_are_refused(base, make_adapter):
    def add(tensors):
        tensors["blocks.layers.7.mlp.linear_fc1.lora_A.weight"] = torch.ones(2, 48)
        tensors["blocks.layers.7.mlp.linear_fc1.lora_B.weight"] = torch.ones(192, 2)

    refused(base, make_adapter("a", change=add), CheckpointError, "1 without a place there")
    name = f"{QKV}.lora_B.weight"
    shorter = make_adapter("b", change=lambda t: t.update({name: t[name][:-1]}))
    refused(base, shorter, CheckpointError, r"for \(143, 48\), where the world has \(144, 48\)")
    extra = make_adapter("c", extra={"controls.action.weight": torch.ones(3)})
    refused(base, extra, CheckpointError, "no such weight")


def test_an_adapter_that_changes_nothing_is_refused(base, make_adapter, tmp_path):
    def zero(tensors):
        for name, value in tensors.items():
            if "lora_B" in name:
                value.zero_()

    adapter = make_adapter(change=zero)
    refused(base, adapter, CheckpointError, "changes none of 14 weights")
    with pytest.raises(CheckpointError, match="changes none of 14 weights"):
        export_checkpoint(adapter, tmp_path / "alone", "diffusers")
    assert not (tmp_path / "alone").exists()


def test_an_adapter_that_is_not_finite_is_refused(base, make_adapter, tmp_path):
    """Its product is no number, which must not pass for a change, nor for none."""
    adapter = make_adapter()
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors[f"{QKV}.lora_A.weight"][1, 3] = float("nan")
    save_file(tensors, file)
    refused(base, adapter, NumericsError, rf"{QKV}\.lora_A\.weight' of the adapter '{adapter}'")
    with pytest.raises(NumericsError, match=rf"{QKV}\.lora_A\.weight"):
        export_checkpoint(adapter, tmp_path / "alone", "diffusers")
    assert not (tmp_path / "alone").exists()


def test_an_adapter_alone_fits_the_world_that_it_describes(make_adapter, tmp_path):
    """What is written for other libraries goes by the world's names, which no world checks."""

    def rename(tensors):
        for name in list(tensors):
            tensors[name.replace("blocks.", "transformer_blocks.")] = tensors.pop(name)

    shorter = f"{QKV}.lora_B.weight"
    for name, change, words in (
        ("names", rename, r"adapts 'transformer_blocks\..*no such weight"),
        (
            "rows",
            lambda t: t.update({shorter: t[shorter][:-4]}),
            r"\(140, 48\), where the world has \(144, 48\)",
        ),
    ):
        with pytest.raises(CheckpointError, match=words):
            export_checkpoint(make_adapter(name, change=change), tmp_path / "out", "diffusers")
        assert not (tmp_path / "out").exists()


def test_an_adapter_of_the_other_family_is_named_as_such(base, make_adapter, tmp_path):
    codes = write_ar_world(tmp_path / "codes")
    wanted = [Weighted(make_adapter(of=codes))]
    for join in (merge_adapters, adapted_config):
        with pytest.raises(ConfigError, match=rf"of the autoregressive family, but '{base}'"):
            join(base, wanted)


def test_an_autoregressive_adapter_has_no_place_in_diffusers(make_adapter, tmp_path):
    world = write_ar_world(tmp_path / "world")
    adapter = make_adapter(of=world)
    with pytest.raises(ConfigError, match=r"autoregressive family.*are: none.*--format world"):
        export_checkpoint(adapter, tmp_path / "alone", "diffusers")
    assert merge_adapters(world, [Weighted(adapter)]).applied[0].changed == 8


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("lora_dropout", "some", r"lora_dropout is 'some'"),
        ("target_modules", None, r"target_modules is None"),
        ("modules_to_save", "controls", r"modules_to_save is 'controls'"),
        ("base", 3, r"'base' is 3"),
        ("base", {"preset": "tiny", "weights_sha256": None}, r"base\.weights_sha256 is None"),
        ("world", "tiny", r"'world' is 'tiny'"),
        ("r", 10**9, r"r is 1000000000"),
        ("lora_alpha", "nan", r"lora_alpha is 'nan'"),
    ],
)
def test_a_description_of_other_types_is_refused(base, make_adapter, name, value, words):
    adapter = make_adapter()
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))
    refused(base, adapter, ConfigError, f"adapter_config.json' cannot be used.*{words}")


def test_an_adapter_without_its_description_is_named_as_one(base, make_adapter, tmp_path):
    adapter = make_adapter()
    (adapter / "adapter_config.json").unlink()
    refused(base, adapter, MissingFileError, "holds adapter_config.json and adapter_model")
    with pytest.raises(MissingFileError, match=r"holds adapter_config\.json and adapter_model"):
        export_checkpoint(adapter, tmp_path / "out", "diffusers")


def test_damaged_folders_are_refused(base, make_adapter, tmp_path):
    refused(base, tmp_path / "nowhere", MissingFileError, "peft_scheme=lora")
    refused(base, base, MissingFileError, "adapter_config.json")
    whole = make_adapter("whole")
    lonely = make_adapter("lonely", change=lambda t: t.pop(f"{QKV}.lora_B.weight"))
    refused(base, lonely, CheckpointError, "is without")
    lonely = make_adapter("lonely", change=lambda t: t.pop(f"{QKV}.lora_A.weight"))
    refused(base, lonely, CheckpointError, "is without")
    refused(base, make_adapter("rank", rank=3), CheckpointError, "the description of 3")
    cut = tmp_path / "cut"
    shutil.copytree(whole, cut)
    file = cut / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    refused(base, cut, CheckpointError, "damaged")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2}))
    save_file({"a.lora_A.weight": torch.ones(2, 2)}, theirs / "adapter_model.safetensors")
    refused(base, theirs, CheckpointError, "other libraries are not read")


def test_two_adapters_with_a_control_each_are_refused(base, make_adapter):
    world = read_config(base)
    one, other = (
        make_adapter(name, world=replace(world, controls=(ControlSpec(control),)))
        for name, control in (("one", "action"), ("other", "camera"))
    )
    with pytest.raises(ConfigError, match="each bring a control"):
        merge_adapters(base, [Weighted(one), Weighted(other)])
    again = make_adapter("again", world=replace(world, controls=(ControlSpec("action"),)))
    with pytest.raises(ConfigError, match="both bring the control 'action'"):
        merge_adapters(base, [Weighted(one), Weighted(again)])


def test_exports_that_make_no_sense_are_refused(base, make_adapter, tmp_path):
    adapter = make_adapter()
    for source, format, adapters, words in (
        (base, "world", [], "is a world folder already"),
        (adapter, "nemo", [], "Valid are: diffusers"),
        (adapter, "diffusers", [Weighted(adapter)], "is an adapter itself"),
        (base / "tokenizer", "diffusers", [Weighted(adapter)], "is a tokenizer"),
    ):
        with pytest.raises(InputError, match=words):
            export_checkpoint(source, tmp_path / "out", format, adapters=adapters)
        assert not (tmp_path / "out").exists()


def test_the_folder_of_a_run_names_its_adapter(make_adapter, tmp_path):
    adapter = make_adapter()
    run = tmp_path / "run"
    shutil.copytree(adapter, run / "adapter")
    assert open_adapter(run).folder == run / "adapter"
