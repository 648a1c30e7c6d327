"""Documents of the declared object for tests, and strategies that draw them."""

from typing import Any

from hypothesis import strategies as st

SCRIPT = {"entryScript": "score.py"}


def version(name: str = "blue", **fields: Any) -> dict[str, Any]:
    return {"name": name, "replica": SCRIPT, **fields}


def document(*versions: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A document that is valid if its versions are."""
    return {
        "apiVersion": "scorefront.io/v1alpha1",
        "kind": "ScoringEndpoint",
        "metadata": {"name": "iris"},
        "spec": {"versions": list(versions) or [version()], **spec},
    }


def _optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of the fields; some of those null, the default."""
    return st.fixed_dictionaries({}, optional={name: st.none() | values for name, values in fields.items()})


_seconds = st.integers(1, 3600)
_cores = st.floats(0.01, 8) | st.integers(1, 8)
_texts = st.dictionaries(st.text(min_size=1, max_size=9), st.text(max_size=9), max_size=3)
_env = st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True), st.just("value"), max_size=3)
# Names that _env never draws.
_secret_env = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True), st.just({"secret": "db.main", "key": "pass.word"}), max_size=3
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_pod = st.fixed_dictionaries(
    {"spec": st.fixed_dictionaries({"containers": st.just([{"name": "model"}]), "more": _json})}
)
_addresses = st.lists(
    st.builds("{}:{}".format, st.ip_addresses(v=4) | st.just("[::1]") | st.just("model.local"), st.integers(1, 65535)),
    min_size=1,
    max_size=4,
    unique=True,
)
_placed = _optional(
    imagePullSecrets=st.lists(st.just({"name": "registry"}), min_size=1, max_size=3),
    nodeSelector=st.just({"example.com/pool": "gpu", "fast": ""}),
    tolerations=st.lists(
        st.sampled_from(
            [
                {"operator": "Exists"},
                {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"},
                {"key": "spot", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
            ]
        ),
        min_size=1,
        max_size=3,
    ),
    runAsNonRoot=st.booleans(),
)
_how = _optional(scorePath=st.just("/predict"), healthPath=st.just("/healthz"), webSocket=st.booleans())
_port = _optional(port=st.integers(1, 65535))
_run = _optional(sourceDirectory=st.just("src"), modelDir=st.just("model"), env=_env)


def _joined(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*parts).map(lambda drawn: {key: value for part in drawn for key, value in part.items()})


def _scaled(*kinds: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Versions with a number of replicas, from one of `kinds`."""
    return st.one_of(
        *(
            _joined(
                st.fixed_dictionaries({"replica": _joined(kind, _how, _port)}),
                st.one_of(
                    st.fixed_dictionaries({"numReplicas": st.integers(1, 10_000)}),
                    st.fixed_dictionaries(
                        {"numReplicas": st.just(2), "autoScaler": st.just({"autoscaleEnabled": False})}
                    ),
                    _optional(
                        autoScaler=_optional(
                            autoscaleEnabled=st.just(True),
                            minReplicas=st.integers(1, 10),
                            maxReplicas=st.integers(10, 10_000),
                            targetUtilization=st.integers(1, 100),
                            refreshPeriodInSeconds=_seconds,
                            scaleDownWindowInSeconds=_seconds,
                        )
                    ),
                ),
            )
            for kind in kinds
        )
    )


_on_one_machine = _scaled(
    _joined(st.just(SCRIPT), _run),
    _joined(st.just({"command": ["python", "server.py", "{port}"]}), _run),
)
_in_a_cluster = _scaled(
    _joined(st.just({"image": "registry.example.com/m:1"}), _optional(env=_env, secretEnv=_secret_env), _placed),
    st.fixed_dictionaries({"podTemplate": _pod}),
    st.just({"workloadRef": {"kind": "Deployment", "name": "model"}}),
)
_static = st.fixed_dictionaries({"replica": _joined(st.fixed_dictionaries({"static": _addresses}), _how)})
_rest = _optional(
    maxConcurrentRequestsPerContainer=st.integers(1, 1000),
    maxQueueWaitMs=st.integers(1, 300_000),
    scoringTimeoutMs=st.integers(1, 300_000),
    streamIdleTimeoutMs=st.none() | st.integers(1, 3_600_000),
    containerResourceRequirements=_optional(
        cpu=_cores, memoryInGB=_cores, cpuLimit=st.just(9.5), gpu=st.integers(0, 8)
    ),
    livenessProbeRequirements=_optional(periodSeconds=_seconds, initialDelaySeconds=st.integers(0, 3600)),
    dataCollection=_optional(
        storageEnabled=st.booleans(), samplingPercent=st.integers(0, 100), maxBodyBytes=st.integers(1, 10**8)
    ),
)
_auth: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}, {"authEnabled": False}, {"authEnabled": True}, {"tokenAuthEnabled": True}, {"authEnabled": None}]
)


@st.composite
def splits(draw: st.DrawFn) -> list[float | None]:
    """Percentiles of one to six versions that add up to at most 100."""
    weights = draw(st.lists(st.none() | st.integers(0, 1000), min_size=1, max_size=6))
    total = max(sum(weight or 0 for weight in weights), draw(st.integers(1, 4000)))
    return [None if weight is None else weight * 100 / total for weight in weights]


@st.composite
def valid_documents(draw: st.DrawFn, in_a_cluster: bool = False) -> dict[str, Any]:
    """Any document that keeps all rules; `in_a_cluster`: also those of the API server."""
    percentiles = draw(splits())
    default, control = (draw(st.none() | st.integers(0, len(percentiles) - 1)) for _ in range(2))
    versions = []
    kinds = st.one_of(_in_a_cluster, _static) if in_a_cluster else st.one_of(_on_one_machine, _in_a_cluster, _static)
    for index, percentile in enumerate(percentiles):
        drawn = draw(_joined(st.just({"name": f"ver-{index}"}), kinds, _rest))
        drawn["trafficPercentile"] = percentile
        if "workloadRef" in drawn["replica"]:
            drawn["replica"] |= {"workloadRef": {"kind": "Deployment", "name": f"model-{index}"}}
            for own in ("containerResourceRequirements", "livenessProbeRequirements") if in_a_cluster else ():
                drawn.pop(own, None)
        drawn |= {"isDefault": True} if index == default else {}
        drawn |= {"type": "Control"} if index == control else {}
        versions.append(drawn)
    spec = draw(_joined(_auth, _optional(description=st.text(max_size=20), kvTags=_texts, properties=_texts)))
    return document(*versions, **spec)
