"""What the Evaluate tab is asked to measure."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from wsolviz.backends.loading import load_backbone
from wsolviz.backends.uploads import is_upload
from wsolviz.evaluation.dataset import open_dataset, splits_of
from wsolviz.evaluation.evaluate import Run
from wsolviz.evaluation.sources import ClassFrom, NetworkSource
from wsolviz.ui.backbones import check_allowed
from wsolviz.ui.data_roots import datasets
from wsolviz.ui.viewer import JSON

NONE = "none"
# As the page offers them. The names themselves are no values of its choices: Gradio looks such a
# value up among its own texts, and has some under "label".
EXPLAINED: dict[str, ClassFrom] = {
    "the true class": "label",
    "the predicted class": "prediction",
}


@dataclass(frozen=True)
class Question:
    """What is to be measured; plain values, which a page may keep."""

    dataset: str
    split: str
    threshold_from: str
    backbone: str
    methods: tuple[str, ...]
    class_from: ClassFrom

    @property
    def splits(self) -> list[str]:
        """Those to be measured, the one that gives thresholds first."""
        others = [] if self.threshold_from in (NONE, self.split) else [self.threshold_from]
        return [*others, self.split]

    def run(self, split: str) -> Run:
        """The run over one split, in a folder of its own, so that it can be gone on with.

        Raises:
            ValueError: an unknown data set, backbone or method, or classes that do not fit.
            FileNotFoundError: files of the data set that are not there.
        """
        if self.dataset not in datasets:
            raise ValueError(f"There is no data set {self.dataset!r}; choose one of the list.")
        # A name from outside must not lead out of the allowed folder.
        if split not in splits_of(datasets[self.dataset]):
            raise ValueError(f"{self.dataset} has no split {split!r}; choose one of the list.")
        if not self.backbone or not self.methods:
            raise ValueError("Choose a backbone and at least one method.")
        check_allowed(self.backbone)
        if is_upload(self.backbone):  # results are kept for everyone, under the network's name
            raise ValueError("A file that was sent can be compared, and not be measured here.")
        dataset = open_dataset(datasets[self.dataset], split)
        backbone = load_backbone(self.backbone)
        source = NetworkSource(dataset, backbone, self.methods, class_from=self.class_from)
        run = Run(source, Path())
        settings = json.dumps(run.settings, sort_keys=True).encode()
        return Run(source, runs_folder() / hashlib.sha256(settings).hexdigest()[:16])


def runs_folder() -> Path:
    """Where measurements are kept, for everyone who asks for the same one."""
    return Path(tempfile.gettempdir()) / "wsolviz-runs"


def without_paths(message: str) -> str:
    """A message for visitors, who need not know where the server keeps its data sets."""
    for name, folder in datasets.items():
        message = message.replace(str(folder), name).replace(str(folder.resolve()), name)
    return message.replace(str(runs_folder()), "the server's folder")


def read_question(kept: JSON) -> Question:
    """The question of what is kept."""
    asked = kept["question"]
    return Question(**{**asked, "methods": tuple(asked["methods"])})
