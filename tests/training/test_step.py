"""Labels, smoothed and mixed, and a teacher's logits, each by numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from training.config_file import parse_config
from training.methods import Batch, Moment, total
from training.models import TrainableNetwork
from training.step import TrainingStep, distillation_loss, logit_loss, teach
from wsolviz.backends.base import Backbone
from wsolviz.backends.loading import load_backbone
from wsolviz.preprocess import Preprocessing

CONFIG = """
name: step
method: {name: cam}
backbone: {name: timm/test_efficientnet, weights: null}
data: {train: [{kind: metadata, root: nowhere}]}
optimizer: {lr: 0.1}
epochs: 1
"""


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def student(seed: int = 0) -> Backbone:
    torch.manual_seed(seed)
    return load_backbone("timm/test_efficientnet", None, 5)


def step_of(backbone: Backbone, *overrides: str) -> TrainingStep:
    step = TrainingStep(TrainableNetwork(backbone), parse_config(CONFIG, overrides))
    return step.eval()


def test_smoothed_labels_by_hand() -> None:
    step = step_of(student(), "label_smoothing=0.2")
    batch = Batch(torch.randn(3, 3, 64, 64), torch.tensor([4, 0, 2]))
    logits, terms = step(batch, Moment(0, 1))
    wanted = 0.8 * np.eye(5)[[4, 0, 2]] + 0.2 / 5
    log_probabilities = np.log(softmax(logits.detach().double().numpy()))
    expected = -(wanted * log_probabilities).sum(axis=1).mean()
    assert terms["classification"].value.item() == pytest.approx(expected, abs=1e-5)
    assert total(terms).item() == terms["classification"].value.item()


def test_mixed_labels_by_hand() -> None:
    step = step_of(student())
    soft = torch.tensor([[0.7, 0, 0.3, 0, 0], [0, 1.0, 0, 0, 0]])
    batch = Batch(torch.randn(2, 3, 64, 64), torch.tensor([0, 1]), soft)
    logits, terms = step(batch, Moment(0, 1))
    log_probabilities = np.log(softmax(logits.detach().double().numpy()))
    expected = -(soft.numpy() * log_probabilities).sum(axis=1).mean()
    assert terms["classification"].value.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_distillation_by_numpy(temperature: float) -> None:
    torch.manual_seed(0)
    logits, taught = 3 * torch.randn(4, 7), 3 * torch.randn(4, 7)
    p, q = (softmax(x.double().numpy() / temperature) for x in (taught, logits))
    expected = temperature**2 * (p * np.log(p / q)).sum(axis=1).mean()
    given = distillation_loss(logits, taught, temperature).item()
    assert given == pytest.approx(expected, rel=1e-5)
    squares = [
        ((a - b) ** 2).mean() / b.var(ddof=1)
        for a, b in zip(logits.numpy(), taught.numpy(), strict=True)
    ]
    assert logit_loss(logits, taught).item() == pytest.approx(np.mean(squares), rel=1e-5)


def test_a_teacher_sees_the_photo_as_it_is_used_to() -> None:
    """The same photos, normalized by the teacher's mean and std rather than the student's."""
    teacher = student(1)
    teacher.preprocessing = Preprocessing((64, 64), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    own = Preprocessing((64, 64), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    pixels = torch.rand(2, 3, 64, 64)

    def normalized(by: Preprocessing) -> torch.Tensor:
        mean, std = torch.tensor(by.mean)[:, None, None], torch.tensor(by.std)[:, None, None]
        return (pixels - mean) / std

    given = teach(teacher, normalized(own), own, None)
    expected = teacher.extract(normalized(teacher.preprocessing)).logits
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)


def test_a_network_that_teaches_itself_has_nothing_to_learn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone = student()
    monkeypatch.setattr("training.step.load_backbone", lambda *_, **__: backbone)
    overrides = "distillation={backbone: timm/test_efficientnet, logit_weight: 2.0}"
    step = step_of(backbone, overrides)
    batch = Batch(torch.randn(2, 3, 64, 64), torch.tensor([0, 1]))
    terms: dict[str, Any] = step(batch, Moment(0, 1))[1]
    assert terms["distillation"].value.item() == pytest.approx(0, abs=1e-5)
    assert terms["logits"].value.item() == pytest.approx(0, abs=1e-5)
    assert terms["logits"].weight == 2.0


def test_a_teacher_with_other_classes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    other = load_backbone("timm/test_efficientnet", None, 6)
    monkeypatch.setattr("training.step.load_backbone", lambda *_, **__: other)
    with pytest.raises(ValueError, match="other classes than the network"):
        step_of(student(), "distillation={backbone: timm/test_efficientnet}")
