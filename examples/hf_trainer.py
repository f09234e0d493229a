"""Distil a CLIP teacher into a ViLT with transformers.Trainer, which takes the wrapped model as it is.

    python examples/hf_trainer.py

Runs offline in half a minute: images, captions and the teacher are the embedded benchmark's, the ViLT is tiny and
starts from random weights. For a real one use `ViltForQuestionAnswering.from_pretrained("dandelin/vilt-b32-mlm")`.
"""

import torch
from torchvision.transforms.functional import to_tensor
from transformers import AutoTokenizer, Trainer, TrainingArguments, ViltConfig, ViltForQuestionAnswering

import cliptd
from cliptd.targeted import DistillationInputs, WordedText, encode_with_words
from tasks.iconworld.files.pairs import IconworldPairs
from tasks.iconworld.models import STUDENT, TEACHER
from tasks.iconworld.scenes import COLOUR_NAMES

STEPS, BATCH = 20, 16
ANSWERS = list(COLOUR_NAMES)

pairs = IconworldPairs(1024)
coloured = [pair for pair in map(pairs.__getitem__, range(len(pairs))) if set(pair.text.split()) & {*ANSWERS}]
tokenizer = AutoTokenizer.from_pretrained(STUDENT)


def collate(examples: list) -> dict:
    """Ask for the first colour that the caption names; the teacher reads the question with its answer."""
    answers = [next(word for word in pair.text.split() if word in ANSWERS) for pair in examples]
    questions = [
        pair.text.replace(answer, "what color", 1) for pair, answer in zip(examples, answers, strict=True)
    ]
    worded = [WordedText.from_text(question) for question in questions]
    encoding = encode_with_words(tokenizer, worded, max_length=40)
    images = [pair.image() for pair in examples]
    return {
        "input_ids": encoding["input_ids"],
        "attention_mask": encoding["attention_mask"],
        "pixel_values": torch.stack([to_tensor(image) for image in images]),
        "labels": torch.eye(len(ANSWERS))[[ANSWERS.index(answer) for answer in answers]],
        "distillation_inputs": DistillationInputs(
            image_keys=[pair.key for pair in examples],
            images=images,
            texts=[[pair.text] for pair in examples],
            words=[[list(text.words)] for text in worded],
            word_ids=encoding["word_ids"].unsqueeze(1),
        ),
    }


def main() -> None:
    torch.manual_seed(0)
    teacher = cliptd.load_teacher(str(TEACHER))
    source = cliptd.LiveSource(teacher, calibration=[pair.image for pair in coloured[:128]])
    config = cliptd.TargetedDistillationConfig(distance="infonce")
    student = ViltForQuestionAnswering(
        ViltConfig(
            vocab_size=len(tokenizer), max_position_embeddings=40, hidden_size=64, intermediate_size=128,
            num_hidden_layers=2, num_attention_heads=2, image_size=coloured[0].image().width, patch_size=16,
            num_labels=len(ANSWERS),
        )
    )  # fmt: skip
    model = cliptd.wrap(student, teacher=teacher, config=config)  # six architectures need no `states`
    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir="runs/hf_trainer",
            max_steps=STEPS,
            per_device_train_batch_size=BATCH,
            learning_rate=1e-3,
            remove_unused_columns=False,  # the teacher's columns travel in the batch
            logging_steps=5,
            save_strategy="no",
            report_to=[],
        ),
        train_dataset=coloured,
        data_collator=cliptd.DistillationCollator(collate, source, config),
    )
    trainer.train()
    model.unwrap().save_pretrained("runs/hf_trainer/student")  # loads without cliptd


if __name__ == "__main__":
    main()
