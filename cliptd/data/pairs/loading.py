"""Open image–text pairs of any format by random access."""

from pathlib import Path

from cliptd.data.map_style import MapStyle
from cliptd.data.pairs.csv_pairs import CsvPairs
from cliptd.data.pairs.folder_pairs import FolderPairs
from cliptd.data.pairs.pair import IMAGE_SUFFIXES, OnBadSample, Pair
from cliptd.data.pairs.table_pairs import TablePairs, is_table
from cliptd.data.pairs.tar_pairs import TarPairs, shards_of


def load_pairs(
    source: str | Path,
    *,
    image_column: str = "filepath",
    text_column: str = "title",
    separator: str | None = None,
    on_bad_sample: OnBadSample = "raise",
) -> MapStyle[Pair]:
    """Return a map-style dataset of the pairs of `source`. Its images are functions that open them.

    Args:
        source: one of these:
            - webdataset shards, such as "data/{000..099}.tar", a .tar or a folder of them;
            - a .csv or .tsv with a column of image paths and one of texts, as open_clip_train takes it;
            - a folder of images, each with a .txt of its name beside it;
            - a folder that `datasets.Dataset.save_to_disk` wrote, a .parquet file or a folder of them.
        image_column: the column of a CSV or table that holds the images.
        text_column: the column of a CSV or table that holds the texts, or the key in a shard's .json if a sample has
            no .txt.
        separator: the separator of a CSV. None: a tab for .tsv, else a comma.
        on_bad_sample: "raise" at a bad line or sample, or "skip" it and list it in `skipped`. Images are not opened
            here.

    Raises:
        FileNotFoundError, ValueError: the message names the file, what was found and what was expected.
    """
    text = str(source)
    if Path(source).is_dir() and any(Path(source).glob("*.tar")):
        if any(file.suffix.lower() in IMAGE_SUFFIXES for file in Path(source).iterdir()):
            raise ValueError(
                f"{source}: holds shards and images; give {source}/*.tar, or another folder for one of them"
            )
        text = f"{source}/*.tar"
    if text.endswith((".csv", ".tsv")):
        separator = separator or ("\t" if text.endswith(".tsv") else ",")
        return CsvPairs(source, image_column, text_column, separator=separator, on_bad_sample=on_bad_sample)
    if text.endswith(".tar") or text.endswith((".tar.gz", ".tgz")):
        return TarPairs(shards_of(text), text_column=text_column, on_bad_sample=on_bad_sample)
    if is_table(Path(source)):
        return TablePairs(source, image_column, text_column)
    if Path(source).is_dir():
        return FolderPairs(source, on_bad_sample=on_bad_sample)
    raise FileNotFoundError(
        f"{source} is not a data set of image–text pairs; expected shards (.tar), a .csv or .tsv, a folder of images "
        "with a .txt each, a folder of datasets.Dataset.save_to_disk or .parquet files"
    )
