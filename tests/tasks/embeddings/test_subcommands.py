"""The command line of distill_embeddings.py: old flags, subcommands, help, and what is refused."""

import dataclasses
import re
from pathlib import Path

import pytest

from tasks.embeddings.settings import EFFECTS, DistillEmbeddings
from tasks.embeddings.subcommands import ALWAYS, SUBCOMMANDS, parse_command

OWN_DATA = {
    "steps": 2000,
    "batch_size": 256,
    "lr": 1e-4,
    "warmup_steps": 200,
    "num_workers": 4,
    "save_every": 500,
}
ICONS = {"steps": 300, "batch_size": 64, "lr": 1e-3, "warmup_steps": 30, "num_workers": 0, "save_every": 100}
SCORED = {"metric": "top1", "eval_every": 500}
UNSCORED = {"metric": None, "eval_every": 0}
ICON_MASKS = {"ramp_steps": 150, "mask_lr": 0.1}

OLD = [
    ("", ICON_MASKS, {**ICONS, "metric": "top1", "eval_every": 100}),
    ("--share 0.25 --how magnitude", {**ICON_MASKS, "share": 0.25, "how": "magnitude"}, ICONS),
    (
        "--objective clip_kd --source store --store s",
        {**ICON_MASKS, "objective": "clip_kd", "source": "store", "store": Path("s")},
        ICONS,
    ),
    (
        "--teacher ViT-B-16 --pretrained openai --student ViT-S-16 --data shards/{000..099}.tar --zero-shot val "
        "--batch-size 1024",
        {"teacher": "ViT-B-16", "pretrained": "openai", "student": "ViT-S-16", "data": "shards/{000..099}.tar",
         "zero_shot": Path("val")},
        {**OWN_DATA, **SCORED, "batch_size": 1024},
    ),
    (
        "--teacher t --data shards.tar --progressive 0.75 0.5 0.25 --learned-masks --zero-shot val",
        {"teacher": "t", "data": "shards.tar", "progressive": (0.75, 0.5, 0.25), "learned_masks": True,
         "zero_shot": Path("val")},
        {**OWN_DATA, **SCORED},
    ),
    (
        "--objective reinforced --student MobileCLIP-S1 --data shards.tar --reinforced r --zero-shot val",
        {"objective": "reinforced", "student": "MobileCLIP-S1", "data": "shards.tar", "reinforced": Path("r"),
         "zero_shot": Path("val")},
        {**OWN_DATA, **SCORED},
    ),
    (
        "--objective reinforced --student MobileCLIP-S1 --data DataCompDR/*.tar --pictures datacomp",
        {"objective": "reinforced", "student": "MobileCLIP-S1", "data": "DataCompDR/*.tar",
         "pictures": Path("datacomp")},
        {**OWN_DATA, **UNSCORED},
    ),
    (
        "--objective dime-fm --freeze text --teacher ViT-L-14 --pretrained openai --student ViT-B-32 --images photos "
        "--sentences s/*.txt --zero-shot val --source store --crop 0.5 1.0",
        {"objective": "dime-fm", "freeze": ("text",), "teacher": "ViT-L-14", "pretrained": "openai",
         "student": "ViT-B-32", "images": "photos", "sentences": "s/*.txt", "zero_shot": Path("val"),
         "source": "store", "crop": (0.5, 1.0)},
        {**OWN_DATA, **SCORED},
    ),
    (
        "--weights affinity 1 sigmoid 1 feature 100 --teacher a,hf:b --student c --data=x.csv",
        {"weights": {"affinity": 1.0, "sigmoid": 1.0, "feature": 100.0}, "teacher": "a,hf:b", "student": "c",
         "data": "x.csv"},
        {**OWN_DATA, **UNSCORED},
    ),
    (
        "--progressive 0.6 --learned-masks --ramp-steps 2 --mask-lr 1.0 --towers image --objective clip_kd",
        {"progressive": (0.6,), "learned_masks": True, "ramp_steps": 2, "mask_lr": 1.0, "towers": ("image",),
         "objective": "clip_kd"},
        ICONS,
    ),
    (
        "--data x --teacher t --progressive 0.5 --learned-masks",
        {"data": "x", "teacher": "t", "progressive": (0.5,), "learned_masks": True},
        {**OWN_DATA, "metric": None, "eval_every": 500},
    ),
    (
        "--objective contrastive --student s --data x --steps 4",
        {"objective": "contrastive", "student": "s", "data": "x"},
        {**OWN_DATA, **UNSCORED, "steps": 4},
    ),
    (
        "--affinity-scale None --csv-img-key image --csv-caption-key text --csv-separator ; --data x.csv --teacher t "
        "--templates t.txt --zero-shot z",
        {"affinity_scale": None, "csv_img_key": "image", "csv_caption_key": "text", "csv_separator": ";",
         "data": "x.csv", "teacher": "t", "templates": Path("t.txt"), "zero_shot": Path("z")},
        {**OWN_DATA, **SCORED},
    ),
    (
        "--objective reinforced --reinforced r --no-synthetic-captions --distill-weight 0.75",
        {**ICON_MASKS, "objective": "reinforced", "reinforced": Path("r"), "synthetic_captions": False,
         "distill_weight": 0.75},
        ICONS,
    ),
]  # fmt: skip
"""Command lines of version 0.1.0, their settings that are no defaults of the class, and those of the training."""


