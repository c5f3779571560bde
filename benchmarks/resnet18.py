"""Spectrum of a full-size network: ResNet-18 (11 million parameters) on 256 CIFAR-10 images, in time and memory.

    QUADRIC_DATA=... python benchmarks/resnet18.py
    QUADRIC_DATA=... python benchmarks/resnet18.py --images 32 --width 16 --trace 12

The five largest eigenvalues of the Hessian, to 1e-4 of the largest in magnitude, and its trace, at the network's
initial weights, batch norm in train mode. Memory is the most that the process has had resident. Writes
results/resnet18.json and results/resnet18.md.
"""

from __future__ import annotations

import argparse
import resource
from pathlib import Path
from time import perf_counter

import torch
from torch import nn

import quadric
from models import resnet18
from quadric.linalg.sampling import LEAST
from quadric.problems.data import cifar10
from records import RESULTS, header, header_text, markdown_table, write


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--tol", type=float, default=1e-4, help="of the eigenvalues, relative to the largest")
    parser.add_argument("--trace", type=int, default=30, help="products for the trace")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data-dir", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    options = parser.parse_args()
    if options.trace < LEAST:
        parser.error(f"--trace must be at least {LEAST}, or the trace has no standard error")
    torch.set_num_threads(options.threads)
    top = header(1)
    print(header_text(top), flush=True)

    data = cifar10.load(options.data_dir)
    torch.manual_seed(0)
    model = resnet18(batch_norm=True, width=options.width)
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    batch = data.split.train_inputs[: options.images], data.split.train_targets[: options.images]
    hessian = quadric.Hessian(objective, batch)

    start = perf_counter()
    torch.autograd.grad(objective.loss_at(model(batch[0]), objective.batch(batch)), objective.parameters)
    gradient = perf_counter() - start
    print(f"one gradient: {gradient:.1f} s", flush=True)
    start = perf_counter()
    found = quadric.eigsh(
        hessian, options.k, tol=options.tol, return_eigenvectors=False, progress=lambda line: print(line, flush=True)
    )
    seconds = perf_counter() - start
    print(f"eigsh: {seconds:.0f} s, {found.products} products", flush=True)
    start = perf_counter()
    total = quadric.trace(hessian, products=options.trace)
    traced = perf_counter() - start

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    result = {
        "parameters": objective.space.numel,
        "images": options.images,
        "data": data.note,
        "tol": options.tol,
        "route": hessian.routes,
        "gradient_seconds": gradient,
        "eigenvalues": found.eigenvalues.tolist(),
        "errors": found.errors.tolist(),
        "converged": bool(found.converged),
        "eigenvalue_products": found.products,
        "eigenvalue_seconds": seconds,
        "trace": total.estimate,
        "trace_standard_error": total.standard_error,
        "trace_products": options.trace,
        "trace_seconds": traced,
        "peak_gib": peak,
    }
    rows = [
        ["parameters, images", f"{objective.space.numel:,}, {options.images}"],
        ["one gradient", f"{gradient:.1f} s"],
        [f"{options.k} largest eigenvalues", ", ".join(f"{v:.4g}" for v in result["eigenvalues"])],
        ["their errors", ", ".join(f"{v:.1e}" for v in result["errors"]) + ("" if found.converged else ": not met")],
        ["their products, seconds", f"{found.products}, {seconds:.0f}"],
        ["trace", f"{total.estimate:.4g} ± {total.standard_error:.2g}"],
        ["its products, seconds", f"{options.trace}, {traced:.0f}"],
        ["peak of the process", f"{peak:.1f} GiB"],
    ]
    text = f"# ResNet-18\n\n{header_text(top)}\n\nData: {data.note} Products by {' and '.join(hessian.routes)}.\n\n"
    text += markdown_table(["", ""], rows) + "\n"
    print("\n" + text)
    for path in write(options.out, "resnet18", {"header": top, "result": result}, text):
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
