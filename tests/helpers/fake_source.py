"""A source in memory: embeddings are drawn from the text's or key's hash, and it notes what it was asked."""

import hashlib

import torch


class FakeSource:
    fingerprint = "sha256:fake"
    logit_scale = 20.0
    logit_bias = None

    def __init__(self, embed_dim=8, scale=1.0):
        self.embed_dim = embed_dim
        self.broken = set()
        self.asked_images, self.asked_texts, self.calls = [], [], 0

    def embed(self, kind, name):
        seed = int.from_bytes(hashlib.sha256(f"{kind}:{name}".encode()).digest()[:7], "big")
        row = torch.randn(self.embed_dim, generator=torch.Generator().manual_seed(seed))
        return row * float("nan") if name in self.broken else torch.nn.functional.normalize(row, dim=0)

    def image_embeds(self, keys, images):
        self.asked_images.append(list(keys))
        return torch.stack([self.embed("image", key) for key in keys])

    def region_embeds(self, keys, regions):
        return torch.stack([self.embed("region", key) for key in keys])

    def text_embeds(self, texts):
        self.asked_texts.append(list(texts))
        return torch.stack([self.embed("text", text) for text in texts])

    def image_mean(self):
        return self.embed("image", "mean") * 0.5


class RecordingWriter(FakeSource):
    """Stands in for StoreWriter: holds what it was asked for."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.images, self.texts = {}, set()

    def image_embeds(self, keys, images):
        for key, image in zip(keys, images, strict=True):
            assert key in self.images or image is not None, key
            self.images[key] = image
        return super().image_embeds(keys, images)

    def text_embeds(self, texts):
        self.texts.update(texts)
        return super().text_embeds(texts)

    def image_mean(self):
        return torch.stack([self.embed("image", key) for key in self.images]).mean(0)


class FrozenStore(RecordingWriter):
    """Stands in for TeacherStore: answers only what a writer holds."""

    def __init__(self, writer):
        super().__init__(embed_dim=writer.embed_dim)
        self.images, self.texts = writer.images, frozenset(writer.texts)

    def image_embeds(self, keys, images):
        assert set(keys) <= set(self.images)
        return FakeSource.image_embeds(self, keys, images)

    def text_embeds(self, texts):
        missing = set(texts) - self.texts
        assert not missing, missing
        return FakeSource.text_embeds(self, texts)
