"""Fine-tune a vision-language model on Visual Commonsense Reasoning, with CLIP-targeted distillation.

Without --data-root: the embedded benchmark with its own student and teacher, minutes on a CPU.

    accelerate launch scripts/finetune_vcr.py
    accelerate launch scripts/finetune_vcr.py --data-root vcr1 --student dandelin/vilt-b32-mlm \
        --teacher ViT-L-14 --pretrained openai --fraction 0.01 --seed 0
"""

from accelerate import PartialState

from tasks.finetuning.finetune import finetune
from tasks.finetuning.results import report
from tasks.iconworld.defaults import from_command_line, vcr_root, vcr_settings
from tasks.vcr.task import VcrTask


def main() -> None:
    settings = from_command_line(vcr_settings(), vcr_root, __doc__)
    rows = finetune(settings, VcrTask)
    if PartialState().is_main_process:
        report(settings, rows)


if __name__ == "__main__":
    main()
