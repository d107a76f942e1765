"""The site's settings: groups, kept choices, and layouts that are whole."""

from __future__ import annotations

import re

import pytest

from nemo_cosmos import site
from nemo_cosmos.errors import ConfigError

LAYOUTS = [name for name in site.groups()["parallel"] if name != "recipe"]
STRATEGY = "trainer.strategy"


@pytest.fixture(autouse=True)
def own_site(tmp_path, monkeypatch):
    monkeypatch.setenv(site.SITE_VARIABLE, str(tmp_path / "site.txt"))


def test_groups_add_up():
    overrides = site.compose_site(["parallel=tp8_cp2", "data=workers"])["overrides"]
    assert overrides[f"{STRATEGY}.context_parallel_size"] == 2
    assert overrides["data.num_workers"] == 8
    assert overrides["log.tensorboard_enabled"] is True


def test_the_site_file_follows_the_users_folder(monkeypatch, tmp_path):
    monkeypatch.delenv(site.SITE_VARIABLE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert site.site_file() == tmp_path / "nemo_cosmos" / "site.txt"


def test_the_catalogue_is_the_same_from_every_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", "~/data")
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in (tmp_path, tmp_path / "elsewhere"):
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        found = site.compose_site()["storage"]["catalogue"]
        assert found == str(tmp_path / "data" / "nemo_cosmos" / "catalogue.db")
    site.keep_choices(["storage.outputs=~/runs"])
    assert site.compose_site()["storage"]["outputs"] == str(tmp_path / "runs")


def test_commas_in_a_value_are_text():
    cards = "mlx5_0,mlx5_1"
    site.keep_choices(
        [f"cluster.env_vars.NCCL_IB_HCA={cards}", "guardrails.models.languages=it,nl"]
    )
    composed = site.compose_site(["guardrails.enabled=[blocklist,language]"])
    assert composed["cluster"]["env_vars"]["NCCL_IB_HCA"] == cards
    assert composed["guardrails"]["models"]["languages"] == "it,nl"
    assert composed["guardrails"]["enabled"] == ["blocklist", "language"]


def test_another_option_of_a_group_replaces_its_keys():
    site.keep_choices(["cluster=slurm", "cluster.account=robotics", "storage.outputs=/runs"])
    assert site.compose_site(["cluster=local"])["cluster"] == {"executor": "local", "env_vars": {}}
    site.keep_choices(["cluster=slurm"])  # the same option: nothing changes
    assert site.compose_site()["cluster"]["account"] == "robotics"
    assert site.keep_choices(["cluster=local"]) == ["storage.outputs=/runs", "cluster=local"]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_sets_everything_and_fills_its_machines(name):
    chosen = site.compose_site([f"parallel={name}"])["overrides"]
    keys = {key for key in chosen if key.startswith("trainer.")}
    same = site.compose_site(["parallel=single"])["overrides"]
    assert keys == {key for key in same if key.startswith("trainer.")}
    sizes = {
        "tp": chosen[f"{STRATEGY}.tensor_model_parallel_size"],
        "cp": chosen[f"{STRATEGY}.context_parallel_size"],
        "pp": chosen[f"{STRATEGY}.pipeline_model_parallel_size"],
    }
    num_devices = chosen["trainer.devices"] * chosen["trainer.num_nodes"]
    sizes["dp"], rest = divmod(num_devices, sizes["tp"] * sizes["cp"] * sizes["pp"])
    assert rest == 0
    named = {kind: int(size) for kind, size in re.findall(r"(tp|cp|pp|dp)(\d+)", name)}
    assert named.items() <= sizes.items()
    assert "fsdp" in name or name == "single" or sizes["dp"] == named.get("dp", 1)
    assert sizes["tp"] <= chosen["trainer.devices"], "tensor parallel stays within a machine"
    assert chosen[f"{STRATEGY}.sequence_parallel"] == (sizes["tp"] > 1)
    assert (chosen[f"{STRATEGY}.fsdp"] is not None) == ("fsdp" in name)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_recipe_takes_a_layout_as_a_whole(name):
    """A recipe's own layout leaves nothing behind."""
    from nemo_cosmos.launch import configure_recipe

    composed = site.compose_site([f"parallel={name}"])
    recipe = configure_recipe("diffusion_7b_text2world", [], composed, False)
    for key, value in composed["overrides"].items():
        node = recipe
        for part in key.split("."):
            node = getattr(node, part)
        assert node == value


@pytest.mark.parametrize("cluster", ["slurm", "kubernetes", "ray", "local", "torchrun"])
def test_a_slip_in_a_key_of_a_cluster_is_named_with_the_nearest(cluster):
    with pytest.raises(ConfigError, match=r"no 'cluster\.env_vrs'.*'env_vars'"):
        site.compose_site([f"cluster={cluster}", "cluster.env_vrs=4"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("defaults: [dgx_h10]\n", "begins with 'dgx_h10'.*nearest are 'dgx_h100'"),
        ("defaults: [mine]\n", "begins with itself: mine -> mine"),
        ("defaults: [slurm]\naccount: [a\n", "Line 3 of"),
        (b"account: \xff\n", "cannot be read"),
    ],
)
def test_a_clusters_file_that_cannot_be_read_is_named(text, words):
    site.own_clusters().mkdir(parents=True)
    path = site.own_clusters() / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=words) as refused:
        site.compose_site(["cluster=mine"])
    assert str(path) in str(refused.value) and "Groups and options" not in str(refused.value)


def test_a_clusters_file_may_begin_with_another_of_the_users_own():
    site.own_clusters().mkdir(parents=True)
    (site.own_clusters() / "base.yaml").write_text("defaults: [slurm]\naccount: robotics\n")
    (site.own_clusters() / "large.yaml").write_text("defaults: [base, _self_]\nmax_nodes: 8\n")
    cluster = site.compose_site(["cluster=large"])["cluster"]
    assert (cluster["account"], cluster["max_nodes"]) == ("robotics", 8)


def test_a_clusters_file_with_the_name_of_one_of_ours_would_not_be_read():
    site.own_clusters().mkdir(parents=True)
    (site.own_clusters() / "slurm.yaml").write_text("executor: slurm\naccount: robotics\n")
    with pytest.raises(ConfigError, match="has the name of one of ours"):
        site.compose_site(["cluster=slurm"])
