"""`quadric inspect` end to end: numbers against the library's own, going on, refusing, and every complaint."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import quadric as library
from quadric import problems
from quadric.analysis.slice_plane import SlicePlane
from quadric.bench.inspection import parts
from quadric.bench.inspection.cost import costs
from quadric.bench.inspection.point import look
from quadric.bench.inspection.records import read_inspection
from quadric.bench.inspection.subject import Settings, own_problem
from quadric.linalg.eigenpairs import Eigenpairs
from quadric.linalg.spectral_density import SpectralDensity
from quadric.report.inspection.tables import estimates

CODE = """
import torch
from torch import nn
import quadric
from torch.utils.data import DataLoader, TensorDataset

class Net(nn.Module):
    def __init__(self, rate=0.0):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Dropout(rate), nn.Linear(3, 2))

    def forward(self, x, labels=None):
        outputs = self.layers(x)
        return outputs if labels is None else nn.functional.cross_entropy(outputs, labels)

def make(): return Net().double()
def dropping(): return Net(0.5).double()
def objective(): return quadric.Objective(make(), nn.functional.cross_entropy, params="layers.3.*")
def zeros():
    net = make()
    for p in net.parameters(): p.data.zero_()
    return net
def broken(): return {}["nothing"]
def three(): return 3
def lossy(outputs, targets): return nn.functional.cross_entropy(outputs, targets)

class Lost(Net):
    def forward(self, x): return super().forward(x).nothing

def lost(): return Lost().double()

generator = torch.Generator().manual_seed(3)
x = torch.randn(30, 4, generator=generator, dtype=torch.float64)
y = torch.randint(0, 2, (30,), generator=generator)

def loader(): return DataLoader(TensorDataset(x, y), batch_size=12)
def dictionaries(): return [{"x": a, "labels": b} for a, b in zip(x.split(12), y.split(12))]
def once(): return iter(loader())

class Changing:
    def __iter__(self): return iter([(x + torch.randn(30, 4, generator=generator), y)])

class Doubling:
    scale = 1.0
    def __iter__(self): return iter([(self.scale * x, y)])
doubling = Doubling()
"""
BASE = ("--model", "ownproblem:make", "--loss", "cross_entropy", "--data", "ownproblem:loader")


@pytest.fixture
def code(tmp_path, monkeypatch):
    """The module `ownproblem` in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    Path("ownproblem.py").write_text(CODE)
    import ownproblem

    yield ownproblem
    del sys.modules["ownproblem"]


def lines(directory):
    return [json.loads(line) for line in (Path(directory) / "records.jsonl").read_text().splitlines()]


def result(directory, name, kind):
    (path,) = (Path(directory) / "results").glob(f"{name}*.npz")
    return kind.load(path)


def test_a_named_problem_at_a_checkpoint_gives_what_the_library_gives(quadric, tmp_path):
    instance = problems.get("digits-mlp").open(None, torch.device("cpu"))(0)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in instance.model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    torch.save({"state_dict": instance.model.state_dict()}, tmp_path / "digits.pt")
    status, output, _ = quadric(
        *("inspect", "--problem", "digits-mlp", "--checkpoint", tmp_path / "digits.pt", "--max-examples", 100),
        *("--top", 2, "--slices", "--points", 3, "--lr", 0.5, "--out", tmp_path / "look"),
    )
    assert status == 0
    batch = tuple(part[:100] for part in instance.train[0])
    objective = library.Objective(instance.model, instance.loss_fn)
    hessian = library.Hessian(objective, batch)
    expected = library.eigsh(hessian, 2, tol=1e-4)
    found = result(tmp_path / "look", "hessian-top", Eigenpairs)
    assert torch.equal(found.eigenvalues, expected.eigenvalues)
    sharp = result(tmp_path / "look", "hessian-sharpness", library.analysis.Sharpness)
    assert sharp == library.sharpness(hessian, lr=0.5, tol=1e-4)
    plane = result(tmp_path / "look", "hessian-plane-eigenvectors", SlicePlane)
    lengths = plane.slice.directions.norm(dim=0)
    torch.testing.assert_close(plane.curvatures / lengths.double() ** 2, found.eigenvalues, rtol=1e-3, atol=0)
    assert plane.slice.losses[1, 1] == pytest.approx(objective.evaluate(batch), rel=1e-6)
    random = result(tmp_path / "look", "hessian-plane-random", SlicePlane)
    assert torch.equal(random.slice.directions, library.filter_normalized(objective, 2))
    assert output.splitlines()[-1] == f"report: {tmp_path / 'look' / 'report.html'}"
    assert "digits-mlp: 2,410 parameters, 100 examples" in output


