"""The GPU image brings what the code imports, without replacing what NVIDIA built."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nemo_cosmos.platform.accelerator.findings import OLDEST_DRIVERS

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def listed(path):
    """Canonical name -> version, of a file of ``name==version`` lines."""
    lines = (line.split("#")[0].strip() for line in (ROOT / path).read_text().splitlines())
    pairs = (line.split("==") for line in lines if line)
    return {canonicalize_name(name): version for name, version in pairs}


OURS = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
BASE, ADDED = listed("docker/base-image.txt"), listed("docker/gpu-extra.txt")
GPU_STAGE = DOCKERFILE.split("FROM ")[-1]
INSTALL_PAGE = (ROOT / "docs" / "install.md").read_text()

#: Import names of packages that the machine of the tests need not have.
ELSEWHERE = {"transformer_engine": "transformer-engine", "apex": "apex", "flash_attn": "flash-attn"}
#: Optional packages that the image goes without; ``docs/install.md`` gives the reason of each.
LEFT_OUT = {"apex", "flash-attn", "nvidia-dali-cuda130", "torchcodec"}
#: Functions that take a module's name.
IMPORTERS = {"has", "import_module", "require", "_name_in"}
#: Requirements that are not followed: scenedetect's OpenCV would clash with the contrib one.
NOT_FOLLOWED = {("scenedetect", "opencv-python")}


def imported_by(source):
    """Top-level names of the absolute imports of a module, lazy ones and literal strings too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.Call) and node.args:
            function = node.func
            name = getattr(function, "id", None) or getattr(function, "attr", None)
            value = getattr(node.args[0], "value", None)
            if name in IMPORTERS and isinstance(value, str):
                yield value.split(".")[0]


@cache
def third_party_imports():
    """Top-level name -> the first file that imports it."""
    found = {}
    for package in OURS:
        for path in sorted((ROOT / package).rglob("*.py")):
            for name in imported_by(path.read_text()):
                found.setdefault(name, path.relative_to(ROOT).as_posix())
    return {
        name: path
        for name, path in found.items()
        if name not in sys.stdlib_module_names and name not in OURS
    }


@cache
def installed():
    """Top-level import name -> names of the distributions that bring it."""
    return {
        name: {canonicalize_name(each) for each in found}
        for name, found in packages_distributions().items()
    }


def distributions_of(name):
    """Names of the distributions that may bring an import; the name itself where none is known."""
    if name in ELSEWHERE:
        return {ELSEWHERE[name]}
    return installed().get(name) or {canonicalize_name(name)}


def test_imports_are_found_wherever_they_stand():
    source = (
        "import aa.b\nfrom .c import d\n"
        "def f():\n    from bb.c import d\n    require('cc.d')\n    x.import_module('dd')\n"
        "    require(name)\n    print('ee')\n"
    )
    assert set(imported_by(source)) == {"aa", "bb", "cc", "dd"}


def test_the_image_brings_every_import():
    brought = set(BASE) | set(ADDED) | LEFT_OUT
    missing = {
        name: path
        for name, path in third_party_imports().items()
        if not distributions_of(name) & brought
    }
    assert not missing, f"add to docker/gpu-extra.txt what brings: {missing}"
    assert {"torch", "obstore", "cv2", "scenedetect", "peft", "ray"} <= set(third_party_imports())


def test_the_image_brings_what_its_added_packages_require():
    missing = {}
    for name in ADDED:
        for line in distribution(name).requires or []:
            needed = Requirement(line)
            on_image = {"python_version": "3.12", "python_full_version": "3.12.3", "extra": ""}
            if needed.marker and not needed.marker.evaluate(on_image):
                continue
            if (name, needed.name) in NOT_FOLLOWED:
                continue
            if canonicalize_name(needed.name) not in set(BASE) | set(ADDED):
                missing[needed.name] = name
    assert not missing, f"add to docker/gpu-extra.txt: {missing}"


def test_the_image_satisfies_the_projects_requirements():
    image = BASE | ADDED
    extras = PYPROJECT["project"]["optional-dependencies"]
    lines = PYPROJECT["project"]["dependencies"]
    for line in [*lines, *(each for name in extras if name != "dev" for each in extras[name])]:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        if name not in LEFT_OUT:
            assert name in image, f"{line}: neither in the base nor added"
            assert requirement.specifier.contains(image[name], prereleases=True), line


def test_added_packages_have_the_verified_versions():
    pinned = listed("constraints.txt")
    assert {name: pinned[name] for name in ADDED} == ADDED


def test_what_nvidia_built_is_never_replaced():
    for name in ADDED:
        assert not re.match(r"(torch|triton|numpy|megatron-core|transformer-engine)$|nvidia-", name)


def test_the_image_is_installed_into_the_environment_that_has_megatron():
    assert "ARG NEMO_IMAGE=nvcr.io/nvidia/nemo:26.02.01\n" in DOCKERFILE
    runs = [line for line in GPU_STAGE.splitlines() if line.startswith("RUN ")]
    installs = [line for line in runs if "install" in line]
    assert len(installs) == 2
    for line in installs:
        assert line.startswith("RUN uv pip install ") and "--no-deps" in line
        assert "--python /opt/venv/bin/python" in line
    assert 'ENTRYPOINT ["/opt/venv/bin/python", "-m", "nemo_cosmos"]' in GPU_STAGE
    assert 'ENV PIP_CONSTRAINT=""' in GPU_STAGE


