"""Trains the two models of the example on scikit-learn's iris data, into models/<name>/1/model.joblib.

python examples/iris/train.py
"""

from pathlib import Path

import joblib
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDER = Path(__file__).parent / "models"
NUMBER = "1"
"""Folder of a registered model: NAME/NUMBER, as in Azure ML; the inference server reads both off AZUREML_MODEL_DIR."""
CLASSIFIERS = {
    "blue": make_pipeline(StandardScaler(), LogisticRegression()),
    "green": RandomForestClassifier(n_estimators=50, random_state=0),
}


def main() -> None:
    """Train and write every model."""
    iris = load_iris()
    classes = [str(target) for target in iris.target_names]
    for name, classifier in CLASSIFIERS.items():
        classifier.fit(iris.data, iris.target)
        file = FOLDER / name / NUMBER / "model.joblib"
        file.parent.mkdir(parents=True, exist_ok=True)
        joblib.dump({"classifier": classifier, "classes": classes}, file)
        print(f"trained {name}: {type(classifier).__name__}, {classifier.score(iris.data, iris.target):.3f} correct")


if __name__ == "__main__":
    main()
