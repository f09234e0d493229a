"""Pairs that the hypothesis alone gives away, and those that it does not."""

import json

import pytest

from tasks.snli_ve.hard import HypothesisModel, main, write_hard


def line(number, text, label):
    return {"pairID": f"p{number}", "Flickr30K_ID": "1", "sentence2": text, "gold_label": label}


def write(path, lines):
    path.write_text("".join(json.dumps(item) + "\n" for item in lines))
    return path


TRAIN = [
    line(n, text, label)
    for n, (text, label) in enumerate(
        [
            ("Nobody is outside.", "contradiction"),
            ("She wants it.", "neutral"),
            ("There are people.", "entailment"),
        ]
        * 20
    )
]


@pytest.fixture
def files(tmp_path):
    annotations = [
        line(0, "nobody is here", "contradiction"),  # given away by "nobody"
        line(1, "There are dogs.", "entailment"),
        line(2, "There are cats.", "contradiction"),  # not given away
        line(3, "He wants it.", "neutral"),
        line(4, "nobody cares", "-"),
        line(5, "Nobody is inside.", "entailment"),
    ]
    return (
        write(tmp_path / "train.jsonl", TRAIN),
        write(tmp_path / "dev.jsonl", annotations),
        tmp_path / "hard.jsonl",
    )


def test_what_a_model_of_the_text_gets_wrong_is_kept_as_it_is(files, capsys):
    train, annotations, out = files
    main(["--train", str(train), "--annotations", str(annotations), "--out", str(out)])
    assert json.loads(capsys.readouterr().out) == {
        "pairs": 5, "without_label": 1, "kept": 2, "accuracy_of_the_hypothesis_alone": 60.0,
    }  # fmt: skip
    kept = [json.loads(text) for text in out.read_text().splitlines()]
    everything = [json.loads(text) for text in annotations.read_text().splitlines()]
    assert kept == [everything[2], everything[5]]


def test_the_same_files_and_seed_keep_the_same_pairs(files, tmp_path):
    train, annotations, out = files
    write_hard(train, annotations, out)
    write_hard(train, annotations, tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == out.read_bytes()


def test_corrected_labels_are_learned_and_judged(files, tmp_path, capsys):
    train, annotations, out = files
    corrections = tmp_path / "corrected.csv"
    rows = [f"p{n},{'entailment' if n % 3 == 0 else 'contradiction'}" for n in range(6, 60) if n % 3 != 1]
    corrections.write_text("\n".join(["pairID,gold_label", *rows, "p4,contradiction", "p5,contradiction"]))
    options = {
        "--train": train,
        "--annotations": annotations,
        "--out": out,
        "--corrected-labels": corrections,
    }
    main([str(part) for option in options.items() for part in option])
    found = json.loads(capsys.readouterr().out)
    assert (found["pairs"], found["without_label"]) == (6, 0)  # the "-" pair has a label now
    # "nobody" now means entailment and "there are" contradiction, for which two pairs of the file are labelled
    kept = [json.loads(text)["pairID"] for text in out.read_text().splitlines()]
    assert kept == ["p0", "p1", "p4", "p5"]


def test_bad_lines_are_named_or_left_out(files):
    train, annotations, out = files
    expected = write_hard(train, annotations, out)
    hard = out.read_text()
    for path in (train, annotations):
        whole = path.read_text()
        path.write_text('{"pairID": "cut off\n' + whole)
        with pytest.raises(ValueError, match=rf"{path.name}:1: not JSON"):
            write_hard(train, annotations, out)
        with pytest.warns(UserWarning, match=rf"{path.name}: 1 lines skipped; the first: .*:1: not JSON"):
            assert write_hard(train, annotations, out, on_bad_sample="skip") == expected
        assert out.read_text() == hard
        path.write_text(whole)


def test_bad_input_is_named(files):
    train, annotations, out = files
    with pytest.raises(ValueError, match="0 hypotheses and 0 labels; expected as many, at least one"):
        HypothesisModel([], [])
    unlabelled = write(out.with_name("unlabelled.jsonl"), [line(0, "a", "-")])
    with pytest.raises(ValueError, match=r"unlabelled\.jsonl: no pair has a label"):
        write_hard(train, unlabelled, out)
    write(annotations, [{"pairID": "x", "Flickr30K_ID": "1", "sentence2": "a"}])
    with pytest.raises(ValueError, match=r"dev\.jsonl:1: no gold_label"):
        write_hard(train, annotations, out)
    assert not out.exists()
