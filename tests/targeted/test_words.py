"""Words and tokens: five kinds of tokenizer against character-by-character references."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy
from transformers.tokenization_python import PythonBackend

from cliptd.targeted import WordedText, encode_with_words

TEXTS = [
    "Casey's umbrella is red, isn't it?",
    "  The (un)happy dog-walker    smiles...",
    "naïve café 42 x",
    "?!",
    "",
    "Why is person2 pointing at the well-lit cart?",
]
PIECES = "[PAD] [UNK] [CLS] [SEP] the un ##hap ##py umbrella is red dog , ? ' ( ) - . ! é ï ##ï ##é"
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def word_piece_vocabulary():
    pieces = [*PIECES.split(" "), *LETTERS, *("##" + letter for letter in LETTERS)]
    return {piece: i for i, piece in enumerate(pieces)}


def bert_fast(**settings):
    vocabulary = word_piece_vocabulary()
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=inputs, **names, **settings)


def bert_slow(folder, **settings):
    (folder / "vocab.txt").write_text("\n".join(word_piece_vocabulary()), encoding="utf-8")
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return BertTokenizerLegacy(str(folder / "vocab.txt"), model_input_names=inputs, **settings)


def byte_bpe(trim):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 5, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 1), trim_offsets=trim, add_prefix_space=False
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")


def metaspace():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=90, special_tokens=["<pad>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")


class SlowPieces(PythonBackend):
    """SentencePiece-like, without offsets: every token starts with the blank before it, as "▁"; `merges` are
    tokens of their own wherever they stand."""

    def __init__(self, merges=(), **settings):
        self.merges = merges
        self.ids = {}
        super().__init__(pad_token="<pad>", unk_token="<unk>", **settings)

    @property
    def vocab_size(self):
        return 1000

    def get_vocab(self):
        return dict(self.ids)

    def _tokenize(self, text, **_):
        text = "▁" + "▁".join(text.split()) if text.split() else ""
        tokens = []
        while text:
            found = next((m for m in self.merges if text.startswith(m)), text[: 2 if text[0] == "▁" else 1])
            tokens.append(found)
            text = text[len(found) :]
        return tokens

    def _convert_token_to_id(self, token):
        return self.ids.setdefault(token, len(self.ids) + 10)

    def _convert_id_to_token(self, index):
        return next(token for token, i in self.ids.items() if i == index)


def by_characters(tokens, worded, blanks):
    """The word of each token, by walking along the text one character at a time."""
    place, owners = 0, []
    for token in tokens:
        overlaps = {}
        for character in token.removeprefix("##"):
            if character in blanks:
                continue
            while worded.text[place].isspace():
                place += 1
            for k, (start, end) in enumerate(worded.spans):
                if start <= place < end:
                    overlaps[k] = overlaps.get(k, 0) + 1
            place += 1
        owners.append(max(overlaps, key=overlaps.get) if overlaps else -1)
    return owners


def test_from_text_finds_words():
    worded = WordedText.from_text("Casey's well-lit café, 2 x_y -no- 'quoted'!")
    assert worded.words == ("Casey's", "well-lit", "café", "2", "x", "y", "no", "quoted")
    assert all(
        worded.text[start:end] == w for w, (start, end) in zip(worded.words, worded.spans, strict=True)
    )
    assert worded.teacher_text == worded.text
    assert WordedText.from_text("?!").words == ()


@pytest.mark.parametrize(
    ("words", "spans", "message"),
    [
        (("a",), (), "1 words but 0 spans for the text 'a b'"),
        (("a",), ((0, 4),), r"span \(0, 4\) of the word 'a' .* outside"),
        (("a",), ((1, 1),), r"span \(1, 1\) of the word 'a' is empty"),
        (
            ("b", "a"),
            ((2, 3), (0, 1)),
            r"span \(0, 1\) of the word 'a' .* expected ascending, disjoint spans",
        ),
    ],
)
def test_worded_text_errors(words, spans, message):
    with pytest.raises(ValueError, match=message):
        WordedText("a b", words, spans, "a b")


@pytest.mark.parametrize("kind", ["fast", "slow"])
def test_word_piece_by_hand(kind, tmp_path):
    tokenizer = bert_fast() if kind == "fast" else bert_slow(tmp_path)
    assert tokenizer.is_fast == (kind == "fast")
    first = [WordedText.from_text("Unhappy dogs?"), WordedText.from_text("the umbrella")]
    second = [WordedText.from_text("Is red."), WordedText.from_text("dogs, the dogs")]
    encoding = encode_with_words(tokenizer, first, second)
    # [CLS] un ##hap ##py dog ##s ? [SEP] is red . [SEP]
    # [CLS] the umbrella [SEP] dog ##s , the dog ##s [SEP] [PAD]
    assert encoding["word_ids"].tolist() == [
        [-1, 0, 0, 0, 1, 1, -1, -1, 2, 3, -1, -1],
        [-1, 0, 1, -1, 2, 2, -1, 3, 4, 4, -1, -1],
    ]
    assert encoding["token_type_ids"].tolist() == [[0] * 8 + [1] * 4, [0] * 4 + [1] * 7 + [0]]
    assert encoding["attention_mask"].sum(1).tolist() == [12, 11]
    plain = tokenizer([w.text for w in first], [w.text for w in second], padding=True, return_tensors="pt")
    for name, tensor in plain.items():
        assert torch.equal(encoding[name], tensor), name
        assert encoding[name].dtype == torch.int64
    assert encoding["word_ids"].dtype == torch.int64


def test_the_students_and_the_teachers_words_may_differ():
    worded = WordedText("Casey is red", ("person", "red"), ((0, 5), (9, 12)), "a person is red")
    encoding = encode_with_words(bert_fast(), [worded])
    assert encoding["word_ids"].tolist() == [[-1, 0, 0, 0, 0, 0, -1, 1, -1]]


@pytest.mark.parametrize("trim", [True, False])
def test_byte_level_bpe_with_blanks_in_offsets(trim):
    tokenizer = byte_bpe(trim)
    texts = [WordedText.from_text(text) for text in TEXTS if text.isascii()]
    encoding = encode_with_words(tokenizer, texts)
    for n, worded in enumerate(texts):
        tokens = tokenizer.tokenize(worded.text)
        row = encoding["word_ids"][n].tolist()
        assert row[1 : len(tokens) + 1] == by_characters(tokens, worded, "Ġ")
        assert row[0] == -1
        assert set(row[len(tokens) + 1 :]) <= {-1}


def test_bytes_of_one_character_belong_to_its_word():
    worded = WordedText.from_text("x ü!")
    encoding = encode_with_words(byte_bpe(True), [worded])
    assert encoding["word_ids"][0].tolist() == [
        -1,
        0,
        -1,
        1,
        1,
        -1,
        -1,
    ]  # <s> x, a blank, ü as two bytes, ! </s>


def test_sentence_piece_like():
    tokenizer = metaspace()
    texts = [WordedText.from_text(text) for text in TEXTS if "  " not in text]
    encoding = encode_with_words(tokenizer, texts)
    for n, worded in enumerate(texts):
        tokens = tokenizer.tokenize(worded.text)
        found = encoding["word_ids"][n].tolist()
        expected = by_characters(tokens, worded, "▁")
        for t, token in enumerate(tokens):  # the offsets of a lone blank are the tokenizer's to choose
            assert token == "▁" or found[t] == expected[t]
        assert set(found[len(tokens) :]) <= {-1}


def test_a_token_over_two_words_goes_to_the_larger_part_and_the_lower_on_a_tie():
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "a-bcd": 1, "ab-cd": 2}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<unk>")
    larger = WordedText("a-bcd", ("a", "bcd"), ((0, 1), (2, 5)), "a bcd")
    tie = WordedText("ab-cd", ("ab", "cd"), ((0, 2), (3, 5)), "ab cd")
    assert encode_with_words(tokenizer, [larger, tie])["word_ids"].tolist() == [[1], [0]]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", ["fast", "slow"])
def test_truncation_longest_first_and_padding_side(kind, side, tmp_path):
    tokenizer = bert_fast(padding_side=side) if kind == "fast" else bert_slow(tmp_path, padding_side=side)
    first = [WordedText.from_text(text) for text in TEXTS]
    second = [WordedText.from_text(text) for text in reversed(TEXTS)]
    encoding = encode_with_words(tokenizer, first, second, max_length=9, padding="max_length")
    plain = tokenizer(
        [w.text for w in first],
        [w.text for w in second],
        truncation="longest_first",
        max_length=9,
        padding="max_length",
        return_tensors="pt",
    )
    for name, tensor in plain.items():
        assert torch.equal(encoding[name], tensor), name
    assert encoding["word_ids"].shape == (len(TEXTS), 9)
    whole = encode_with_words(tokenizer, first, second)["word_ids"]
    special = torch.isin(encoding["input_ids"], torch.tensor([0, 2, 3]))
    assert (encoding["word_ids"][special] == -1).all()
    for row, full in zip(encoding["word_ids"].tolist(), whole.tolist(), strict=True):
        assert {k for k in row if k >= 0} <= {k for k in full if k >= 0}
    assert encoding["word_ids"][0].max() < whole[0].max()  # something was cut


def test_fast_and_slow_agree(tmp_path):
    first = [WordedText.from_text(text) for text in TEXTS if "é" not in text]
    fast, slow = encode_with_words(bert_fast(), first), encode_with_words(bert_slow(tmp_path), first)
    for name in ("input_ids", "attention_mask", "word_ids"):
        assert torch.equal(fast[name], slow[name]), name


@pytest.mark.parametrize("merges", [(), ("▁The", "▁dog", "py", "...")])
def test_slow_pieces_join_to_the_whole(merges):
    tokenizer = SlowPieces(merges)
    for text in TEXTS:
        worded = WordedText.from_text(text)
        tokens = tokenizer.tokenize(text)
        row = encode_with_words(tokenizer, [worded])["word_ids"][0].tolist()
        assert row == by_characters(tokens, worded, "▁"), text


def test_slow_tokens_across_boundaries_fall_back_to_beginnings():
    worded = WordedText.from_text("a dog, (cat) ran.")
    tokenizer = SlowPieces(("g,", "▁(c", "n."))
    assert tokenizer.tokenize(worded.text) == ["▁a", "▁d", "o", "g,", "▁(c", "a", "t", ")", "▁r", "a", "n."]
    row = encode_with_words(tokenizer, [worded])["word_ids"][0].tolist()
    assert row == [0, 1, 1, 1, 2, 2, 2, -1, 3, 3, 3]


def test_no_texts_and_other_numbers_of_texts():
    with pytest.raises(ValueError, match="encode_with_words got no texts"):
        encode_with_words(bert_fast(), [])
    one = [WordedText.from_text("a")]
    with pytest.raises(ValueError, match="second has 2 texts and first 1"):
        encode_with_words(bert_fast(), one, one * 2)
