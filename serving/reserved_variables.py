"""Environment variables that scorefront sets in replicas on one machine, which `env` may not overrule."""

_PORT = "the port is chosen by scorefront: {port} in command, or in a value of env, stands for it"
_OWN = "it is set by scorefront"
_SCRIPT = "use entryScript"
_FOLDER = "use sourceDirectory"
_COLLECTION = "use dataCollection"
_TIMEOUT = "use scoringTimeoutMs, which the server of the script follows"

OF_EVERY_PROCESS = {
    "PORT": _PORT,
    "AZUREML_MODEL_DIR": "use modelDir",
    "SCOREFRONT_ENDPOINT": _OWN,
    "SCOREFRONT_VERSION": _OWN,
    "SCOREFRONT_REPLICA": _OWN,
    "SCOREFRONT_RUN": _OWN,
    **dict.fromkeys(("AZUREML_MDC_ENABLED", "AZUREML_MDC_HOST", "AZUREML_MDC_PORT"), _COLLECTION),
    "AML_MODEL_DC_STORAGE_ENABLED": _COLLECTION,
}
"""Variable of the kinds entryScript and command -> the field to use instead, or the reason."""

OF_ENTRY_SCRIPTS = {
    "AZUREML_ENTRY_SCRIPT": _SCRIPT,
    "AML_APP_ROOT": _FOLDER,
    "AZUREML_APP_ROOT": _FOLDER,
    "AZUREML_SOURCE_DIRECTORY": _FOLDER,
    "WORKER_COUNT": "use maxConcurrentRequestsPerContainer: a replica has one worker process per slot",
    "WORKER_TIMEOUT": _TIMEOUT,
    "SCORING_TIMEOUT_MS": _TIMEOUT,
    "SERVER_PORT": _PORT,
    "HEALTH_PORT": _PORT,
}
"""More variables of the kind entryScript."""

BY_KIND = {"entryScript": OF_EVERY_PROCESS | OF_ENTRY_SCRIPTS, "command": OF_EVERY_PROCESS}
"""Kind of replica -> its reserved variables."""


def reserved_rule(name: str, kind: str) -> str | None:
    """The rule that `name` in the `env` of a replica of this kind breaks; None: allowed."""
    advice = BY_KIND.get(kind, {}).get(name)
    return None if advice is None else f"must be left out of env: {advice}"
