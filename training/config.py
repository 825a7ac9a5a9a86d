"""What a training run is told: one typed, strict configuration; every default of training is here.

A configuration comes from a YAML file and from `key=value` on the command line; see
`training.config_file`, which says where a key is unknown or mistyped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeAlias, Union

from pydantic import Field, model_validator

from training.config_checks import contradictions
from training.methods import METHODS, MethodOptions
from training.section import Count, Fraction, Index, NonNegative, Positive, Section
from wsolviz.backends.zoo import InputChanges
from wsolviz.preprocess import Preprocessing
from wsolviz.types import Precision

if TYPE_CHECKING:
    AnyMethod: TypeAlias = MethodOptions
else:
    AnyMethod = Annotated[
        Union[tuple(method.Options for method in METHODS.values())],  # noqa: UP007
        Field(discriminator="name"),
    ]


class BackboneConfig(Section):
    """Which network is trained, and from which weights it starts.

    Attributes:
        name: what `wsolviz.load_backbone` takes.
        weights: "default", a file, or null for random ones. A file that lacks some layers, such as
            a classifier of other classes, fills the others; the log names both.
        output_stride: input pixels a cell of the feature map, where there is a choice.
        classes: "data" gives the network a new classifier for the data's classes, "own" keeps its
            own, to which the data's labels are matched by name.
    """

    name: str
    weights: str | None = "default"
    output_stride: int | None = None
    classes: Literal["data", "own"] = "data"


class MetadataSource(Section):
    """Photos and labels in the WSOL benchmark's format; photos may lie in a zip.

    Attributes:
        root: the data set's folder.
        split: whose metadata to read; several are joined by "+".
        images: folder or .zip of the photos, where they are not in the root.
        metadata: folder of the metadata, where it is not in the root.
    """

    kind: Literal["metadata"] = "metadata"
    root: str
    split: str = "train"
    images: str | None = None
    metadata: str | None = None


class FolderSource(Section):
    """Photos in one folder a class; classes are numbered in the order of their names.

    Attributes:
        root: the folder that holds the class folders.
    """

    kind: Literal["folders"]
    root: str


class ShardSource(Section):
    """WebDataset shards, for sets that outgrow one disk: .tar files of NAME.jpg and NAME.cls.

    Attributes:
        shards: path or URL, with braces for the numbers: data/train-{0000..0127}.tar.
        num_images: in all shards together; an epoch is as long.
        class_names: in the order of the labels in .cls.
        shuffle: photos from which the next one is drawn.
    """

    kind: Literal["webdataset"]
    shards: str
    num_images: Count
    class_names: tuple[str, ...]
    shuffle: Count = 1000


TrainingSource = Annotated[MetadataSource | FolderSource | ShardSource, Field(discriminator="kind")]


class DataConfig(Section):
    """What is trained on, and what the network is measured on after each epoch.

    Attributes:
        train: one source or several; several must name their classes alike.
        validation: photos with true boxes or masks; null measures nothing.
        image_size: side of the network's input in pixels, in training and in measuring.
        mean: of each RGB channel in [0,1]; null for what the backbone's weights were made for.
        std: likewise.
        interpolation: likewise.
        workers: processes that read photos; 0 reads them in the training process.
    """

    train: Annotated[tuple[TrainingSource, ...], Field(min_length=1)]
    validation: MetadataSource | None = None
    image_size: Count = 224
    mean: tuple[Fraction, Fraction, Fraction] | None = None
    std: tuple[Positive, Positive, Positive] | None = None
    interpolation: Literal["bilinear", "bicubic"] | None = None
    workers: Index = 2

    def preprocessing(self, usual: Preprocessing) -> Preprocessing:
        """A backbone's preprocessing with this size, and with what else is set here."""
        changes = InputChanges(
            size=(self.image_size, self.image_size),
            mean=self.mean,
            std=self.std,
            interpolation=self.interpolation,
        )
        return changes.over(usual)


class RandAugmentConfig(Section):
    """RandAugment (Cubuk et al., 2020): how many operations, and how strong in 0 to 30."""

    num_ops: Count = 2
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9


class AugmentationConfig(Section):
    """What happens to a photo before the network sees it in training.

    Attributes:
        resize: side of the square that a photo is warped to first, in pixels; null for none.
        crop: "random" cuts the input out of that square, "random_resized" an area of `crop_area` of
            the photo with sides in `crop_ratio`, "none" warps the whole photo.
        crop_area: smallest and largest share of the photo.
        crop_ratio: smallest and largest width / height.
        flip: probability of mirroring.
        color_jitter: largest relative change of brightness, contrast and saturation.
        rand_augment: null for none.
        random_erasing: probability of erasing a rectangle.
        mixup: alpha of the Beta distribution that shares are drawn from; 0 for none.
        cutmix: likewise; of both, one is drawn for each batch.
    """

    resize: Count | None = 256
    crop: Literal["random", "random_resized", "none"] = "random"
    crop_area: tuple[Fraction, Fraction] = (0.08, 1.0)
    crop_ratio: tuple[Positive, Positive] = (0.75, 4 / 3)
    flip: Fraction = 0.5
    color_jitter: Fraction = 0.0
    rand_augment: RandAugmentConfig | None = None
    random_erasing: Fraction = 0.0
    mixup: NonNegative = 0.0
    cutmix: NonNegative = 0.0


