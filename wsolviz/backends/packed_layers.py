"""A linear layer and a convolution whose weights are laid out once for oneDNN, on the CPU.

Called through torch.nn, oneDNN brings a convolution's weight into its blocked layout at every call,
and a linear layer goes to the BLAS instead. With the weight laid out ahead, both run near the
processor's peak, and an activation behind them is computed before their output leaves the cache.
The operators are those that torch.compile itself calls.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import nn
from torch.nn import functional

from wsolviz.backends.activations import GELU_EXACT, NO_ACTIVATION, Activation
from wsolviz.backends.depthwise import conv2d
from wsolviz.backends.input_gradients import differentiable
from wsolviz.backends.strips import channels_at_a_time
from wsolviz.backends.turned import can_turn, own_gradient, spread, strided, turned


class PackedLinear(nn.Module):
    """A linear layer with a packed weight, and the activation behind it.

    Its weight is a constant: the output has a gradient by the input alone. Computes as `nn.Linear`
    does where the packed weight does not fit: in another type (that of autocast, where it is on),
    or elsewhere than on the CPU.

    Attributes:
        weight: (out,in), the parameter of the layer given.
        bias: (out,) or None, likewise.
        dtype: what the weight is packed in.
        packed: the weight in oneDNN's layout.
    """

    def __init__(
        self,
        layer: nn.Linear,
        shape: torch.Size,
        activation: Activation,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.activation = activation
        self.dtype = dtype
        self.packed = _packed_linear(layer.weight.detach().to(dtype), shape)
        self._turned: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…,in) to (…,out)."""
        if not fits(x, self.dtype):
            return self.activation.function(functional.linear(x, self.weight, self.bias))
        return differentiable(x, self) if _differentiated(x) else self.run(x, True)

    @property
    def packed_weights(self) -> list[torch.Tensor]:
        """All that is kept in oneDNN's layout."""
        return [self.packed] if self._turned is None else [self.packed, self._turned]

    def run(self, x: torch.Tensor, fused: bool) -> torch.Tensor:
        """(…,in) to (…,out), before or behind the activation."""
        activation = self.activation if fused else NO_ACTIVATION
        x, bias = x.to(self.dtype), _cast(self.bias, self.dtype)
        return torch.ops.mkldnn._linear_pointwise(
            x, self.packed, bias, activation.kind, [], activation.algorithm
        )

    def pull_back(self, grad: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """∂/∂input from ∂/∂output before the activation."""
        if self._turned is None:
            weight = self.weight.detach().to(self.dtype)
            self._turned = _packed_linear(weight.T.contiguous(), grad.shape)
        grad = grad.to(self.dtype)
        return torch.ops.mkldnn._linear_pointwise(grad, self._turned, None, "none", [], "")

    def reach(self) -> None:
        """It takes more than maps (B,C,H,W)."""


class PackedConv2d(nn.Module):
    """A convolution with a packed weight, and the activation behind it.

    oneDNN's best layout depends on the input's shape, and another one makes it slower than no
    packing at all. So the weight is packed anew when the shape changes, and then stays. A wide
    depthwise one may run by strips of channels, each with its part of the weight; see `strips`.

    Its weight is a constant, and it computes as `nn.Conv2d` does where the packed weight does not
    fit; see `PackedLinear`.

    Attributes:
        bias: (out,) or None.
        dtype: what the weight is packed in.
        precise: the (out,in/groups,kh,kw) weight, None where the packed one is as precise.
    """

    def __init__(
        self,
        layer: nn.Conv2d,
        shape: torch.Size,
        activation: Activation,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        assert not isinstance(layer.padding, str), "can_pack leaves these out"
        self.bias, self.dtype = layer.bias, dtype
        self.precise = None if dtype is torch.float32 else layer.weight
        self.kernel_size = layer.kernel_size  # DaViT pads by it
        self.padding, self.stride = layer.padding, layer.stride
        self.dilation, self.groups = layer.dilation, layer.groups
        self.activation = activation
        self._packed = shape, self._pack(layer.weight.detach().to(dtype), shape)
        # In a list, and so no part of this layer for torch: to make it one takes several steps, and
        # another thread would find neither the old nor the new between them.
        self._turned: list[PackedConv2d] = []

    @property
    def packed_weights(self) -> list[torch.Tensor]:
        """All that is kept in oneDNN's layout."""
        return [weight for layer in (self, *self._turned[:1]) for weight in layer._packed[1]]

    @property
    def weight(self) -> torch.Tensor:
        """(out,in/groups,kh,kw), in float32 unpacked anew at each access."""
        return self._unpacked() if self.precise is None else self.precise

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B,in,H,W) to (B,out,H',W')."""
        if x.ndim != 4 or not fits(x, self.dtype):
            stride, padding, dilation = self.stride, self.padding, self.dilation
            y = conv2d(x, self.weight, self.bias, stride, padding, dilation, self.groups)
            return self.activation.function(y)
        return differentiable(x, self) if _differentiated(x) else self.run(x, True)

    def run(self, x: torch.Tensor, fused: bool) -> torch.Tensor:
        """(B,in,H,W) to (B,out,H',W'), before or behind the activation."""
        strips = self._packed_for(x.shape)
        activation = self.activation if fused else NO_ACTIVATION
        x, bias = x.to(self.dtype), _cast(self.bias, self.dtype)
        if len(strips) == 1:
            return self._run_strip(x, strips[0], bias, self.groups, activation)
        width = len(strips[0])
        biases = [None] * len(strips) if bias is None else torch.split(bias, width)
        parts = zip(torch.split(x, width, 1), strips, biases, strict=True)
        return torch.cat([self._run_strip(*part, width, activation) for part in parts], 1)

    def _run_strip(
        self,
        x: torch.Tensor,
        packed: torch.Tensor,
        bias: torch.Tensor | None,
        groups: int,
        activation: Activation,
    ) -> torch.Tensor:
        stride, padding, dilation = self.stride, self.padding, self.dilation
        kind, algorithm = activation.kind, activation.algorithm
        return torch.ops.mkldnn._convolution_pointwise(
            x, packed, bias, padding, stride, dilation, groups, kind, [], algorithm
        )

    def adds_to(self, summand: torch.Tensor, x: torch.Tensor) -> bool:
        """Whether `relu_of_sum` takes these tensors, here and now."""
        return (
            fits(x, self.dtype)
            and summand.dtype is self.dtype
            and len(self._packed_for(x.shape)) == 1
            and summand.is_contiguous(memory_format=torch.channels_last)
            and not (_differentiated(x) or _differentiated(summand))
        )

    def relu_of_sum(self, summand: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """ReLU of `summand` (B,out,H',W') plus the output for x, written to where `summand` is."""
        (packed,) = self._packed_for(x.shape)
        x, bias = x.to(self.dtype), _cast(self.bias, self.dtype)
        stride, padding, dilation = self.stride, self.padding, self.dilation
        return torch.ops.mkldnn._convolution_pointwise_.binary(
            *(summand, x, packed, bias, padding, stride, dilation, self.groups),
            *("add", 1.0, "relu", [], ""),
        )

    def pull_back(self, grad: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """∂/∂input from ∂/∂output before the activation; `shape` is the input's.

        That is the convolution with the kernels turned by 180° and with the channels' roles
        exchanged, which is packed like the other; `can_turn` says when.
        """
        grad = grad.to(self.dtype).contiguous(memory_format=torch.channels_last)
        if not can_turn(self):
            return own_gradient(self, grad, shape)
        if strided(self):
            grad = spread(self, grad, shape)
        if not self._turned:
            backwards = PackedConv2d(turned(self), grad.shape, NO_ACTIVATION, self.dtype)
            backwards.precise = None  # it only runs in the type that it is packed in
            self._turned[:] = [backwards]  # one, though two threads may both have made it
        return self._turned[0].run(grad, False)

    def reach(self) -> tuple[int, int] | None:
        """Rows and columns by which a gradient spreads; None if maps change their size."""
        sides = zip(self.padding, self.dilation, self.kernel_size, strict=True)
        rows, columns = self.padding
        same = all(2 * p == d * (k - 1) for p, d, k in sides)
        return (int(rows), int(columns)) if same and not strided(self) else None

    def _packed_for(self, shape: torch.Size) -> tuple[torch.Tensor, ...]:
        packed_for, packed = self._packed
        if packed_for != shape:
            packed = self._pack(self._unpacked(), shape)
            self._packed = shape, packed  # one assignment: another thread sees the old or the new
        return packed

    def _pack(self, weight: torch.Tensor, shape: torch.Size) -> tuple[torch.Tensor, ...]:
        """The parts of the weight (out,in/groups,kh,kw), one a strip of channels."""
        width = channels_at_a_time(weight.shape, self.groups, shape, weight.element_size())
        whole = width == len(weight)
        groups = self.groups if whole else width
        shape = shape if whole else torch.Size((shape[0], width, *shape[2:]))
        stride, padding, dilation = self.stride, self.padding, self.dilation
        return tuple(
            torch.ops.mkldnn._reorder_convolution_weight(
                part, padding, stride, dilation, groups, shape
            )
            for part in torch.split(weight, width)
        )

    def _unpacked(self) -> torch.Tensor:
        strips = [strip.to_dense() for strip in self._packed[1]]
        return strips[0] if len(strips) == 1 else torch.cat(strips)


def _packed_linear(weight: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """A weight (out,in) in oneDNN's layout for inputs (…,in) of a shape."""
    return torch.ops.mkldnn._reorder_linear_weight(weight, shape[:-1].numel())


def _differentiated(x: torch.Tensor) -> bool:
    return torch.is_grad_enabled() and x.requires_grad


def fits(x: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether a weight packed in a type serves for this tensor, here and now."""
    if x.device.type != "cpu" or x.numel() == 0:
        return False
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu") is dtype and x.dtype in (torch.float32, dtype)
    return x.dtype is dtype is torch.float32


def _cast(bias: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    return None if bias is None else bias.to(dtype)


@cache
def operators_work(dtype: torch.dtype) -> bool:
    """Whether this build of torch has the operators and they run on this processor."""
    x = torch.ones(2, 8, 1, 1)
    try:
        linear = PackedLinear(nn.Linear(8, 8), x.shape[:2], GELU_EXACT, dtype)
        convolution = PackedConv2d(nn.Conv2d(8, 8, 1), x.shape, GELU_EXACT, dtype)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, dtype is torch.bfloat16):
            linear(x[..., 0, 0])
            convolution.relu_of_sum(convolution(x), x)
    except (AttributeError, RuntimeError, TypeError):  # absent, not for this processor, changed
        return False
    return True
