"""What is masked; `test_masked_training.py` has what is learned from it."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lmexp import compose
from lmexp.config.task import MaskedConfig
from lmexp.config.tokenizer import BytesConfig, CharactersConfig, HFTokenizerConfig, UnigramConfig, WordsConfig
from lmexp.data.batches import EvaluationBatches, ShuffledBatches
from lmexp.data.order import training_batches
from lmexp.models.adapters import build_model, mask_id
from lmexp.tasks.masked import Masking, draw, draw_key
from lmexp.tokenization import Tokenizer
from tests.tasks.setups import TEXTS, bpe, shape, tokenizer_of, tokens_of

MASK64 = 2**64 - 1


def mask_all(masking: Masking, batches: Any, key: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return the tokens of all rows, what the model reads, and what is to be predicted."""
    parts = [(batch["tokens_BT"], *masking(batch, key)) for batch in (batches[k] for k in range(len(batches)))]
    tokens, read, is_target = (torch.cat(rows) for rows in zip(*parts, strict=True))
    return tokens, read, is_target


def within(count: int, total: int, share: float) -> bool:
    """Return whether a share is met within four standard deviations of so many independent draws."""
    return abs(count - share * total) < 4 * (total * share * (1 - share)) ** 0.5


def whole_text(tokenizer: Tokenizer, **more: Any) -> EvaluationBatches:
    return EvaluationBatches(tokens_of(tokenizer), shape(32, 128, **more))


# -- how much --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [0, draw_key(3, 14)])
def test_fifteen_percent_are_masked_eight_tenths_one_tenth_one_tenth(key: int) -> None:
    tokens, read, is_target = mask_all(Masking(MaskedConfig(), bpe()), whole_text(bpe()), key)
    total = int((tokens != bpe().end_of_document_id).sum())
    chosen = int(is_target.sum())
    assert total > 150_000
    assert within(chosen, total, 0.15)
    became_mask = int((read == mask_id(bpe())).sum())
    changed = int((read != tokens)[is_target].sum()) - became_mask
    assert within(became_mask, chosen, 0.8)
    assert within(changed, chosen, 0.1 * (1 - 1 / bpe().vocab_size))  # a random token may be the old one
    assert within(chosen - became_mask - changed, chosen, 0.1)
    assert torch.equal(read[~is_target], tokens[~is_target])


def test_random_tokens_come_evenly_from_the_whole_vocabulary() -> None:
    tokens, read, is_target = mask_all(Masking(MaskedConfig(masked_fraction=0.9), bpe()), whole_text(bpe()))
    drawn = read[is_target & (read != tokens) & (read != mask_id(bpe()))]
    counts = torch.bincount(drawn, minlength=bpe().vocab_size).double()
    expected = len(drawn) / bpe().vocab_size
    assert len(counts) == bpe().vocab_size
    chi_square = ((counts - expected) ** 2 / expected).sum().item()
    assert abs(chi_square - bpe().vocab_size) < 5 * (2 * bpe().vocab_size) ** 0.5


def test_another_fraction_is_met_too() -> None:
    tokens, _, is_target = mask_all(Masking(MaskedConfig(masked_fraction=0.4), bpe()), whole_text(bpe()))
    assert within(int(is_target.sum()), int((tokens != bpe().end_of_document_id).sum()), 0.4)


def test_neighbours_are_masked_independently() -> None:
    _, _, is_target = mask_all(Masking(MaskedConfig(), bpe()), whole_text(bpe()))
    for distance in (1, 2, 3):
        both = is_target[:, distance:] & is_target[:, :-distance]
        assert within(int(both.sum()), both.numel(), 0.15**2)


def test_the_end_of_a_document_is_never_masked_nor_what_lies_beyond_the_text() -> None:
    file = tokens_of(bpe(), ("one two three", "four five", "six seven eight nine"))
    masking = Masking(MaskedConfig(masked_fraction=0.999), bpe())
    batch = EvaluationBatches(file, shape(1, 64))[0]
    _, is_target = masking(batch)
    at = (file.ids == bpe().end_of_document_id).nonzero()[0]
    assert len(at) == 3
    assert not is_target[0, at].any()
    assert not is_target[0, len(file.ids) - 1 :].any()
    assert is_target.sum() >= len(file.ids) - 5


# -- where -----------------------------------------------------------------------------------------------------------


