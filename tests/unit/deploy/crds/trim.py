"""Trim a published custom resource definition to what the tests need of it.

    python trim.py CRD.yaml "where it is from" > NAME.json

Descriptions, defaults and the status go. Whole pod and job templates become references to the
schemas of Kubernetes itself, which the tests have from another place. What is left refuses unknown
fields, as the API server does with strict field validation.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

KUBERNETES = "/api/_definitions.json#/$defs/io.k8s.api"
POD_SPEC = {"containers", "volumes", "restartPolicy"}
JOB_SPEC = {"completions", "parallelism", "template"}


def trimmed(schema: Any) -> Any:
    """Return a schema without prose, strict, with references for templates."""
    if not isinstance(schema, dict):
        return schema
    fields = schema.get("properties", {})
    inner = set(fields.get("spec", {}).get("properties", {}))
    if inner >= JOB_SPEC:
        return {"$ref": f"{KUBERNETES}.batch.v1.JobTemplateSpec"}
    if inner >= POD_SPEC:
        return {"$ref": f"{KUBERNETES}.core.v1.PodTemplateSpec"}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    kept = {
        key: value
        for key, value in schema.items()
        if key in {"type", "enum", "required", "minimum", "minItems", "maxItems", "pattern"}
    }
    if fields:
        kept["properties"] = {name: trimmed(field) for name, field in fields.items()}
        kept["additionalProperties"] = False
    elif "additionalProperties" in schema:
        kept["additionalProperties"] = trimmed(schema["additionalProperties"])
    if "items" in schema:
        kept["items"] = trimmed(schema["items"])
    return kept


def main() -> None:
    """Write the trimmed schema of the served version that is stored."""
    path, source = sys.argv[1:]
    definition = yaml.safe_load(Path(path).read_text(encoding="utf-8"))["spec"]
    (version,) = [each for each in definition["versions"] if each["storage"]]
    schema = trimmed(version["schema"]["openAPIV3Schema"])
    del schema["properties"]["status"]
    schema["properties"]["metadata"] = {"type": "object"}
    kind = definition["names"]["kind"]
    about = {"$comment": f"{kind} {definition['group']}/{version['name']} from {source}"}
    json.dump(about | schema, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
