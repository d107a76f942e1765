"""Values of the Helm chart: the schema, the examples, and what is refused in which words."""

from __future__ import annotations

import json
import re
from importlib.metadata import requires
from pathlib import Path

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement

import nemo_cosmos

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy" / "helm" / "nemo-cosmos"
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())


def changed(path, value):
    """A small set of values with one of them changed."""
    values = yaml.safe_load((CHART / "examples" / "nano-cpu.yaml").read_text())
    *parents, last = path.split(".")
    place = values
    for name in parents:
        place = place.setdefault(name, {})
    place[last] = value
    return values


def test_the_schema_knows_every_value_and_the_defaults_are_legal():
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.Draft7Validator(SCHEMA).validate(VALUES)

    def undefined(values, schema, where):
        schema = _followed(schema)
        for name, value in values.items():
            if name not in schema.get("properties", {}):
                if "additionalProperties" not in schema or schema["additionalProperties"] is False:
                    yield f"{where}{name}"
            elif isinstance(value, dict):
                yield from undefined(value, schema["properties"][name], f"{where}{name}.")

    def undocumented(schema, values, where):
        for name, inner in _followed(schema).get("properties", {}).items():
            if name not in values:
                yield f"{where}{name}"
            elif isinstance(values[name], dict):
                yield from undocumented(inner, values[name], f"{where}{name}.")

    assert list(undefined(VALUES, SCHEMA, "")) == []
    assert list(undocumented(SCHEMA, VALUES, "")) == ["global"]  # helm's own


def _followed(schema):
    reference = schema.get("$ref")
    return SCHEMA["definitions"][reference.rpartition("/")[2]] if reference else schema


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_legal(example):
    values = _merged(VALUES, yaml.safe_load(example.read_text()))
    jsonschema.Draft7Validator(SCHEMA).validate(values)


def _merged(defaults, values):
    """What helm makes of a file of values: maps are merged, anything else is replaced."""
    both = isinstance(defaults, dict) and isinstance(values, dict)
    if not both:
        return values
    inner = {name: _merged(defaults.get(name), value) for name, value in values.items()}
    return {**defaults, **inner}


def test_versions_agree_with_the_code():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == nemo_cosmos.__version__
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert VALUES["curation"]["rayVersion"] == pinned.group(1)


def test_recipes_and_site_settings_of_values_exist():
    from nemo_cosmos.site import compose_site
    from recipes.registry import RECIPES

    for values in (VALUES, *(yaml.safe_load(path.read_text()) for path in EXAMPLES)):
        training = values.get("training", {})
        if "factory" in training:
            assert training["factory"] in RECIPES
        compose_site([*training.get("conf", []), "storage.outputs=/runs"], with_kept=False)


def test_the_image_of_a_curation_has_rays_dashboard():
    """KubeRay asks it for the health of nodes. Not our extra but a base requirement brings it."""
    lines = [Requirement(line) for line in requires("leptonai") or []]
    assert [line for line in lines if line.name == "ray" and "default" in line.extras]
    project = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[0]
    assert '"leptonai==' in project


def test_interpreters_are_those_of_the_dockerfile():
    stages = (ROOT / "Dockerfile").read_text()
    assert f'ENTRYPOINT ["{VALUES["training"]["image"]["python"]}"' in stages
    assert re.search(r"^ARG PYTHON_IMAGE=python:", stages, re.MULTILINE)  # in /usr/local


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("training.nodez", 3, "nodez"),
        ("training.nodes", 0, "/training/nodes"),
        ("training.nodes", "two", "/training/nodes"),
        ("training.command", "train", "'pretrain', 'finetune'"),
        ("training.resources.memory", 8, "/training/resources/memory"),
        ("training.resources.memory", "8 GB", "/training/resources/memory"),
        ("training.image.repository", "a/b c", "/training/image/repository"),
        ("training.image.repository", "", "training.image.repository is empty"),
        ("training.image.tag", "", "neither a tag nor a digest"),
        ("training.image.tag", "latest", "training.image.tag is 'latest'"),
        ("training.image.digest", "sha256:12", "/training/image/digest"),
        ("training.enabled", False, "Nothing would run"),
        ("training.command", "finetune", "training.from is empty"),
        ("training.from", "/runs/x/export", "training.command is pretrain"),
        ("training.nodes", 2, "ReadWriteMany"),
        ("training.overrides", ["trainer.devices=3"], "'trainer.devices=3', which the chart sets"),
        ("training.overrides", ["two words"], "/training/overrides/0"),
        ("training.conf", ["cluster=slurm"], "this chart is the cluster"),
        ("training.env", {"HOME": "/x"}, "'HOME', which the chart sets"),
        ("training.env", {"not-a-name": "x"}, "not-a-name"),
        ("training.gracePeriodSeconds", 5, "/training/gracePeriodSeconds"),
        ("env", {"HF_TOKEN": "abc"}, "kubectl create secret generic"),
        ("env", {"aws_secret_access_key": "abc"}, "kubectl create secret generic"),
        ("env", {"CATALOGUE": "mongodb://me:word@host/db"}, "kubectl create secret generic"),
        ("secrets", [{"name": "HF_TOKEN", "value": "abc"}], "value"),
        ("user", {"uid": 0, "gid": 1000}, "/user/uid"),
        ("storage.runs.mountPath", "/data", "both mounted at '/data'"),
        ("storage.runs.mountPath", "runs", "/storage/runs/mountPath"),
        ("storage.data.mountPath", "/tmp", "which the container needs for itself"),
        ("training.overrides", ["data.path=s3://bucket/latents"], "networkPolicy.egress"),
        ("api.enabled", True, "api.command is empty"),
        ("api", {"enabled": True, "command": ["serve"]}, "api.image.repository is empty"),
        ("api.port", 80, "/api/port"),
        ("api.autoscaling", {"queuePerPod": "many"}, "/api/autoscaling/queuePerPod"),
    ],
)
def test_bad_values_are_refused_with_their_place_or_the_fix(helm, tmp_path, path, value, words):
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(changed(path, value)))
    result = helm("template", "trial", CHART, "--values", file)
    assert result.returncode != 0 and not result.stdout
    assert words in result.stderr


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("curation.args={--executor,inline}", "'--executor', which the chart sets"),
        ("storage.data.accessMode=ReadWriteOnce", "They need ReadWriteMany"),
        ("networkPolicy.egress=null", "networkPolicy.egress lets pods reach nothing"),
        ("curation.workers.replicas=0", "/curation/workers/replicas"),
    ],
)
def test_bad_values_of_a_curation_are_refused(helm, setting, words):
    example = CHART / "examples" / "curate-ray.yaml"
    result = helm("template", "trial", CHART, "--values", example, "--set", setting)
    assert result.returncode != 0 and words in result.stderr


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("api.command=null", "api.command is empty"),
        ("api.autoscaling.maxReplicas=1", "minReplicas is 2 and maxReplicas is 1"),
        ("api.image.tag=latest", "api.image.tag is 'latest'"),
        ("api.env.HF_TOKEN=abc", "kubectl create secret generic"),
    ],
)
def test_bad_values_of_a_server_are_refused(helm, setting, words):
    example = CHART / "examples" / "api.yaml"
    result = helm("template", "trial", CHART, "--values", example, "--set", setting)
    assert result.returncode != 0 and words in result.stderr


def test_a_long_release_name_is_refused(helm):
    example = CHART / "examples" / "nano-cpu.yaml"
    result = helm("template", "a" * 41, CHART, "--values", example)
    assert result.returncode != 0 and "40 at most" in result.stderr
