"""The CustomResourceDefinition of ScoringEndpoint, from the models that judge a manifest everywhere else.

`deploy/base/crd.yaml` is this, printed by `scorefront.print_crd`.
"""

from typing import Any

from cluster.kubernetes.objects.endpoint_status import CONDITIONS, LONGEST_MESSAGE
from cluster.kubernetes.objects.labels import GROUP
from cluster.kubernetes.objects.structural import PRESERVE, VALIDATIONS, Schema, structural
from cluster.kubernetes.objects.validations import (
    ADDRESS,
    CROSS_FIELD,
    HOST_HEADER,
    IN_A_CLUSTER,
    LONGEST_ADDRESS,
    REPLICA,
    STATIC,
    Place,
    Validation,
)
from serving.models import KIND
from serving.rules import MAX_NOTES
from serving.schema import json_schema

SERVED_VERSION = "v1alpha1"
PLURAL, SINGULAR, SHORT = "scoringendpoints", "scoringendpoint", "sep"

LIST_TYPE, LIST_KEYS = "x-kubernetes-list-type", "x-kubernetes-list-map-keys"


def crd() -> dict[str, Any]:
    """The whole object, in fresh containers."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": SINGULAR,
                "shortNames": [SHORT],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": SERVED_VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": _columns(),
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": schema()},
                }
            ],
        },
    }


def schema() -> Schema:
    """The structural schema of a ScoringEndpoint: spec by our models, and status."""
    source = json_schema()
    definitions, fields = source["$defs"], source["properties"]
    # Of metadata a CRD may bind the name only; the API server sees to the rest.
    name = structural(definitions["Metadata"]["properties"]["name"], definitions)
    made: Schema = {
        "type": "object",
        "description": source["description"],
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": fields["apiVersion"]["description"]},
            "kind": {"type": "string", "description": fields["kind"]["description"]},
            "metadata": {"type": "object", "properties": {"name": name}},
            "spec": structural(fields["spec"], definitions),
            "status": _status(),
        },
    }
    _bind(made)
    for place, validations in (*CROSS_FIELD.items(), *IN_A_CLUSTER.items()):
        at(made, place).setdefault(VALIDATIONS, []).extend(_written(validation) for validation in validations)
    return made


def at(made: Schema, place: Place) -> Schema:
    """The part of a schema that describes the values at `place`."""
    part = made
    for step in place:
        inner = {"[]": "items", "{}": "additionalProperties"}.get(step)
        part = part[inner] if inner else part["properties"][step]
    return part


def _bind(made: Schema) -> None:
    """Rules that the models have in code, as schema keywords if there are any."""
    at(made, ("spec", "versions")).update({LIST_TYPE: "map", LIST_KEYS: ["name"]})
    at(made, STATIC)[LIST_TYPE] = "set"
    at(made, ADDRESS)["maxLength"] = at(made, HOST_HEADER)["maxLength"] = LONGEST_ADDRESS
    container = {"type": "object", PRESERVE: True}
    inner = {
        "type": "object",
        PRESERVE: True,
        "required": ["containers"],
        "properties": {"containers": {"type": "array", "minItems": 1, "items": container}},
    }
    metadata = {
        "type": "object",
        PRESERVE: True,
        "nullable": True,
        "properties": {"labels": _notes(), "annotations": _notes()},
    }
    properties = {"metadata": metadata, "spec": inner}
    at(made, (*REPLICA, "podTemplate")).update({"required": ["spec"], "properties": properties})


def _notes() -> Schema:
    """Labels or annotations; a null among them would be dropped by the API server if it were not refused."""
    nulls = {"rule": "self.all(key, dyn(self[key]) != null)", "message": "no value may be null"}
    values = {"type": "string", "nullable": True}
    return {
        "type": "object",
        "nullable": True,
        "maxProperties": MAX_NOTES,
        "additionalProperties": values,
        VALIDATIONS: [nulls],
    }


def _written(validation: Validation) -> Schema:
    written = {"rule": validation.rule, "message": validation.message}
    return {**written, "fieldPath": validation.field} if validation.field else written


def _columns() -> list[dict[str, str]]:
    return [
        {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
        {
            "name": "Replicas",
            "type": "string",
            "jsonPath": ".status.ready",
            "description": "Ready replicas of those desired, over all versions.",
        },
        {"name": "Default", "type": "string", "jsonPath": ".status.defaultVersion"},
        {"name": "URL", "type": "string", "jsonPath": ".status.scoringUri"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]


def _text(description: str, **bounds: Any) -> Schema:
    return {"type": "string", "description": description, **bounds}


def _count(description: str) -> Schema:
    return {"type": "integer", "format": "int32", "minimum": 0, "description": description}


def _mapping(description: str, required: list[str], **properties: Schema) -> Schema:
    made: Schema = {"type": "object", "description": description, "properties": properties}
    return {**made, "required": required} if required else made


def _listed(description: str, key: str, item: Schema) -> Schema:
    return {"type": "array", "description": description, LIST_TYPE: "map", LIST_KEYS: [key], "items": item}


def _status() -> Schema:
    """The schema of `objects.endpoint_status`."""
    generation = {"type": "integer", "format": "int64", "minimum": 0}
    digest = {"pattern": "^[0-9a-f]{64}$"}
    return _mapping(
        "How the endpoint fares; written by scorefront alone.",
        [],
        observedGeneration={**generation, "description": "The metadata.generation that this status tells of."},
        conditions=_listed("What is true of the endpoint, for people and for kubectl wait.", "type", _condition()),
        ready=_text("Ready replicas of those desired, over all versions, such as 2/3."),
        replicas=_count("Ready replicas over all versions."),
        defaultVersion=_text("The version that gets the traffic no version claims."),
        scoringUri=_text("Where to send requests."),
        versions=_listed("The numbers of every version.", "name", _version()),
        keys=_mapping(
            "SHA-256 of the keys that open the endpoint, so that routers need to read no Secret.",
            [],
            primarySha256=_text("Of the primary key, 64 hex digits.", **digest),
            secondarySha256=_text("Of the secondary key, 64 hex digits.", **digest),
        ),
        incarnation=_text("Named by every valid token; it changes when tokens are revoked.", maxLength=128),
    )


def _condition() -> Schema:
    return _mapping(
        "One thing that is or is not so.",
        ["type", "status", "reason", "message", "lastTransitionTime"],
        type=_text(f"One of {', '.join(CONDITIONS)}.", maxLength=316),
        status=_text("Whether it is so.", enum=["True", "False", "Unknown"]),
        reason=_text("Why, in one word.", minLength=1, maxLength=1024),
        message=_text("Why, for people.", maxLength=LONGEST_MESSAGE),
        lastTransitionTime=_text("When its status became what it is.", format="date-time"),
        observedGeneration={
            "type": "integer",
            "format": "int64",
            "minimum": 0,
            "description": "The metadata.generation that was looked at.",
        },
    )


def _version() -> Schema:
    return _mapping(
        "One version.",
        ["name"],
        name=_text("Its name."),
        ready=_count("Replicas that take requests."),
        desired=_count("Replicas that there are to be."),
        busy=_count("Slots in use, over all routers."),
        waiting=_count("Requests that wait for a slot, over all routers."),
        selector=_text("Label selector of its pods."),
    )
