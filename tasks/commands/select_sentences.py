"""Select the visually grounded sentences of a large text file, for DIME-FM: those near to some of your images.

After a kill the same command goes on. With another --keep the teacher is not asked again.

    accelerate launch scripts/select_sentences.py --sentences 'corpus/*.txt.gz' --images photos --keep 20000000 \\
        --teacher ViT-L-14 --pretrained openai --out runs/grounded
    accelerate launch scripts/distill_embeddings.py dime-fm --images photos --sentences runs/grounded/sentences.txt ...
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cliptd.teachers.precision import Precision
from cliptd.unpaired.config import SentenceSelection
from cliptd.utils.options import shown_default
from tasks.command_line import as_started, command, parse_options


@dataclass(kw_only=True)
class SelectSentences(SentenceSelection):
    """Which sentences, by which images, and by which teacher."""

    sentences: str
    """Text files with a sentence a line ('corpus/*.txt.gz'), or shards."""
    text_column: str = "caption"
    """Key of the text in a shard's .json if a sample has no .txt."""
    images: str
    """A folder or shards ('data/{000..099}.tar')."""
    teacher: str
    """The name of an open_clip model, the path of an open_clip folder, or hf: and the id or folder of a transformers
    CLIP. Several joined by commas are an ensemble."""
    pretrained: Annotated[str | None, shown_default("none")] = None
    """open_clip's tag of the teacher's weights."""
    precision: Precision = "fp32"
    """Numbers that the teacher computes with."""
    out: Path
    """Folder of sentences.txt and of the scores."""


@command
def main(arguments: list[str]) -> None:
    asked = parse_options(SelectSentences, arguments, description=__doc__)
    from accelerate import Accelerator

    from cliptd.teachers import load_teacher
    from cliptd.training.acceleration import LONG_TIMEOUT
    from cliptd.unpaired.images_and_sentences import load_images, load_sentences
    from cliptd.unpaired.sentence_selection import SELECTED, select_sentences
    from cliptd.utils.tables import print_table

    accelerator = Accelerator(kwargs_handlers=[LONG_TIMEOUT])
    sentences = load_sentences(
        asked.sentences, text_column=asked.text_column, on_bad_sample=asked.on_bad_sample
    )
    images = load_images(asked.images, on_bad_sample=asked.on_bad_sample)
    teacher = load_teacher(
        asked.teacher, asked.pretrained, device=accelerator.device, precision=asked.precision
    )
    found = select_sentences(sentences, images, teacher, asked, asked.out, accelerator=accelerator)
    if accelerator.is_main_process:
        print_table([found], title="cosines to the nearest images")
        print(f"{found['selected']:,} of {found['distinct']:,} distinct sentences are selected.")
        print(f"Sentences: {(asked.out / SELECTED).resolve()}")
        print(as_started(f"Next: {_next(asked, asked.out / SELECTED)}"))


def _next(asked: SelectSentences, sentences: Path) -> str:
    """Return the command that trains a student on the selected sentences."""
    words = ["--images", asked.images, "--sentences", str(sentences), "--teacher", asked.teacher]
    words += ["--pretrained", asked.pretrained] if asked.pretrained else []
    return f"accelerate launch scripts/distill_embeddings.py dime-fm {shlex.join(words)}"


if __name__ == "__main__":
    main()
