"""The report of an inspection: one HTML file with everything in it, readable without a network."""

from __future__ import annotations

import base64
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from quadric.analysis.classify import CriticalPoint
from quadric.bench.inspection.records import Inspection
from quadric.linalg.eigenpairs import Eigenpairs
from quadric.report.inspection.figures import TITLES
from quadric.report.inspection.tables import CLASSIFY, curvatures, facts_of, result
from quadric.report.tables import ResultTable, plain

FOLDER = files("quadric.report")


def render(inspection: Inspection, table: ResultTable, pictures: dict[str, bytes]) -> str:
    """The report's text; `pictures` are PNG files by name."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found = result(inspection, CLASSIFY, CriticalPoint)
    text = (FOLDER / "inspection" / "report.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(text).render(
        style=(FOLDER / "report.css").read_text(encoding="utf-8"),
        table=table,
        evidence=[] if found is None else found.summary().splitlines(),
        pictures=[
            (TITLES[name], CAPTIONS[name], base64.b64encode(picture).decode()) for name, picture in pictures.items()
        ],
        eigenvalues=_eigenvalues(inspection),
        findings=list(inspection.findings.values()),
        facts=facts_of(inspection),
        environment=inspection.header.environment,
    )


CAPTIONS = {
    "eigenvalues": "Bars are bounds of the errors, where these can be seen.",
    "density": "The share of eigenvalues per unit of λ, by stochastic Lanczos quadrature, smoothed by a Gaussian; the "
    "band is two standard errors over random probes. Below a millionth of the highest nothing is drawn.",
    "lines": "Marks are the loss, the dashed line is f + a gᵀu + ½ a² uᵀC u. v are eigenvectors of the largest "
    "eigenvalues, followed to where the curvature alone doubles the loss; r are random directions whose filters are as "
    "long as those of the weights.",
    "planes": "Contours of the loss, closer where it is low; darker is lower. The circle is where the weights are.",
}


def _eigenvalues(inspection: Inspection) -> list[tuple[str, list[tuple[str, str]]]]:
    """The listed eigenvalues of each curvature, with their errors."""
    listed = []
    for name in curvatures(inspection):
        top = result(inspection, f"{name}-top", Eigenpairs)
        if top is not None:
            pairs = zip(top.eigenvalues.tolist(), top.errors.tolist(), strict=True)
            listed.append((name, [(plain(value, 6), plain(error, 1)) for value, error in pairs]))
    return listed
