"""Open the reinforced shards that a user names."""

from pathlib import Path

from cliptd.data.pairs.pair import OnBadSample
from cliptd.data.pairs.tar_pairs import shards_of
from cliptd.reinforcement.dataset import BAD, CARD, DATACOMP_DR, ReinforcedDataset
from cliptd.reinforcement.public_layout import ReinforcedTars


def load_reinforced(
    source: str | Path, *, pictures: Path | None = None, on_bad_sample: OnBadSample = "raise"
) -> ReinforcedDataset:
    """Reinforced shards ("data/{000..099}.tar", or a folder of them) of the public layout, written by us or public.

    What lies beside the data it was made of opens as `cliptd.reinforcement.compact_layout.ReinforcedStore`.

    Args:
        pictures: a folder with KEY.jpg and KEY.txt, for public shards, which bring none.
        on_bad_sample: "raise" at a sample that is wrong, or "skip": leave it out and list it in `skipped`.

    Raises FileNotFoundError, ValueError: they name the file, what was found and what to do.
    """
    folder = Path(source)
    if (folder / CARD).exists() and not list(folder.glob("*.tar")):
        raise ValueError(
            f"{folder} is what reinforce_dataset.py wrote beside its data: give it as reinforced, and as data what it "
            "was made of"
        )
    shards = shards_of(f"{folder}/*.tar" if folder.is_dir() else str(source))
    beside = shards[0].parent
    ours = (beside / CARD).exists()
    if ours and not (beside / BAD).exists():
        raise ValueError(
            f"{beside}: lacks {BAD}, which reinforce_dataset.py writes when all shards are there; run it with the same "
            "arguments again, or copy that file, too"
        )
    card = None if ours else DATACOMP_DR
    return ReinforcedTars(shards, card, pictures=pictures, on_bad_sample=on_bad_sample)
