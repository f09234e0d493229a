"""Tokenizers of the models that are trained on iconworld. Their vocabularies are made here, not downloaded.

Both can spell any lower-case ASCII word from characters, so no text ever becomes an unknown token.
"""

import string

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tasks.iconworld.glyphs import FAMILIES
from tasks.iconworld.language import sample_captions, words
from tasks.iconworld.scenes import sample_scenes

_CHARACTERS = string.ascii_lowercase + string.digits + string.punctuation
CORPUS_SEED = 0


def _wordpiece(vocabulary: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(
        models.WordPiece(
            {token: i for i, token in enumerate(vocabulary)}, unk_token="[UNK]", max_input_chars_per_word=64
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def teacher_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with the whole words of the grammar, and characters for the rest.

    `[EOS]` has the highest id, because open_clip's text tower pools at the argmax of the ids.
    """
    pieces = [*_CHARACTERS, *(f"##{c}" for c in _CHARACTERS)]
    vocabulary = ["[PAD]", "[UNK]", *pieces, *(w for w in words() if w not in pieces), "[EOS]"]
    tokenizer = _wordpiece(vocabulary)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [EOS]", special_tokens=[("[EOS]", vocabulary.index("[EOS]"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", eos_token="[EOS]"
    )


def student_tokenizer(
    *, vocabulary_size: int = 480, extra_words: tuple[str, ...] = ()
) -> PreTrainedTokenizerFast:
    """Return a BERT-like WordPiece tokenizer learned from captions: frequent words whole, most nouns in pieces.

    Args:
        vocabulary_size: number of entries, special tokens included.
        extra_words: words kept whole, such as the names given to persons.
    """
    from tokenizers.trainers import WordPieceTrainer

    rng = np.random.default_rng(CORPUS_SEED)
    corpus = sample_captions(rng, sample_scenes(rng, 20_000, FAMILIES)).texts
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    learned = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learned.normalizer = normalizers.BertNormalizer(lowercase=True)
    learned.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pieces = [*_CHARACTERS, *(f"##{c}" for c in _CHARACTERS)]
    whole = [w.lower() for w in extra_words]
    trainer = WordPieceTrainer(vocab_size=vocabulary_size, special_tokens=specials, show_progress=False)
    learned.train_from_iterator(corpus, trainer)
    numbers = learned.get_vocab()
    entries = sorted(numbers, key=numbers.__getitem__)
    vocabulary = list(dict.fromkeys([*specials, *pieces, *whole, *entries]))
    tokenizer = _wordpiece(vocabulary)
    cls, sep = vocabulary.index("[CLS]"), vocabulary.index("[SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", cls), ("[SEP]", sep)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
