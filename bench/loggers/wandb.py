"""Weights & Biases, offline."""

import os
from typing import Any

from loggers.base import METRIC, ROW, Logger, Setting

__all__ = ["WandbOffline"]


class WandbOffline(Logger):
    """``Run.log``: over a socket to a process of its own, which writes a file."""

    durability = "on its way to its own process, which writes it to a file"
    overload = "grows"
    share = 0.1
    needs = "wandb"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(setting.directory)}
        os.environ |= {"WANDB_ERROR_REPORTING": "false", "WANDB_CACHE_DIR": str(setting.directory / "cache")}
        import wandb

        self.run = wandb.init(project="peers", settings=wandb.Settings(x_disable_stats=True, console="off"))

    def metric(self, _: int) -> Any:
        """Log a metric; its steps only grow, and so count themselves."""
        key, value = METRIC
        self.run.log({key: value})

    def row(self, _: int) -> Any:
        """Log a row."""
        self.run.log(ROW)
