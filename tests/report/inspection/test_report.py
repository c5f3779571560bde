"""The report of an inspection: its table and sentences, pictures without colour, HTML without a network."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from quadric.analysis.classify import CriticalPoint
from quadric.analysis.sharpness import Sharpness
from quadric.analysis.slice_plane import SlicePlane
from quadric.analysis.slices import LossSlice
from quadric.bench.inspection.parts import Part
from quadric.bench.inspection.point import Point
from quadric.bench.inspection.records import InspectionHeader, InspectionRecorder, read_inspection
from quadric.linalg.eigenpairs import Eigenpairs
from quadric.linalg.spectral_density import Mass, SpectralDensity
from quadric.operators.estimate import Estimate
from quadric.report.inspection.directory import write_report
from quadric.report.inspection.figures import TITLES, draw_all
from quadric.report.inspection.tables import inspection_table

F64 = torch.float64
POINT = Point(0.5, 0.1, 2.0, 1_000, 4, 0.01, {"hessian": 0.02}, 10_000, ["one dropout mask <only>"], True)
FACTS = {"subject": "net & <tags>", "parameters": 5_000, "seed": 0, "most examples": None}


def eigenpairs(*values, error=1e-9):
    values = torch.tensor(values, dtype=F64)
    errors = torch.full_like(values, error)
    return Eigenpairs(values, torch.zeros(5, len(values)), errors, errors, True, 30, 1e-4, float(values.abs().max()))


def density(exact=False):
    grid = torch.linspace(-1, 4, 50, dtype=F64)
    curve = torch.exp(-50 * grid.square()) + 1e-4 * torch.exp(-50 * (grid - 3).square())
    share = Mass(0.3, 0.1, 0.1, 0.55)
    nodes = torch.tensor([[-0.5, 3.0], [-0.4, 3.0]], dtype=F64)
    return SpectralDensity(
        grid, curve, 0.2 * curve, 0.05, share, share, 3e-3, nodes, torch.full_like(nodes, 0.5), 5_000, 400, exact
    )


def plane(dims=2):
    a = torch.linspace(-1, 1, 5, dtype=F64)
    losses = 0.5 + a.square() if dims == 1 else 0.5 + a[:, None].square() + 3 * a[None].square()
    directions = torch.eye(5)[:, :dims]
    return SlicePlane(
        LossSlice(a, losses, directions), 0.5, torch.zeros(dims, dtype=F64), torch.tensor([2.0, 6.0])[:dims]
    )


def overflown():
    """Losses that are not finite at two corners."""
    losses = plane().slice.losses.clone()
    losses[0, 0], losses[4, 4] = torch.inf, torch.nan
    return losses


def critical():
    return CriticalPoint(
        "saddle", 40, (30, 60), torch.tensor([-0.5, 3.0], dtype=F64), torch.tensor([1e-9, 1e-9], dtype=F64), 0.5, 0.1,
        0.2, 0.05, None, 1e-6, "rounding", None, 5_000, False, 500, "By Lanczos.",
    )  # fmt: skip


@pytest.fixture
def found(tmp_path):
    results = {
        "hessian-top": eigenpairs(3.0, 1.0),
        "hessian-sharpness": Sharpness(3.0, 1e-9, True, Estimate(10.0, 0.5), 4.0, 100),
        "hessian-density": density(),
        "ggn-top": eigenpairs(4.0, 2.0, error=0.01),
        "ggn-sharpness": Sharpness(4.0, 0.01, True, Estimate(12.0, 0.0), 2.0, 100),
        "ggn-density": density(),
        "classify": critical(),
        "hessian-plane-eigenvectors": plane(),
        "hessian-plane-random": plane(),
    }
    return write(tmp_path, results)


def measure(results, progress):
    """Not called here."""


def write(directory, results):
    with InspectionRecorder(directory / "records.jsonl", InspectionHeader(FACTS, {"torch": "2"})) as recorder:
        recorder.begin(POINT)
        for name, value in results.items():
            settings = {"lr": 0.5, "momentum": 0.0} if "sharpness" in name else {}
            part = Part(name, f"title of {name}", name.split("-")[0], settings, 1, 1, measure)
            recorder.finish(part, value, 0.25, ["it did not converge"] if name == "ggn-top" else [])
    return directory


def test_the_table_has_a_row_for_each_curvature(found):
    table = inspection_table(read_inspection(found / "records.jsonl"))
    assert table.title == "net & <tags>: 5,000 parameters, 1,000 examples, loss 0.500"
    assert table.columns == ["curvature", "largest eigenvalue", "smallest", "trace", "negative", "near zero"]
    hessian, ggn = ([(cell.main, cell.below) for cell in row] for row in table.rows)
    assert hessian == [
        *(("hessian", ""), ("3.00", ""), ("-0.500", ""), ("10.0", "± 0.50")),
        *(("about 30 %", "10 – 55 %, below −0.0030"), ("about 30 %", "10 – 55 %, within 0.0030")),
    ]
    assert ggn == [
        *(("ggn", ""), ("4.00", "± 0.010"), ("≥ 0", ""), ("12.0", "")),
        *(("none", ""), ("about 30 %", "10 – 55 %, within 0.0030")),
    ]


def test_the_sentences_say_what_it_means_and_what_to_beware_of(found):
    notes = inspection_table(read_inspection(found / "records.jsonl")).notes
    assert notes == [
        "Kind of point: saddle (‖gradient‖ 0.100, 2.0 times its sampling noise; 30 to 60 of 5,000 Hessian eigenvalues "
        "negative).",
        "hessian: eigenvalues 1 to 2 fall from 3.00 to 1.00.",
        "hessian: gradient descent with lr 0.5 is stable along the sharpest direction of the quadratic model: the "
        "largest eigenvalue is 0.750 times the threshold 4.00.",
        "ggn: eigenvalues 1 to 2 fall from 4.00 to 2.00 and add up to 50 % of the trace.",
        "ggn: gradient descent with lr 0.5 diverges along the sharpest direction of the quadratic model: the largest "
        "eigenvalue is 2.00 times the threshold 2.00.",
        "one dropout mask <only>",
        "title of ggn-top: it did not converge",
    ]


def test_the_html_holds_everything_and_asks_the_network_for_nothing(found):
    _, report = write_report(found)
    html = report.read_text()
    assert not re.search(r"https?://|<script|<link|@import|url\(", html)
    assert html.count('src="data:image/png;base64,') == len(TITLES)
    for text in ("net &amp; &lt;tags&gt;", "one dropout mask &lt;only&gt;", "By Lanczos.", "hessian-top.npz", "± 0.01"):
        assert text in html
    assert "most examples" not in html


def test_a_report_redraws_to_the_same_bytes(found):
    write_report(found)
    first = {path: path.read_bytes() for path in found.rglob("*") if path.is_file()}
    write_report(found)
    assert {path: path.read_bytes() for path in found.rglob("*") if path.is_file()} == first


def test_pictures_can_be_read_in_grey(found):
    """Curves differ by line and marker, contours by darkness: no pixel of a plane is coloured."""
    pictures = draw_all(read_inspection(found / "records.jsonl"))
    assert list(pictures) == list(TITLES)
    plane = np.asarray(Image.open(io.BytesIO(pictures["planes"])).convert("RGB")).astype(int)
    assert np.ptp(plane, axis=2).max() <= 2


@pytest.mark.parametrize(
    "results",
    [
        {},
        {"ggn-top": eigenpairs(2.0)},
        {"hessian-top": eigenpairs(0.0, -1.0)},
        {"hessian-density": density(exact=True)},
        {"hessian-plane-eigenvectors": plane(1)},
        {"hessian-plane-random": replace(plane(), slice=replace(plane().slice, losses=torch.full((5, 5), 2.0)))},
        {"hessian-plane-random": replace(plane(), slice=replace(plane().slice, losses=overflown()))},
        {"classify": critical()},
    ],
    ids=[
        "nothing",
        "one eigenvalue",
        "no positive one",
        "exact density",
        "a line",
        "flat",
        "overflown",
        "classify alone",
    ],
)
def test_less_than_everything_has_a_report_too(results, tmp_path):
    table, report = write_report(write(tmp_path, results))
    assert report.exists()
    assert table.title.startswith("net")


def test_a_flat_plane_is_drawn_and_a_loss_not_known_to_be_convex_has_no_sign(tmp_path):
    flat = replace(plane(), slice=replace(plane().slice, losses=torch.full((5, 5), 0.5, dtype=F64)))
    flat.slice.losses[0, 0] += 1e-16
    results = {"ggn-density": density(), "ggn-plane-random": flat}
    directory = write(tmp_path, results)
    path = directory / "records.jsonl"
    path.write_text(path.read_text().replace('"convex": true', '"convex": false'))
    table, _ = write_report(directory)
    assert [cell.main for cell in table.rows[0]][-2] == "about 30 %"


@pytest.mark.parametrize(
    ("sharp", "said"),
    [
        (Sharpness(4.1, 0.2, True, Estimate(10.0, 0.5), 4.0, 100), "is within the error of the edge of stability"),
        (Sharpness(9.0, 0.2, False, Estimate(10.0, 0.5), 4.0, 100), "is within the error of the edge of stability"),
        (Sharpness(4.5, 0.2, True, Estimate(10.0, 0.5), 4.0, 100), "diverges"),
    ],
)
def test_stability_is_claimed_only_where_the_error_allows(tmp_path, sharp, said):
    notes = inspection_table(read_inspection(write(tmp_path, {"hessian-sharpness": sharp}) / "records.jsonl")).notes
    assert any(f"lr 0.5 {said} along the sharpest direction" in note for note in notes)


def test_what_there_is_of_a_share_is_not_rounded_to_none(tmp_path):
    rare = replace(density(), negative=Mass(0.002, 0.001, 0.001, 0.004))
    table = inspection_table(read_inspection(write(tmp_path, {"hessian-density": rare}) / "records.jsonl"))
    assert [cell.main for cell in table.rows[0]][-2] == "< 1 %"