def test_everything_is_measured_where_nothing_is_asked_for(quadric, code, tmp_path):
    status, output, _ = quadric("inspect", *BASE, "--out", "look", "--points", 5)
    assert status == 0
    names = [line["part"] for line in lines("look") if line["kind"] == "finding"]
    assert names == [
        *("hessian-top", "hessian-sharpness", "hessian-density", "ggn-top", "ggn-sharpness", "ggn-density"),
        *("classify", "hessian-plane-eigenvectors", "hessian-plane-random"),
    ]
    objective = library.Objective(code.make(), nn.functional.cross_entropy)
    found = read_inspection(Path("look/records.jsonl"))
    assert found.header.facts["parameters"] == objective.space.numel == 23
    assert len(found.results["hessian-top"].eigenvalues) == 20
    assert found.results["classify"].kind == "not stationary"
    assert found.point.examples == 30
    assert found.point.batches == 3
    for text in ("≥ 0", "Kind of point: not stationary", "in all", "one product: hessian", "memory: vectors up to"):
        assert text in output


@pytest.mark.usefixtures("code")
def test_every_part_tells_where_it_stands():
    subject = own_problem("ownproblem:make", "cross_entropy", "ownproblem:loader", Settings())
    results = {}
    for part in parts.plan(subject, parts.Wanted(("hessian",), 2, True, True, True, True, points=5)):
        lines = []
        results[part.name] = part.measure(results, lines.append)
        assert lines or part.name == "hessian-top", part.name  # which is decomposed whole, in no time


@pytest.mark.parametrize(("product_bytes", "said"), [(5_000_000, "a product about 5 MB"), (None, "is not known here")])
@pytest.mark.usefixtures("code")
def test_the_estimate_says_what_a_product_takes(product_bytes, said):
    subject = own_problem("ownproblem:make", "cross_entropy", "ownproblem:loader", Settings())
    wanted = parts.plan(subject, parts.Wanted(("hessian",), 2))
    point = replace(look(subject, ["hessian"]), product_bytes=product_bytes)
    assert said in estimates(costs(wanted, point, subject), point)[-1]


def test_weights_of_zero_have_no_filters_to_normalise_by(quadric, code):
    status, _, errors = quadric(
        *("inspect", "--model", "ownproblem:zeros", *BASE[2:], "--slices", "--points", 3, "--out", "look")
    )
    assert status == 0, errors
    found = [line["part"] for line in lines("look") if line["kind"] == "finding"]
    assert "hessian-plane-eigenvectors" in found
    assert "hessian-plane-random" not in found


def test_micro_batches_and_dictionaries_change_nothing_but_rounding(quadric, code):
    shown = []
    for out, more in {
        "whole": (),
        "parts": ("--microbatch", 5),
        "named": ("--data", "ownproblem:dictionaries"),
        "own": ("--loss", "ownproblem:lossy"),
        "model": ("--loss", "model", "--curvature", "hessian"),
    }.items():
        status, _, error = quadric("inspect", *BASE, "--curvature", "hessian", "--top", 4, "--out", out, *more)
        assert (status, error) == (0, "")
        shown.append(result(out, "hessian-top", Eigenpairs).eigenvalues)
    for found in shown[1:]:
        torch.testing.assert_close(found, shown[0], rtol=1e-9, atol=1e-12)


def test_a_factory_may_return_an_objective(quadric, code):
    arguments = ("--model", "ownproblem:objective", "--data", "ownproblem:loader", "--curvature", "ggn", "--top", 2)
    assert quadric("inspect", *arguments, "--out", "look")[0] == 0
    assert lines("look")[0]["facts"]["parameters"] == 8
    status, _, error = quadric("inspect", *arguments, "--loss", "mse", "--out", "other")
    assert status == 1
    assert "is an Objective, with a loss and parameters of its own: leave out both options" in error


