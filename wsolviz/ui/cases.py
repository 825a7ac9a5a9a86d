"""Images of a measurement that are worth a look, and how one is opened in Compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from wsolviz.analysis.boxes import iou, scale_boxes
from wsolviz.compare import compare
from wsolviz.evaluation.dataset import Dataset
from wsolviz.evaluation.figures import MAX_BOX_ACC, Figures, method_title
from wsolviz.evaluation.gallery import case_image, look_of
from wsolviz.evaluation.sources import NetworkSource
from wsolviz.photo import Photo
from wsolviz.render import Look
from wsolviz.ui.address import Choices
from wsolviz.ui.answers import Answer, show_case
from wsolviz.ui.compare_tab import page_values
from wsolviz.ui.controls import class_choices, class_value
from wsolviz.ui.downloads import new_file, told_in_page
from wsolviz.ui.question import read_question
from wsolviz.ui.status import say
from wsolviz.ui.viewer import JSON

COMPARE = "compare"  # the id of the tab in which images are opened
KINDS = ("worst", "best")


def draw_cases(kept: JSON | None, method: str | None, kind: str) -> Any:
    """The best or the worst images of a method."""
    if kept is None:
        return gr.skip()
    drawn = []
    with told_in_page():
        source = read_question(kept).run(kept["question"]["split"]).source
        for case in kept["results"]["cases"][method][kind] if method else ():
            image = Image.fromarray(case_image(source, case, look_of(case)))
            drawn.append((image, f"IoU {case['iou']:.2f}, oracle here {case['oracle_iou']:.2f}"))
    return drawn


def open_case(kept: JSON, method: str, kind: str, event: gr.SelectData) -> tuple[Any, ...]:
    """Show an image of the gallery in Compare, as it was measured; see `CompareTab.page`."""
    case = kept["results"]["cases"][method][kind][event.index]
    with told_in_page():
        source = read_question(kept).run(kept["question"]["split"]).source
        photo = source.dataset.images.read(case["image_id"])
    assert isinstance(source, NetworkSource), "the tab measures networks"
    path = new_file(f"{Path(case['image_id']).stem}.png")
    photo.image.save(path)
    choices = Choices(
        backbones=(source.backbone.name,),
        methods=tuple(kept["question"]["methods"]),
        class_choice=class_value(case["explained"], source.backbone.class_names),
        threshold=case["cam_threshold"],
    )
    comparison = compare(str(path), choices.request())
    told = Answer(
        show_case(comparison, choices, case_look(kept["results"], case, source.dataset, photo)),
        class_choices(comparison),
        describe_case(case, source.dataset),
    )
    return gr.Tabs(selected=COMPARE), None, *page_values(str(path), choices, told)


def case_look(results: Figures, case: dict[str, Any], dataset: Dataset, photo: Photo) -> Look:
    """The threshold at which the image was measured, its true box, and the data set's best ones.

    Of several true boxes it is the one that the measured box fits best.
    """
    truth = dataset.metadata.boxes[case["image_id"]]
    box = [[case[corner] for corner in ("x0", "y0", "x1", "y1")]]
    width, height = dataset.metadata.image_sizes[case["image_id"]]
    inside = np.minimum(truth, np.tile([width - 1, height - 1], 2))
    nearest = inside[[int(iou(box, truth).argmax())]]
    ((x0, y0, x1, y1),) = scale_boxes(nearest, (width, height), photo.size).tolist()
    data = results["settings"]["data"]
    marks = [
        (figures["thresholds"][MAX_BOX_ACC], f"best for {method_title(name)} on {data}")
        for name, figures in results["methods"].items()
        if "thresholds" in figures
    ]
    return Look(cam_threshold=case["cam_threshold"], true_box=(x0, y0, x1, y1), marks=tuple(marks))


def describe_case(case: dict[str, Any], dataset: Dataset) -> str:
    """The status line: what the measurement said of this image."""
    count = len(dataset.metadata.boxes[case["image_id"]])
    several = f"; of its {count} true boxes the nearest is drawn" if count > 1 else ""
    return say(
        f"{case['image_id']} of {dataset.name}: {method_title(case['method'])} was measured at "
        f"IoU {case['iou']:.2f}, threshold {case['cam_threshold']:.2f}{several}."
    )
