"""Training with Hugging Face Accelerate: mixed precision and devices are its, the step is quadric's.

`prepare` everything, make the objective from the prepared model, and hand closures to the prepared optimiser. It gives
nothing back, so what the step did is read off the optimiser inside. Several batches make one step as
`objective.on(batch1, batch2)`, in place of `accelerator.accumulate`. One process: gradients are not exchanged.
"""

import torch
from accelerate import Accelerator
from torch import nn

import quadric
from quadric.optim import CurveBall


def clusters(n=512):
    """Points in ten clusters."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(10, 20, generator=generator)
    t = torch.randint(0, 10, (n,), generator=generator)
    return torch.utils.data.TensorDataset(centres[t] + torch.randn(n, 20, generator=generator), t)


def main():
    """Three epochs in bfloat16."""
    torch.manual_seed(0)
    accelerator = Accelerator(mixed_precision="bf16", cpu=True)
    model = nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 10))
    optimizer = CurveBall(model.parameters())
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=24)
    loader = torch.utils.data.DataLoader(clusters(), batch_size=64, shuffle=True)
    model, optimizer, scheduler, loader = accelerator.prepare(model, optimizer, scheduler, loader)
    objective = quadric.Objective(model, nn.CrossEntropyLoss())
    for epoch in range(3):
        for batch in loader:
            optimizer.step(objective.on(batch))
            scheduler.step()
        numbers = optimizer.optimizer.last_step.numbers()
        accelerator.log(numbers)
        print(f"epoch {epoch}: " + ", ".join(f"{name} {value:.3g}" for name, value in numbers.items()))
    print(f"loss on all data: {objective.evaluate(loader):.3f}")


if __name__ == "__main__":
    main()
