"""One sentence of advice for known errors of scoring scripts. No I/O but looking for files.

Loaded in replicas from its path, so it imports nothing of scorefront.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGES = {
    "sklearn": "scikit-learn",
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
    "bs4": "beautifulsoup4",
    "dateutil": "python-dateutil",
    "attr": "attrs",
    "google": "protobuf",
    "fitz": "pymupdf",
    "faiss": "faiss-cpu",
    "onnxruntime": "onnxruntime",
}
"""Module -> the package that has it, where the names differ."""
MODEL_DIR = "AZUREML_MODEL_DIR"
MAX_LOOKED_AT = 5000
MAX_LISTED = 8
V1_FOLDERS = ("/var/azureml-app", "azureml-models")


def advice(error: BaseException, environ: Mapping[str, str], cwd: str, python: str) -> str | None:
    """A sentence for the user of a script that failed; None: the error speaks for itself.

    error: that of the inference server or of the script.
    environ, cwd: of the replica.
    python: its interpreter.
    """
    cause = getattr(error, "user_ex", error)
    text = str(cause)
    model_dir = environ.get(MODEL_DIR)
    if isinstance(cause, ImportError):
        return _import(cause, environ, python)
    if isinstance(cause, FileNotFoundError) and isinstance(cause.filename, (str, os.PathLike)):
        return _file(os.fspath(cause.filename), environ, cwd)
    if isinstance(cause, PermissionError):
        return f"{cause.filename} cannot be read by the user that runs the replicas; change its mode or its owner."
    if isinstance(cause, KeyError) and _of_environment(cause):
        return _variable(str(cause.args[0]))
    if isinstance(cause, TypeError) and "NoneType" in text and model_dir is None:
        return (
            f"if the path comes from {MODEL_DIR}: it is not set, because the version declares no model; name its"
            " folder with modelDir in the manifest."
        )
    return _of_text(cause, text, python)


def _of_text(cause: BaseException, text: str, python: str) -> str | None:
    """Advice by the words of an error. `text`: its words. `python`: the interpreter."""
    if isinstance(cause, TypeError) and (found := re.search(r"Object of type (\w+) is not JSON serializable", text)):
        return (
            f"run() returned a {found[1]}, which is not JSON: return numbers, text, lists and dicts"
            " (array.tolist(), float(x)), or an AMLResponse."
        )
    if isinstance(cause, AttributeError) and "Can't get attribute" in text:
        return (
            "the model was pickled with a class or function of another script: define it in a module beside the"
            " entry script, under the name with which it was saved."
        )
    if isinstance(cause, ValueError) and ("unsupported pickle protocol" in text or "incompatible dtype" in text):
        return (
            "the model was saved by another version of Python or of its library: install that version into the"
            f" Python of the replicas, {python}."
        )
    if found := re.search(r"does not have a (init|run)\(\) function", text):
        return (
            f"the entry script must define init() and run(data); {found[1]}() is missing. A program that serves"
            " HTTP itself goes into command."
        )
    return None


def _import(error: ImportError, environ: Mapping[str, str], python: str) -> str | None:
    name = error.name or ""
    top = name.partition(".")[0]
    if top == "azureml":
        return (
            "of the Azure ML SDK a replica has Model.get_model_path, aml_request, aml_response and ModelDataCollector;"
            f" install the rest where replicas run: {python} -m pip install azureml-core"
        )
    if not isinstance(error, ModuleNotFoundError) or not top:
        return None
    root = environ.get("AML_APP_ROOT", "")
    for file in _files(root):
        if file.name == f"{top}.py" or (file.name == "__init__.py" and file.parent.name == top):
            place = file.parent if file.name == f"{top}.py" else file.parent.parent
            return (
                f"{top} is in {place}: a script can import from its own folder and from sourceDirectory"
                f" ({root or 'not set'}); set sourceDirectory to {place}, or import it by its package."
            )
    package = PACKAGES.get(top, top.replace("_", "-"))
    if environment := environ.get("SCOREFRONT_ENVIRONMENT"):
        if environment.endswith((".txt", ".in", ".yml", ".yaml")):
            return f"add {package} to {environment}, the packages of this script."
        return f"add {package} to the environment of this script, whose Python is {python}."
    return (
        f"install {package} into the Python that runs the replicas, which is that of scorefront:"
        f" {python} -m pip install {package}"
    )


def _file(name: str, environ: Mapping[str, str], cwd: str) -> str:
    model_dir = environ.get(MODEL_DIR)
    script = environ.get("AZUREML_ENTRY_SCRIPT", "")
    beside = Path(script).parent / name
    if not os.path.isabs(name) and script and beside.exists():
        return (
            f"relative paths start at sourceDirectory ({cwd}), and {name} is beside the script: use"
            f" os.path.join(os.path.dirname(__file__), {name!r})."
        )
    if model_dir is None:
        return (
            f"{name} does not exist; files of a model belong into the folder that modelDir in the manifest names, and"
            f" the script finds them under os.environ[{MODEL_DIR!r}]. Relative paths start at {cwd}."
        )
    if os.path.abspath(name).startswith(os.path.join(os.path.abspath(model_dir), "")):
        same = next((file for file in _files(model_dir) if file.name == os.path.basename(name)), None)
        if same is not None:
            return f"{MODEL_DIR} is {model_dir}, and the file is at {same}: change modelDir or the path in the script."
        return (
            f"{MODEL_DIR} is {model_dir} (modelDir in the manifest) and has {_listing(model_dir)}, but no"
            f" {os.path.basename(name)}."
        )
    if any(folder in name for folder in V1_FOLDERS):
        return f"{name} is a path of Azure's containers; here the model is in os.environ[{MODEL_DIR!r}], {model_dir}."
    return f"{name} does not exist; the model is in {MODEL_DIR} ({model_dir}), and relative paths start at {cwd}."


def _of_environment(error: KeyError) -> bool:
    """True if the key was looked up in `os.environ`."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__") == "os"


def _variable(name: str) -> str:
    if name == MODEL_DIR:
        return f"{MODEL_DIR} is not set, because the version declares no model; name its folder with modelDir."
    return (
        f"{name} is not in the environment of the replica: set it in env of the manifest;"
        f' env: {{{name}: "${{{name}}}"}} takes it from the environment of `scorefront up`.'
    )


def _files(root: str) -> Iterator[Path]:
    """Files below `root`, a bounded number; none for ""."""
    looked_at = 0
    for folder, folders, names in os.walk(root) if root else ():
        folders[:] = [each for each in folders if not each.startswith((".", "__pycache__", "node_modules"))]
        for name in names:
            looked_at += 1
            if looked_at > MAX_LOOKED_AT:
                return
            yield Path(folder, name)


def _listing(folder: str) -> str:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return "no readable entries"
    more = ", …" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more if names else "no entries"
