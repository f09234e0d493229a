"""The opening of reinforced shards that a user names."""

from pathlib import Path

from cliptd.data.pairs.pair import OnBadSample
from cliptd.data.pairs.tar_pairs import shards_of
from cliptd.reinforcement.dataset import BAD, CARD, DATACOMP_DR, ReinforcedDataset
from cliptd.reinforcement.public_layout import ReinforcedTars


def load_reinforced(
    source: str | Path, *, pictures: Path | None = None, on_bad_sample: OnBadSample = "raise"
) -> ReinforcedDataset:
    """Open reinforced shards of the public layout, public ones or those that reinforce_dataset.py wrote.

    A dataset of the compact layout opens as `cliptd.reinforcement.compact_layout.ReinforcedStore`.

    Args:
        source: a pattern of shards ("data/{000..099}.tar"), or a folder of them.
        pictures: a folder with KEY.jpg and KEY.txt, for public shards, which hold no images and texts.
        on_bad_sample: "raise" at a sample that lacks something, or "skip" it and list it in `skipped`.

    Raises:
        FileNotFoundError, ValueError: the message names the file, what was found and what to do.
    """
    folder = Path(source)
    if (folder / CARD).exists() and not list(folder.glob("*.tar")):
        raise ValueError(
            f"{folder} is what reinforce_dataset.py wrote beside its data; give it as reinforced, and as data what it "
            "was made of"
        )
    shards = shards_of(f"{folder}/*.tar" if folder.is_dir() else str(source))
    beside = shards[0].parent
    ours = (beside / CARD).exists()
    if ours and not (beside / BAD).exists():
        raise ValueError(
            f"{beside}: lacks {BAD}, which reinforce_dataset.py writes when all shards are there; run it again with "
            "the same arguments, or copy that file too"
        )
    card = None if ours else DATACOMP_DR
    return ReinforcedTars(shards, card, pictures=pictures, on_bad_sample=on_bad_sample)
