"""docs/paper.md: the CurveBall paper's tables and figures from their records.

make paper                                   # run all, the networks at small scale (an hour), then this
python benchmarks/paper.py runs/paper        # take over the records of those that were run, then draw
python benchmarks/paper.py                   # draw the page and its figures anew from results/paper
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from quadric.bench import records, trajectories
from quadric.bench.paper import figure1, table1
from quadric.bench.paper.networks import NETWORKS
from quadric.report import networks
from quadric.report.directory import RECORDS
from quadric.report.markdown import markdown
from quadric.report.table1 import table as results
from quadric.report.trajectories import draw
from quadric.report.trajectories import table as endings
from records import RESULTS

KEPT = RESULTS / "paper"
DOCS = Path(__file__).parents[1] / "docs"
PARTS = ("table1", "figure1", *(f"networks/{name}" for name in NETWORKS))
"""Directories of the runs, and names of the records kept."""


def main() -> None:
    """Take over records if a directory is named, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="?", help="directory with table1/, figure1/ and networks/")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder for the page and its figure")
    options = parser.parse_args()
    if options.runs is not None:
        take_over(options.runs)
    trained = {name: records.read(path) for name in NETWORKS if (path := KEPT / "networks" / f"{name}.jsonl").exists()}
    figures = {
        "figure1": draw(trajectories.read(KEPT / "figure1.jsonl", figure1.LAYOUT)),
        "figure2": networks.draw(trained, "epochs"),
        "figure3": networks.draw(trained, "seconds"),
    }
    for name, picture in figures.items():
        (options.docs / f"paper-{name}.png").write_bytes(picture)
    (options.docs / "paper.md").write_text(page(trained), encoding="utf-8")


def take_over(runs: Path) -> None:
    """Copy the records of the parts that were run, in the place of those kept of them."""
    for part in PARTS:
        if (runs / part / RECORDS).exists():
            target = KEPT / f"{part}.jsonl"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(runs / part / RECORDS, target)


def page(trained: networks.Records) -> str:
    """The page."""
    top, blocks = table1.read(KEPT / "table1.jsonl")
    table = results(blocks)
    ways = endings(trajectories.read(KEPT / "figure1.jsonl", figure1.LAYOUT))
    errors = networks.table(trained)
    where = " · ".join(
        f"{name} {top['environment'][name]}" for name in ("date", "processor", "quadric", "torch", "numpy")
    )
    return f"""# The CurveBall paper's tables and figures, run again

Henriques, Ehrhardt, Albanie, Vedaldi (2019), "Small steps and giant leaps: minimal Newton solvers for deep learning"
(arXiv 1805.08095). `quadric paper table1 | figure1 | table2 | figure2 | figure3` repeat its tables and figures; `make
paper` does so, Table 1 and Figure 1 in full by the protocol of the authors' published program, the networks at small
scale, and writes this page.

## {table.title}

{markdown(table)}
## {ways.title}

![Trajectories over level lines, and f against steps](paper-figure1.png)

From (−0.25, −0.25), until solved. Steps, and how the run ended:

{markdown(ways)}
## {errors.title}

The networks of Table 2 and Figures 2 and 3 on a part of CIFAR-10, with few epochs, so these numbers say nothing about
the published ones: what is repeated is the protocol. `quadric paper table2 --scale full --device cuda` takes all data
and the authors' epochs, and VGG-f an ImageNet-100 that you have.

{markdown(errors)}
![Train and validation error against epochs](paper-figure2.png)

![Train and validation error against seconds](paper-figure3.png)

*{where}. The records are `benchmarks/results/paper/`; `python benchmarks/paper.py` writes this page from them.*
"""


if __name__ == "__main__":
    main()
