"""The registry of environments: definitions by name and version, as records `environments/NAME/VERSION.json`."""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.control_errors import ControlError, StoreError
from serving.faults import Fault, InvalidManifest
from workspace.environments.definitions import from_definition
from workspace.environments.spec import EnvironmentSpec
from workspace.store.file_store import FileStore

FOLDER = "environments"
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,254}")
NAME_RULE = "must be 1 to 255 letters, digits, dashes, underscores and dots, not beginning with a dot"
VERSION = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,49}")
VERSION_RULE = "must be 1 to 50 letters, digits, dashes, underscores and dots, not beginning with a dot"


class NoSuchEnvironment(ControlError):
    """No environment of that name and version is registered."""

    status = 404
    code = "EnvironmentNotFound"

    def __init__(self, name: str, version: str | None = None) -> None:
        super().__init__(f"there is no environment '{name}'" + (f" of version '{version}'" if version else ""))


@dataclass(frozen=True, slots=True)
class RegisteredEnvironment:
    """One registered definition."""

    name: str
    version: str
    definition: Mapping[str, Any]
    """JSON of Azure ML v1, with its name and version."""
    created: float
    """Unix seconds."""

    @property
    def spec(self) -> EnvironmentSpec:
        """The definition, read."""
        return from_definition(self.definition)


Registered = list[RegisteredEnvironment]


class EnvironmentRegistry:
    """Environments by name and version. A registered version never changes."""

    def __init__(self, store: FileStore, now: Callable[[], float]) -> None:
        """`now`: wall clock in unix seconds."""
        self._store = store
        self._now = now
        self._lock = asyncio.Lock()

    async def register(self, name: str, definition: Mapping[str, Any]) -> RegisteredEnvironment:
        """Keep a definition. One that equals the latest version of its name is that version, as in Azure.

        name: of the environment.
        definition: JSON of Azure ML v1; its `version` names the version, else they are counted up.
        Raises InvalidManifest, also for a version with another definition; StoreError.
        """
        wanted = from_definition(definition).version
        _check(name, wanted)
        async with self._lock:
            known = await self._versions(name)
            latest = known[-1] if known else None
            if latest is not None and wanted in ("", latest.version) and _same(latest.definition, definition):
                return latest
            version = wanted or str(
                1 + max((int(each.version) for each in known if each.version.isdecimal()), default=0)
            )
            while not await self._create(name, version, definition):
                present = next((each for each in await self._versions(name) if each.version == version), None)
                if present is not None and _same(present.definition, definition):
                    return present
                if wanted:
                    rule = f"is registered for '{name}' with another definition; choose a new version"
                    raise InvalidManifest((Fault("environment.version", version, rule),))
                version = str(int(version) + 1)
        return await self.get(name, version)

    async def get(self, name: str, version: str | None = None) -> RegisteredEnvironment:
        """An environment; `version` None: the latest one. Raises NoSuchEnvironment, StoreError."""
        if not NAME.fullmatch(name) or (version is not None and not VERSION.fullmatch(version)):
            raise NoSuchEnvironment(name, version)
        if version is None:
            known = await self._versions(name)
            if not known:
                raise NoSuchEnvironment(name)
            return known[-1]
        record = await asyncio.to_thread(self._store.read_record, _place(name, version))
        if record is None:
            raise NoSuchEnvironment(name, version)
        return _read(record)

    async def list(self) -> Registered:
        """All environments, by name; the versions of each from the oldest to the latest. Raises StoreError."""
        return await self._records(FOLDER)

    async def _create(self, name: str, version: str, definition: Mapping[str, Any]) -> bool:
        record = {
            "name": name,
            "version": version,
            "definition": {**definition, "name": name, "version": version},
            "created": self._now(),
        }
        return await asyncio.to_thread(self._store.create_record, _place(name, version), record)

    async def _versions(self, name: str) -> Registered:
        return await self._records(f"{FOLDER}/{name}")

    async def _records(self, folder: str) -> Registered:
        """The environments in a folder of the store, in order of registration per name."""

        def read() -> Registered:
            names = self._store.list_records(folder)
            return [_read(record) for name in names if (record := self._store.read_record(name)) is not None]

        return sorted(await asyncio.to_thread(read), key=lambda each: (each.name, each.created, _number(each.version)))


def _check(name: str, version: str) -> None:
    faults = []
    if not NAME.fullmatch(name):
        faults.append(Fault("environment.name", name, NAME_RULE))
    if version and not VERSION.fullmatch(version):
        faults.append(Fault("environment.version", version, VERSION_RULE))
    if faults:
        raise InvalidManifest(tuple(faults))


def _place(name: str, version: str) -> str:
    return f"{FOLDER}/{name}/{version}.json"


def _number(version: str) -> int:
    return int(version) if version.isdecimal() else 0


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """True for equal definitions, name and version aside."""
    left, right = from_definition(one), from_definition(other)
    return left.key == right.key and left.variables == right.variables and left.user_managed == right.user_managed


def _read(record: Any) -> RegisteredEnvironment:
    try:
        return RegisteredEnvironment(**record)
    except TypeError as error:
        raise StoreError(f"an environment's record is damaged: {error}") from error
