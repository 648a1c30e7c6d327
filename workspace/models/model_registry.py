"""The registry of models: an index in memory over the records `models/NAME/VERSION.json` of the store."""

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

import msgspec

from workspace.models.model_records import (
    ModelDraft,
    ModelRecord,
    RegisteredModel,
    check_draft,
    check_texts,
    from_json,
    has_tags,
    new_properties,
    to_json_values,
)
from workspace.store.file_store import FileStore
from workspace.workspace_errors import InvalidModel, ModelInUse, NoSuchModel

FOLDER = "models"

_log = logging.getLogger(__name__)

Users = Callable[[str, int], Sequence[str]]
"""(name, version of a model) -> the declared versions that were deployed from it, as text."""


def _no_users(name: str, version: int) -> Sequence[str]:
    return ()


class ModelRegistry:
    """Models by name and version. Versions are counted up per name and never used again after a deletion."""

    def __init__(self, store: FileStore, now: Callable[[], float]) -> None:
        """An empty registry; `start` reads the store. `now`: wall clock in unix seconds."""
        self._store = store
        self._now = now
        self._models: dict[str, dict[int, RegisteredModel]] = {}
        """Name -> models by version, ascending."""
        self._last: dict[str, int] = {}
        """Name -> highest version ever given."""
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: Users = _no_users
        self._damaged = False

    async def start(self) -> None:
        """Read every record. A damaged one is logged and its version left out. Raises StoreError."""
        records = await asyncio.to_thread(lambda: list(self._store.read_records(FOLDER)))
        for name, data in records:
            self._take(name, data)
        self._models = {name: dict(sorted(models.items())) for name, models in self._models.items()}

    def ask_users(self, users: Users) -> None:
        """Refuse from now on to delete models that have `users`."""
        self._users = users

    async def register(self, draft: ModelDraft) -> RegisteredModel:
        """Store a model under the next version of its name. The sizes of its files are those of the blobs.

        Raises InvalidModel, NoSuchBlob, StoreError.
        """
        check_draft(draft)
        blobs = await asyncio.to_thread(lambda: {file.sha256: self._store.blob(file.sha256) for file in draft.files})
        files = tuple(msgspec.structs.replace(file, size_bytes=blobs[file.sha256].size_bytes) for file in draft.files)
        now = self._now()
        fields = {**msgspec.structs.asdict(draft), "files": files, "created": now, "modified": now}
        async with self._lock(draft.name):
            while True:
                model = RegisteredModel(**fields, version=self._last.get(draft.name, 0) + 1)
                record = to_json_values(ModelRecord(model))
                if await asyncio.to_thread(self._store.create_record, _place(model.name, model.version), record):
                    self._last[model.name] = model.version
                    self._models.setdefault(model.name, {})[model.version] = model
                    return model
                await self._read_again(draft.name)

    def get(self, name: str, version: int | None = None) -> RegisteredModel:
        """A model; `version` None: the latest one. Raises NoSuchModel."""
        models = self._models.get(name)
        if models and version is None:
            return next(reversed(models.values()))
        if not models or version is None or version not in models:
            raise NoSuchModel(name, version)
        return models[version]

    def list(
        self, name: str | None = None, tags: Sequence[tuple[str, str | None]] = (), latest: bool = False
    ) -> list[RegisteredModel]:
        """Models by name, the latest version of each first.

        name: only models of that name; None: all.
        tags: only models that have them; (key, value), None for any value.
        latest: only the latest version of each name.
        """
        names = sorted(self._models) if name is None else [name]
        found: list[RegisteredModel] = []
        for each in names:
            versions = reversed(self._models.get(each, {}).values())
            considered = itertools.islice(versions, 1) if latest else versions
            found.extend(model for model in considered if has_tags(model.tags, tags))
        return found

    async def update(
        self,
        name: str,
        version: int,
        tags: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        description: str | None = None,
    ) -> RegisteredModel:
        """Change a model; None leaves a field as it is.

        tags: all tags from now on.
        properties: further properties; present ones cannot change.
        description: text for people.
        Raises NoSuchModel, InvalidModel, StoreError.
        """
        async with self._lock(name):
            before = self.get(name, version)
            model = msgspec.structs.replace(
                before,
                tags=dict(before.tags if tags is None else tags),
                properties=new_properties(before.properties, properties or {}),
                description=before.description if description is None else description,
                modified=self._now(),
            )
            check_texts(model.tags, model.properties, model.description)
            await asyncio.to_thread(self._store.write_record, _place(name, version), to_json_values(ModelRecord(model)))
            self._models[name][version] = model
            return model

    async def delete(self, name: str, version: int) -> None:
        """Remove a model; its number is not given again. Raises NoSuchModel, ModelInUse, StoreError."""
        async with self._lock(name):
            model = self.get(name, version)
            if users := self._users(name, version):
                raise ModelInUse(f"model {model.id} is in use by {', '.join(users)}; delete these versions first")
            trace = to_json_values(ModelRecord(deleted=self._now()))
            await asyncio.to_thread(self._store.write_record, _place(name, version), trace)
            del self._models[name][version]
            if not self._models[name]:
                del self._models[name]

    @property
    def is_complete(self) -> bool:
        """False if a record was damaged and skipped: its files are unknown."""
        return not self._damaged

    def assets_in_use(self) -> set[str]:
        """Ids of the v1 assets that models came from."""
        return {model.asset_id for models in self._models.values() for model in models.values() if model.asset_id}

    def blobs_in_use(self) -> set[str]:
        """Digests of the files of all models."""
        every = (model for models in self._models.values() for model in models.values())
        return {file.sha256 for model in every for file in model.files}

    def _lock(self, name: str) -> AbstractAsyncContextManager[None]:
        return self._locks.setdefault(name, asyncio.Lock())

    async def _read_again(self, name: str) -> None:
        """Take over versions that another process has given."""
        folder = f"{FOLDER}/{name}"
        for place, data in await asyncio.to_thread(lambda: list(self._store.read_records(folder))):
            self._take(place, data)
        if name in self._models:
            self._models[name] = dict(sorted(self._models[name].items()))

    def _take(self, place: str, data: bytes) -> None:
        _, name, file = place.split("/", 2)
        number = file.removesuffix(".json")
        if not (number.isascii() and number.isdigit() and file.endswith(".json")):
            _log.warning("%s: skipped: not the record of a version", place)
            return
        version = int(number)
        self._last[name] = max(self._last.get(name, 0), version)
        try:
            model = _checked(from_json(data), name, version)
        except (msgspec.DecodeError, InvalidModel) as error:
            self._damaged = True
            _log.error("%s: skipped: damaged record: %s", place, error)
            return
        if model is None:
            self._models.get(name, {}).pop(version, None)
        else:
            self._models.setdefault(name, {})[version] = model


def _checked(record: ModelRecord, name: str, version: int) -> RegisteredModel | None:
    """The model of a record; None: deleted. Raises InvalidModel: other programs may write to the store, too."""
    model = record.model
    if model is None:
        return None
    if (model.name, model.version) != (name, version):
        raise InvalidModel(f"name: must be {name}:{version}, as its place (got {model.id})")
    check_draft(model)
    return model


def _place(name: str, version: int) -> str:
    return f"{FOLDER}/{name}/{version}.json"
