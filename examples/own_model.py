"""Distil a CLIP teacher into a model of your own: a CNN and a GRU that say whether a caption is true of an image.

    python examples/own_model.py

Runs offline in half a minute: images, captions and the teacher are the embedded benchmark's. With real data only
`load_teacher` and the dataset change.
"""

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms.functional import to_tensor

import cliptd
from cliptd.targeted import DistillationInputs
from tasks.iconworld.files.pairs import IconworldPairs
from tasks.iconworld.models import TEACHER

STEPS, BATCH = 40, 32


class CnnGru(nn.Module):
    """A model that no library knows. Its forward and its loss know nothing of distillation."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vision = nn.Sequential(
            nn.Conv2d(3, 32, 8, stride=8), nn.GELU(), nn.Conv2d(32, 64, 3, padding=1), nn.GELU()
        )
        self.embed = nn.Embedding(vocabulary, 64)
        self.text = nn.GRU(64, 64, batch_first=True)
        self.classify = nn.Linear(128, 2)

    def forward(self, input_ids, pixel_values, labels=None):
        states, _ = self.text(self.embed(input_ids))
        image = self.vision(pixel_values).mean((2, 3))
        logits = self.classify(torch.cat([states.mean(1), image], dim=1))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


pairs = IconworldPairs(512)
words = sorted({word for pair in pairs for word in pair.text.split()})
number = {word: n for n, word in enumerate(words, start=1)}  # 0 is padding


def collate(indices: list[int]) -> dict:
    """Make what the model takes, and under "distillation_inputs" what the teacher is asked."""
    true = [pairs[index] for index in indices]
    labels = torch.tensor([index % 2 for index in indices])  # every second image gets another image's caption
    shown = [pairs[(index + 1 - index % 2) % len(pairs)].text for index in indices]
    texts = [text.split() for text in shown]
    length = max(map(len, texts))
    word_ids = torch.tensor([[[*range(len(text)), *[-1] * (length - len(text))]] for text in texts])
    images = [pair.image() for pair in true]
    return {
        "input_ids": torch.tensor([[number[w] for w in text] + [0] * (length - len(text)) for text in texts]),
        "pixel_values": torch.stack([to_tensor(image) for image in images]),
        "labels": labels,
        "distillation_inputs": DistillationInputs(
            image_keys=[pair.key for pair in true],
            images=images,
            texts=[[text] for text in shown],
            words=[[text] for text in texts],
            word_ids=word_ids,  # which word each token of the model belongs to; -1 for padding
        ),
    }


def main() -> None:
    torch.manual_seed(0)
    teacher = cliptd.load_teacher(str(TEACHER))
    source = cliptd.LiveSource(teacher, calibration=[pairs[index].image for index in range(128)])
    config = cliptd.TargetedDistillationConfig(distance="infonce")
    my_model = CnnGru(len(words) + 1)
    model = cliptd.wrap(
        my_model, teacher=teacher, config=config, states=cliptd.StudentStates(text="text", image="vision")
    ).train()
    batches = DataLoader(
        range(STEPS * BATCH // 4),
        BATCH,
        shuffle=True,
        collate_fn=cliptd.DistillationCollator(collate, source, config),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for epoch in range(4):
        for batch in batches:
            model(**batch)["loss"].backward()  # your loss + distillation
            optimizer.step()
            optimizer.zero_grad()
        print(
            f"epoch {epoch + 1}: "
            + ", ".join(f"{name} {float(value):.3f}" for name, value in model.last_terms.items())
        )
    trained = model.unwrap()  # my_model itself: no hook is left on it, its forward is the one above
    assert trained is my_model


if __name__ == "__main__":
    main()