def test_random_numbers_are_those_of_splitmix64() -> None:
    def by_the_book(state: int) -> int:
        z = state & MASK64
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
        return z ^ (z >> 31)

    assert by_the_book(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF  # the first number of seed 0, as published
    for key in (0, 5, -7, draw_key(0, 0)):
        for number in range(3):
            positions = torch.tensor([0, 1, 2, 77, 10**12])
            expected = [by_the_book(key + (3 * p + number + 1) * 0x9E3779B97F4A7C15) >> 1 for p in positions.tolist()]
            assert draw(key, positions, number).tolist() == expected


@pytest.mark.parametrize("whole_words", [False, True])
def test_ranks_together_mask_what_one_rank_does(whole_words: bool) -> None:
    file, masking = tokens_of(bpe()), Masking(MaskedConfig(whole_words=whole_words), bpe())
    one = training_batches(file, shape(8, 64), seed=1, accumulate=1)
    two = [training_batches(file, shape(8, 64), seed=1, accumulate=1, rank=r, world_size=2) for r in (0, 1)]
    for k in (0, 1, 50):
        whole = masking(one[k], draw_key(1, k))
        halves = [masking(batches[k], draw_key(1, k)) for batches in two]
        for together, parts in zip(whole, zip(*halves, strict=True), strict=True):
            assert torch.equal(torch.cat(parts), together)


@pytest.mark.parametrize("whole_words", [False, True])
def test_val_and_test_are_masked_alike_whatever_the_batch_size_and_the_ranks(whole_words: bool) -> None:
    file, masking = tokens_of(bpe()), Masking(MaskedConfig(whole_words=whole_words), bpe())
    _, read, is_target = mask_all(masking, EvaluationBatches(file, shape(7, 64)))
    _, others_read, others = mask_all(masking, EvaluationBatches(file, shape(32, 64)))
    assert torch.equal(read, others_read)
    assert torch.equal(is_target, others)
    for rank in range(3):
        batches = EvaluationBatches(file, shape(7, 64), rank=rank, world_size=3)
        assert torch.equal(mask_all(masking, batches)[1], read[rank::3])


def test_another_context_length_masks_the_same_positions() -> None:
    file, masking = tokens_of(bpe()), Masking(MaskedConfig(), bpe())
    length = (len(file.ids) - 1) // 128 * 128
    short, long = (mask_all(masking, EvaluationBatches(file, shape(32, n)))[1].flatten()[:length] for n in (64, 128))
    assert torch.equal(short, long)


def test_another_step_and_another_seed_mask_others() -> None:
    batch = ShuffledBatches(tokens_of(bpe()), shape(64, 128), seed=0)[0]
    masking = Masking(MaskedConfig(), bpe())
    keys = [draw_key(0, 0), draw_key(0, 1), draw_key(1, 0), 0]
    masks = [masking(batch, key)[1] for key in keys]
    assert torch.equal(masks[0], masking(batch, draw_key(0, 0))[1])
    for i, one in enumerate(masks):
        for other in masks[i + 1 :]:
            assert within(int((one & other).sum()), one.numel(), 0.15**2)


# -- whole words -----------------------------------------------------------------------------------------------------


def spans(tokenizer: Tokenizer, ids: list[int]) -> list[range]:
    """Return the tokens of each word, by where its letters stand in the decoded text."""
    ends = [len(tokenizer.decode(ids[: i + 1])) for i in range(len(ids))]
    text = tokenizer.decode(ids)
    starts = [0, *ends[:-1]]
    words = []
    for match in re.finditer(r"\w+", text):
        inside = [i for i in range(len(ids)) if starts[i] < match.end() and ends[i] > match.start()]
        words.append(range(inside[0], inside[-1] + 1))
    return words


@pytest.mark.parametrize("name", ["bpe", "unigram", "characters", "bytes"])
def test_a_word_is_masked_as_a_whole_or_not_at_all(name: str) -> None:
    configs = {"unigram": UnigramConfig(vocab_size=600), "characters": CharactersConfig(), "bytes": BytesConfig()}
    tokenizer = bpe() if name == "bpe" else tokenizer_of(configs[name])
    file = tokens_of(tokenizer, TEXTS[:4])
    masking = Masking(MaskedConfig(masked_fraction=0.5, whole_words=True), tokenizer)
    batches = EvaluationBatches(file, shape(8, 96))
    tokens, read, is_target = mask_all(masking, batches)
    num_split = 0
    for row in range(0, len(tokens) - 1, 3):
        for word in spans(tokenizer, tokens[row].tolist()):
            of_word, mask = is_target[row, word], read[row, word] == mask_id(tokenizer)
            assert of_word.all() or not of_word.any(), tokenizer.decode(tokens[row, word].tolist())
            assert mask.all() or not mask.any()
            num_split += len(word) > 1
    assert num_split > 50


def test_whole_words_are_masked_as_often_as_single_tokens() -> None:
    tokens, read, is_target = mask_all(Masking(MaskedConfig(whole_words=True), bpe()), whole_text(bpe()))
    total = int((tokens != bpe().end_of_document_id).sum())
    assert is_target.sum() / total == pytest.approx(0.15, abs=0.01)
    assert (read == mask_id(bpe())).sum() / is_target.sum() == pytest.approx(0.8, abs=0.02)


def groups(tokenizer: Tokenizer, text: str) -> list[list[int]]:
    """Return the ids of a text, word by word, as `word_edges` has them."""
    goes_on, can_go_on = tokenizer.word_edges
    words: list[list[int]] = []
    for i in tokenizer.encode(text).tolist():
        if words and goes_on[i] and can_go_on[words[-1][-1]]:
            words[-1].append(i)
        else:
            words.append([i])
    return words


def test_words_of_a_tokenizer_of_words_stand_alone() -> None:
    tokenizer = tokenizer_of(WordsConfig())
    text = "the class statement\nand so on"
    assert [tokenizer.decode(ids).strip(" ") for ids in groups(tokenizer, text)] == [
        *("the", "class", "statement", "\n", "and", "so", "on")
    ]


def test_every_chinese_character_is_a_word_and_a_cyrillic_word_is_one() -> None:
    text = "слово 春天来了 café, x2."
    tokenizer = tokenizer_of(CharactersConfig())  # spells what it does not know in bytes
    assert not set("春слв") & set(tokenizer.learned)
    assert [tokenizer.decode(ids) for ids in groups(tokenizer, "café, x2.")] == ["café", ",", " ", "x2", "."]
    learned = type(tokenizer)(CharactersConfig(), learned="".join(sorted(set(text))))
    words = [learned.decode(ids) for ids in groups(learned, text)]
    assert words == ["слово", " ", "春", "天", "来", "了", " ", "café", ",", " ", "x2", "."]


@pytest.mark.parametrize("kind", ["WordPiece", "Metaspace", "ByteLevel"])
def test_tokenizers_of_hugging_face_say_where_words_begin(kind: str, tmp_path: Path) -> None:
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

    special = ["[UNK]", "[MASK]", "[SEP]"]
    if kind == "WordPiece":
        made = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
        made.pre_tokenizer, made.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
        made.normalizer = normalizers.BertNormalizer(lowercase=False)
        trainer: Any = trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    else:
        made = tokenizers.Tokenizer(models.BPE(unk_token="[UNK]"))
        made.pre_tokenizer = getattr(pre_tokenizers, kind)()
        made.decoder = getattr(decoders, kind)()
        trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    made.train_from_iterator(TEXTS[:20], trainer)
    path = tmp_path / "tokenizer.json"
    made.save(str(path))
    (tmp_path / "tokenizer_config.json").write_text('{"mask_token": "[MASK]", "sep_token": "[SEP]"}')
    tokenizer = tokenizer_of(HFTokenizerConfig(name_or_path=str(tmp_path)))
    words = groups(tokenizer, "otherwise inheritance, exceptions and x2")
    assert [tokenizer.decode(ids).strip().replace("##", "") for ids in words if tokenizer.decode(ids).strip()] == [
        *("otherwise", "inheritance", ",", "exceptions", "and", "x2")
    ]
    assert max(map(len, words)) > 1
    assert mask_id(tokenizer) == made.token_to_id("[MASK]") < tokenizer.vocab_size


# -- the token that stands for a masked one --------------------------------------------------------------------------


def test_an_encoder_knows_one_token_more_than_a_tokenizer_without_a_mask() -> None:
    encoder = compose("train", ["model=encoder", "task=masked"])
    decoder = compose("train", ["model=transformer"])
    tokenizer = tokenizer_of(BytesConfig())
    assert mask_id(tokenizer) == 257
    assert len(build_model(encoder, tokenizer).head.weight) == 258
    assert len(build_model(decoder, tokenizer).head.weight) == 257
    tokenizer.mask_id = 4
    assert mask_id(tokenizer) == 4
    assert len(build_model(encoder, tokenizer).head.weight) == 257
