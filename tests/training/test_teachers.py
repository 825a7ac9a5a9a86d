"""Which networks may teach which."""

from __future__ import annotations

import pytest

from training.teachers import refuse_other_classes
from wsolviz.backends.loading import load_backbone

NAMES = ("oak", "yew")


@pytest.mark.parametrize(
    ("of_teacher", "taught", "fits"),
    [
        ((NAMES, 2), (NAMES, 2), True),
        ((None, 2), (NAMES, 2), True),
        ((NAMES, 2), ((), 2), True),
        ((NAMES, 2), (NAMES[::-1], 2), False),
        ((None, 2), (None, 3), False),
        ((NAMES, 2), ((*NAMES, "fir"), 3), False),
    ],
)
def test_the_classes_are_the_same_as_far_as_they_are_known(
    of_teacher: tuple[tuple[str, ...] | None, int],
    taught: tuple[tuple[str, ...] | None, int],
    fits: bool,
) -> None:
    teacher = load_backbone("timm/test_efficientnet", None, of_teacher[1])
    teacher.class_names = of_teacher[0]
    if fits:
        refuse_other_classes("method.teacher", teacher, taught[1], taught[0])
        return
    with pytest.raises(ValueError, match=r"^method\.teacher timm/test_efficientnet has other"):
        refuse_other_classes("method.teacher", teacher, taught[1], taught[0])