def test_parameters_can_be_chosen(quadric, code):
    quadric("inspect", *BASE, "--params", "layers.0.*", "--curvature", "ggn", "--top", 2, "--out", "look")
    assert lines("look")[0]["facts"]["parameters"] == 15


def test_the_same_command_again_measures_nothing_and_another_part_alone(quadric, code, monkeypatch):
    arguments = ("inspect", *BASE, "--curvature", "hessian", "--out", "look", "--points", 3)
    quadric(*arguments, "--top", 3)
    before = Path("look/records.jsonl").read_bytes()
    monkeypatch.setattr(parts, "eigsh", None)  # not to be called again
    status, output, _ = quadric(*arguments, "--top", 3)
    assert status == 0
    assert "parts there already: 1 of 1" in output
    assert Path("look/records.jsonl").read_bytes() == before
    assert quadric(*arguments, "--slices")[0] == 0  # along the eigenvectors that are there
    assert [line.get("part") for line in lines("look")][2:] == [
        *("hessian-top", "hessian-plane-eigenvectors", "hessian-plane-random")
    ]


def test_an_interrupt_keeps_what_is_done_and_the_same_command_goes_on(quadric, code, monkeypatch):
    arguments = ("inspect", *BASE, "--curvature", "hessian", "--top", 3, "--density", "--out", "look")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(parts, "spectral_density", interrupted)
        status, output, error = quadric(*arguments)
    assert status == 1
    assert error == ("error: interrupted; the report has what was done until then, and the same command goes on.")
    assert output.splitlines()[-1] == "report: look/report.html"
    assert "Spectral density" not in Path("look/report.html").read_text()
    with Path("look/records.jsonl").open("a") as file:
        file.write('{"kind": "finding", "part": "hess')  # killed while it wrote
    monkeypatch.setattr(parts, "eigsh", None)
    status, _, _ = quadric(*arguments)
    assert status == 0
    assert [line["kind"] for line in lines("look")] == ["inspection", "point", "finding", "finding"]
    assert result("look", "hessian-density", SpectralDensity).exact
    assert "Spectral density" in Path("look/report.html").read_text()


def test_a_part_that_fails_leaves_a_report_of_those_before(quadric, code, monkeypatch):
    def failing(*_, **__):
        raise ValueError("no density today")

    monkeypatch.setattr(parts, "spectral_density", failing)
    status, output, error = quadric("inspect", *BASE, "--top", 3, "--density", "--curvature", "ggn", "--out", "look")
    assert (status, error) == (1, "error: no density today")
    assert output.splitlines()[-1] == "report: look/report.html"


def test_another_subject_in_the_same_directory_is_refused_and_overwritten_on_request(quadric, code):
    arguments = ("inspect", *BASE, "--curvature", "ggn", "--out", "look")
    quadric(*arguments, "--top", 2, "--density")
    Path("look/notes.txt").write_text("mine")
    status, _, error = quadric(*arguments, "--top", 2, "--seed", 1)
    assert status == 1
    assert error.startswith("error: look holds an inspection of something else (weights ")
    assert error.endswith("seed 0, now 1). Name another directory, or add --overwrite.")
    assert quadric(*arguments, "--top", 2, "--seed", 1, "--overwrite")[0] == 0
    assert lines("look")[0]["facts"]["seed"] == 1
    assert {path.name for path in Path("look").rglob("*") if path.is_file()} == {
        *("records.jsonl", "report.html", "eigenvalues.png", "ggn-top-k2-tol0.0001.npz", "notes.txt")
    }


def test_comparisons_and_inspections_do_not_mix(quadric, code):
    quadric("inspect", *BASE, "--top", 2, "--curvature", "ggn", "--out", "look")
    compare = (
        "compare",
        "--problem",
        "digits-mlp",
        "--optimizers",
        "sgd",
        "--epochs",
        1,
        "--seeds",
        1,
        "--out",
        "look",
    )
    status, _, error = quadric(*compare)
    assert (status, error) == (1, "error: look holds another run. Name another directory, or add --overwrite.")
    assert quadric(*compare, "--overwrite")[0] == 0
    assert not list(Path("look/results").glob("*"))
    status, _, error = quadric("inspect", *BASE, "--top", 2, "--curvature", "ggn", "--out", "look")
    assert (status, error) == (1, "error: look holds another run. Name another directory, or add --overwrite.")


