"""``nemo-cosmos models``."""

from __future__ import annotations

from nemo_cosmos.cli.main import Exit


def test_counts_are_the_published_ones(run_cli):
    rows = {row["name"]: row for row in run_cli("models", "--json").json}
    assert rows["diffusion_7b_text2world"]["parameters"] == 7_236_192_256
    assert rows["diffusion_14b_video2world"]["parameters"] == 14_267_169_792
    assert rows["ar_4b"]["parameters"] == 4_014_088_192
    assert rows["tokenizer_cv8x8x8"]["parameters"] == 105_653_696
    assert rows["tokenizer_di16x16"]["parameters"] == 83_723_958
    assert {row["family"] for row in rows.values()} == {"autoregressive", "diffusion", "tokenizer"}


def test_the_table_names_every_model_of_a_family(run_cli):
    shown = run_cli("models", "--family", "tokenizer").out
    assert "tokenizer_ci8x8" in shown
    assert "diffusion" not in shown


def test_unknown_family(run_cli):
    ran = run_cli("models", "--family", "difusion")
    assert ran.code == Exit.WRONG_USE
    assert all(f"'{name}'" in ran.err for name in ("autoregressive", "diffusion", "tokenizer"))


def test_a_world_says_what_its_actions_are(run_cli, tmp_path):
    from nemo_cosmos.testing.tiny import write_world

    world = write_world(tmp_path / "world", controls=("action",))
    told = run_cli("models", world, "--json").json["embodiments"]["action"]
    assert told["name"] == "bridge_7" and told["numbers"][0]["names"] == ["dx", "dy", "dz"]
    shown = run_cli("models", world).out
    assert "droll" in shown and "made before it was recorded" in shown
    ran = run_cli("models", world, "--family", "diffusion")
    assert ran.code == Exit.WRONG_USE


def test_a_world_of_another_width_takes_its_own_actions_alone(run_cli, tmp_path):
    import numpy as np
    from PIL import Image

    from nemo_cosmos.controls import ControlSpec, settled
    from nemo_cosmos.testing.tiny import write_world

    spec = settled(ControlSpec("action", {"embodiment": "two_arms_20", "cumulative": True}))
    world = write_world(tmp_path / "world", controls=(spec,))
    assert "left_gripper" in run_cli("models", world).out
    Image.new("RGB", (48, 32)).save(tmp_path / "a.png")
    np.save(tmp_path / "seven.npy", np.zeros((8, 7)))
    words = ("predict", world, "--input", tmp_path / "a.png", "--out", tmp_path / "a.mp4")
    ran = run_cli(*words, "--actions", tmp_path / "seven.npy", "--steps", "1")
    assert ran.code == Exit.WRONG_USE
    said = " ".join(ran.err.split())
    assert "seven.npy" in said and "expected (8, 20): left_dx" in said
    actions = np.zeros((8, 20))
    actions[:, [3, 7, 13, 17]] = 1
    np.save(tmp_path / "twenty.npy", actions)
    made = run_cli(*words, "--actions", tmp_path / "twenty.npy", "--steps", "1", "--check")
    assert made.code == Exit.DONE, made.err


def test_a_world_of_two_robots_shows_both_and_takes_either(run_cli, tmp_path):
    import numpy as np
    from PIL import Image

    from nemo_cosmos.controls import ControlSpec, settled
    from nemo_cosmos.testing.tiny import write_world

    spec = settled(ControlSpec("action", {"embodiments": ["bridge_7", "arm_10"]}))
    world = write_world(tmp_path / "world", controls=(spec,))
    shown = run_cli("models", world).out
    assert "bridge_7: " in shown and "arm_10: " in shown and "assumed" not in shown.lower()
    told = run_cli("models", world, "--json").json["embodiments"]["action"]
    assert [one["name"] for one in told] == ["bridge_7", "arm_10"]
    Image.new("RGB", (48, 32)).save(tmp_path / "a.png")
    np.save(tmp_path / "seven.npy", np.zeros((8, 7)))
    ten = np.tile([0, 0, 0, 1, 0, 0, 0, 1, 0, 1.0], (8, 1))
    np.save(tmp_path / "ten.npy", ten)
    words = ("predict", world, "--input", tmp_path / "a.png", "--out", tmp_path / "a.mp4")
    words += ("--steps", "1")
    for file in ("seven.npy", "ten.npy"):
        ran = run_cli(*words, "--check", "--actions", tmp_path / file)
        assert ran.code == Exit.DONE, ran.err
    ran = run_cli(*words, "--actions", tmp_path / "ten.npy", "--embodiment", "bridge_7")
    assert ran.code == Exit.WRONG_USE
    said = " ".join(ran.err.split())
    assert "ten.npy" in said and "(8, 10); expected (N, 7) of 'bridge_7' (dx, dy, dz" in said
