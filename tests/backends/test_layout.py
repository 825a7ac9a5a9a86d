"""Which axis is what: cell by cell, and from shapes that networks really have."""

import pytest
import torch

from wsolviz.backends.layout import Layout, infer_layout, patch_grid

H, W, C = 2, 3, 5
IMAGE = (64, 96)


def network_tensor(axes: str, prefix: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A map and the same values written into a network's layout one by one."""
    feature_map = torch.arange(2.0 * C * H * W).reshape(2, C, H, W)
    shapes = {
        "BCHW": (2, C, H, W),
        "BHWC": (2, H, W, C),
        "BNC": (2, prefix + H * W, C),
        "BCN": (2, C, H * W),
    }
    tensor = torch.full(shapes[axes], -7.0)
    for b in range(2):
        for c in range(C):
            for y in range(H):
                for x in range(W):
                    index = {
                        "BCHW": (b, c, y, x),
                        "BHWC": (b, y, x, c),
                        "BNC": (b, prefix + y * W + x, c),
                        "BCN": (b, c, y * W + x),
                    }[axes]
                    tensor[index] = feature_map[b, c, y, x]
    return feature_map, tensor


@pytest.mark.parametrize(
    ("axes", "prefix"), [("BCHW", 0), ("BHWC", 0), ("BNC", 0), ("BNC", 2), ("BCN", 0)]
)
def test_every_value_goes_to_its_cell_and_back(axes, prefix):
    feature_map, tensor = network_tensor(axes, prefix)
    layout = Layout(axes, prefix)
    assert torch.equal(layout.to_map(tensor, IMAGE), feature_map)
    kept = tensor[:, :prefix] if prefix else None
    assert torch.equal(layout.from_map(feature_map, kept), tensor)


def test_prefix_tokens_that_nobody_kept_are_zero():
    feature_map, _ = network_tensor("BNC", 2)
    assert (Layout("BNC", 2).from_map(feature_map)[:, :2] == 0).all()


@pytest.mark.parametrize(
    ("shape", "size", "channels", "prefix", "expected"),
    [
        ((1, 2048, 7, 7), (224, 224), 2048, None, Layout("BCHW")),
        ((1, 7, 7, 768), (224, 224), 768, None, Layout("BHWC")),
        ((1, 7, 10, 768), (224, 320), 768, None, Layout("BHWC")),
        ((1, 196, 384), (224, 224), 384, 0, Layout("BNC", 0)),
        ((1, 197, 768), (224, 224), 768, None, Layout("BNC", 1)),
        ((1, 198, 192), (224, 224), 192, None, Layout("BNC", 2)),  # not 11×18
        ((1, 261, 192), (256, 256), 192, 5, Layout("BNC", 5)),
        ((1, 320, 16), (224, 224), 320, None, Layout("BCN")),
        ((1, 12, 197, 64), (224, 224), 64, None, None),  # the queries of an attention
        ((1, 1, 256), (224, 224), 256, None, None),  # a class token alone
        ((1, 2, 256), (224, 224), 256, None, None),
        ((1, 512, 1, 1), (224, 224), 512, None, None),  # a pooled vector
        ((1, 768), (224, 224), 768, None, None),
    ],
)
def test_layouts_of_real_networks(shape, size, channels, prefix, expected):
    assert infer_layout(shape, size, channels, prefix) == expected


def test_grids_multiply_and_keep_the_aspect():
    for height in range(1, 20):
        for width in range(1, 20):
            grid = patch_grid(height * width, (16 * height, 16 * width))
            assert grid == (height, width)
