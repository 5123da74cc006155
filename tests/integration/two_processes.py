"""What each of two processes runs in `test_two_processes_are_one_batch`: one step a reduction on its half of a batch."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from tests.trainer_kit import config, run_steps, tiny_model, with_draws


def run(family: str, folder: str, reduction: str) -> None:
    args = config(folder, reduction=reduction, per_device_train_batch_size=2, ddp_backend="gloo")
    rows = with_draws(family)[:4]
    trainer, record, _ = run_steps(tiny_model(family, 1), tiny_model(family, 2), args, rows, family)
    assert trainer.accelerator.num_processes == 2
    eval_loss = trainer.evaluate(trainer.train_dataset)["eval_loss"]
    if trainer.is_world_process_zero():
        groups = ("loss", "entropy", "length")
        logs = {name: x for name, x in trainer.state.log_history[0].items() if name.split("/")[0] in groups}
        found = {"gradients": record.gradients[0], "logs": logs, "eval_loss": eval_loss}
        torch.save(found, Path(folder) / f"{reduction}.pt")


if __name__ == "__main__":
    family, folder, *reductions = sys.argv[1:]
    for reduction in reductions:
        run(family, folder, reduction)
    # A process that ends while the other still talks to it may abort in gloo's threads.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
