"""One step's losses as one module, so that gradients of several processes meet in one place."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from training.config import DistillationConfig, TrainingConfig
from training.methods import METHODS, Batch, Method, Moment, Term, Terms
from training.models import TrainableNetwork
from training.teachers import refuse_other_classes
from wsolviz.backends.base import Backbone
from wsolviz.backends.loading import load_backbone
from wsolviz.preprocess import Preprocessing


class TrainingStep(nn.Module):
    """A network, what it learns, and who teaches it; a call gives the losses of one batch.

    Args:
        network: trained in place.
        config: method, label smoothing, distillation.

    Raises:
        ValueError: a method that does not fit the network, or a teacher with other classes.
    """

    def __init__(self, network: TrainableNetwork, config: TrainingConfig) -> None:
        super().__init__()
        self.network = network
        self.method: Method = METHODS[config.method.name](config.method, network)
        self.label_smoothing = config.label_smoothing
        self.distillation = config.distillation
        self.teacher = load_teacher(network.backbone, config.distillation)

    def forward(self, batch: Batch, moment: Moment) -> tuple[torch.Tensor, Terms]:
        """The logits (B,K) and the losses by name."""
        logits, terms = self.method.terms(self.network, batch, self.classify, moment)
        if self.teacher is not None and self.distillation is not None:
            student = self.network.backbone.preprocessing
            taught = teach(self.teacher, batch.images, student, self.distillation.image_size)
            loss = distillation_loss(logits, taught, self.distillation.temperature)
            terms["distillation"] = Term(loss, self.distillation.weight)
            if self.distillation.logit_weight:
                difference = logit_loss(logits, taught)
                terms["logits"] = Term(difference, self.distillation.logit_weight)
        return logits, terms

    def classify(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Cross entropy of logits (B,K), with label smoothing and mixed labels."""
        target = batch.target if batch.soft_target is None else batch.soft_target
        return functional.cross_entropy(logits, target, label_smoothing=self.label_smoothing)


def load_teacher(student: Backbone, config: DistillationConfig | None) -> Backbone | None:
    """The teacher, or None where there is none.

    Raises:
        ValueError: its classes are not the student's.
    """
    if config is None:
        return None
    teacher = load_backbone(
        config.backbone, config.weights, device=student.device, output_stride=config.output_stride
    )
    refuse_other_classes("distillation.backbone", teacher, student.num_classes, student.class_names)
    return teacher


def teach(
    teacher: Backbone, images: torch.Tensor, student: Preprocessing, image_size: int | None
) -> torch.Tensor:
    """The teacher's logits (B,K) for the student's images (B,3,H,W).

    Args:
        teacher: with the student's classes.
        images: normalized as the student takes them.
        student: says how that is.
        image_size: side of what the teacher sees, in pixels; None for the student's.
    """
    if image_size is not None:
        size = (image_size, image_size)
        images = functional.interpolate(images, size, mode="bicubic", antialias=True)
    own = teacher.preprocessing
    scale = torch.tensor(student.std) / torch.tensor(own.std)
    shift = (torch.tensor(student.mean) - torch.tensor(own.mean)) / torch.tensor(own.std)
    scale, shift = (t.to(images)[:, None, None] for t in (scale, shift))
    return teacher.extract(images * scale + shift).logits


def distillation_loss(
    logits: torch.Tensor, teacher_logits: torch.Tensor, temperature: float
) -> torch.Tensor:
    """T² · KL(softmax(teacher / T) ‖ softmax(student / T)), the mean over the batch.

    Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, section 2.
    """
    divergence = functional.kl_div(
        (logits / temperature).log_softmax(dim=1),
        (teacher_logits / temperature).log_softmax(dim=1),
        log_target=True,
        reduction="batchmean",
    )
    return temperature**2 * divergence


def logit_loss(logits: torch.Tensor, teacher_logits: torch.Tensor) -> torch.Tensor:
    """The mean square of the difference of two logits (B,K), over the variance of the teacher's.

    Ba & Caruana, "Do Deep Nets Really Need to be Deep?", 2014, section 2.
    """
    variance = teacher_logits.var(dim=1, keepdim=True).clamp_min(1e-12)
    return ((logits - teacher_logits).square() / variance).mean()
