"""Text that is not UTF-8 is named with its line, in every kind of text file."""

import gzip

import pandas as pd
import pytest
from PIL import Image

from cliptd.data.files.text_files import csv_rows, read_text
from cliptd.data.pairs.loading import load_pairs
from cliptd.evaluation.zero_shot import read_templates
from cliptd.unpaired.images_and_sentences import load_sentences
from tasks.snli_ve.data import read_corrected_labels
from tasks.vcr.metric import LEADERBOARD_COLUMNS, read_leaderboard

LATIN = "a dog\na café\n".encode("latin-1")


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa dog")
    assert read_text(tmp_path / "a.txt") == "a dog"


@pytest.mark.parametrize("read", [read_text, read_templates, load_sentences])
def test_the_line_that_is_no_utf8_is_named(read, tmp_path):
    (tmp_path / "a.txt").write_bytes(LATIN)
    with pytest.raises(ValueError, match=r"a\.txt:2|a\.txt: is not UTF-8 in line 2 \(byte 0xe9\)"):
        read(tmp_path / "a.txt")


def test_a_leaderboard_csv_may_begin_with_a_byte_order_mark(tmp_path):
    values = ",".join(["0.25"] * 20)
    (tmp_path / "P.csv").write_text(
        f"\ufeff{','.join(LEADERBOARD_COLUMNS)}\nval-0,{values}\n", encoding="utf-8"
    )
    assert read_leaderboard(tmp_path / "P.csv")[0] == ["val-0"]
    (tmp_path / "P.csv").write_bytes(
        f"{','.join(LEADERBOARD_COLUMNS)}\nval-\xe9,{values}\n".encode("latin-1")
    )
    with pytest.raises(ValueError, match=r"P\.csv: is not UTF-8"):
        read_leaderboard(tmp_path / "P.csv")


def test_two_corrections_of_one_pair_are_refused(tmp_path):
    (tmp_path / "new.csv").write_text("pairID,label\na,neutral\nb,neutral\na,entailment\n")
    with pytest.raises(ValueError, match=r"new\.csv:4: pairID 'a' is 'entailment' here and 'neutral' above"):
        read_corrected_labels(tmp_path / "new.csv")


def test_a_text_beside_its_image_is_named(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(LATIN)
    with pytest.raises(ValueError, match=r"a\.txt: is not UTF-8 in line 2"):
        load_pairs(tmp_path)[0]


def test_a_wrong_line_of_a_packed_corpus_is_named_and_left_out(tmp_path):
    with gzip.open(tmp_path / "a.txt.gz", "wb") as file:
        file.write(LATIN)
    with pytest.raises(
        ValueError, match=r"a\.txt\.gz:2: is not UTF-8 \(1 such\); expected one sentence per line"
    ):
        load_sentences(tmp_path / "a.txt.gz")
    lines = load_sentences(tmp_path / "a.txt.gz", on_bad_sample="skip")
    assert len(lines) == 1
    assert lines.skipped == [f"{tmp_path}/a.txt.gz:2: is not UTF-8"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b'filepath,title\na.png,"a dog\nb.png,a cat\nc.png,a bird\n',
            r"pairs\.csv:2: .*is a quote not closed",
        ),
        (b'filepath,title\na.png,"a dog\nb.png,a cat "here"\n', r"pairs\.csv:2: "),
        (b"filepath,title\na.png,a caf\xe9\n", r"pairs\.csv: is not UTF-8 after line \d; convert it"),
    ],
)
def test_a_csv_that_would_swallow_rows_is_refused(content, message, tmp_path):
    (tmp_path / "pairs.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_pairs(tmp_path / "pairs.csv")


def test_quotes_inside_a_value_are_read_as_pandas_reads_them(tmp_path):
    content = (
        'filepath\ttitle\n\na.png\t"Hello" world\nb.png\ta 5" nail\nc.png\t"two\nlines"\nd.png\t"a ""dog"""'
    )
    (tmp_path / "pairs.tsv").write_text(content)
    rows = list(csv_rows(tmp_path / "pairs.tsv", "\t"))
    assert [line for line, _ in rows] == [3, 4, 6, 7]
    assert [row["title"] for _, row in rows] == ["Hello world", 'a 5" nail', "two\nlines", 'a "dog"']
    found = pd.read_csv(tmp_path / "pairs.tsv", sep="\t")["title"].tolist()
    assert [row["title"] for _, row in rows] == found