def test_data_that_changed_meanwhile_are_noticed(quadric, code, monkeypatch):
    arguments = ("inspect", *BASE, "--data", "ownproblem:doubling", "--curvature", "ggn", "--out", "look", "--top")
    quadric(*arguments, 2)
    monkeypatch.setattr(code.Doubling, "scale", 2.0)
    status, _, error = quadric(*arguments, 3)
    assert status == 1
    assert "examples when this inspection began, and is" in error
    assert "model code or data have changed. Name another directory, or add --overwrite." in error
    status, _, error = quadric(*arguments, 2)  # all parts are there
    assert status == 1
    assert "model code or data have changed" in error
    monkeypatch.setattr(code.Doubling, "scale", 1.0)
    with monkeypatch.context() as patched:
        patched.setattr(code.Net, "forward", lambda self, x: float("nan") * self.layers(x))
        assert "and is nan over 30 now" in quadric(*arguments, 2)[2]
    monkeypatch.setattr(code.Doubling, "__iter__", lambda self: iter([(code.x[:29], code.y[:29])]))
    assert "is 0." in quadric(*arguments, 2)[2]
    monkeypatch.setattr(code.Net, "forward", lambda self, x: x.nothing)
    status, _, error = quadric(*arguments, 2)
    assert status == 1
    assert error.startswith("error: The model or its loss failed on the data: ")


def test_a_plane_goes_with_the_eigenvectors_it_lies_along(quadric, code):
    base = ("inspect", *BASE, "--curvature", "ggn", "--slices", "--points", 3, "--out", "look")

    def shape():
        return result("look", "ggn-plane-eigenvectors", SlicePlane).slice.losses.shape

    assert quadric(*base, "--top", 1)[0] == 0
    assert shape() == (3,)
    assert quadric(*base, "--top", 5)[0] == 0
    assert quadric(*base, "--top", 5, "--tol", 1e-8)[0] == 0
    assert quadric(*base)[0] == 0
    names = [line["part"] for line in lines("look") if line["kind"] == "finding"]
    assert names.count("ggn-plane-eigenvectors") == names.count("ggn-top") == 3
    assert names.count("ggn-plane-random") == 1


def test_report_redraws_an_inspection(quadric, code):
    _, shown, _ = quadric("inspect", *BASE, "--top", 3, "--slices", "--points", 3, "--out", "look")
    report = Path("look/report.html")
    before = report.read_bytes()
    report.unlink()
    status, output, _ = quadric("report", "look")
    assert status == 0
    assert shown.endswith(output)
    assert report.read_bytes() == before


def test_dropout_in_train_mode_is_said_to_be_one_mask(quadric, code):
    arguments = ("inspect", *BASE, "--model", "ownproblem:dropping", "--top", 2, "--curvature", "ggn")
    assert "random numbers" not in quadric(*arguments, "--out", "eval")[1]
    _, output, _ = quadric(*arguments, "--train", "--out", "train")
    assert "one dropout mask, that of seed 0" in " ".join(output.split())
    assert "one dropout mask" in Path("train/report.html").read_text()
    assert lines("train")[0]["facts"]["mode"] == "train"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--problem", "digits-mlp"], "a named problem has its own model, loss and data"),
        (["--curvature", "hesian"], "Unknown curvature 'hesian'. Did you mean 'hessian'?"),
        (["--curvature", "ggn,ggn"], "Expected different names, got 'ggn,ggn'"),
        (["--loss", "crossentropy"], "Unknown loss 'crossentropy'. Did you mean 'cross_entropy'?"),
        (["--key", "ema"], "is about --checkpoint, which is missing"),
        (["--points", "4"], "Expected an odd number, got 4"),
        (["--lr", "0"], "Expected a learning rate > 0, got 0.0"),
        (["--momentum", "1"], "Expected a momentum from 0 to below 1, got 1.0"),
        (["--tol", "0"], "Expected a tolerance between 0 and 1, got 0.0"),
        (["--top", "0"], "Invalid value for '--top'"),
        (["--data-dir", "here"], "is for named problems"),
        (["--device", "toaster"], "'toaster' cannot be used here"),
    ],
)
@pytest.mark.usefixtures("code")
def test_bad_usage_exits_with_2_and_writes_nothing(quadric, arguments, message):
    status, _, error = quadric("inspect", *BASE, "--out", "look", *arguments)
    assert status == 2
    assert message in error
    assert not Path("look").exists()


