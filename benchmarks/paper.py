"""docs/paper.md: the CurveBall paper's Table 1 and Figure 1 from their records.

make paper                                   # run both in full (ten minutes), then this
python benchmarks/paper.py runs/paper        # take over the records of both, then draw
python benchmarks/paper.py                   # draw the page and its figure anew from results/paper
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from quadric.bench import trajectories
from quadric.bench.paper import figure1, table1
from quadric.report.directory import RECORDS
from quadric.report.markdown import markdown
from quadric.report.table1 import table as results
from quadric.report.trajectories import draw
from quadric.report.trajectories import table as endings
from records import RESULTS

KEPT = RESULTS / "paper"
DOCS = Path(__file__).parents[1] / "docs"
PARTS = ("table1", "figure1")


def main() -> None:
    """Take over records if a directory is named, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="?", help="directory with table1/ and figure1/")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder for the page and its figure")
    options = parser.parse_args()
    if options.runs is not None:
        KEPT.mkdir(exist_ok=True)
        for part in PARTS:
            shutil.copyfile(options.runs / part / RECORDS, KEPT / f"{part}.jsonl")
    (options.docs / "paper-figure1.png").write_bytes(draw(trajectories.read(KEPT / "figure1.jsonl", figure1.LAYOUT)))
    (options.docs / "paper.md").write_text(page(), encoding="utf-8")


def page() -> str:
    """The page."""
    top, blocks = table1.read(KEPT / "table1.jsonl")
    table = results(blocks)
    ways = endings(trajectories.read(KEPT / "figure1.jsonl", figure1.LAYOUT))
    where = " · ".join(
        f"{name} {top['environment'][name]}" for name in ("date", "processor", "quadric", "torch", "numpy")
    )
    return f"""# The CurveBall paper's toy problems, run again

Henriques, Ehrhardt, Albanie, Vedaldi (2019), "Small steps and giant leaps: minimal Newton solvers for deep learning"
(arXiv 1805.08095), Table 1 and Figure 1, by the protocol of the authors' published program. `quadric paper table1` and
`quadric paper figure1` repeat them; `make paper` does so in full and writes this page.

## {table.title}

{markdown(table)}
## {ways.title}

![Trajectories over level lines, and f against steps](paper-figure1.png)

From (−0.25, −0.25), until solved. Steps, and how the run ended:

{markdown(ways)}
## Table 2, Figures 2 and 3: networks

`quadric paper table2`, `figure2` and `figure3` train the paper's networks on CIFAR-10 (and VGG-f on an ImageNet-100
that you have) once, and show train and validation error as a table beside the published figures, against epochs, and
against seconds. `--scale full --device cuda` takes all data and 100 epochs, `--scale small` what two cores can do.
Numbers at small scale say nothing about the published ones, and each report spells out how its protocol differs.

*{where}. The records are `benchmarks/results/paper/`; `python benchmarks/paper.py` writes this page from them.*
"""


if __name__ == "__main__":
    main()
