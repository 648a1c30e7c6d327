"""Packages in conda's notation: their canonical form, and the requirement of pip that stands for one. Pure."""

import re
from dataclasses import dataclass

from packaging.utils import canonicalize_name

PYTHON = "python"

PYPI_NAMES = {
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "pytorch-gpu": "torch",
    "torchvision-cpu": "torchvision",
    "tensorflow-gpu": "tensorflow",
    "tensorflow-mkl": "tensorflow",
    "opencv": "opencv-python-headless",
    "py-opencv": "opencv-python-headless",
    "py-xgboost": "xgboost",
    "py-xgboost-cpu": "xgboost",
    "py-xgboost-gpu": "xgboost",
    "matplotlib-base": "matplotlib",
    "msgpack-python": "msgpack",
    "pytables": "tables",
    "psycopg2": "psycopg2-binary",
    "python-graphviz": "graphviz",
    "faiss": "faiss-cpu",
    "pyarrow-core": "pyarrow",
    "dask-core": "dask",
    "ruamel_yaml": "ruamel-yaml",
}
"""Name in conda -> name on PyPI, where they differ."""

NOT_PYTHON = frozenset(
    {
        *("pip", "wheel", "_libgcc_mutex", "_openmp_mutex", "blas", "bzip2", "ca-certificates", "certifi-win32"),
        *("cudatoolkit", "cuda", "cuda-toolkit", "cuda-runtime", "cudnn", "nccl", "pytorch-cuda", "pytorch-mutex"),
        *("cpuonly", "ffmpeg", "freetype", "gcc", "gcc_linux-64", "gxx", "gxx_linux-64", "git", "intel-openmp"),
        *("ld_impl_linux-64", "libblas", "libcblas", "libffi", "libgcc", "libgcc-ng", "libgfortran-ng", "libgfortran5"),
        *(
            "libgomp",
            "liblapack",
            "libopenblas",
            "libpng",
            "libstdcxx-ng",
            "libuuid",
            "llvm-openmp",
            "mkl",
            "mkl-service",
        ),
        *("ncurses", "nomkl", "openblas", "openjdk", "openmp", "openssl", "readline", "sqlite", "tk", "xz", "zlib"),
        *("make", "cmake", "libgl", "mesa-libgl-devel-cos7-x86_64", "unixodbc", "tini", "conda"),
    }
)
"""Packages of conda without Python code, or of conda itself: not on PyPI, and not needed by wheels."""

_NAMED = re.compile(r"(?:(?P<channel>[^\s:]+)::?)?(?P<name>[A-Za-z0-9_.-]+)(?P<bracket>\[.*\])?(?P<rest>.*)")
_BRACKET_VERSION = re.compile(r"""version\s*=\s*(['"])(.*?)\1""")


class InvalidCondaPackage(ValueError):
    """A package in conda's notation that breaks a rule; the text is the rule."""


@dataclass(frozen=True, slots=True)
class CondaPackage:
    """One package of a conda section."""

    name: str
    """In lower case."""
    version: str = ""
    """Constraint in conda's notation: `=1.2`, `==1.2.3`, `>=1,<2`; "": any."""
    build: str = ""

    def __str__(self) -> str:
        return f"{self.name}{self.version}{f'={self.build}' if self.build else ''}"

    @property
    def is_python(self) -> bool:
        """True for the interpreter."""
        return self.name == PYTHON


def parse_conda(text: str) -> CondaPackage:
    """One entry of `dependencies`. The channel is left out. Raises InvalidCondaPackage."""
    found = _NAMED.fullmatch(text.split("#")[0].strip())
    if found is None:
        raise InvalidCondaPackage("must be a package in conda's notation, e.g. numpy=1.26")
    rest = found["rest"].strip()
    if found["bracket"]:
        inner = _BRACKET_VERSION.search(found["bracket"])
        rest = rest or (inner[2] if inner else "")
    version, build = _constraint(re.sub(r"\s*([=<>!~,|]+)\s*", r"\1", rest))
    return CondaPackage(found["name"].lower(), version, build)


def _constraint(rest: str) -> tuple[str, str]:
    """(version, build) of what follows the name."""
    if not rest:
        return "", ""
    first, *others = rest.split()
    if len(others) == 1 and not first.startswith(("<", ">", "!", "~")):  # `1.2 py39_0`
        return _constraint(first)[0], others[0]
    if others:
        raise InvalidCondaPackage("must have one version, e.g. numpy=1.26 or numpy>=1.24,<2")
    if re.fullmatch(r"[0-9*][^=<>!~,|\s]*", first):  # `numpy 1.2`: the version itself
        return ("" if first == "*" else f"=={first}"), ""
    if found := re.fullmatch(r"=?(=[^=<>!~,|]+)=([^=<>!~,|]+)", first):  # `=1.2=build`: exactly this version
        return f"={found[1]}", found[2]
    clauses = first.split(",")
    for clause in clauses:
        if "|" in clause:
            raise InvalidCondaPackage("must not have alternatives (|): name one version")
        if not re.fullmatch(r"(==?|>=?|<=?|!=|~=)[0-9][^=<>!~,|\s]*|=?\*", clause):
            raise InvalidCondaPackage("must have a version like =1.26, ==1.26.4 or >=1.24,<2")
    return ",".join(sorted(clause for clause in clauses if clause.lstrip("=") != "*")), ""


def pip_requirement(package: CondaPackage) -> str | None:
    """The requirement of pip for a package of conda; None: no Python package."""
    if package.name in NOT_PYTHON:
        return None
    name = canonicalize_name(PYPI_NAMES.get(package.name, package.name))
    clauses = (_pip_clause(clause) for clause in package.version.split(",") if clause)
    return name + ",".join(clauses)


def _pip_clause(clause: str) -> str:
    if re.match(r"=(?!=)", clause):  # conda's `=1.2` includes 1.2.3
        return f"=={clause[1:].removesuffix('.*').removesuffix('*')}.*"
    if clause.startswith("==") or clause.endswith("*"):
        return re.sub(r"(?<!\.)\*$", ".*", clause)
    return clause


def python_release(package: CondaPackage) -> str:
    """The release of `python=3.9`, `python>=3.8` …; "" for any. Raises InvalidCondaPackage."""
    lowest = [clause for clause in package.version.split(",") if clause and not clause.startswith(("<", "!"))]
    if not lowest:
        return ""
    found = re.fullmatch(r"(?:==?|>=?|~=)([0-9]+(?:\.[0-9]+){0,2})(?:\.?\*)?", lowest[0])
    if found is None:
        raise InvalidCondaPackage("must be a release of Python, e.g. python=3.11")
    return found[1]