def test_a_subject_has_to_be_given(quadric, tmp_path):
    status, _, error = quadric("inspect", "--model", "a:b", "--out", tmp_path / "look")
    assert status == 2
    assert "give --problem, or --model and --data" in error
    status, _, error = quadric("inspect", "--problem", "digits-mpl", "--out", tmp_path / "look")
    assert status == 2
    assert "Did you mean 'digits-mlp'" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "ownproblem:mak"], "ownproblem has no 'mak' (ownproblem:mak). Did you mean make"),
        (["--model", "ownproblm:make"], "There is no module ownproblm"),
        (["--model", "ownproblem:broken"], "ownproblem:broken failed: KeyError: 'nothing'"),
        (["--model", "ownproblem:three"], "Expected ownproblem:three to be a torch Module or a quadric Objective"),
        (["--model", "ownproblem:lost"], "The model or its loss failed on the data: "),
        (["--data", "ownproblem:once"], "Expected data that can be iterated again, got an iterator"),
        (["--data", "ownproblem:three"], "Expected a batch (inputs, targets), got int"),
        (["--data", "ownproblem:Changing"], "The data differ from one reading to the next"),
        (["--top", 24], "--top 24: ownproblem:make has only 23 parameters, and so as many eigenvalues"),
        (["--params", "layers.9.*"], "No parameter matches 'layers.9.*'"),
        (["--loss", "model", "--curvature", "ggn"], "The model returns its own loss, so there is no"),
        (["--checkpoint", "gone.pt"], "There is no checkpoint gone.pt"),
    ],
)
@pytest.mark.usefixtures("code")
def test_what_cannot_be_inspected_is_one_line_and_writes_nothing(quadric, arguments, message):
    status, _, error = quadric("inspect", *BASE, "--out", "look", *arguments)
    assert status == 1
    assert error.startswith("error: ")
    assert message in error
    assert not Path("look").exists()


def test_weights_that_are_not_finite_are_named(quadric, code):
    state = code.make().state_dict()
    state["layers.3.bias"][0] = float("nan")
    torch.save(state, "nan.pt")
    status, _, error = quadric("inspect", *BASE, "--checkpoint", "nan.pt", "--out", "look")
    assert status == 1
    assert error == (
        "error: Parameter 'layers.3.bias' (from nan.pt) holds NaN or infinity: there is no curvature to speak of."
    )


def test_a_model_without_a_loss_is_refused(quadric, code):
    status, _, error = quadric("inspect", "--model", "ownproblem:make", "--data", "ownproblem:loader", "--out", "look")
    assert (status, error) == (1, "error: ownproblem:make is a Net, which needs a loss: give --loss.")


def test_more_vectors_than_the_memory_holds_are_refused_before_anything_runs(quadric, code, monkeypatch):
    monkeypatch.setattr("quadric.bench.inspection.cost.memory_limit", lambda device: 4_000)
    status, _, error = quadric("inspect", *BASE, "--top", 20, "--out", "look")
    assert status == 1
    assert "with n = 23 parameters this keeps about 138 vectors of n numbers, 25.4 kB" in error
    assert "the memory is 4 kB in all. Ask for fewer eigenvalues (--top), or look at fewer parameters" in error


def test_out_of_memory_has_advice(quadric, code, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(parts, "eigsh", full)
    status, _, error = quadric("inspect", *BASE, "--top", 2, "--out", "look")
    assert status == 1
    assert error == "error: Out of memory (CUDA out of memory). Split batches with --microbatch, or use less of --top."
