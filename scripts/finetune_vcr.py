"""Fine-tune a vision-language model on Visual Commonsense Reasoning, with CLIP-targeted distillation.

Without --data-root: the embedded benchmark with its own student and teacher, minutes on a CPU.

    accelerate launch scripts/finetune_vcr.py
    accelerate launch scripts/finetune_vcr.py --data-root vcr1 --student dandelin/vilt-b32-mlm \
        --teacher ViT-L-14 --pretrained openai --fraction 0.01 --seed 0
"""

import dataclasses
import sys

import tyro
from accelerate import PartialState

from tasks.iconworld.defaults import vcr_root, vcr_settings
from tasks.vcr.finetune import FinetuneVcr, finetune
from tasks.vcr.results import report


def main() -> None:
    own_data = any(argument.split("=")[0] in ("--data-root", "--data_root") for argument in sys.argv)
    settings = tyro.cli(FinetuneVcr, default=None if own_data else vcr_settings(), description=__doc__)
    if not own_data:
        with PartialState().main_process_first():
            settings = dataclasses.replace(settings, data_root=vcr_root())
    rows = finetune(settings)
    if PartialState().is_main_process:
        report(settings, rows)


if __name__ == "__main__":
    main()
