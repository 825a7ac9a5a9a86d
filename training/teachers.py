"""What a network that teaches another one must have in common with it."""

from __future__ import annotations

from collections.abc import Sequence

from wsolviz.backends.base import Backbone


def refuse_other_classes(
    key: str, teacher: Backbone, num_classes: int, class_names: Sequence[str] | None
) -> None:
    """Refuse a teacher of other classes; where either side does not name them, their number counts.

    Args:
        key: of the configuration that names the teacher.
        teacher: as it was loaded.
        num_classes: K of what is taught.
        class_names: those of what is taught, in order, if they are known.

    Raises:
        ValueError: other classes.
    """
    named = bool(teacher.class_names and class_names)
    same_names = not named or list(teacher.class_names or ()) == list(class_names or ())
    if teacher.num_classes != num_classes or not same_names:
        raise ValueError(
            f"{key} {teacher.name} has other classes than the network that it is to teach; take a "
            "teacher that was trained on the same ones."
        )
