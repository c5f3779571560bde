"""Training with Lightning: the loop, precision, checkpoints and loggers are its, the step is quadric's.

Lightning's automatic optimisation evaluates the model itself and hands on a closure that knows nothing of outputs, so
optimisation is manual, and three lines long. Schedulers are stepped by hand then, too.
"""

import tempfile
from pathlib import Path

import lightning
import torch
from torch import nn

import quadric
from quadric.optim import CurveBall


class Classifier(lightning.LightningModule):
    """A network that CurveBall trains."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.network = nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 10))
        self.objective = quadric.Objective(self.network, nn.CrossEntropyLoss())

    def configure_optimizers(self):
        """One optimiser, one schedule for its rate."""
        optimizer = CurveBall(self.objective)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=24)]

    def training_step(self, batch):
        """One step, and what it did for the logger."""
        optimizer = self.optimizers()
        optimizer.step(self.objective.on(batch))
        self.lr_schedulers().step()
        self.log_dict(optimizer.last_step.numbers())


def clusters(n=512):
    """Points in ten clusters."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(10, 20, generator=generator)
    t = torch.randint(0, 10, (n,), generator=generator)
    return torch.utils.data.TensorDataset(centres[t] + torch.randn(n, 20, generator=generator), t)


def main():
    """Three epochs in bfloat16, one more from the checkpoint."""
    lightning.seed_everything(0, verbose=False)
    data = clusters()
    loader = torch.utils.data.DataLoader(data, batch_size=64, shuffle=True)
    options = {"precision": "bf16-mixed", "accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    options.update(enable_progress_bar=False, enable_model_summary=False)
    model, again = Classifier(), Classifier()
    trainer = lightning.Trainer(max_epochs=3, **options)
    trainer.fit(model, loader)
    print(", ".join(f"{name} {value:.3g}" for name, value in trainer.logged_metrics.items()))
    print(f"{trainer.global_step} steps, loss on all data {model.objective.evaluate(data[:]):.3f}")
    with tempfile.TemporaryDirectory() as folder:
        trainer.save_checkpoint(Path(folder) / "classifier.ckpt")
        trainer = lightning.Trainer(max_epochs=4, **options)
        trainer.fit(again, loader, ckpt_path=Path(folder) / "classifier.ckpt")
    print(f"{trainer.global_step} steps, loss on all data {again.objective.evaluate(data[:]):.3f}")


if __name__ == "__main__":
    main()
