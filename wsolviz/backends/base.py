"""The contract of a backbone: a network, its preprocessing, and its head in a known form."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from wsolviz.backends.derived import Derived, Fingerprint, derive
from wsolviz.backends.head_search import find_head
from wsolviz.backends.heads import Head
from wsolviz.backends.packing import packed_bytes
from wsolviz.preprocess import Preprocessing
from wsolviz.types import Features, Replay, Space


@dataclass(frozen=True)
class WeightsInfo:
    """Where a backbone's weights came from; sha256 of the file, None for random ones."""

    source: str
    sha256: str | None = None
    licence: str | None = None

    @property
    def source_to_pass_on(self) -> str:
        """The source without a folder of this computer, for results that others may get.

        >>> WeightsInfo("/home/me/mine.safetensors").source_to_pass_on
        'mine.safetensors'
        """
        return without_folder(self.source)


def without_folder(source: str) -> str:
    """A file's name in place of its absolute path; other sources as they are."""
    path = Path(source)
    return path.name if path.is_absolute() else source


class Backbone(ABC):
    """A classifier that gives `Features`.

    A subclass says how its module makes the map that it averages (`forward_map`) and how it goes on
    from there (`forward_head`); what form that second part has (`find_head`) is tried out, unless
    the subclass knows better. Both forwards take the module as an argument, because the fused copy
    goes the same way.

    Attributes:
        name: what `load_backbone` was called with.
        module: the torch module, with the official parameter names, in eval mode.
        preprocessing: size, mean and std of the input.
        class_names: K names, or empty where nobody knows them.
        weights: where they came from.
        precision: what `extract` computes in: float32, or bfloat16 / float16 through autocast.
        hooks_into_network: whether a pass changes the module while it runs.
    """

    hooks_into_network = False

    def __init__(
        self,
        name: str,
        module: nn.Module,
        preprocessing: Preprocessing,
        *,
        class_names: Sequence[str] = (),
        weights: WeightsInfo,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self.name = name
        self.module = module.eval().requires_grad_(False)
        self.preprocessing = preprocessing
        self.class_names = tuple(class_names)
        self.weights = weights
        self.precision = precision
        self._lock = threading.RLock()
        self._derived: Derived | None = None

    @abstractmethod
    def forward_map(self, module: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """(B,3,H,W) to (B,C,h,w): the map that the network averages, as the network computes it."""

    @abstractmethod
    def forward_head(self, module: nn.Module, activation: torch.Tensor) -> torch.Tensor:
        """(B,C,h,w) to the logits (B,K); differentiable."""

    def find_head(self, activation: torch.Tensor) -> Head | None:
        """What `forward_head` is: None where it is not linear behind the pooling.

        Args:
            activation: (B,C,h,w), a map of the network on random input, to try things on.
        """
        return find_head(
            lambda pooled: self.forward_head(self.module, pooled[:, :, None, None]),
            self.module,
            activation.mean(dim=(2, 3)),
        )

    def forward(self, module: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The map (B,C,h,w) and the logits (B,K) of one pass.

        Under autocast the head stays in float32: it costs next to nothing, and CAM then adds up to
        the logits as exactly as it does in full precision.
        """
        activation = self.forward_map(module, images)
        with torch.autocast(images.device.type, enabled=False):
            if activation.dtype in (torch.float16, torch.bfloat16):
                activation = activation.float()
            return activation, self.forward_head(module, activation)

    def prepare(self) -> None:
        """Make the fused copy and check the head now, so that the first photo does not wait."""
        self._derive()

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return next(self.module.parameters()).device

    @property
    def num_classes(self) -> int:
        """K, the length of the network's output."""
        return self._derive().num_classes

    @property
    def exact(self) -> bool:
        """Whether CAM plus bias averages to the logit; measured on random input."""
        return self._derive().head is not None

    @property
    def fused(self) -> nn.Module:
        """The fused copy of the module, see `accelerate`."""
        return self._derive().fast

    @property
    def head(self) -> Head | None:
        """What the head is; None where no constant weight gives the logits from the map."""
        return self._derive().head

    @property
    def gap_deviation(self) -> float | None:
        """How far the head's form is from the network, see `gap_deviation`; None without a form."""
        return self._derive().deviation

    @property
    def inexactness(self) -> str:
        """Why `exact` is False, in one clause; empty where it is True."""
        derived = self._derive()
        if derived.head is not None:
            return ""
        if derived.deviation is None:
            return "a nonlinearity between pooling and logits"
        return f"the logits are off a plain average of the map by {derived.deviation:.1e}"

    @property
    def fingerprint(self) -> Fingerprint:
        """Where the parameters and buffers lie, and how often each was written to."""
        tensors = (*self.module.parameters(), *self.module.buffers())
        return tuple((t.data_ptr(), t._version) for t in tensors)

    @property
    def num_bytes(self) -> int:
        """Bytes that the parameters and buffers take, those of the fused copy included."""
        tensors = {t.data_ptr(): t for m in self._modules() for t in m.state_dict().values()}
        held = sum(t.numel() * t.element_size() for t in tensors.values())
        return held + (packed_bytes(self._derived.fast) if self._derived else 0)

    def preprocess(self, photo: Image.Image) -> torch.Tensor:
        """A photo to the network's input, (3,H,W) float32; see `Preprocessing`."""
        return self.preprocessing(photo)

    def extract(self, images: torch.Tensor, space: Space = "logit") -> Features:
        """One forward pass on the fused network; keeps no gradient.

        Args:
            images: (B,3,H,W), preprocessed.
            space: "logit", or "pre_norm" for the map before the head's norm.

        Raises:
            ValueError: images of another shape, an unknown space, or "pre_norm" of a network whose
                head is not linear.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(
                f"extract takes images of shape (B,3,H,W), not {tuple(images.shape)}; "
                "a single photo becomes one with backbone.preprocess(photo)[None]."
            )
        if space not in ("logit", "pre_norm"):
            raise ValueError(f"There is no feature space {space!r}; allowed: logit, pre_norm.")
        derived = self._derive()
        if derived.head is None and space == "pre_norm":
            raise ValueError(
                f"{self.name} has no pre_norm space, since no constant classifier weight fits its "
                f"map: {self.inexactness}. Take the space logit, which weights the map by the "
                "gradient of the class logit."
            )
        images = images.to(self.device, memory_format=torch.channels_last)
        turn, sized = self.one_at_a_time(), self.refusing_size(images)
        with torch.no_grad(), self.autocast(), turn, sized:
            activation, logits = self.forward(derived.fast, images)
        return self._features(images, activation.float(), logits.float(), derived, space)

    def _features(
        self,
        images: torch.Tensor,
        activation: torch.Tensor,
        logits: torch.Tensor,
        derived: Derived,
        space: Space,
    ) -> Features:
        replay = Replay(
            activation=activation,
            logits_from_map=lambda maps: self.replay(images, maps),
            images=images,
            logits_from_images=self._replay_images,
        )
        if derived.head is None:
            empty = activation.new_empty((0, activation.shape[1]))
            return Features(
                activation, empty, empty[:, 0], logits, space, exact=False, replay=replay
            )
        # The weights may be in training; what is extracted from them keeps no gradient.
        feature_map, weight, bias = (t.detach() for t in derived.head.features(activation, space))
        exact = space == "logit" or derived.head.norm is None
        return Features(feature_map, weight, bias, logits, space, exact, replay)

    def replay(self, images: torch.Tensor, activation: torch.Tensor) -> torch.Tensor:
        """Logits of other maps of the same images, through the unfused network; differentiable.

        Args:
            images: (B,3,H,W).
            activation: (N,C,h,w), N = B or B = 1.
        """
        with self._lock:
            return self.forward_head(self.module, activation)

    def _replay_images(self, images: torch.Tensor) -> torch.Tensor:
        return self.extract(images).logits

    def one_at_a_time(self) -> AbstractContextManager[object]:
        """Passes take turns, unless each keeps to one core and leaves the network as it is."""
        alone = self.hooks_into_network or self.device.type != "cpu" or torch.get_num_threads() > 1
        return self._lock if alone else nullcontext()

    @contextmanager
    def refusing_size(self, images: torch.Tensor) -> Iterator[None]:
        """Says in our words that a network only takes images of its own size.

        Raises:
            ValueError: the forward pass inside failed, and the images (B,3,H,W) have another size.
        """
        size, own = tuple(images.shape[2:]), self.preprocessing.size
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except (AssertionError, RuntimeError) as error:
            if size == own or "alloc" in str(error):
                raise
            raise ValueError(
                f"{self.name} does not take images of {size[0]}×{size[1]} pixels (height×width); "
                f"its own size is {own[0]}×{own[1]}. The network says: {error}"
            ) from error

    def autocast(self) -> torch.autocast:
        """Computing in `precision`."""
        enabled = self.precision is not torch.float32
        dtype = self.precision if enabled else torch.bfloat16
        return torch.autocast(self.device.type, dtype=dtype, enabled=enabled)

    def _modules(self) -> list[nn.Module]:
        return [self.module] if self._derived is None else [self.module, self._derived.fast]

    def _derive(self) -> Derived:
        """The fused copy and the head; made again after the parameters were written to."""
        with self._lock:
            if self._derived is None or self._derived.fingerprint != self.fingerprint:
                self._derived = derive(self)
            return self._derived
