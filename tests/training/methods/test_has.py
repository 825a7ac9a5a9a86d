"""Hide-and-Seek, against a pixel by pixel copy with the same draws, and by what it hides."""

import math

import pytest
import torch
from pydantic import ValidationError

from tests.training.methods.conftest import MOMENT, classify, method_for, trainable
from training.methods import METHODS
from training.methods.has import hide


def ones(count, height, width):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0)) + 1


def hidden_by_loops(images, grid_sizes, probability):
    count, _, height, width = images.shape
    result = images.clone()
    chosen = torch.randint(len(grid_sizes), (count,))
    for b in range(count):
        side = grid_sizes[int(chosen[b])]
        if side == 0:
            continue
        draws = torch.rand(math.ceil(height / side), math.ceil(width / side))
        for y in range(height):
            for x in range(width):
                if draws[y // side, x // side] < probability:
                    result[b, :, y, x] = 0.0
    return result


@pytest.mark.parametrize("size", [(32, 32), (30, 41)])
def test_pixels_one_by_one(size):
    images = ones(6, *size)
    before = images.clone()
    torch.manual_seed(5)
    given = hide(images, (0, 4, 7, 16), 0.5)
    torch.manual_seed(5)
    assert torch.equal(given, hidden_by_loops(images, (0, 4, 7, 16), 0.5))
    assert torch.equal(images, before), "the batch itself stays"


def test_cells_are_hidden_whole_and_as_often_as_asked():
    torch.manual_seed(0)
    side, probability = 8, 0.3
    images = ones(200, 32, 32)
    given = hide(images, (side,), probability)
    hidden = 0
    for b in range(len(images)):
        for y in range(0, 32, side):
            for x in range(0, 32, side):
                cell = given[b, :, y : y + side, x : x + side]
                gone = bool((cell == 0).all())
                assert gone or torch.equal(cell, images[b, :, y : y + side, x : x + side])
                hidden += gone
    cells = 200 * 16
    deviation = math.sqrt(cells * probability * (1 - probability))
    assert abs(hidden - probability * cells) < 4 * deviation


def test_each_image_draws_its_grid():
    """With probability 1 an image is hidden whole, unless it drew 0."""
    torch.manual_seed(0)
    given = hide(ones(400, 8, 8), (0, 2, 4, 8), 1.0)
    whole = (given != 0).flatten(1).all(dim=1)
    gone = (given == 0).flatten(1).all(dim=1)
    assert (whole | gone).all()
    assert abs(int(whole.sum()) - 100) < 4 * math.sqrt(400 * 0.25 * 0.75)


def test_the_network_sees_the_hidden_images(batch):
    network = trainable()
    method = method_for("has", network, grid_sizes=(16,), probability=0.4)
    with torch.no_grad():
        torch.manual_seed(7)
        logits, terms = method.terms(network, batch, classify, MOMENT)
        torch.manual_seed(7)
        expected = network(hidden_by_loops(batch.images, (16,), 0.4)).logits
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(terms["classification"].value, classify(expected, batch))


def test_no_gradient_for_hidden_pixels(batch):
    network = trainable()
    method = method_for("has", network, grid_sizes=(16,), probability=0.5)
    images = batch.images.clone().requires_grad_()
    torch.manual_seed(7)
    terms = method.terms(network, type(batch)(images, batch.target), classify, MOMENT)[1]
    terms["classification"].value.backward()
    torch.manual_seed(7)
    hidden = hide(batch.images, (16,), 0.5) == 0
    assert hidden.any() and (images.grad[hidden] == 0).all()
    assert (images.grad[~hidden] != 0).float().mean() > 0.9


def test_some_grid_is_asked_for():
    with pytest.raises(ValidationError):
        METHODS["has"].Options(name="has", grid_sizes=())
