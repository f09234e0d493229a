"""Select the visually grounded sentences of a large text file, for DIME-FM: those near to some of your images.

Killed, the same command goes on; with another --keep the teacher is not asked again.

    accelerate launch scripts/select_sentences.py --sentences 'corpus/*.txt.gz' --images photos --keep 20000000 \\
        --teacher ViT-L-14 --pretrained openai --out runs/grounded
    accelerate launch scripts/distill_embeddings.py --objective dime-fm --images photos \\
        --sentences runs/grounded/sentences.txt ...
"""

from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator

from cliptd.teachers import load_teacher
from cliptd.training.acceleration import LONG_TIMEOUT
from cliptd.unpaired.config import SentenceSelection
from cliptd.unpaired.images_and_sentences import load_images, load_sentences
from cliptd.unpaired.sentence_selection import SELECTED, select_sentences
from cliptd.utils.tables import print_table
from tasks.command_line import command, parse_options


@dataclass(kw_only=True)
class SelectSentences(SentenceSelection):
    """Which sentences, by which images, in whose eyes."""

    sentences: str
    """Text files, a sentence a line ('corpus/*.txt.gz'), or shards."""
    text_column: str = "caption"
    """Of a shard's .json where it has no .txt."""
    images: str
    """A folder or shards ('data/{000..099}.tar')."""
    teacher: str
    """An open_clip name or folder, or hf: and the id or folder of a transformers CLIP; several joined by commas are an
    ensemble."""
    pretrained: str | None = None
    """open_clip's tag of the teacher's weights."""
    precision: str = "fp32"
    """Of the teacher: fp32, fp16 or bf16."""
    out: Path
    """Folder of sentences.txt and of the scores."""


@command
def main(arguments: list[str]) -> None:
    asked = parse_options(SelectSentences, arguments, description=__doc__)
    accelerator = Accelerator(kwargs_handlers=[LONG_TIMEOUT])
    bad = {"on_bad_sample": asked.on_bad_sample}
    sentences = load_sentences(asked.sentences, text_column=asked.text_column, **bad)
    images = load_images(asked.images, **bad)
    teacher = load_teacher(
        asked.teacher, asked.pretrained, device=accelerator.device, precision=asked.precision
    )
    found = select_sentences(sentences, images, teacher, asked, asked.out, accelerator=accelerator)
    if accelerator.is_main_process:
        print_table([found], title="cosines to the nearest images")
        print(f"Sentences: {(asked.out / SELECTED).resolve()}")


if __name__ == "__main__":
    main()
