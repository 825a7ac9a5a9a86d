"""What a model card tells the Hub itself: licence, library, data and results, in YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from training.publish.weights import timm_model
from training.record.epoch import Validation
from wsolviz.backends.own_format import WeightsHeader
from wsolviz.evaluation.figures import Figures
from wsolviz.export import plain_name

# Licences that the Hub knows by these very identifiers; any other is "other", with its name.
KNOWN_LICENCES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "gpl-3.0", "openrail", "cc0-1.0"),
    *(f"cc-by{kind}-4.0" for kind in ("", "-sa", "-nc", "-nd", "-nc-sa", "-nc-nd")),
)


def card_data(
    name: str,
    header: WeightsHeader,
    validation: Validation | None,
    measured: Sequence[Figures] = (),
) -> ModelCardData:
    """The card's front matter."""
    known = [*([validation] if validation else []), *map(Validation.of, measured)]
    results = [result for found in known for result in _eval_results(found)]
    sources = header.details["config"]["data"]["train"]
    return ModelCardData(
        **licence_fields(header.licence),
        library_name="wsolviz" if timm_model(header.backbone) is None else "timm",
        pipeline_tag="image-classification",
        tags=["image-classification", "weakly-supervised-object-localization", "wsolviz"],
        datasets=list(dict.fromkeys(plain_name(source_name(source)).lower() for source in sources)),
        metrics=list(dict.fromkeys(result.metric_type for result in results)),
        model_name=name,
        eval_results=results or None,
    )


def licence_fields(licence: str | None) -> dict[str, Any]:
    """A licence as the Hub wants it.

    >>> licence_fields("Apache-2.0")
    {'license': 'apache-2.0'}
    >>> licence_fields("ImageNet: research only")
    {'license': 'other', 'license_name': 'imagenet-research-only'}
    """
    if licence is None:
        return {"license": "unknown"}
    if licence.lower() in KNOWN_LICENCES:
        return {"license": licence.lower()}
    told = re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-")
    return {"license": "other", "license_name": told}


def _eval_results(validation: Validation) -> Iterator[EvalResult]:
    place: dict[str, Any] = {
        "dataset_name": validation.data,
        "dataset_type": plain_name(validation.data.replace("/", "-")).lower(),
    }
    score = validation.score
    yield EvalResult(
        task_type="object-detection",
        task_name="weakly supervised object localization",
        metric_type=validation.score_name,
        metric_name=f"{validation.score_name} of {validation.leading}, per cent",
        metric_value=round(score.value, 2),
        **place,
    )
    for name, figure in validation.classification.items():
        yield EvalResult(
            task_type="image-classification",
            metric_type="accuracy",
            metric_name=f"{name} accuracy, per cent",
            metric_value=round(figure.value, 2),
            **place,
        )


def source_name(source: dict[str, Any]) -> str:
    """A training source's name: its folder's, or that of the shards' files before the numbers."""
    place = str(source.get("root") or source["shards"]).partition("{")[0]
    return Path(place).name.strip("-_.") or plain_name(place)
