"""Which of a network's classes each class label of a data set means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from timm.data.imagenet_info import ImageNetInfo

from wsolviz.evaluation.dataset import Dataset

ADVICE = (
    "Take a network trained on this data set, or explain the predicted class (in the command line "
    "--class-from prediction)."
)


def match_classes(
    dataset: Dataset, num_classes: int, names: Sequence[str], advice: str = ADVICE
) -> list[int]:
    """The network's class for each class label.

    Where both sides have names, these decide (WordNet ids before them, since ImageNet has two
    cranes), so that Tiny-ImageNet, say, can be measured with a network for all of ImageNet. Where
    one side has none, the labels are taken to be the network's own indices.

    Args:
        dataset: with class labels, and perhaps class names.
        num_classes: the network's K.
        names: K names, or none.
        advice: what the error says to do about labels that the network does not have.

    Raises:
        ValueError: labels that the network does not have, or a name that two of its classes have.
    """
    count = max(dataset.metadata.class_labels.values(), default=-1) + 1
    own = dataset.class_names
    if own and count > len(own):
        raise ValueError(
            f"The class labels of {dataset.name} go up to {count - 1}, but class_names.txt names "
            f"only {len(own)} classes; complete it or take it away."
        )
    if tuple(own) == tuple(names) and own:
        return list(range(num_classes))
    if own and names:
        return _by_name(dataset, names, advice)
    if (len(own) or num_classes) == num_classes and count <= num_classes:
        return list(range(num_classes))
    why = f"{len(own) or count} classes against {num_classes}"
    raise ValueError(_refusal(dataset, why, advice))


def _by_name(dataset: Dataset, names: Sequence[str], advice: str) -> list[int]:
    ids = _wordnet_ids(names)
    if dataset.wordnet_ids and set(dataset.wordnet_ids) <= set(ids):
        return [ids.index(wordnet_id) for wordnet_id in dataset.wordnet_ids]
    counts = Counter(names)
    for name in dataset.class_names:
        if name not in counts:
            why = f"{name} is not one of the network's {len(names)}"
            raise ValueError(_refusal(dataset, why, advice))
        if counts[name] > 1:
            why = f"{name} is the name of {counts[name]} of them"
            raise ValueError(_refusal(dataset, why, advice))
    return [list(names).index(name) for name in dataset.class_names]


def _refusal(dataset: Dataset, why: str, advice: str) -> str:
    return f"The class labels of {dataset.name} are not those of this network: {why}. {advice}"


def _wordnet_ids(names: Sequence[str]) -> list[str]:
    """The ids of a network's classes where they are ImageNet's 1000; else none."""
    info: Any = ImageNetInfo("imagenet-1k")
    if list(names) != info.label_descriptions():
        return []
    return list(info.label_names())