@pytest.mark.parametrize(("line", "expected", "training"), OLD)
def test_old_command_lines_mean_what_they_did(line, expected, training):
    found = parse_command(line.split(), None)
    plain = {f.name: getattr(DistillEmbeddings(), f.name) for f in dataclasses.fields(DistillEmbeddings)}
    changed = {
        name: value for name, value in vars(found).items() if value != plain[name] and name != "training"
    }
    assert changed == {name: value for name, value in expected.items() if value != plain[name]}
    assert {name: getattr(found.training, name) for name in training} == training


def test_dime_fms_own_settings_and_underscores():
    line = "--objective dime-fm --dime-fm.vl-weight 1 --dime_fm.udist_weight 0.1 --run_dir r --batch_size 8"
    found = parse_command(line.split(" "), None)
    assert (found.dime_fm.vl_weight, found.dime_fm.udist_weight) == (1, 0.1)
    assert (found.run_dir, found.training.batch_size) == (Path("r"), 8)


@pytest.mark.parametrize(
    ("line", "long"),
    [
        ("affinity --share 0.25", "--share 0.25"),
        ("clip-kd --steps 4", "--objective clip_kd --steps 4"),
        ("clip_kd --steps 4", "--objective clip_kd --steps 4"),
        ("dime-fm --freeze text", "--objective dime-fm --freeze text"),
        ("sigmoid --student s --data x", "--objective sigmoid --student s --data x"),
        ("reinforced --reinforced r", "--objective reinforced --reinforced r"),
        ("mix --weights affinity 1 contrastive 0.5", "--weights affinity 1 contrastive 0.5"),
        ("compress", "--progressive 0.75 0.5 0.25"),
        ("compress --shares 0.5 --objective feature", "--progressive 0.5 --objective feature"),
        ("compress --progressive 0.5 --learned-masks", "--progressive 0.5 --learned-masks"),
    ],
)
def test_a_subcommand_is_short_for_flags(line, long):
    assert parse_command(line.split(), None) == parse_command(long.split(), None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("affine", "there is no subcommand 'affine'; nearest: affinity$"),
        ("feature --objective affinity", "feature names the objective, and so does --objective; remove"),
        ("feature --weights affinity 1", "feature names the objective, and so does --weights; remove"),
        ("mix", "mix needs --weights, such as --weights affinity 1"),
        ("reinforced", "needs --reinforced, such as runs/reinforced"),
        ("--zero-shot classes", "--zero-shot goes with data of your own"),
        ("--objective reinforced", "needs --reinforced, such as runs/reinforced"),
        ("--images photos", "give --images and --sentences both, or neither"),
        ("--images a --sentences b --data c --teacher t", r"give pairs \(--data\), or --images and --sentences, not"),
        ("--data x", "name a --teacher, or a --student that does not inherit from one"),
        ("--data x --student s", "name a --teacher: affinity compares the student with one"),
        ("--share 0", "--share is 0.0, expected above 0 to 1"),
        ("--share 1.5", "--share is 1.5, expected above 0 to 1"),
        ("--learned-masks", r"--learned-masks has no effect here; it belongs to stages \(--progressive\)"),
        ("--reinforced r", "--reinforced has no effect here; it belongs to the reinforced objective"),
        ("--pictures p", "--pictures has no effect here"),
        ("reinforced --reinforced r --pictures p", "--pictures has no effect here; .* without --reinforced"),
        ("reinforced --reinforced r --student s --teacher t", "--teacher has no effect here"),
        ("reinforced --reinforced r --progressive 0.5", "--progressive has no effect here"),
        ("reinforced --reinforced r --student s --images a --sentences b", "--images has no effect here"),
        ("--pretrained openai", "--pretrained has no effect here; it belongs to --teacher"),
        ("--student-pretrained x", "--student-pretrained has no effect here; it belongs to --student"),
        ("--towers image", "--towers has no effect here"),
        ("--how leading --student s", "--how has no effect here"),
        ("compress --how leading --learned-masks", "--how has no effect here"),
        ("--share 0.5 --student s", "--share has no effect here"),
        ("--share 0.5 --progressive 0.5", "--share has no effect here"),
        ("--templates t", "--templates has no effect here; it belongs to --zero-shot"),
        ("--crops 3", '--crops has no effect here; it belongs to crop with source "store"'),
        ("clip-kd --affinity-scale 10", "--affinity-scale has no effect here; it belongs to affinity mimicking"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(line, message):
    with pytest.raises(ValueError, match=message):
        parse_command(line.split(), None)


@pytest.mark.parametrize("name", [None, *SUBCOMMANDS])
def test_help_shows_a_subcommands_own_settings(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")  # a wide terminal shows two columns
    with pytest.raises(SystemExit) as end:
        parse_command([*([name] if name else []), "--help"], "About.")
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert "default: None" not in said
    own = {*ALWAYS, *SUBCOMMANDS[name or "affinity"].shows} - {"training", "dime_fm"}
    own |= {"objective"} if name is None else set()
    options = re.findall(r"^\W{1,3}--.*", said.split("options", 1)[1], re.MULTILINE)
    listed = {flag for line in options for flag in re.findall(r"--([\w.-]+)", line)}
    flags = {field.name: field.name.replace("_", "-") for field in dataclasses.fields(DistillEmbeddings)}
    assert {field for field, flag in flags.items() if flag in listed} == own
    assert {"steps", "mixed-precision"} <= listed
    assert ("dime-fm.vl-weight" in listed) == ("dime_fm" in SUBCOMMANDS[name or "affinity"].shows)
    assert name is None or SUBCOMMANDS[name].about in said


def test_every_setting_is_shown_somewhere():
    shown = {*ALWAYS, *(name for one in SUBCOMMANDS.values() for name in one.shows)}
    assert shown == {field.name for field in dataclasses.fields(DistillEmbeddings)}
    assert EFFECTS.keys() <= shown


def test_own_data_say_which_defaults_they_change(capsys):
    parse_command(["--data", "x", "--student", "s", "--objective", "contrastive"], None)
    assert "steps is 300 on the embedded benchmark, 2000 here" in capsys.readouterr().err
    parse_command([], None)
    assert capsys.readouterr().err == ""
