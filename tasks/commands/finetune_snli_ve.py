"""Fine-tune a vision-language model on SNLI-VE, with CLIP-targeted distillation.

Without --data-root: the embedded benchmark with its own student and teacher, minutes on a CPU.

    accelerate launch scripts/finetune_snli_ve.py
    accelerate launch scripts/finetune_snli_ve.py --data-root snli_ve --student dandelin/vilt-b32-mlm \\
        --teacher ViT-L-14 --pretrained openai --fraction 0.01 --seed 0
"""

from tasks.command_line import command
from tasks.known_tasks import TASKS, parse_settings


@command
def main(arguments: list[str]) -> None:
    settings = parse_settings(TASKS["snli_ve"], __doc__, arguments)
    from tasks.finetuning.run import run  # after --help, which needs no torch

    run(settings, TASKS["snli_ve"], arguments)


if __name__ == "__main__":
    main()
