"""Zoo entries whose files are of another form than their architecture's usual one."""

import pytest

import wsolviz
from wsolviz.backends.architecture import VARIANTS
from wsolviz.backends.zoo import ZOO


@pytest.mark.parametrize("name", [e.name for e in ZOO.values() if e.variant and e.is_here])
def test_random_weights_are_of_the_same_form_as_the_file(name):
    shapes = [
        {key: value.shape for key, value in backbone.module.state_dict().items()}
        for backbone in (wsolviz.load_backbone(name), wsolviz.load_backbone(name, None))
    ]
    assert shapes[0] == shapes[1]


def test_every_variant_is_one_of_its_architecture():
    for entry in ZOO.values():
        if entry.variant is not None:
            assert VARIANTS[entry.backbone](entry.variant)
