"""Fine-tune a vision-language model on VQA v2 or VQA-CP, with CLIP-targeted distillation.

Without --data-root: the embedded benchmark with its own student and teacher, minutes on a CPU.

    accelerate launch scripts/finetune_vqa.py
    accelerate launch scripts/finetune_vqa.py --data-root vqa --student dandelin/vilt-b32-mlm \\
        --teacher ViT-L-14 --pretrained openai --fraction 0.01 --seed 0
"""

from accelerate import PartialState

from tasks.finetuning.finetune import finetune
from tasks.finetuning.results import report
from tasks.iconworld.defaults import from_command_line, vqa_root, vqa_settings
from tasks.vqa.task import VqaTask


def main() -> None:
    settings = from_command_line(vqa_settings(), vqa_root, __doc__)
    rows = finetune(settings, VqaTask)
    if PartialState().is_main_process:
        report(settings, rows)


if __name__ == "__main__":
    main()
