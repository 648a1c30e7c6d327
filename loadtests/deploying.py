"""Time from the call of `Model.deploy` to Healthy, for the iris model with a known environment.

python -m loadtests.deploying [--times 5]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from loadtests.installation import Installation
from scorefront.sdk import AksWebservice, InferenceConfig, Model, Workspace

EXAMPLE = Path(__file__).parents[1] / "examples" / "azureml"
TRAIN = """
import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
iris = load_iris()
joblib.dump(LogisticRegression(max_iter=1000).fit(iris.data, iris.target), "iris.joblib")
"""


def measured(times: int, folder: Path) -> list[float]:
    """Seconds of each deployment. `times`: how many. `folder`: empty, for files and state."""
    subprocess.run([sys.executable, "-c", TRAIN], cwd=folder, check=True)
    found = []
    with Installation(folder) as installation:
        installation.start()
        workspace = Workspace(installation.control)
        model = Model.register(workspace, folder / "iris.joblib", "iris")
        for number in range(times):
            began = time.monotonic()
            config = InferenceConfig(str(EXAMPLE / "score.py"))
            limits = AksWebservice.deploy_configuration(cpu_cores=0.1, memory_gb=0.2)
            service = Model.deploy(workspace, f"iris-{number}", [model], config, limits, "local")
            service.wait_for_deployment()
            found.append(time.monotonic() - began)
            assert service.state == "Healthy", service.state
            service.delete()
        installation.stop()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5, help="deployments (default 5)")
    with tempfile.TemporaryDirectory() as folder:
        found = measured(parser.parse_args().times, Path(folder))
    print("seconds to Healthy:", " ".join(f"{each:.2f}" for each in found))
    print(f"median {statistics.median(found):.2f} s, longest {max(found):.2f} s")


if __name__ == "__main__":
    main()
