"""What is said twice must agree: Dockerfile, Makefile, pyproject, docs."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nemo_cosmos.assets import ASSETS

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def listed(path):
    """Canonical name -> version, of a file of ``name==version`` lines."""
    lines = (line.split("#")[0].strip() for line in (ROOT / path).read_text().splitlines())
    pairs = (line.split("==") for line in lines if line)
    return {canonicalize_name(name): version for name, version in pairs}


def pins():
    """Dependency name -> full requirement string, of the base and all extras."""
    extras = PYPROJECT["project"]["optional-dependencies"]
    requirements = PYPROJECT["project"]["dependencies"] + list(chain(*extras.values()))
    return {re.split(r"[\[<>=~! ]", line)[0].lower(): line for line in requirements}


def test_torch_is_pinned_alike_everywhere():
    torch = re.search(r"^TORCH := (torch==\S+)$", MAKEFILE, re.MULTILINE).group(1)
    assert f"ARG TORCH={torch}\n" in DOCKERFILE
    assert Requirement(pins()["torch"]).specifier.contains(torch.split("==")[1])


def test_dockerfile_python_is_allowed_by_the_project():
    version = re.search(r"python:(\d+\.\d+)-", DOCKERFILE).group(1)
    low, high = re.fullmatch(
        r">=(3\.\d+),<(3\.\d+)", PYPROJECT["project"]["requires-python"]
    ).groups()
    as_tuple = lambda text: tuple(map(int, text.split(".")))  # noqa: E731
    assert as_tuple(low) <= as_tuple(version) < as_tuple(high)


def test_dockerfile_copies_what_the_wheel_holds():
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    for stage in DOCKERFILE.split("FROM ")[1:]:
        for folder in [*wheel["packages"], *wheel["force-include"]]:
            assert f"COPY {folder} {folder}" in stage


def test_dockerfile_requirements_are_the_projects_own():
    project = {line.lower() for line in pins().values()}
    for requirement in re.findall(r'(?:--no-deps |")([a-z][\w-]+[<>=]=?[\w.,<>=]+)', DOCKERFILE):
        assert requirement.lower() in project


def test_dockerfile_extras_exist():
    for group in re.findall(r'"\.\[([a-z,]+)\]"', DOCKERFILE + MAKEFILE):
        assert set(group.split(",")) <= set(PYPROJECT["project"]["optional-dependencies"])


def test_every_installation_brings_scenedetect_without_its_opencv():
    alone = r"--no-deps --constraint \S+ scenedetect\b"
    assert re.search(alone, MAKEFILE)
    cpu, gpu = DOCKERFILE.split("FROM ")[1:]
    assert re.search(alone, cpu)
    assert "--no-deps --requirements docker/gpu-extra.txt" in gpu
    assert "scenedetect" in listed("docker/gpu-extra.txt")
    assert "scenedetect" not in pins()


def test_every_bound_is_explained():
    text = (ROOT / "pyproject.toml").read_text()
    for line in re.findall(r'^  "[A-Za-z].*$', text.split("[project.scripts]")[0], re.MULTILINE):
        if re.search(r"[<>=]=", line):
            assert "#" in line, f"no reason beside: {line}"


def test_constraints_satisfy_the_project():
    pinned = listed("constraints.txt")
    for line in pins().values():
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        if name in pinned:
            assert requirement.specifier.contains(pinned[name], prereleases=True), line


@pytest.mark.parametrize("name", ASSETS)
def test_third_party_page_names_every_asset(name):
    asset = ASSETS[name]
    page = (ROOT / "docs" / "third_party.md").read_text()
    assert f"{asset.package}=={asset.version}" in page
    assert asset.distribution_sha256 in page
