"""The directory of a comparison: reports that redraw the same, and nothing removed that quadric did not write."""

import re

import pytest
from matplotlib.figure import Figure
from PIL import Image

from bench.small import header, run
from quadric.bench.records import Recorder
from quadric.report import figures
from quadric.report.directory import OWN, STUDY, TRAJECTORIES, TUNING, prepare, write_report


def fill(directory, *runs):
    directory.mkdir(exist_ok=True)
    recorder = Recorder.begin(directory / "records.jsonl", header())
    for event in (event for events in runs for event in events):
        recorder.write(event)
    return directory


@pytest.fixture
def finished(tmp_path):
    quantities = {"damping": 0.5, "momentum": 0.9, "step_size": 0.1}
    return fill(
        tmp_path / "run",
        run("curveball", 0, [2, 0.3, 0.05], 20, quantities=quantities),
        run("curveball", 1, [2, 0.4, 0.06], 20, quantities=quantities),
        run("sgd", 0, [2, 1.2, 0.5]),
    )


def contents(directory):
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_a_report_has_its_files_and_redraws_to_the_same_bytes(finished):
    write_report(finished)
    first = contents(finished)
    assert set(first) == set(OWN) - {STUDY, TRAJECTORIES, TUNING}
    for name in set(first) - {"records.jsonl"}:
        (finished / name).unlink()
    write_report(finished)
    assert contents(finished) == first


def test_the_html_holds_everything_and_asks_the_network_for_nothing(finished):
    _, table, report = write_report(finished)
    html = report.read_text()
    assert not re.search(r"https?://|<script|<link|@import|url\(", html)
    assert html.count('src="data:image/png;base64,') == 5
    assert "digits &amp; &lt;tags&gt;" in html
    for row in table.rows:
        for cell in row:
            assert f">{cell.main}<" in html
    assert "interrupted" not in html.split("<h2>Runs</h2>")[0]


def test_an_interrupted_comparison_has_a_report_that_says_so(tmp_path):
    directory = fill(tmp_path / "run", run("sgd", 0, [2, 1.5], status=None))
    html = write_report(directory)[2].read_text()
    assert "<td>interrupted after step 10</td>" in html
    assert "1 of 1 unfinished" in html


def test_the_report_of_a_damaged_record_says_so(finished):
    records = finished / "records.jsonl"
    records.write_text(records.read_text()[:-20])
    assert "The record is damaged: line" in write_report(finished)[2].read_text()


def test_a_directory_without_records_is_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"holds no records\.jsonl; name the directory that `quadric compare --out`"
    ):
        write_report(tmp_path)


def test_a_record_without_any_evaluation_has_nothing_to_report(tmp_path):
    with pytest.raises(ValueError, match="holds no evaluation yet"):
        write_report(fill(tmp_path / "run"))


def test_a_new_or_empty_directory_is_made_ready(tmp_path):
    assert prepare(tmp_path / "new" / "run", overwrite=False) == tmp_path / "new" / "run" / "records.jsonl"
    assert (tmp_path / "new" / "run").is_dir()


def test_another_run_is_refused_and_left_as_it_is(finished):
    write_report(finished)
    before = contents(finished)
    with pytest.raises(FileExistsError, match=r"run holds another run\. Name another directory, or add --overwrite\."):
        prepare(finished, overwrite=False)
    assert contents(finished) == before


def test_overwriting_removes_what_quadric_wrote_and_nothing_else(finished):
    write_report(finished)
    (finished / "notes.txt").write_text("mine")
    (finished / "figures" / "mine.png").write_text("mine too")
    prepare(finished, overwrite=True)
    assert set(contents(finished)) == {"notes.txt", "figures/mine.png"}


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("name", ["report.html", "records.jsonl"])
def test_files_of_the_same_names_by_somebody_else_are_never_touched(tmp_path, name, overwrite):
    (tmp_path / name).write_text("not quadric's")
    with pytest.raises(FileExistsError, match=f"holds {name} but no record file of quadric.* Name another directory"):
        prepare(tmp_path, overwrite)
    assert (tmp_path / name).read_text() == "not quadric's"


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file; name a directory"):
        prepare(tmp_path / "file", overwrite=True)


@pytest.mark.parametrize("first", ["", '{"kind"', '{"kind": "header", "problem": {"na'])
def test_a_run_that_died_while_it_wrote_its_first_line_can_be_overwritten(tmp_path, first):
    (tmp_path / "records.jsonl").write_text(first)
    with pytest.raises(FileExistsError, match="holds another run"):
        prepare(tmp_path, overwrite=False)
    prepare(tmp_path, overwrite=True)
    assert contents(tmp_path) == {}


def test_a_directory_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=r"run cannot be made, since .*file is a file; name another"):
        prepare(tmp_path / "file" / "run", overwrite=False)


def test_a_directory_that_cannot_be_written_is_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(PermissionError, match=r"^\S+ cannot be written; name another directory than \S+run\.$"):
        prepare(tmp_path / "run", overwrite=False)


def test_a_directory_that_cannot_be_made_is_refused_in_words(tmp_path, monkeypatch):
    def refuse(self, **options):
        raise OSError(30, "Read-only file system", str(self))

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with pytest.raises(PermissionError, match=r"run cannot be made \(read-only file system\); name another directory"):
        prepare(tmp_path / "run", overwrite=False)


def test_momentum_which_may_be_negative_has_a_linear_scale():
    scales = {}
    for panel in figures.PICTURES["quantities"]:
        axes = Figure().subplots()
        axes.plot([0, 1], [0.5, 0.9])
        figures.finish(axes, panel, {"metric": "train_loss"})
        scales[panel.label] = axes.get_yscale()
    assert scales == {"damping λ": "log", "momentum ρ": "linear", "step size β": "log"}


def test_curves_can_be_told_apart_without_colour():
    count = 2 * len(figures.COLOURS)
    looks = {(figures.LINES[i % len(figures.LINES)], figures.MARKERS[i % len(figures.MARKERS)]) for i in range(8)}
    assert len(looks) == 8
    styles = {
        (figures.COLOURS[i % len(figures.COLOURS)], figures.LINES[i % len(figures.LINES)], figures.MARKERS[i % 8])
        for i in range(count)
    }
    assert len(styles) == count


def test_pictures_are_png_files_of_one_size(finished):
    write_report(finished)
    sizes = {Image.open(path).size for path in (finished / "figures").iterdir()}
    assert sizes == {(1600, 704)}
