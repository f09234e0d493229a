"""Tables of one's own become official files that the reader takes."""

import json

import pytest
from PIL import Image

from tasks.vqa.convert import main, read_table, write_official
from tasks.vqa.data import VqaDataset

pytestmark = pytest.mark.usefixtures("own_cache")
ROWS = [
    {"image": "a.png", "question": "What is this?", "answer": "a dog"},
    {"image": "b.png", "question": "How many dogs are there?", "answer": 3},
    {"image": "a.png", "question": "Is it red?", "answer": ["yes"] * 7 + ["no"] * 3},
]


@pytest.fixture
def pictures(tmp_path):
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.new("RGB", (10, 8), colour).save(tmp_path / "pictures" / name)
    return tmp_path / "pictures"


def test_rows_become_questions_with_ten_annotators(pictures, tmp_path):
    assert write_official(ROWS, pictures, tmp_path / "out") == {"questions": 3, "images": 2}
    dataset = VqaDataset.from_root(tmp_path / "out", "train")
    assert dataset.column("question") == [row["question"] for row in ROWS]
    assert dataset.column("question_type") == ["what is", "how many", "is it"]
    assert dataset.column("answer_type") == ["other", "number", "yes/no"]
    assert dataset.column("answer") == ["a dog", "3", "yes"]
    assert dataset[1].answers == ("3",) * 10
    assert dataset[2].answers == ("yes",) * 7 + ("no",) * 3
    assert [dataset[k].image().getpixel((0, 0)) for k in range(3)] == [(255, 0, 0), (0, 0, 255), (255, 0, 0)]
    assert dataset[0].image_key == dataset[2].image_key


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_the_command_takes_tables_by_their_columns(suffix, pictures, tmp_path, capsys):
    table = tmp_path / f"table{suffix}"
    if suffix == ".jsonl":
        table.write_text(json.dumps({"file": "a.png", "q": "What, then?", "a": "dog", "kind": "what"}) + "\n")
    else:
        mark = "," if suffix == ".csv" else "\t"
        table.write_text(
            mark.join(["file", "q", "a", "kind"])
            + "\n"
            + mark.join(["a.png", '"What, then?"', "dog", "what"])
            + "\n"
        )
    names = ["--table", table, "--images", pictures, "--out", tmp_path / "out", "--split", "val"]
    main([*map(str, names), "--image", "file", "--question", "q", "--answer", "a", "--question-type", "kind"])
    assert json.loads(capsys.readouterr().out) == {"questions": 1, "images": 1}
    example = VqaDataset.from_root(tmp_path / "out", "val")[0]
    assert (example.question, example.answer, example.question_type) == ("What, then?", "dog", "what")


def test_pictures_in_the_table_are_saved(tmp_path):
    pictures = [((10, 8), "green"), ((8, 10), "green"), ((10, 8), "green"), ((10, 8), "red")]
    rows = [
        {"image": Image.new("RGB", size, colour), "question": "What?", "answer": "leaf"}
        for size, colour in pictures
    ]
    assert write_official(rows, tmp_path, tmp_path / "out") == {"questions": 4, "images": 3}
    dataset = VqaDataset.from_root(tmp_path / "out", "train")
    assert dataset.column("image_id") == [1, 2, 1, 3]  # so that no picture is in training and in validation
    assert [dataset[k].image().size for k in range(4)] == [size for size, _ in pictures]


def test_a_users_picture_that_was_linked_before_is_not_written_over(pictures, tmp_path):
    before = (pictures / "a.png").read_bytes()
    write_official(ROWS[:1], pictures, tmp_path / "out")
    rows = [{"image": Image.new("RGB", (4, 4)), "question": "What?", "answer": "leaf"}]
    write_official(rows, tmp_path, tmp_path / "out")
    assert (pictures / "a.png").read_bytes() == before
    assert VqaDataset.from_root(tmp_path / "out", "train")[0].image().size == (4, 4)


def test_a_test_split_needs_no_answers(pictures, tmp_path):
    write_official([{"image": "a.png", "question": "What?"}], pictures, tmp_path / "out", "test")
    assert VqaDataset.from_root(tmp_path / "out", "test")[0].answers is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"image": "a.png", "answer": "dog"},
            "row 2: question is None, expected a text; the row has image, answer",
        ),
        ({"image": "c.png", "question": "What?", "answer": "dog"}, r"row 2: image .*c\.png does not exist"),
        ({"image": 3, "question": "What?", "answer": "dog"}, "row 2: image is 3, expected a file name"),
        (
            {"image": "a.png", "question": "What?", "answer": ""},
            "row 2: answer is '', expected an answer or a list",
        ),
        (
            {"image": "a.png", "question": "What?", "answer": float("nan")},
            "row 2: answer is nan, expected an answer or a list",
        ),
        (
            {"image": "a.png", "question": "What?", "answer": ["dog", float("nan")]},
            r"row 2: answer is \['dog', nan\], expected an answer or a list",
        ),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_left_half_written(row, message, pictures, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        write_official([ROWS[0], row], pictures, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.json"))
    with pytest.raises(ValueError, match="the table has no row"):
        write_official([], pictures, tmp_path / "out")
    with pytest.raises(ValueError, match=r"expected a \.csv, \.tsv or \.jsonl file"):
        next(read_table("table.xlsx"))
