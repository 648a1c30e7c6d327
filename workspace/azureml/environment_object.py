"""Environment objects of Azure ML v1. Pure."""

from typing import Any

from workspace.environments.spec import EnvironmentSpec

OWN = EnvironmentSpec(name="scorefront", version="1")
"""Shown for versions that run in the Python of scorefront: the SDK takes a service without an environment for one of
images, and updates it otherwise."""


def environment_object(spec: EnvironmentSpec | None) -> dict[str, Any]:
    """The environment as the SDK reads it. `spec`: None: the Python of scorefront."""
    shown = spec or OWN
    python = [f"python={shown.python}"] if shown.python else []
    pip = [{"pip": list(shown.pip)}] if shown.pip else []
    return {
        "name": shown.name or "environment",
        "version": shown.version or None,
        "environmentVariables": dict(shown.variables),
        "python": {
            "userManagedDependencies": shown.user_managed,
            "interpreterPath": shown.interpreter or "python",
            "condaDependenciesFile": None,
            "baseCondaEnvironment": None,
            "condaDependencies": {
                "name": "project_environment",
                "channels": list(shown.channels),
                "dependencies": [*python, *shown.conda, *pip],
            },
        },
        "docker": {
            "enabled": False,
            "baseImage": shown.docker.base_image or None,
            "baseDockerfile": shown.docker.dockerfile or None,
            "sharedVolumes": True,
            "shmSize": "2g",
            "arguments": [],
            "baseImageRegistry": {"address": None, "username": None, "password": None},
        },
        "spark": {"repositories": [], "packages": [], "precachePackages": True},
        "databricks": {
            "mavenLibraries": [],
            "pypiLibraries": [],
            "rcranLibraries": [],
            "jarLibraries": [],
            "eggLibraries": [],
        },
        "r": None,
        "inferencingStackVersion": None,
        "assetId": None,
    }
