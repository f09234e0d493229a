"""Fine-tune a vision-language model on SNLI-VE, with CLIP-targeted distillation.

Without --data-root: the embedded benchmark with its own student and teacher, minutes on a CPU.

    accelerate launch scripts/finetune_snli_ve.py
    accelerate launch scripts/finetune_snli_ve.py --data-root snli_ve --student dandelin/vilt-b32-mlm \\
        --teacher ViT-L-14 --pretrained openai --fraction 0.01 --seed 0
"""

from accelerate import PartialState

from tasks.finetuning.finetune import finetune
from tasks.finetuning.results import report
from tasks.iconworld.defaults import from_command_line, snli_ve_root, snli_ve_settings
from tasks.snli_ve.task import SnliVeTask


def main() -> None:
    settings = from_command_line(snli_ve_settings(), snli_ve_root, __doc__)
    rows = finetune(settings, SnliVeTask)
    if PartialState().is_main_process:
        report(settings, rows)


if __name__ == "__main__":
    main()
