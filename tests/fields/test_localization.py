"""Fields set against localization."""

import json

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from tests.fields.conftest import BACKBONE, SIZE, bell, row_of
from tests.fields.test_erf_cli import erf
from wsolviz.evaluation.dataset import open_dataset
from wsolviz.evaluation.evaluate import Run
from wsolviz.evaluation.results import evaluate_run
from wsolviz.evaluation.sources import NetworkSource
from wsolviz.fields.export import write_fields
from wsolviz.fields.figures import MapLook
from wsolviz.fields.localization import (
    Localization,
    Point,
    correlations,
    find_results,
    localizations_of,
    pair,
    read_results,
    scatter_figure,
)
from wsolviz.fields.request import Fields

__all__ = ["erf"]  # the fixture


def told(backbone="net", method="cam", value=50.0, sha256=None, data="set/test"):
    interval = (value - 5, value + 4)
    return Localization(data, backbone, sha256, method, "MaxBoxAccV2", value, interval)


def points_of(shares, values, method="cam"):
    return [
        Point(f"net{i}", method, share, "MaxBoxAccV2", value, (value - 1, value + 1))
        for i, (share, value) in enumerate(zip(shares, values, strict=True))
    ]


@pytest.fixture(scope="module")
def run(crops, tmp_path_factory):
    """Results of a real run, in a folder below the one that is searched."""
    import wsolviz

    folder = tmp_path_factory.mktemp("runs")
    source = NetworkSource(
        open_dataset(crops, "test"), wsolviz.load_backbone(BACKBONE), ("cam", "pc1")
    )
    return folder, evaluate_run(Run(source, folder / BACKBONE / "test"))


def test_results_of_a_run_are_found_and_read(run):
    folder, results = run
    (path,) = find_results(folder)
    assert find_results(path) == [path]
    assert find_results(folder, depth=1) == []
    found = read_results(path)
    assert found == localizations_of(json.loads(json.dumps(results)))
    assert [(f.data, f.backbone, f.method) for f in found] == [
        ("crops/test", BACKBONE, "cam"),
        ("crops/test", BACKBONE, "pc1"),
    ], "the centre box is no network's"
    figure = results["methods"]["cam"]["swept"]["MaxBoxAccV2"]
    assert (found[0].measure, found[0].value) == ("MaxBoxAccV2", figure["value"])
    assert found[0].interval == tuple(figure["interval"])


def test_only_masks_give_pxap_and_score_maps_give_nothing():
    settings = {"data": "d/t", "backbone": "net", "weights_sha256": "abc", "methods": ["cam"]}
    pxap = {"PxAP": {"value": 40.0, "interval": [38.0, 42.0]}}
    (found,) = localizations_of({"settings": settings, "methods": {"cam": pxap}})
    assert (found.measure, found.value, found.interval) == ("PxAP", 40.0, (38.0, 42.0))
    del settings["backbone"]
    assert localizations_of({"settings": settings, "methods": {"cam": pxap}}) == []


def test_a_file_of_another_program_is_refused(tmp_path):
    path = tmp_path / "results.json"
    for text in ("{}", "[1]", "no json"):
        path.write_text(text)
        with pytest.raises(ValueError, match="is no results file of wsolviz evaluate"):
            read_results(path)


