"""Curation on a real Ray cluster of two node processes: the same bytes, whatever dies."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from data_curation import CurateSettings, SplitSettings, TranscodeSettings, curate
from data_curation.clip import Resources
from data_curation.executors import build_executor
from data_curation.executors.sharing import limits, needs_of
from data_curation.stages.visual_quality import VisualQualitySettings
from nemo_cosmos.errors import ConfigError, ServiceError, StorageFullError

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'nemo-cosmos[curation]'")


HERE = str(Path(__file__).parent)
sys.path.append(HERE)  # actors import what they work on by name
from curation_workers import HELD, Places, Squares, Step, tree  # noqa: E402

from data_curation.executors.ray_cluster import RayExecutor  # noqa: E402

#: Ray asks its nodes for a sign of life every half second, so that the tests do not wait for it.
FAST_HEALTH = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 3,
}


@pytest.fixture(scope="module")
def cluster():
    """Two nodes with a core each; the second says that it has a GPU."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": FAST_HEALTH}
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.setenv("PYTHONPATH", HERE, prepend=os.pathsep)
        cluster = Cluster(initialize_head=True, head_node_args=head)
        cluster.second = cluster.add_node(num_cpus=1, num_gpus=1)
        yield cluster
        cluster.shutdown()


def test_dead_actors_are_replaced_and_poison_is_given_up(cluster, tmp_path):
    work = Squares(tmp_path)
    outcomes = list(RayExecutor(cluster.address).run(work, [1, 5, 13, 2]))
    killed = (13, "square: its worker died, 3 times")
    assert sorted(outcomes) == [(1, "done"), (4, "done"), killed, (25, "done")]
    tries = {path.name: len(path.read_text()) for path in tmp_path.iterdir()}
    assert tries == {"1": 1, "2": 1, "5": 3, "13": 3}


def test_sources_spread_over_nodes_and_gpu_stages_have_actors_of_their_own(cluster, tmp_path):
    work = Places(tmp_path)
    outcomes = list(RayExecutor(cluster.address).run(work, list(range(12))))
    assert sorted(item for item, _ in outcomes) == list(range(12))
    looked, embedded, written = zip(*(places for _, places in outcomes), strict=True)
    assert {place.node for place in looked} == alive_nodes(cluster)
    assert {place.gpus for place in looked + written} == {""}
    assert {place.gpus for place in embedded} == {"0"}
    assert not {place.pid for place in embedded} & {place.pid for place in looked + written}
    assert work.most_under_way == 6  # two for each of three actors, whatever waits
    assert work.num_under_way == 0


def test_a_full_disk_in_an_actor_ends_the_run(cluster, tmp_path):
    with pytest.raises(StorageFullError, match="No space left"):
        list(RayExecutor(cluster.address).run(Squares(tmp_path), [30]))


def test_a_node_that_does_not_see_the_folder_is_refused(cluster, tmp_path):
    with pytest.raises(ConfigError, match="not here"):
        list(RayExecutor(cluster.address).run(Squares(tmp_path / "not here"), [1]))


@pytest.mark.slow
def test_two_nodes_a_dying_node_and_one_node_give_the_bytes_of_inline(cluster, raw, tmp_path):
    settings = HELD
    executor = RayExecutor(cluster.address)
    curate(raw, tmp_path / "inline", settings)
    expected = tree(tmp_path / "inline")
    assert any(name.endswith(".tar") for name in expected)

    curate(raw, tmp_path / "two", settings, executor)
    assert tree(tmp_path / "two") == expected
    assert curate(raw, tmp_path / "two", settings, executor).num_reused == 4

    (tmp_path / "hold").write_text(cluster.second.node_id)
    killer = threading.Thread(target=_kill_the_second_node, args=(cluster, tmp_path / "reached"))
    killer.start()
    curate(raw, tmp_path / "dying", settings, executor)
    killer.join()
    assert len(alive_nodes(cluster)) == 1
    assert tree(tmp_path / "dying") == expected

    curate(raw, tmp_path / "one", settings, executor)
    assert tree(tmp_path / "one") == expected


def _kill_the_second_node(cluster, reached: Path) -> None:
    """As soon as one of its actors is at work."""
    while not reached.exists():
        time.sleep(0.05)
    cluster.remove_node(cluster.second, allow_graceful=False)


def alive_nodes(cluster) -> set[str]:
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        return {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    finally:
        ray.shutdown()


def test_no_cluster_at_the_address():
    with pytest.raises(ServiceError, match=r"'localhost:1'.*'local', 'auto'"):
        list(RayExecutor("localhost:1").run(Places(Path()), [1]))


def test_limits_that_cannot_be():
    with pytest.raises(ConfigError, match="From 3 to 2 Ray actors"):
        build_executor("ray", num_workers=2, min_workers=3)
    with pytest.raises(ConfigError, match="--worker-memory-gb"):
        build_executor("ray", max_memory_gb=1.0)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (CurateSettings(), ["embed"]),
        (
            CurateSettings(
                split=SplitSettings(method="transnetv2"),
                transcode=TranscodeSettings(encoder="h264_nvenc"),
                visual_quality=VisualQualitySettings(clip_model="clip", aesthetic_head="head.pt"),
            ),
            ["split", "transcode", "visual_quality", "embed"],
        ),
    ],
)
def test_stages_that_use_a_gpu_say_so(store, settings, wanted):
    stages = settings.build_stages(store)
    assert [stage.name for stage in stages if stage.resources.gpus] == wanted


def test_actors_ask_for_what_stages_declare_and_share_the_nodes():
    nodes = [
        {"Resources": {"CPU": 16.0, "memory": 64 * 2.0**30}},
        {"Resources": {"CPU": 8.0, "memory": 5 * 2.0**30, "GPU": 2.0}},
    ]
    look, embed, write = needs_of(Places.stages, nodes)
    assert look is write
    assert look == {"CPU": 2.0, "memory": 2 * 2.0**30}
    assert embed == {"GPU": 1.0}
    assert limits([look, embed], nodes) == [8 + 2, 2]
    first, second = needs_of([Step("a", Resources().with_gpu())] * 2, nodes)
    assert first is not second
    assert limits([first, second], nodes) == [4, 4]  # eight quarters of two GPUs
    small = [{"Resources": {"CPU": 1.0, "memory": 2.0**30}}]
    for needs in needs_of(Places.stages, small):
        assert needs == {"CPU": 1.0, "memory": 2.0**30}
    assert limits([look], small) == [1]
