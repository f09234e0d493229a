"""Distil a dual encoder's embeddings into a smaller one; writes an open_clip folder, evaluated zero-shot as it goes.

Without --data: the embedded benchmark with its own teacher, and a student of half its size that inherits from it. With
--data of your own the defaults are TinyCLIP's recipe: add --data DATA to --help to see them. Without --zero-shot the
last step's model is kept.

    accelerate launch scripts/distill_embeddings.py
    accelerate launch scripts/distill_embeddings.py --teacher ViT-B-16 --pretrained openai --student ViT-S-16 \\
        --data 'shards/{000..099}.tar' --zero-shot imagenet/val --batch-size 1024
    accelerate launch scripts/distill_embeddings.py compress --teacher ViT-B-32 --pretrained openai --data shards.tar \\
        --shares 0.75 0.5 0.25 --learned-masks --zero-shot imagenet/val
    accelerate launch scripts/distill_embeddings.py reinforced --student MobileCLIP-S1 --data shards.tar \\
        --reinforced runs/reinforced --zero-shot imagenet/val  # see reinforce_dataset.py; no teacher is loaded
    accelerate launch scripts/distill_embeddings.py dime-fm --freeze text --teacher ViT-L-14 \\
        --pretrained openai --student ViT-B-32 --images photos --sentences 'sentences/*.txt' --zero-shot imagenet/val \\
        --source store --crop 0.5 1.0  # the text tower is the teacher's
"""

from tasks.command_line import command
from tasks.embeddings.subcommands import parse_command


@command
def main(arguments: list[str]) -> None:
    asked = parse_command(arguments, __doc__)
    from tasks.embeddings.run import run  # after --help, which needs no torch

    run(asked)


if __name__ == "__main__":
    main()