@pytest.mark.parametrize("stage", DOCKERFILE.split("FROM ")[1:], ids=["cpu", "gpu"])
def test_what_a_stage_copies_exists_and_its_imports_are_checked_last(stage):
    for sources in re.findall(r"^COPY (.+) \S+$", stage, re.MULTILINE):
        assert all((ROOT / source).exists() for source in sources.split())
    check = re.search(r"RUN cd / && \S+ /opt/nemo_cosmos/docker/check_image.py", stage)
    assert check and check.start() > stage.rindex(" install ")


def test_the_check_names_what_does_not_import(tmp_path):
    for package in OURS:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "recipes" / "inner").mkdir()
    (tmp_path / "recipes" / "inner" / "__init__.py").touch()
    script = ROOT / "docker" / "check_image.py"

    def check():
        command = [sys.executable, "-S", str(script)]
        variables = {"PYTHONPATH": str(tmp_path)}
        return subprocess.run(command, env=variables, text=True, capture_output=True, check=False)

    assert check().returncode == 0
    (tmp_path / "recipes" / "inner" / "broken.py").write_text("import no_such_package\n")
    result = check()
    assert result.returncode == 1
    assert "recipes.inner.broken does not import: ModuleNotFoundError" in result.stderr


def test_the_gpu_extra_is_what_the_image_has():
    extra = {
        Requirement(line).name: Requirement(line)
        for line in PYPROJECT["project"]["optional-dependencies"]["gpu"]
    }
    engine = extra["transformer-engine"]
    assert engine.extras == {"pytorch", "core_cu13"}
    assert engine.specifier.contains(BASE["transformer-engine"])


def test_the_page_names_the_image_and_what_it_goes_without():
    page = (ROOT / "docs" / "install.md").read_text()
    for text in ("nemo:26.02.01", *LEFT_OUT):
        assert text in page, text
    assert "docs/install.md" in (ROOT / "README.md").read_text()


def supported_stacks():
    """Rows of the page's table of versions: its cells without emphasis."""
    page = (ROOT / "docs" / "install.md").read_text()
    table = page.split("## What the code supports")[1].split("\n\n")[1]
    rows = [
        [cell.strip().replace("*", "") for cell in line.split("|")[1:-1]]
        for line in table.splitlines()
    ]
    assert rows[0][1:7] == [
        "NeMo", "Megatron-Core", "Transformer Engine", "torch", "CUDA", "Python",
    ]  # fmt: skip
    return rows[2:]


def takes(name, version):
    """Whether the project's requirements take a release, or are silent on the package."""
    extras = PYPROJECT["project"]["optional-dependencies"]["gpu"]
    for line in [*PYPROJECT["project"]["dependencies"], *extras]:
        requirement = Requirement(line)
        if canonicalize_name(requirement.name) == name:
            return requirement.specifier.contains(version, prereleases=True)
    return True


def test_the_table_of_versions_is_what_the_image_and_the_pins_say():
    (base,) = [row for row in supported_stacks() if "the base of the Dockerfile" in row[7]]
    assert f"nvcr.io/nvidia/{base[0].strip('`')}\n" in DOCKERFILE
    assert base[1].endswith(f"replaced by {ADDED['nemo-toolkit']}")
    for cell, name in ((2, "megatron-core"), (3, "transformer-engine"), (4, "torch")):
        assert re.match(rf"{re.escape(base[cell])}(\.|$)", BASE[name]), name
        assert takes(name, BASE[name]), name
    (cpu,) = [row for row in supported_stacks() if "CPU stage" in row[0]]
    pinned = listed("constraints.txt") | {"torch": cpu[4]}
    assert f"ARG TORCH=torch=={cpu[4]}\n" in DOCKERFILE
    for cell, name in ((1, "nemo-toolkit"), (2, "megatron-core"), (4, "torch")):
        assert cpu[cell] == pinned[name] and takes(name, cpu[cell]), name
    low, high = re.fullmatch(
        r">=3\.(\d+),<3\.(\d+)", PYPROJECT["project"]["requires-python"]
    ).groups()
    for row in (base, cpu):
        assert int(low) <= int(row[6].removeprefix("3.")) < int(high)
    assert f"ARG PYTHON_IMAGE=python:{cpu[6]}-" in DOCKERFILE
    assert re.search(rf"R{OLDEST_DRIVERS[int(base[5].split('.')[0])]} or later", INSTALL_PAGE)


def test_stacks_that_the_table_refuses_are_refused_by_the_pins():
    refused = [row for row in supported_stacks() if row[7].startswith("no:")]
    assert len(refused) == 4
    for row in refused:
        versions = zip(
            ("nemo-toolkit", "megatron-core", "transformer-engine"), row[1:4], strict=True
        )
        first = [(name, text.split()[0]) for name, text in versions if text != "none"]
        assert not all(takes(name, version) for name, version in first), row[0]


def test_a_cluster_has_no_image_of_its_own():
    slurm = (ROOT / "conf" / "cluster" / "slurm.yaml").read_text()
    assert re.search(r"^container_image: null\b", slurm, re.MULTILINE)


def test_the_plain_image_gets_everything_but_what_nvidia_built():
    """The page's filter of constraints.txt, as grep applies it."""
    (pattern,) = re.findall(r"grep -vE '(.+)' constraints\.txt", INSTALL_PAGE)
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    kept = {line.split("==")[0].lower() for line in lines if not re.search(pattern, line)}
    built = ("torch", "triton", "numpy", "transformer-engine")
    assert not [name for name in kept if name in built or name.startswith("cuda-")]
    assert {"megatron-core", "nemo-toolkit", "obstore"} <= {canonicalize_name(n) for n in kept}
