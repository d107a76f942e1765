"""Sweeps: which runs they have, and what they refuse."""

from __future__ import annotations

import pytest

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.launch import sweep_variants


def test_each_value_is_a_run_with_a_folder_of_its_own():
    assert sweep_variants(["optim.config.lr=1e-5,1e-4"], "world") == [
        ("optim.config.lr=1e-5", "log.name=world-lr-1e-5"),
        ("optim.config.lr=1e-4", "log.name=world-lr-1e-4"),
    ]


def test_several_keys_give_every_combination():
    runs = sweep_variants(["a.x=1,2", "b=u,v"], "world")
    assert [run[:2] for run in runs] == [
        ("a.x=1", "b=u"),
        ("a.x=1", "b=v"),
        ("a.x=2", "b=u"),
        ("a.x=2", "b=v"),
    ]
    assert len({run[2] for run in runs}) == 4


def test_commas_in_brackets_belong_to_a_value():
    runs = sweep_variants(["data.path=[/a,/b],[/c]"], "w")
    assert [run[0] for run in runs] == ["data.path=[/a,/b]", "data.path=[/c]"]
    assert all("/" not in run[1] for run in runs)


def test_values_that_differ_only_in_what_a_folder_cannot_hold_have_folders_of_their_own():
    names = [run[-1] for run in sweep_variants(["x=a/b,a b"], "w")]
    assert len(set(names)) == 2


def test_no_sweep_is_no_run():
    assert sweep_variants([], "world") == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lr"], "KEY=VALUE,VALUE"),
        (["lr="], "KEY=VALUE,VALUE"),
        (["=1,2"], "KEY=VALUE,VALUE"),
        (["lr=1,,2"], "KEY=VALUE,VALUE"),
        (["lr=1,1"], "a value twice"),
        (["lr=1,2", "lr=3"], "twice"),
        (["log.name=a,b"], "log.name"),
        (["trainer.devices=1,2"], "trainer.devices"),
        ([f"x={','.join(map(str, range(40)))}", f"y={','.join(map(str, range(40)))}"], "1600 runs"),
    ],
)
def test_what_is_no_sweep_is_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        sweep_variants(words, "world")
