"""ONE accelerate loop for every recipe: stateless sampler and seeds, exact resume, no pickle."""

from cliptd.training.acceleration import make_accelerator
from cliptd.training.config import TrainingConfig
from cliptd.training.log import read_log
from cliptd.training.loop import TrainingResult, train

__all__ = ["TrainingConfig", "TrainingResult", "make_accelerator", "read_log", "train"]