class OptimizerConfig(Section):
    """How the weights follow the gradient.

    Attributes:
        name: "sgd" or "adamw".
        lr: learning rate of the network, at the schedule's full height.
        head_lr_factor: the classifier's (and a method's own layers') learning rate over that.
        weight_decay: of weights with two axes or more.
        decay_norms_and_biases: whether the others decay, too, as in the papers.
        momentum: of SGD.
        nesterov: likewise.
        clip_norm: largest norm of the gradient; null for any.
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: Positive
    head_lr_factor: Positive = 1.0
    weight_decay: NonNegative = 0.0
    decay_norms_and_biases: bool = True
    momentum: Fraction = 0.9
    nesterov: bool = True
    clip_norm: Positive | None = None


class ScheduleConfig(Section):
    """The learning rate over the epochs.

    Attributes:
        name: "step" multiplies by `factor` at each milestone, "cosine" falls to `final` of the
            height along half a cosine, "constant" stays.
        warmup_epochs: in which it rises from 0, step by step.
        milestones: epochs, counted from 0, that begin with a lower rate.
        factor: at a milestone.
        final: where the cosine ends, over the height.
    """

    name: Literal["step", "cosine", "constant"] = "constant"
    warmup_epochs: NonNegative = 0.0
    milestones: tuple[Count, ...] = ()
    factor: Positive = 0.1
    final: Fraction = 0.0


class DistillationConfig(Section):
    """Learning the soft labels of another network (Hinton et al., 2015), in any method.

    The loss is weight · T² · KL(softmax(teacher / T) ‖ softmax(student / T)), and logit_weight ·
    mean_k (teacher_k − student_k)² over the variance of the teacher's logits (Ba & Caruana, 2014),
    which holds the classes that the softmax does not see, too.

    Attributes:
        backbone: the teacher, with the student's classes.
        weights: "default" or a file.
        output_stride: of the teacher.
        temperature: T.
        weight: of the divergence.
        logit_weight: of the squared difference.
        image_size: side that the photos are resized to for the teacher; null for the student's.
    """

    backbone: str
    weights: str = "default"
    output_stride: int | None = None
    temperature: Positive = 1.0
    weight: NonNegative = 1.0
    logit_weight: NonNegative = 0.0
    image_size: Count | None = None


class FreezeConfig(Section):
    """What of the network stays as it is.

    Attributes:
        parameters: patterns of parameter names, such as "conv_stem.*" or "blocks.[0-3].*".
        statistics: whether BatchNorm keeps its statistics and normalizes by them.
    """

    parameters: tuple[str, ...] = ()
    statistics: bool = False


class ValidationConfig(Section):
    """How the network is measured, and which epoch's weights are the result.

    Attributes:
        methods: of `wsolviz.METHODS`; the first one's MaxBoxAccV2 (PxAP where there are only masks)
            says which epoch is the best.
        result: "best", the weights of the best epoch, or "last": a network from scratch may
            localize best before it knows the classes.
        every: epochs between two measurements; the last epoch is always measured.
        photos: how many photos are drawn each time, the same ones.
    """

    methods: Annotated[tuple[str, ...], Field(min_length=1)] = ("cam",)
    result: Literal["best", "last"] = "best"
    every: Count = 1
    photos: Index = 8


class TrainingConfig(Section):
    """A training run.

    Attributes:
        method: what is learned, with its options.
        batch_size: photos a step of the optimizer, over all processes and accumulated parts.
        accumulate: parts that a process runs its share of a batch in, one after another.
        precision: of the passes; autocast below float32.
        channels_last: whether maps lie channel by channel in memory, which is sooner.
        gradient_checkpointing: whether blocks are run again for the gradient, in place of memory.
        label_smoothing: of the cross entropy.
        ema: decay of the averaged weights, which are then measured and kept; null for none.
        seed: of every random number.
        checkpoint_steps: steps between two checkpoints, beside the one at each epoch's end.
        name: of the run: its folder, and the file of the weights.
        licence: of the weights, as the training data allow it.
    """

    name: str
    method: AnyMethod
    backbone: BackboneConfig
    data: DataConfig
    augmentation: AugmentationConfig = AugmentationConfig()
    optimizer: OptimizerConfig
    schedule: ScheduleConfig = ScheduleConfig()
    epochs: Count
    batch_size: Count = 32
    accumulate: Count = 1
    precision: Precision = "float32"
    channels_last: bool = True
    gradient_checkpointing: bool = False
    label_smoothing: Fraction = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] | None = None
    distillation: DistillationConfig | None = None
    freeze: FreezeConfig = FreezeConfig()
    validation: ValidationConfig = ValidationConfig()
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    checkpoint_steps: Count | None = None
    licence: str | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        lines = list(contradictions(self))
        if lines:
            raise ValueError("\n".join(lines))
        return self