def test_photos_folders_are_not_searched(tmp_path):
    for name in ("images", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").touch()
    assert find_results(tmp_path) == [tmp_path / "out" / "results.json"]


def test_a_point_is_of_trained_weights_and_the_very_ones_that_were_measured():
    rows = [row_of(bell(), name) for name in ("a", "b")] + [row_of(bell(64, 3), "a", "random")]
    given = [told("a", value=40), told("a", value=45), told("a", "pc1", 60, "abc"), told("c")]
    given.append(told("b", sha256="other weights"))
    points = pair(rows, given, 0.5)
    assert [(p.backbone, p.method, p.value) for p in points] == [
        ("a", "cam", 45),
        ("a", "pc1", 60),
    ]
    (area,) = (area for area in rows[0].areas if area.threshold == 0.5)
    assert {point.share for point in points} == {area.share}
    assert pair([row_of(np.zeros((64, 64)), "a")], given, 0.5) == ()


def test_correlations_are_scipys_and_their_intervals_hold_them():
    random = np.random.default_rng(3)
    shares = random.uniform(0.1, 0.6, 9)
    values = 100 * shares + random.normal(0, 8, 9)
    (found,) = correlations(points_of(shares, values))
    assert found.num_backbones == 9
    assert found.pearson == pytest.approx(pearsonr(shares, values).statistic)
    assert found.spearman == pytest.approx(spearmanr(shares, values).statistic)
    for value, interval in (
        (found.pearson, found.pearson_interval),
        (found.spearman, found.spearman_interval),
    ):
        assert -1 <= interval[0] < value < interval[1] <= 1
    picked = np.random.default_rng(1).integers(9, size=(4000, 9))
    slow = [pearsonr(shares[p], values[p]).statistic for p in picked]
    assert found.pearson_interval == pytest.approx(np.percentile(slow, (2.5, 97.5)), abs=0.06)
    assert "over 9 backbones" in found.text


def test_methods_are_told_apart():
    cam, pc1 = points_of([1, 2, 3], [1, 2, 3]), points_of([1, 2, 3], [3, 2, 1], "pc1")
    found = correlations([*cam, *pc1])
    assert [(f.method, round(f.pearson), round(f.spearman)) for f in found] == [
        ("cam", 1, 1),
        ("pc1", -1, -1),
    ]


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ([0.1], "1 backbone; it takes 3"),
        ([0.1, 0.2], "2 backbones; it takes 3"),
        ([0.2, 0.2, 0.2], "3 backbones; they do not differ"),
    ],
)
def test_no_correlation_is_given_for_few_or_equal_points(shares, said):
    (found,) = correlations(points_of(shares, [float(i) for i in range(len(shares))]))
    assert found.pearson is None
    assert f"no correlation is given for {said}" in found.text


def test_the_plot_has_a_mark_a_backbone_and_method_and_tells_the_size():
    points = [*points_of([0.1, 0.2], [40, 50]), *points_of([0.1, 0.2], [45, 55], "pc1")]
    figure = scatter_figure(points, "set/test", 224, 0.3)
    assert [(t.x[0], t.y[0]) for t in figure.data] == [(10, 40), (20, 50), (10, 45), (20, 55)]
    assert len({(t.marker.color, t.marker.symbol) for t in figure.data}) == 4
    assert figure.data[0].error_y.array == (1,)
    assert "set/test" in figure.layout.title.text
    assert "224×224" in figure.layout.title.text
    assert "30%" in figure.layout.xaxis.title.text


def test_report_and_json_hold_the_points(request_of, tmp_path):
    fields = Fields(request_of(), tuple(row_of(bell(64, w), f"n{w}") for w in (3, 5, 8)))
    given = [told(f"n{w}", value=10.0 * w) for w in (3, 5, 8)]
    write_fields(fields, MapLook(), tmp_path, given)
    kept = json.loads((tmp_path / "erf.json").read_text())["localization"]
    assert [part["area_threshold"] for part in kept] == [0.2, 0.3, 0.5, 0.99]
    assert [point["value"] for point in kept[0]["points"]] == [30, 50, 80]
    assert kept[0]["correlations"][0]["spearman"] == pytest.approx(1)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("Spearman 1.00") == 4
    assert "Fields against localization on set/test" in page


def test_the_command_sets_fields_against_results(erf, run, photos, tmp_path):
    folder, _ = run
    command = ["--images", photos, "--num-images", 1, "--size", SIZE, "--results"]
    status, said = erf(*command, folder, "--out", tmp_path / "out")
    assert status == 0, said
    assert "crops/test against area 50%: cam: no correlation is given for 1 backbone" in said
    told = json.loads((tmp_path / "out" / "erf.json").read_text())
    assert [p["method"] for p in told["localization"][0]["points"]] == ["cam", "pc1"]
    status, said = erf(*command, photos, "--out", tmp_path / "none")
    assert status == 2
    assert "There are no results of wsolviz evaluate" in said
