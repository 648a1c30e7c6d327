"""Dependencies: no version with a known advisory is allowed or locked, and nothing is built from source or floats."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = sorted([ROOT / "requirements.lock", *ROOT.glob("deploy/*/*.lock"), *ROOT.glob("examples/**/requirements.lock")])
DOCKERFILES = sorted([ROOT / "Dockerfile", *ROOT.glob("deploy/*/Dockerfile"), *ROOT.glob("examples/**/Dockerfile")])

FIXED = {
    "aiohttp": "3.14.3",  # CVE-2026-69244; CVE-2026-69243 in 3.14.2
    "cryptography": "48.0.1",  # GHSA-537c-gmf6-5ccf: OpenSSL within the wheels
    "jinja2": "3.1.6",  # CVE-2025-27516
    "pydantic": "2.4.0",  # CVE-2024-3772
    "pyjwt": "2.13.0",  # CVE-2026-48522 to 48526
    "pytest": "9.0.3",  # CVE-2025-71176
    "pyyaml": "5.4",  # CVE-2020-14343
    "requests": "2.32.4",  # CVE-2024-47081
    "scikit-learn": "1.5.0",  # CVE-2024-5206
    "setuptools": "78.1.1",  # CVE-2025-47273
    "urllib3": "2.7.0",  # CVE-2026-44431, 44432
    "werkzeug": "3.1.6",  # CVE-2026-27199
}
"""Distribution -> the first version without the advisories known when the floors were last raised. `make audit` asks
for new ones."""

NOT_LOCKED = {"gcsfs"}
"""Requirements without a lock (Makefile, `lock`)."""


def declared() -> dict[str, Requirement]:
    """Every requirement of pyproject.toml, by canonical name."""
    project = PROJECT["project"]
    texts = [*PROJECT["build-system"]["requires"], *project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        texts += extra
    return {canonicalize_name(Requirement(text).name): Requirement(text) for text in texts}


def floor(requirement: Requirement) -> Version:
    """The lowest allowed version. Raises ValueError unless exactly one is declared with `>=`."""
    (lowest,) = [Version(each.version) for each in requirement.specifier if each.operator == ">="]
    return lowest


def locked(lock: Path) -> dict[str, Version]:
    """Canonical name -> version of each block of a lock file."""
    found = re.findall(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==([^\s;\\]+)", lock.read_text(), re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in found}


@pytest.mark.parametrize("name", sorted(FIXED.keys() & declared().keys()))
def test_the_floor_excludes_every_version_with_a_known_advisory(name: str) -> None:
    assert floor(declared()[name]) >= Version(FIXED[name])


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_version_with_a_known_advisory_is_locked(lock: Path) -> None:
    versions = locked(lock)
    assert versions
    assert {name: versions[name] for name in FIXED.keys() & versions if versions[name] < Version(FIXED[name])} == {}


def test_every_requirement_is_locked_at_or_above_its_floor() -> None:
    versions = locked(ROOT / "requirements.lock")
    expected = {name: requirement for name, requirement in declared().items() if name not in NOT_LOCKED}
    assert {name for name, requirement in expected.items() if versions[name] < floor(requirement)} == set()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_locked_package_has_a_hash(lock: Path) -> None:
    blocks = re.split(r"^(?=[A-Za-z0-9])", lock.read_text(), flags=re.MULTILINE)[1:]
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_base_image_is_pinned_by_digest(file: Path) -> None:
    bases = re.findall(r"^FROM (\S+)", file.read_text(), re.MULTILINE)
    assert bases
    assert [base for base in bases if not re.fullmatch(r"[\w./:-]+@sha256:[0-9a-f]{64}", base)] == []


def test_all_images_have_the_same_base() -> None:
    found = {base for file in DOCKERFILES for base in re.findall(r"^FROM (\S+)", file.read_text(), re.MULTILINE)}
    assert len(found) == 1


@pytest.mark.parametrize("file", ["Makefile", *(str(path.relative_to(ROOT)) for path in DOCKERFILES)])
def test_nothing_locked_is_built_from_source(file: str) -> None:
    joined = (ROOT / file).read_text().replace("\\\n", " ")
    commands = [part for line in joined.splitlines() for part in line.split("&&") if "--require-hashes" in part]
    installs = [command for command in commands if " install " in command]
    assert installs
    assert [command.strip() for command in installs if "--only-binary :all:" not in command] == []
