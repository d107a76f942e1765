"""GitHub's workflows: their schema, a linter, and what they name in this repository."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text()


def read(path):
    """A workflow; ``on`` is a truth value to YAML and a name to GitHub."""
    content = yaml.safe_load(path.read_text())
    return {("on" if name is True else name): value for name, value in content.items()}


def jobs():
    return [
        pytest.param(job, id=f"{path.stem}-{name}")
        for path in WORKFLOWS
        for name, job in read(path)["jobs"].items()
    ]


def commands(job):
    """Lines of all scripts of a job."""
    return [line.strip() for step in job["steps"] for line in step.get("run", "").splitlines()]


def test_there_are_workflows():
    assert [path.stem for path in WORKFLOWS] == ["ci", "deploy", "release"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_do_nothing_that_a_job_does_not_ask_for(path):
    workflow = read(path)
    assert workflow["permissions"] == {}
    assert not {"pull_request_target", "workflow_run"} & set(workflow["on"])


@pytest.mark.parametrize("job", jobs())
def test_a_job_is_bounded_pinned_and_takes_no_words_into_its_scripts(job):
    assert job["timeout-minutes"] <= 180
    assert job["permissions"]["contents"] == "read"
    for step in job["steps"]:
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"])
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
        # A title or a branch's name would be run as part of the script.
        assert "${{" not in step.get("run", "")


@pytest.mark.parametrize("job", jobs())
def test_targets_files_and_stages_that_a_job_names_exist(job):
    for line in commands(job):
        if line.startswith("make "):
            targets = [word for word in shlex.split(line)[1:] if "=" not in word]
            for target in targets:
                assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), line
        for path in re.findall(r"(?:tests|deploy|nemo_cosmos)/[\w./-]+", line):
            assert (ROOT / path).exists(), line
        for stage in re.findall(r"--target (\w+)", line):
            dockerfile = (ROOT / "Dockerfile").read_text()
            assert re.search(rf"^FROM \S+ AS {stage}$", dockerfile, re.MULTILINE), line


def test_whatever_leaves_the_repository_waits_for_a_person():
    writes = re.compile(r"--push|helm push|helm upgrade|helm rollback|helm uninstall|docker login")
    waiting = 0
    for path in WORKFLOWS:
        for job in read(path)["jobs"].values():
            if any(writes.search(line) for line in commands(job)):
                assert job.get("environment"), path.name
                waiting += 1
            else:
                assert "secrets." not in json.dumps(job), path.name
    assert waiting == 2


def test_the_values_that_deploy_offers_exist():
    workflow = read(FOLDER / "deploy.yml")
    inputs = workflow["on"]["workflow_dispatch"]["inputs"]
    assert (ROOT / inputs["values"]["default"]).is_file()
    assert (ROOT / workflow["env"]["CHART"] / "Chart.yaml").is_file()
    script = "\n".join(commands(workflow["jobs"]["apply"]))
    for action in inputs["action"]["options"]:
        assert re.search(rf"^{action}\)", script, re.MULTILINE)


HELM = """#!/bin/sh
echo "$1" >> "$LOG"
case "$1" in status) exit "$STATUS" ;; upgrade) exit "$UPGRADE" ;; esac
"""


@pytest.mark.parametrize(
    ("action", "known", "refused", "done"),
    [
        ("install", False, False, "status upgrade"),
        ("install", False, True, "status upgrade uninstall"),
        ("install", True, True, "status upgrade rollback"),
        ("rollback", True, False, "status rollback"),
        ("uninstall", True, False, "status uninstall"),
    ],
)
def test_a_refused_release_goes_back_to_what_was_there(tmp_path, action, known, refused, done):
    """The script itself, with a helm that only notes what it is asked: there is no cluster."""
    (tmp_path / "helm").write_text(HELM)
    (tmp_path / "helm").chmod(0o755)
    (step,) = [
        each
        for each in read(FOLDER / "deploy.yml")["jobs"]["apply"]["steps"]
        if each.get("name") == "Apply"
    ]
    variables = {
        "PATH": f"{tmp_path}:{os.defpath}",
        "LOG": str(tmp_path / "log"),
        "STATUS": str(int(not known)),
        "UPGRADE": str(int(refused)),
        "RUNNER_TEMP": str(tmp_path),
        "KUBECONFIG_DATA": "secret",
        "ACTION": action,
        **dict.fromkeys(("RELEASE", "CHART", "NAMESPACE", "VALUES"), "x"),
    }
    # The options are those with which GitHub runs bash.
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    result = subprocess.run(command, env=variables, text=True, capture_output=True, check=False)
    assert result.returncode == int(refused), result.stderr
    assert (tmp_path / "log").read_text().split() == done.split()
    assert (tmp_path / "kubeconfig").stat().st_mode & 0o077 == 0
    assert "secret" not in result.stdout + result.stderr


def test_ci_does_what_the_script_of_any_machine_does():
    script = (ROOT / ".ci" / "run").read_text()
    words = "\n".join(
        line for job in read(FOLDER / "ci.yml")["jobs"].values() for line in commands(job)
    )
    for command in ("make lint", "tests/foreign_machine.sh"):
        assert command in script and command in words
    assert re.search(r"^make .*\btest$", words, re.MULTILINE)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_fit_their_schema(workflow_schema, path):
    schema = json.loads(workflow_schema.read_text(encoding="utf-8"))
    validator = jsonschema.validators.validator_for(schema)(schema)
    validator.validate(read(path))
    wrong = read(path)
    next(iter(wrong["jobs"].values()))["runs_on"] = "ubuntu"
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(wrong)


def test_actionlint_finds_nothing(actionlint):
    result = subprocess.run([actionlint, *WORKFLOWS], text=True, capture_output=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("needs: [lint, test]", "needs: [lint, tests]", 'job "tests" which does not exist'),
        ("${{ matrix.python }}", "${{ matrix.pyton }}", 'property "pyton" is not defined'),
        ("runs-on: ubuntu-24.04", "runs-on: ubuntu-99", 'label "ubuntu-99" is unknown'),
    ],
)
def test_actionlint_notices_a_fault(actionlint, tmp_path, right, wrong, words):
    path = tmp_path / "ci.yml"
    path.write_text((FOLDER / "ci.yml").read_text().replace(right, wrong))
    result = subprocess.run([actionlint, path], text=True, capture_output=True, check=False)
    assert result.returncode == 1 and words in result.stdout


def test_the_linter_finds_nothing(zizmor):
    command = [zizmor, "--offline", "--no-progress", "--no-config", str(FOLDER)]
    result = subprocess.run(command, text=True, capture_output=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_linter_notices_a_fault(zizmor, tmp_path):
    text = (
        (FOLDER / "ci.yml").read_text().replace("@3d3c42e5aac5ba805825da76410c181273ba90b1", "@v7")
    )
    path = tmp_path / ".github" / "workflows" / "ci.yml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    command = [zizmor, "--offline", "--no-progress", "--no-config", str(path)]
    result = subprocess.run(command, text=True, capture_output=True, check=False)
    assert result.returncode != 0 and "unpinned-uses" in result.stdout
