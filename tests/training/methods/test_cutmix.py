"""CutMix, against the pixels of the mixed images, counted."""

import pytest
import torch

from tests.training.methods.conftest import CLASSES, MOMENT, classify, method_for, trainable
from training.methods import METHODS, Batch

SIDE = 32


def painted():
    """Four images, each in one number, so that a pixel says which image it is from."""
    numbers = torch.tensor([1.0, 2.0, 3.0, 4.0])
    images = numbers[:, None, None, None].expand(4, 3, SIDE, SIDE).contiguous()
    return Batch(images, torch.tensor([0, 2, 3, 2]))


def mixed(method, network, batch):
    """What the classification loss is given: the logits and the batch behind the mixing."""
    seen = []

    def note(logits, labelled):
        seen.append((logits, labelled))
        return classify(logits, labelled)

    with torch.no_grad():
        logits, terms = method.terms(network, batch, note, MOMENT)
    ((given, labelled),) = seen
    assert given is logits
    return logits, terms, labelled


def test_shares_are_the_counted_pixels():
    network = trainable()
    method = method_for("cutmix", network)
    batch = painted()
    for seed in range(20):
        torch.manual_seed(seed)
        logits, terms, labelled = mixed(method, network, batch)
        expected = torch.zeros(4, CLASSES)
        for b in range(4):
            for y in range(SIDE):
                for x in range(SIDE):
                    source = int(labelled.images[b, 0, y, x]) - 1
                    expected[b, batch.target[source]] += 1 / SIDE**2
        torch.testing.assert_close(labelled.soft_target, expected)
        assert torch.equal(labelled.target, batch.target)
        torch.testing.assert_close(logits, network(labelled.images).logits)
        by_hand = -(expected * logits.log_softmax(dim=1)).sum(dim=1).mean()
        torch.testing.assert_close(terms["classification"].value, by_hand)
    assert torch.equal(batch.images, painted().images), "the batch itself stays"


def test_what_is_pasted_is_one_rectangle_from_one_neighbour():
    method, network = method_for("cutmix", trainable()), trainable()
    found = 0
    for seed in range(20):
        torch.manual_seed(seed)
        labelled = mixed(method, network, painted())[2]
        for b in range(4):
            image = labelled.images[b, 0]
            assert bool((labelled.images[b] == image).all())
            foreign = image != b + 1
            if not foreign.any():
                continue
            found += 1
            assert len(image[foreign].unique()) == 1
            rows, columns = foreign.any(dim=1), foreign.any(dim=0)
            assert torch.equal(foreign, rows[:, None] & columns[None])
            for line in (rows, columns):
                (ends,) = torch.where(line)
                assert int(ends[-1] - ends[0]) + 1 == len(ends)
    assert found > 30


@pytest.mark.parametrize(("probability", "mixes"), [(0.0, False), (1.0, True)])
def test_a_batch_is_mixed_as_often_as_asked(probability, mixes):
    network = trainable()
    method = method_for("cutmix", network, probability=probability)
    labelled = mixed(method, network, painted())[2]
    assert (labelled.soft_target is not None) == mixes
    half = method_for("cutmix", network, probability=0.5)
    if mixes:
        torch.manual_seed(0)
        draws = [mixed(half, network, painted())[2].soft_target is not None for _ in range(30)]
        assert 5 < sum(draws) < 25


def test_it_says_that_it_mixes():
    assert METHODS["cutmix"].mixes_images
    assert not METHODS["cam"].mixes_images
