"""The model card parses as the Hub parses it, and holds the run's numbers."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from tests.training.publish.conftest import Run
from tests.training.record.test_journal import BOXED, RESULTS
from training.publish.card import write_card
from training.publish.front_matter import licence_fields


def card_of(run: Run) -> str:
    return (run.folder / "README.md").read_text(encoding="utf-8")


def front_matter(text: str) -> dict[str, Any]:
    _, head, _ = text.split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(head)
    return found


def test_the_front_matter_is_the_hubs(timm_run: Run) -> None:
    text = card_of(timm_run)
    head = front_matter(text)
    assert head["license"] == "cc-by-sa-4.0"
    assert head["library_name"] == "timm"
    assert head["datasets"] == ["pets", "dogs"]
    assert set(head["metrics"]) == {"MaxBoxAccV2", "accuracy"}
    assert "weakly-supervised-object-localization" in head["tags"]
    results = {result.metric_name: result for result in ModelCard(text).data.eval_results or []}
    assert results["MaxBoxAccV2 of cam, per cent"].metric_value == 66.75
    assert results["top-1 accuracy, per cent"].metric_value == 80.5
    assert results["top-1 accuracy, per cent"].dataset_name == "shots/val"


def rows_of(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_text_tells_what_was_trained_how_and_with_what_result(timm_run: Run) -> None:
    text = card_of(timm_run)
    rows = rows_of(text)
    assert rows[0][:5] == ["method", "MaxBoxAccV2", "IoU 30", "IoU 50", "IoU 70"]
    assert rows[2] == [
        "cam",
        "66.8 [64.8, 69.8]",
        "86.8 [84.8, 89.8] τ 0.200",
        "67.8 [65.8, 70.8] τ 0.300",
        "45.8 [43.8, 48.8] τ 0.350",
        "65.8 [63.8, 68.8] τ 0.250",
    ]
    assert any(row[:2] == ["cam", "60.2 [58.2, 63.2]"] for row in rows), "before any training"
    for told in (
        "After epoch 3, on shots/val, by which the epoch was chosen",
        "`timm/test_resnet` with 4 classes",
        "random weights",
        "Pets, split train",
        "licence of the weights: CC-BY-SA-4.0",
        "python -m training.train --config training/configs/dogs.yaml seed=3",
        "CPU, 2 cores",
        "0.8 minutes for 4 epochs, 28 steps",
        "classification 0.7500 × 1, sim -1.0000 × 0.5",
        "commit of wsolviz: 0123abcd",
        "output stride: 16",
        "96×96",
        "load_backbone('file/dogs.safetensors')",
        'timm.create_model("hf-hub:OWNER/NAME", pretrained=True)',
        "drop_weight: 0.0",
    ):
        assert told in text, told
    assert "/home/me" not in text


def test_a_network_that_timm_does_not_have_is_said_to_be_none(own_run: Run) -> None:
    text = card_of(own_run)
    assert front_matter(text)["library_name"] == "wsolviz"
    assert "timm does not open it" in text
    assert 'hf_hub_download("OWNER/NAME", "dogs.safetensors")' in text
    assert "create_model" not in text


def test_results_on_other_splits_are_told_too(timm_run: Run) -> None:
    settings = {"data": "shots/test", "backbone": "file/dogs.safetensors"}
    measured = {
        **RESULTS,
        "settings": settings,
        "methods": {"pc1": BOXED},
        "fixed_on": None,
    }
    before = card_of(timm_run)
    text = write_card(timm_run.folder, "dogs", [measured]).read_text(encoding="utf-8")
    assert "On shots/test (7 images; top-1 accuracy 80.0 % [70.0, 90.0])" in text
    assert ["pc1", "swept test", "61.0 [50.0, 70.0]", "60.0 [50.0, 70.0] τ 0.200"] in rows_of(text)
    names = {r.dataset_name for r in ModelCard(text).data.eval_results or []}
    assert names == {"shots/val", "shots/test"}
    write_card(timm_run.folder, "dogs")
    assert card_of(timm_run) == before


def test_there_is_no_card_without_weights(timm_run: Run) -> None:
    with pytest.raises(FileNotFoundError, match=r"no weights .*cats\.safetensors"):
        write_card(timm_run.folder, "cats")


@pytest.mark.parametrize("licence", [None, "MIT", "research only (ImageNet)", "CC BY-NC 4.0"])
def test_licences_are_named_as_the_hub_allows(licence: str | None) -> None:
    fields = licence_fields(licence)
    if fields["license"] == "other":
        assert re.fullmatch(r"[a-z0-9.-]+", fields["license_name"])
    else:
        assert fields["license"] in ("unknown", "mit")
