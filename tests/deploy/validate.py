"""Holds every Kubernetes manifest against strict schemas; prints what is wrong, one line each, and exits 1 if anything is.

Usage: validate.py MANIFEST...

Kubernetes' own kinds: by kubernetes-validate, for the oldest version that has native sidecars switched on and for the newest that the
package knows. PodMonitor and PrometheusRule are custom resources: by the schemas beside this file.
"""

import json
import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml

VERSIONS = ["1.29", kubernetes_validate.latest_version()]
CUSTOM = {
    kind: json.loads(pathlib.Path(__file__).with_name(f"{kind.lower()}.schema.json").read_text())
    for kind in ("PodMonitor", "PrometheusRule")
}


def faults(document):
    if document.get("apiVersion") == "monitoring.coreos.com/v1":
        schema = CUSTOM.get(document.get("kind"))
        if schema is None:
            yield f"no schema for kind {document.get('kind')}"
            return
        validator = jsonschema.Draft202012Validator(schema)
        for error in validator.iter_errors(document):
            yield f"{error.json_path}: {error.message}"
        return
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            path = ".".join(str(item) for item in error.path)
            yield f"Kubernetes {version}: {path}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError as error:
            yield f"Kubernetes {version}: {error.message}"


def main(paths):
    wrong = 0
    for path in paths:
        with open(path, encoding="utf-8") as file:
            documents = [document for document in yaml.safe_load_all(file) if document]
        if not documents:
            print(f"{path}: holds no object")
            wrong += 1
        for document in documents:
            name = f"{document.get('kind')}/{document.get('metadata', {}).get('name')}"
            for fault in faults(document):
                print(f"{path}: {name}: {fault}")
                wrong += 1
    return 1 if wrong or not paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
