"""A package with one file and an entry point adds a stage: installed for real, by pip."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from data_curation import OPTIONAL_STAGES, CurateSettings, SplitSettings, curate
from data_curation.settings import optional_stages
from data_curation.stages.base import ClipStage, Stage, StageSettings, check_order
from data_curation.stages.plugins import ENTRY_POINT_GROUP, in_order, installed_stages
from nemo_cosmos.data.shards.writer import read_samples
from nemo_cosmos.errors import ConfigError

STAGE = """
from dataclasses import dataclass

from data_curation.clip import Rejection
from data_curation.stages.base import ClipStage, StageSettings
from nemo_cosmos.options import option


@dataclass(frozen=True)
class NameLengthSettings(StageSettings):
    after = "transcode"
    optional = True
    max_letters: int = option(100, "Longest name.", flag="--max-letters")

    def build(self, store):
        return NameLengthStage(self)


class NameLengthStage(ClipStage):
    name = "name_length"
    inputs = ("suffixes",)
    outputs = ("scores",)

    def __init__(self, settings):
        self.settings = settings

    def process(self, clip):
        if len(clip.name) > self.settings.max_letters:
            return Rejection.of(clip, self.name, "long_name", "too long")
        return clip.with_scores(letters=float(len(clip.name)))
"""


def build_wheel(folder: Path, text: str = STAGE, target: str = "NameLengthSettings") -> Path:
    """A minimal wheel, as PEP 427 describes it."""
    info = "name_length-1.0.dist-info"
    files = {
        "name_length.py": text,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: name-length\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[{ENTRY_POINT_GROUP}]\nname_length = name_length:{target}\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    path = folder / "name_length-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
    return path


@pytest.fixture
def install(tmp_path, monkeypatch):
    def install(*arguments: str) -> Path:
        site = tmp_path / "site"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        command += ["--disable-pip-version-check", "--target", str(site)]
        wheel = build_wheel(tmp_path, *arguments)
        subprocess.run([*command, str(wheel)], check=True, capture_output=True)
        monkeypatch.syspath_prepend(str(site))
        return site

    yield install
    sys.modules.pop("name_length", None)


SETTINGS = {"split": SplitSettings(min_clip_s=1), "skip": OPTIONAL_STAGES}


def test_an_installed_stage_runs_in_its_place_and_is_recorded(install, raw, tmp_path):
    install()
    settings = CurateSettings(**SETTINGS)
    names = list(settings.by_stage())
    assert names[names.index("transcode") + 1] == "name_length"
    summary = curate(raw, tmp_path / "out", settings)
    assert summary.stages["name_length"] == (3, 3)  # a still one is gone before
    written = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert written["settings"]["name_length"] == {"max_letters": 100}
    scores = {s.record.source: s.record.scores["letters"] for s in read_samples(tmp_path / "out")}
    assert scores["sub/robot.mp4"] == 13.0
    assert "name_length" in (tmp_path / "out" / "report.html").read_text()


def test_its_settings_are_given_by_name_and_decide_what_is_reused(install, raw, tmp_path):
    install()
    curate(raw, tmp_path / "out", CurateSettings(**SETTINGS))
    kind = installed_stages()["name_length"]
    short = CurateSettings.of_stages({"name_length": kind(max_letters=14)}, **SETTINGS)
    summary = curate(raw, tmp_path / "out", short)
    assert summary.rejected["long_name"] == 2
    assert summary.num_reused == 0


def test_an_optional_stage_is_skipped_by_its_name(install, raw, tmp_path):
    install()
    assert "name_length" in optional_stages()
    settings = CurateSettings(split=SETTINGS["split"], skip=optional_stages())
    assert "name_length" not in curate(raw, tmp_path / "out", settings).stages


def test_without_the_package_there_is_no_such_stage():
    assert installed_stages() == {}
    assert CurateSettings().added == {}


def test_a_package_that_cannot_be_loaded_is_named(install):
    install("raise RuntimeError('no licence')")
    with pytest.raises(ConfigError, match=r"'name_length'.*RuntimeError: no licence.*uninstall"):
        installed_stages()


def test_an_object_that_is_no_settings_class_is_refused(install):
    install(STAGE, "NameLengthStage")
    with pytest.raises(ConfigError, match="is no class of settings"):
        CurateSettings()


@dataclass(frozen=True)
class AfterMotion(StageSettings):
    after = "motion"

    def build(self, store) -> Stage:
        return LastStage()


@dataclass(frozen=True)
class AfterCaption(AfterMotion):
    after = "caption"


@dataclass(frozen=True)
class Nowhere(AfterMotion):
    after = "moton"


class LastStage(ClipStage):
    name = "last"

    def process(self, clip):
        return clip


def test_places_of_added_stages():
    @dataclass(frozen=True)
    class AfterAdded(AfterMotion):
        after = "b"

    own = ["split", "motion", "camera"]
    added = {"c": AfterAdded, "a": AfterMotion, "b": AfterMotion}
    assert in_order(own, added) == ["split", "motion", "a", "b", "c", "camera"]
    with pytest.raises(ConfigError, match=r"stands after 'moton'.*'motion'"):
        in_order(own, {"x": Nowhere})
    with pytest.raises(ConfigError, match="adds a stage 'camera', which is the name"):
        in_order(own, {"camera": AfterMotion})


def test_a_stage_of_single_clips_cannot_follow_one_that_sees_all(store):
    settings = replace(CurateSettings(), added={"last": AfterCaption()})
    with pytest.raises(ConfigError, match=r"'last' works on single clips .* after 'deduplicate'"):
        check_order(settings.build_stages(store))


def test_its_options_are_those_of_the_command(install, raw, tmp_path):
    program = [sys.executable, "-W", "ignore", "-m", "nemo_cosmos", "curate"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(install()), *sys.path])}

    def run(*words):
        command = [*program, *map(str, words)]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment
        ).stdout

    shown = run("--help")
    assert "--max-letters" in shown and "Stage 'name_length'" in shown
    words = [raw, tmp_path / "out", "--executor", "inline", "--json", "--skip", "all"]
    words += ["--min-clip-s", 1, "--catalogue", tmp_path / "catalogue.db"]
    assert json.loads(run(*words))["num_clips"] == 3
    words[words.index("all")] = ",".join(OPTIONAL_STAGES)
    summary = json.loads(run(*words, "--max-letters", 14))
    assert summary["rejected"]["long_name"] == 2
    written = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert written["settings"]["name_length"] == {"max_letters": 14}
