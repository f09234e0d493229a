"""The code blocks of README and docs: Python is run as it stands, command lines are parsed, links are followed."""

import re
from pathlib import Path

import pytest
import torch

from tasks.vqa.convert import write_official
from tasks.vqa.data import VqaDataset
from tasks.vqa.vocabulary import AnswerVocabulary
from tests.docs.blocks import PAGES, ROOT, blocks_of, check_names
from tests.docs.command_lines import check, lines_of


@pytest.fixture
def own_folder(tmp_path, monkeypatch, own_cache):
    """A folder of the test's own to work in, also for derived files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf_home"))
    torch.manual_seed(0)


def run_page(page):
    """Run the Python blocks of a page in order, in one namespace, which is returned."""
    names = {}
    for block in blocks_of(page, "python"):
        if block.only_checked:
            check_names(block.text, names)
        else:
            exec(compile(block.text, page, "exec"), names)
    return names


def pages_with(language):
    return [page for page in PAGES if blocks_of(page, language)]


@pytest.mark.parametrize("page", pages_with("python"))
def test_python_runs_as_it_stands(page, own_folder):
    run_page(page)


@pytest.mark.parametrize("page", pages_with("bash"))
def test_command_lines_are_understood(page):
    for block in blocks_of(page, "bash"):
        for words in lines_of(block.text):
            check(words)


def test_every_block_is_of_a_language_that_is_checked():
    fences = {
        (page, tongue)
        for page in PAGES
        for tongue in re.findall(r"(?m)^ *```(\w*)$", (ROOT / page).read_text())
    }
    assert {tongue for _, tongue in fences} <= {"", "python", "bash", "text", "math", "yaml"}


def test_only_blocks_that_need_the_internet_are_not_run():
    skipped = {page for page in PAGES for block in blocks_of(page, "python") if block.only_checked}
    assert skipped == {"docs/how-to/own_teacher.md"}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_that_are_there(page):
    text = re.sub(r"(?ms)^ *```.*?^ *```$", "", (ROOT / page).read_text())
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        there = Path(target).name == "commands.md" and page.startswith("docs/")  # made when the site is built
        assert there or target.startswith("https://") or ((ROOT / page).parent / target).exists(), target


def test_names_that_do_not_exist_are_found():
    with pytest.raises(ImportError):
        check_names("from cliptd import nonsense", {})
    with pytest.raises(AttributeError):
        check_names("import cliptd\ncliptd.load_teachers('a')", {})
    with pytest.raises(TypeError, match="takes no argument 'pretrain'"):
        check_names("import cliptd\ncliptd.load_teacher('a', pretrain='b')", {})
    with pytest.raises(SyntaxError):
        check_names("import cliptd as", {})


@pytest.mark.parametrize(
    "line",
    [
        "python scripts/finetune_vcr.py --nonsense 1",
        "accelerate launch scripts/finetune_vqa.py --steps many",
        "accelerate launch --nonsense scripts/finetune_vqa.py",
        "python scripts/build_store.py --task vcr --out a -- --nonsense",
        "python scripts/distill_embeddings.py --objective dime-fm --crops 3",
        "python -m tasks.vqa.metric --results a --nonsense b",
        "cliptd finetune_vcr --method none",
        "pip install -e '.[nonsense]'",
        "nonsense --help",
    ],
)
def test_command_lines_that_are_wrong_are_found(line):
    (words,) = lines_of(line)
    with pytest.raises((AssertionError, SystemExit)):
        check(words)


def test_the_first_example_distils_and_unwraps(own_folder):
    names = run_page("README.md")
    assert float(names["model"].last_terms["words"]) > 0
    assert type(names["my_model"]).__name__ == "MyModel"
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_your_own_data_set_and_model(own_folder, tmp_path):
    blocks = [block.text for block in blocks_of("docs/how-to/own_data_vqa.md", "python")]
    assert len(blocks[1].splitlines()) <= 20  # what it takes to bring data
    assert len([line for line in blocks[3].splitlines() if line]) <= 20  # and a model
    names = {}
    for text in blocks[:3]:
        exec(text, names)
    for split in ("train", "val"):
        dataset = VqaDataset.from_root(tmp_path / "my_vqa", split)
        assert len(dataset) == 24
        assert dataset[1].answer == "green"
        assert dataset[1].image().getpixel((0, 0)) == (0, 128, 0)
    my_model = names["my_model"]
    bare_batch = names["my_collate"]([names["dataset"][0], names["dataset"][1]])
    with torch.no_grad():
        before = my_model(**bare_batch)["logits"]
    exec(blocks[3], names)
    model = names["model"]
    with torch.no_grad():
        assert torch.equal(model(**bare_batch)["logits"], before)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(3):
        for batch in names["loader"]:
            output = model(**batch)
            output["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(dict(model.last_terms))
    assert losses[-1]["distillation"] < losses[0]["distillation"]
    assert all(float(losses[0][name]) > 0 for name in ("task", "image", "words", "text"))
    assert model.unwrap() is my_model
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in my_model.modules())
    assert isinstance(my_model(**bare_batch)["logits"], torch.Tensor)


@pytest.mark.slow
def test_easy_vqa_runs_as_your_own_data_set(tmp_path, monkeypatch):
    """48,000 questions about 5,000 pictures that nobody here made (PyPI: easy-vqa)."""
    easy_vqa = pytest.importorskip("easy_vqa")
    monkeypatch.setenv("CLIPTD_CACHE", str(tmp_path / "cache"))
    sources = {
        "train": (easy_vqa.get_train_questions(), easy_vqa.get_train_image_paths()),
        "val": (easy_vqa.get_test_questions(), easy_vqa.get_test_image_paths()),
    }
    for split, (columns, paths) in sources.items():
        rows = [
            {"image": paths[image], "question": question, "answer": answer}
            for question, answer, image in zip(*columns, strict=True)
        ]
        written = write_official(rows, "/", tmp_path / "easy", split)
        assert written["questions"] == len(columns[0])
    dataset = VqaDataset.from_root(tmp_path / "easy", "train")
    vocabulary = AnswerVocabulary.build(dataset.column("answer"))
    assert set(vocabulary.answers) == set(easy_vqa.get_answers())
    assert dataset[0].image().size == (64, 64)
