"""The check of a cluster, up to its training: facts of a rank, and data that fit the recipe."""

from __future__ import annotations

import pytest

from nemo_cosmos.cli.house import launch as command
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.launch.check import run
from nemo_cosmos.launch.check.verdicts import Findings, Word, judge, page
from nemo_cosmos.launch.checks import training_checks
from nemo_cosmos.platform import ranks
from nemo_cosmos.site import compose_site


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setenv("NEMO_COSMOS_SITE", str(tmp_path / "site.txt"))
    return compose_site([f"storage.outputs={tmp_path}"])


def test_the_recipe_takes_the_data_that_the_first_rank_writes(site, tmp_path):
    own = run.facts_of_rank()
    assert own.num_kernels > 10 and not own.wrong and own.tflop_per_s > 0
    run._share_data(tmp_path / "check")
    recipe = run._recipe(site, tmp_path / "check")
    assert recipe.trainer.max_steps == run.NUM_STEPS
    for check in training_checks(recipe, False):
        check.look()


def test_a_folder_that_machines_do_not_share_is_named(site, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "is_first_process", lambda: False)
    monkeypatch.setattr(run, "SHARED_S", 0.0)
    with pytest.raises(ConfigError, match=r"does not see.*storage\.outputs"):
        run._share_data(tmp_path / "check")


def test_a_training_that_fails_is_a_verdict(site, tmp_path, monkeypatch, run_cli):
    def fail(site, folder, own):
        return Findings(ranks=[own], error="no room on the disk")

    monkeypatch.setattr(run, "_train", fail)
    verdicts = run.check_machines_of_job(site)
    assert verdicts[-1].word is Word.WRONG and "no room on the disk" in page(verdicts)
    assert judge(fail(site, tmp_path, run.facts_of_rank()), 10)[2].word is Word.FINE
    ran = run_cli("launch", "check")
    assert ran.code == 1 and "need attention: " in ran.out and "10 steps.\n" in ran.out


def test_a_rank_that_cannot_train_says_so_and_ends_the_others(site, monkeypatch, run_cli):
    """The first one may wait for it in vain."""
    failed = Findings(ranks=[run.facts_of_rank()], error="n2 does not see the folder")
    monkeypatch.setattr(run, "_train", lambda *_: failed)
    monkeypatch.setattr(ranks, "is_first_process", lambda: False)
    monkeypatch.setattr(run, "is_first_process", lambda: False)
    monkeypatch.setattr(command, "PAGE_S", 0.0)
    monkeypatch.setenv("SLURMD_NODENAME", "n2")
    ran = run_cli("launch", "check")
    assert ran.code == 1 and not ran.out
    assert "n2: the nano recipe does not train: n2 does not see the folder" in ran.err


def test_a_check_is_made_once(site, run_cli):
    """What it finds is its answer, and the same each time."""
    ran = run_cli("launch", "check", "--on", "slurm", "--dryrun")
    assert ran.code == 0 and "requeue" not in ran.out


def test_a_cluster_is_checked_by_a_job_of_all_its_devices(site, run_cli):
    ran = run_cli("launch", "check", "--on", "dgx_h100", "--nodes", "2", "--dryrun")
    assert ran.code == 0, ran.err
    assert "#SBATCH --nodes=2" in ran.out and "#SBATCH --ntasks-per-node=8" in ran.out
    assert "-m nemo_cosmos launch \\\n    check\n" in ran.out
