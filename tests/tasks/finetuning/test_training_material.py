"""What fine-tuning's training reads, and what a student reads beside it."""

from types import SimpleNamespace

from tasks.finetuning.training_material import TrainingMaterial


def test_a_student_also_reads_what_has_no_labels_and_is_to_be_answered():
    task = SimpleNamespace(
        training_set=["trained on"],
        validation_set=["validation"],
        tests={"val": ["tested on"]},
        to_answer={"test": ["for the server"]},
        collate=None,
        split={"training_files": "sha256:0123456789abcdef", "training_hash": "sha256:fedcba9876543210"},
    )
    material = TrainingMaterial(SimpleNamespace(unlabelled=None), task)
    asked = [example for examples in material.read_by_student for example in examples]
    assert asked == ["trained on", "validation", "tested on", "for the server"]
