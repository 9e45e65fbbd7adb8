#!/usr/bin/env python3
"""Make the transformer fixtures in crates/polygrade-encoder/tests/fixtures/encoders.

    python -m venv VENV
    VENV/bin/pip install -r tools/requirements-encoder.txt
    VENV/bin/python tools/make_encoder_fixtures.py [--out DIR] [CASE ...]

One folder per case: a small checkpoint with random weights that sentence-transformers loads, and what
PyTorch computes from it (expected.json, expected.safetensors; README.md beside the cases has every key).
Nothing is downloaded. The same versions on the same kind of CPU give the same bytes.

    bert           Old sentence-transformers layout (versions 3 to 5), mean pooling, Normalize. tokenizer.json
                   keeps truncation and padding at 128, as all-MiniLM-L6-v2's does; 512 is what holds.
    xlm-roberta    As sentence-transformers 6.2 writes it, cls pooling, Normalize, prompts, float16 weights.
    roberta        A plain Hugging Face folder: a masked language model in shards, names begin "roberta.".
    modernbert     As sentence-transformers 6.2 writes it, mean pooling, Dense, Normalize, bfloat16 weights.
    modernbert-old-keys   Only config.json: the same model in the keys of transformers 4.
    bert-gelu-new  Tanh-approximated GELU, 64 positions, weightedmean pooling, names as in the first BERT
                   files: "bert." in front, LayerNorm.gamma and LayerNorm.beta, a language model's head.
    bert-lora      A LoRA adapter (PEFT) on `bert`.

Names that changed, old -> new; files on the Hub have either:

    sentence-transformers (older -> 6.2)
      1_Pooling/config.json: word_embedding_dimension -> embedding_dimension;
        pooling_mode_{cls_token,mean_tokens,max_tokens,mean_sqrt_len_tokens,weightedmean_tokens,lasttoken},
        each a bool, several concatenated in the order cls, max, mean, mean_sqrt_len, weightedmean, lasttoken
        -> pooling_mode: cls, mean, max, mean_sqrt_len_tokens, weightedmean, lasttoken, or a list of them,
        concatenated in the list's order.
      sentence_bert_config.json: max_seq_length -> gone; tokenizer_config.json's model_max_length holds.
      modules.json, "type": sentence_transformers.models.{Transformer,Pooling,Dense,Normalize} ->
        sentence_transformers.base.modules.{transformer.Transformer,dense.Dense,normalize.Normalize},
        sentence_transformers.sentence_transformer.modules.pooling.Pooling.
    transformers (4 -> 5)
      torch_dtype -> dtype.
      ModernBERT: global_rope_theta -> rope_parameters.full_attention.rope_theta,
        local_rope_theta -> rope_parameters.sliding_attention.rope_theta,
        global_attn_every_n_layers -> layer_types, one of full_attention and sliding_attention for each layer
        (layer i is full where i is a multiple of n). A config that 5.24 rewrote still has the first key too.
      special_tokens_map.json is no longer written; tokenizer_config.json lost added_tokens_decoder.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import os
import re
import shutil
import tempfile
import warnings
from collections import Counter
from pathlib import Path

# Before the imports below, which read them.
os.environ.update(
    HF_HUB_OFFLINE="1",
    OMP_NUM_THREADS="1",
    RAYON_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    TRANSFORMERS_VERBOSITY="error",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
)

import safetensors.torch
import sentence_transformers
import tokenizers
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers.models.modernbert import modeling_modernbert

OUT = Path(__file__).resolve().parent.parent / "crates/polygrade-encoder/tests/fixtures/encoders"
MAX_BYTES = 2_500_000

# ------------------------------------------------------------------- texts

QUERIES = [
    "Where is the river?",
    "Где течёт река?",
    "Πού είναι το ποτάμι;",
    "أين النهر؟",
    "איפה הנהר?",
    "नदी कहाँ है?",
    "แม่น้ำอยู่ไหน",
    "강은 어디에 있나요?",
    "河在哪里？",
    "かわは どこ？",
]
PASSAGES = [
    "The old river runs past the mill and the café.",
    "Старая река течёт мимо мельницы.",
    "Το παλιό ποτάμι περνά από τον μύλο.",
    "النهر القديم يمر قرب الطاحونة.",
    "הנהר הישן עובר ליד הטחנה.",
    "पुरानी नदी चक्की के पास है।",
    "แม่น้ำเก่าไหลผ่านโรงสี",
    "오래된 강은 방앗간 옆을 흐른다.",
    "古老的河流经磨坊。",
    "ふるい かわは カフェの そばを ながれる。",
]
# Three kinds of white space, a ligature, a combining mark, an emoji that no vocabulary has.
ODD = "  A\tcafe\u0301 ﬁne\u00a0 river 😀!?  "
# About a hundred tokens: several times the local window of `modernbert`.
HUNDRED = (
    "In the morning the miller opens the gate and the water of the old river turns the wheel. At noon the "
    "children eat bread near the bridge, and in the evening they walk home past the café. Река течёт мимо "
    "мельницы, το ποτάμι περνά από τον μύλο."
)
LONG = " ".join(itertools.chain.from_iterable(itertools.repeat(PASSAGES + [HUNDRED], 4)))
TEXTS = ["", "a", ODD, *QUERIES, *PASSAGES, HUNDRED, LONG]

FIRST_QUERY, FIRST_PASSAGE = 3, 3 + len(QUERIES)
PARTNER = {FIRST_QUERY + i: FIRST_PASSAGE + i for i in range(len(QUERIES))} | {2: TEXTS.index(HUNDRED)}
GRADIENT_QUERIES = [3, 5, 8, 11, 2]
BATCH_QUERIES = [[3, 4, 5, 2], [6, 7, 8, 9], [10, 11, 12, 3], [5, 8, 2, 11], [4, 6, 9, 12]]

PROMPTS = {"query": "query: ", "passage": "passage: "}
CORPUS = [*QUERIES, *PASSAGES, HUNDRED, *PROMPTS.values()]

# -------------------------------------------------------------- tokenizers


def merged_pieces(words: Counter[tuple[str, ...]], size: int, continuing: str) -> list[tuple[str, int]]:
    """The single symbols, then the most frequent pair of neighbours joined, again and again, with counts.

    Not the trainers of `tokenizers`: its WordPiece and Unigram trainers break ties by the order of a hash map,
    which differs from run to run.
    """
    pieces: dict[str, int] = {}
    for word, count in sorted(words.items()):
        for symbol in word:
            pieces[symbol] = pieces.get(symbol, 0) + count
    pieces = dict(sorted(pieces.items()))
    while len(pieces) < size:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        if not pairs:
            break
        (left, right), count = min(pairs.items(), key=lambda item: (-item[1], item[0]))
        joined = left + right.removeprefix(continuing)
        pieces.setdefault(joined, count)
        shorter: Counter[tuple[str, ...]] = Counter()
        for word, n in words.items():
            symbols, at = [], 0
            while at < len(word):
                if word[at : at + 2] == (left, right):
                    symbols.append(joined)
                    at += 2
                else:
                    symbols.append(word[at])
                    at += 1
            shorter[tuple(symbols)] += n
        words = shorter
    return list(pieces.items())


def words_of(tokenizer: Tokenizer) -> Counter[str]:
    words: Counter[str] = Counter()
    for text in CORPUS:
        normal = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
        words.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal))
    return words


def word_piece(size: int) -> Tokenizer:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words = Counter({(w[0], *("##" + c for c in w[1:])): n for w, n in words_of(tokenizer).items()})
    pieces = special + [piece for piece, _ in merged_pieces(words, size - len(special), "##")]
    tokenizer.model = models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]")
    tokenizer.add_special_tokens(special)
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer


def unigram(size: int) -> transformers.PreTrainedTokenizerBase:
    splitter = Tokenizer(models.Unigram())
    splitter.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    words = Counter({tuple(word): n for word, n in words_of(splitter).items()})
    pieces = merged_pieces(words, size - len(special) - 1, "")
    total = sum(count for _, count in pieces)
    scored = sorted(((piece, math.log(count / total)) for piece, count in pieces), key=lambda x: (-x[1], x[0]))
    return transformers.XLMRobertaTokenizer(
        vocab=[(token, 0.0) for token in special] + scored + [("<mask>", 0.0)],
        mask_token=AddedToken("<mask>", lstrip=True, special=True),
        model_max_length=512,
    )


def byte_level(size: int, special: list[str]) -> dict:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return json.loads(tokenizer.to_str())["model"]


def roberta_tokenizer(size: int) -> transformers.PreTrainedTokenizerBase:
    model = byte_level(size, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    return transformers.RobertaTokenizer(
        vocab=model["vocab"],
        merges=[tuple(merge) for merge in model["merges"]],
        mask_token=AddedToken("<mask>", lstrip=True, special=True),
        model_max_length=512,
    )


def modernbert_tokenizer(size: int) -> transformers.PreTrainedTokenizerBase:
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    model = byte_level(size, special)
    tokenizer = Tokenizer(models.BPE(model["vocab"], [tuple(merge) for merge in model["merges"]]))
    tokenizer.add_special_tokens(special)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", model["vocab"]["[CLS]"]), ("[SEP]", model["vocab"]["[SEP]"])],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
        model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
    )


# ----------------------------------------------------------------- weights


def spread_weights(module: torch.nn.Module, seed: int) -> None:
    """Weights under which every part matters: gammas away from 1, biases from 0, attention from uniform."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1 and "norm" in name.lower() and name.endswith("weight"):
                parameter.copy_(1.0 + 0.2 * noise)
            elif parameter.ndim == 1:
                parameter.copy_(0.1 * noise)
            elif "embeddings" in name:
                parameter.copy_((0.3 if "tok" in name or "word" in name else 0.15) * noise)
            elif any(part in name for part in ("query", "key", "Wqkv")):
                parameter.copy_(0.25 * noise)
            else:
                parameter.copy_(0.2 * noise)


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, indent=2, ensure_ascii=False)
    # A list of numbers on one line.
    text = re.sub(r"\[[\s\d.,]+\]", lambda numbers: re.sub(r"\s+", " ", numbers[0]), text)
    path.write_text(text.replace("[ ", "[") + "\n", encoding="utf-8")


OLD_VERSIONS = {"sentence_transformers": "3.4.1", "transformers": "4.48.3", "pytorch": "2.6.0+cpu"}


def write_old_layout(folder: Path, hidden: int, max_length: int, pooling: str, normalize: bool) -> None:
    """The files that sentence-transformers 3 to 5 wrote beside the encoder's."""
    names = ["Transformer", "Pooling"] + (["Normalize"] if normalize else [])
    # 2_Normalize was an empty folder, which neither git nor the Hub keeps.
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": f"{i}_{name}" if i else "",
            "type": f"sentence_transformers.models.{name}",
        }
        for i, name in enumerate(names)
    ]
    keys = ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"]
    pooling_config = {"word_embedding_dimension": hidden}
    pooling_config |= {f"pooling_mode_{key}": key.startswith(pooling) for key in keys}
    # "mean" begins two of the names.
    pooling_config["pooling_mode_mean_sqrt_len_tokens"] = False
    write_json(folder / "modules.json", modules)
    write_json(folder / "1_Pooling/config.json", pooling_config | {"include_prompt": True})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
    write_json(
        folder / "config_sentence_transformers.json",
        {"__version__": OLD_VERSIONS, "prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"},
    )


def write_old_bert_tokenizer(folder: Path, tokenizer: Tokenizer, max_length: int) -> None:
    """The tokenizer's files as transformers 4 wrote them."""
    special = {"cls": "[CLS]", "mask": "[MASK]", "pad": "[PAD]", "sep": "[SEP]", "unk": "[UNK]"}
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    by_id = sorted((tokenizer.token_to_id(token), token) for token in special.values())
    vocab = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token, _ in vocab), encoding="utf-8")
    write_json(
        folder / "special_tokens_map.json", {f"{k}_token": {"content": v} | flags for k, v in special.items()}
    )
    write_json(
        folder / "tokenizer_config.json",
        {
            "added_tokens_decoder": {str(i): {"content": t} | flags | {"special": True} for i, t in by_id},
            "clean_up_tokenization_spaces": False,
            "do_lower_case": True,
            "extra_special_tokens": {},
            "model_max_length": max_length,
            "strip_accents": None,
            "tokenize_chinese_chars": True,
            "tokenizer_class": "BertTokenizer",
        }
        | {f"{key}_token": token for key, token in special.items()},
    )


def old_bert_config(vocab_size: int, **sizes: object) -> dict:
    """config.json of a BertModel as transformers 4 wrote it."""
    return {
        "architectures": ["BertModel"],
        "attention_probs_dropout_prob": 0.1,
        "classifier_dropout": None,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-12,
        "model_type": "bert",
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "torch_dtype": "float32",
        "transformers_version": OLD_VERSIONS["transformers"],
        "type_vocab_size": 2,
        "use_cache": True,
        "vocab_size": vocab_size,
    } | sizes


# ------------------------------------------------------------------- cases


class Case:
    """A checkpoint and what the expected values need to know of it."""

    folder_name: str
    prefix = ""  # before the encoder's own names in the file
    max_length = 512
    # None: no training. Chosen so that the loss falls during all 50 steps.
    learning_rate: float | None = None

    def write(self, folder: Path) -> None:
        raise NotImplementedError

    def file_name(self, parameter: str) -> str:
        """The name in the checkpoint's files of a parameter of the encoder."""
        return self.prefix + parameter


class Bert(Case):
    folder_name = "bert"
    learning_rate = 2e-4

    def write(self, folder: Path) -> None:
        tokenizer = word_piece(400)
        config = old_bert_config(
            tokenizer.get_vocab_size(),
            hidden_size=36,
            intermediate_size=56,
            max_position_embeddings=512,
            num_attention_heads=3,
            num_hidden_layers=3,
        )
        model = transformers.BertModel(transformers.BertConfig(**config))
        spread_weights(model, 1)
        # transformers before 4.31 stored the position numbers too, and many files on the Hub have them.
        tensors = dict(model.state_dict()) | {"embeddings.position_ids": torch.arange(512).unsqueeze(0)}
        safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        write_json(folder / "config.json", config)
        write_old_layout(folder, 36, 512, "mean", normalize=True)
        tokenizer.enable_truncation(128)
        tokenizer.enable_padding(length=128, pad_token="[PAD]", pad_id=0)
        write_old_bert_tokenizer(folder, tokenizer, 512)


class XlmRoberta(Case):
    folder_name = "xlm-roberta"
    learning_rate = 5e-4

    def write(self, folder: Path) -> None:
        tokenizer = unigram(360)
        config = transformers.XLMRobertaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=48,
            max_position_embeddings=514,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
            bos_token_id=0,
            pad_token_id=1,
            eos_token_id=2,
        )
        model = transformers.XLMRobertaModel(config)
        spread_weights(model, 2)
        save_with_sentence_transformers(
            folder, model.half(), tokenizer, [Pooling(32, "cls"), Normalize()], PROMPTS
        )


class Roberta(Case):
    folder_name = "roberta"
    prefix = "roberta."

    def write(self, folder: Path) -> None:
        tokenizer = roberta_tokenizer(384)
        config = transformers.RobertaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=48,
            max_position_embeddings=514,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
            bos_token_id=0,
            pad_token_id=1,
            eos_token_id=2,
        )
        model = transformers.RobertaForMaskedLM(config)
        spread_weights(model, 3)
        model.save_pretrained(folder, max_shard_size="80KB")
        tokenizer.save_pretrained(folder)


class ModernBert(Case):
    folder_name = "modernbert"
    learning_rate = 5e-5
    sizes = dict(
        hidden_size=48,
        intermediate_size=40,
        num_hidden_layers=4,
        num_attention_heads=4,
        global_attn_every_n_layers=3,
        local_attention=16,
        global_rope_theta=160000.0,
        local_rope_theta=10000.0,
        max_position_embeddings=512,
    )

    def write(self, folder: Path) -> None:
        tokenizer = modernbert_tokenizer(384)
        tokens = dict(
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            cls_token_id=tokenizer.cls_token_id,
            sep_token_id=tokenizer.sep_token_id,
            bos_token_id=tokenizer.cls_token_id,
            eos_token_id=tokenizer.sep_token_id,
        )
        model = transformers.ModernBertModel(transformers.ModernBertConfig(**self.sizes, **tokens))
        spread_weights(model, 4)
        dense = Dense(48, 24, bias=True, activation_function=torch.nn.Tanh())
        spread_weights(dense, 5)
        modules = [Pooling(48, "mean"), dense, Normalize()]
        save_with_sentence_transformers(folder, model.bfloat16(), tokenizer, modules, {})
        self.write_old_keys(folder.with_name("modernbert-old-keys"), tokens)
        self.check_old_keys(folder)

    def write_old_keys(self, folder: Path, tokens: dict) -> None:
        """config.json with the keys of answerdotai/ModernBERT-base, written by transformers 4.47."""
        config = {
            "architectures": ["ModernBertForMaskedLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "classifier_activation": "gelu",
            "classifier_bias": False,
            "classifier_dropout": 0.0,
            "classifier_pooling": "mean",
            "decoder_bias": True,
            "deterministic_flash_attn": False,
            "embedding_dropout": 0.0,
            "gradient_checkpointing": False,
            "hidden_activation": "gelu",
            "initializer_cutoff_factor": 2.0,
            "initializer_range": 0.02,
            "layer_norm_eps": 1e-05,
            "mlp_bias": False,
            "mlp_dropout": 0.0,
            "model_type": "modernbert",
            "norm_bias": False,
            "norm_eps": 1e-05,
            "position_embedding_type": "absolute",
            "tie_word_embeddings": True,
            "torch_dtype": "float32",
            "transformers_version": "4.47.0.dev0",
        }
        shutil.rmtree(folder, ignore_errors=True)
        write_json(folder / "config.json", dict(sorted((config | self.sizes | tokens).items())))

    def check_old_keys(self, folder: Path) -> None:
        old = transformers.AutoConfig.from_pretrained(folder.with_name("modernbert-old-keys"))
        new = transformers.AutoConfig.from_pretrained(folder)
        for key in ("rope_parameters", "layer_types", "local_attention", "norm_eps", "hidden_activation"):
            assert getattr(old, key) == getattr(new, key), key


class BertGeluNew(Case):
    folder_name = "bert-gelu-new"
    prefix = "bert."
    max_length = 64

    def write(self, folder: Path) -> None:
        tokenizer = word_piece(320)
        config = old_bert_config(
            tokenizer.get_vocab_size(),
            hidden_act="gelu_new",
            hidden_size=16,
            intermediate_size=24,
            max_position_embeddings=self.max_length,
            num_attention_heads=2,
            num_hidden_layers=1,
        )
        config["architectures"] = ["BertForMaskedLM"]
        model = transformers.BertForMaskedLM(transformers.BertConfig(**config))
        spread_weights(model, 6)
        tensors = {self.old_names(name): tensor.clone() for name, tensor in model.state_dict().items()}
        safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        write_json(folder / "config.json", config)
        write_old_layout(folder, 16, self.max_length, "weightedmean", normalize=False)
        write_old_bert_tokenizer(folder, tokenizer, self.max_length)

    @staticmethod
    def old_names(name: str) -> str:
        return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    def file_name(self, parameter: str) -> str:
        return self.prefix + self.old_names(parameter)


CASES: list[Case] = [Bert(), XlmRoberta(), Roberta(), ModernBert(), BertGeluNew()]


def save_with_sentence_transformers(folder, encoder, tokenizer, modules, prompts) -> None:
    with tempfile.TemporaryDirectory() as plain:
        encoder.save_pretrained(plain)
        tokenizer.save_pretrained(plain)
        model = SentenceTransformer(modules=[Transformer(plain), *modules], prompts=prompts, device="cpu")
        model.save(str(folder), create_model_card=False)


# --------------------------------------------------------- expected values


def load(folder: Path, dtype: torch.dtype) -> SentenceTransformer:
    # Left to itself transformers 5 computes in the file's number type, so in half precision.
    model = SentenceTransformer(
        str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32}
    )
    return model.to(dtype).eval()


@contextlib.contextmanager
def exact_rotation():
    """transformers rotates in float32 whatever the model's type; float64 gradients need it to stay in float64."""
    theirs = modeling_modernbert.apply_rotary_pos_emb
    modeling_modernbert.apply_rotary_pos_emb = rotate
    try:
        yield
    finally:
        modeling_modernbert.apply_rotary_pos_emb = theirs


def rotate(q, k, cos, sin, unsqueeze_dim=1):
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    half = modeling_modernbert.rotate_half
    return q * cos + half(q) * sin, k * cos + half(k) * sin


def token_ids(folder: Path, model: SentenceTransformer, max_length: int) -> list[list[int]]:
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    plain.enable_truncation(max_length)
    plain.no_padding()
    ids = [plain.encode(text).ids for text in TEXTS]
    # transformers 5 builds the tokenizer anew from the vocabulary and its own class; the two must agree.
    for text, expected in zip(TEXTS, ids):
        assert model.preprocess([text])["input_ids"][0].tolist() == expected, text
    return ids


def features(ids: list[int]) -> dict[str, Tensor]:
    return {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.int64)}


def hidden_states(model: SentenceTransformer, ids: list[int]) -> Tensor:
    return model[0].model(**features(ids)).last_hidden_state[0]


def vectors(model: SentenceTransformer, ids: list[list[int]]) -> Tensor:
    """One text at a time: no padding can leak."""
    return torch.cat([model(features(one))["sentence_embedding"] for one in ids])


def contrastive_loss(model: SentenceTransformer, queries: list[list[int]], passages: list[list[int]]) -> Tensor:
    q, p = (torch.nn.functional.normalize(vectors(model, ids), dim=-1) for ids in (queries, passages))
    return torch.nn.functional.cross_entropy(q @ p.T / 0.05, torch.arange(len(queries)))


def named_parameters(case: Case, model: SentenceTransformer, stored: set[str]) -> dict[str, torch.nn.Parameter]:
    """Parameters by their name in the files; those of other modules have the module's folder in front."""
    named = {}
    for name, parameter in model.named_parameters():
        if name.startswith("0.model."):
            name = case.file_name(name.removeprefix("0.model."))
        else:
            index, rest = name.split(".", 1)
            name = f"{index}_{type(model[int(index)]).__name__}.{rest}"
        # A pooler that the checkpoint lacks is made up by transformers.
        if name in stored or not name.removeprefix(case.prefix).startswith("pooler."):
            named[name] = parameter
    assert stored >= named.keys(), sorted(named.keys() - stored)
    return named


def stored_names(folder: Path) -> set[str]:
    names = set()
    for path in sorted(folder.rglob("*.safetensors")):
        if path.name != "expected.safetensors":
            front = "" if path.parent == folder else f"{path.parent.name}."
            names |= {front + name for name in safetensors.torch.load_file(path)}
    return names


def without_decay(name: str) -> bool:
    """Hugging Face's Trainer: no decay for biases and for every parameter of a normalisation."""
    return name.endswith("bias") or "norm" in name.rsplit(".", 2)[-2].lower()


STEPS = 50
TRAINING = {
    "optimizer": "AdamW",
    "steps": STEPS,
    "betas": [0.9, 0.999],
    "eps": 1e-8,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "schedule": "lr * (1 - step / steps), step from 0",
    "temperature": 0.05,
}


def train(case: Case, model: SentenceTransformer, ids: list[list[int]], stored: set[str]) -> dict[str, Tensor]:
    named = named_parameters(case, model, stored)
    groups = [
        {"params": [p for n, p in named.items() if not without_decay(n)], "weight_decay": TRAINING["weight_decay"]},
        {"params": [p for n, p in named.items() if without_decay(n)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=case.learning_rate, betas=tuple(TRAINING["betas"]), eps=TRAINING["eps"])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 - step / STEPS)
    losses, norms = [], []
    for step in range(STEPS):
        queries = BATCH_QUERIES[step % len(BATCH_QUERIES)]
        loss = contrastive_loss(model, [ids[i] for i in queries], [ids[PARTNER[i]] for i in queries])
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(named.values(), TRAINING["max_grad_norm"]).item())
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    with torch.no_grad():
        final = vectors(model, ids)
    return {
        "train_loss": torch.tensor(losses, dtype=torch.float64),
        "train_grad_norm": torch.tensor(norms, dtype=torch.float64),
        "trained_sentence": final,
    }


def expected(case: Case, folder: Path) -> None:
    model, double = load(folder, torch.float32), load(folder, torch.float64)
    stored = stored_names(folder)
    ids = token_ids(folder, model, case.max_length)
    offsets = list(itertools.accumulate(map(len, ids), initial=0))
    tensors: dict[str, Tensor] = {
        "tokens": torch.tensor(list(itertools.chain(*ids)), dtype=torch.int32),
        "offsets": torch.tensor(offsets, dtype=torch.int32),
    }
    exact: dict[str, Tensor] = {}

    with torch.no_grad():
        for which, into in ((model, tensors), (double, exact)):
            with exact_rotation() if which is double else contextlib.nullcontext():
                states = [hidden_states(which, one) for one in ids]
                into["hidden"] = torch.cat(states)
                for mode in ("mean", "cls", "max", "lasttoken", "weightedmean"):
                    pooling = Pooling(states[0].shape[1], mode)
                    pooled = [pooling({"token_embeddings": s.unsqueeze(0)})["sentence_embedding"] for s in states]
                    into[f"pooled_{mode}"] = torch.cat(pooled)
                into["sentence"] = vectors(which, ids)
    encoded = {"sentence": model.encode(TEXTS, convert_to_tensor=True)}
    if case.folder_name == "xlm-roberta":
        for name in PROMPTS:
            encoded[f"sentence_{name}"] = model.encode(TEXTS, prompt_name=name, convert_to_tensor=True)
    torch.testing.assert_close(encoded["sentence"], tensors["sentence"], rtol=1e-4, atol=1e-4)
    tensors |= encoded

    with exact_rotation():
        named = named_parameters(case, double, stored)
        pairs = [(ids[i], ids[PARTNER[i]]) for i in GRADIENT_QUERIES]
        loss = contrastive_loss(double, *map(list, zip(*pairs)))
        loss.backward()
    tensors["loss"] = loss.detach().float().reshape(1)
    gradients = {name: p.grad for name, p in named.items() if p.grad is not None}
    tensors |= {f"grad.{name}": without_zero_tail(name, g).float() for name, g in gradients.items()}

    facts = {
        "case": case.folder_name,
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "sentence_transformers": sentence_transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        "max_length": case.max_length,
        "texts": TEXTS,
        "modules": [type(module).__name__ for module in model],
        "pooling": model[1].pooling_mode,
        "unused_tensors": sorted(stored - named.keys()),
        "gradient": {
            "temperature": 0.05,
            "queries": GRADIENT_QUERIES,
            "passages": [PARTNER[i] for i in GRADIENT_QUERIES],
            "none": sorted(named.keys() - gradients.keys()),
            "zero": sorted(name for name, g in gradients.items() if g.abs().max() < 1e-12),
        },
        "float32_error": {name: error(tensors[name], value) for name, value in sorted(exact.items())},
    }

    if case.learning_rate:
        trained = train(case, model, ids, stored)
        # From the stored weights again: the gradients above are still held by `double`.
        double = load(folder, torch.float64)
        with exact_rotation():
            trained_exact = train(case, double, ids, stored)
        tensors |= {name: value.float() for name, value in trained.items()}
        facts["training"] = TRAINING | {
            "lr": case.learning_rate,
            "batches": [{"queries": b, "passages": [PARTNER[i] for i in b]} for b in BATCH_QUERIES],
            "without_decay": sorted(name for name in gradients if without_decay(name)),
            "float32_error": {name: error(trained[name], value) for name, value in trained_exact.items()},
        }

    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    safetensors.torch.save_file(tensors, folder / "expected.safetensors")
    write_json(folder / "expected.json", facts)


def without_zero_tail(name: str, gradient: Tensor) -> Tensor:
    """Of 512 positions the gradients' texts use the first hundred; the rows behind would be a fifth of all files."""
    if "position_embeddings" not in name:
        return gradient
    last = int(gradient.abs().sum(dim=1).nonzero().max())
    return gradient[: last + 1]


def error(single: Tensor, double: Tensor) -> float:
    """The largest difference between what float32 and float64 give, to two digits."""
    return float(f"{(single.double() - double.double()).abs().max().item():.1e}")


# -------------------------------------------------------------------- lora


def write_lora(out: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    warnings.simplefilter("ignore", FutureWarning)
    folder = out / "bert-lora"
    base = transformers.AutoModel.from_pretrained(out / "bert", dtype=torch.float32)
    # The base's path as a user's adapter_config.json would name a model of the Hub.
    base.config._name_or_path = base.name_or_path = "../bert"
    adapted = get_peft_model(
        base,
        LoraConfig(task_type="FEATURE_EXTRACTION", r=4, lora_alpha=8, target_modules=["query", "value"]),
    )
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in sorted(adapted.named_parameters()):
            if "lora_" in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    with warnings.catch_warnings():
        # It misses the base's config.json, as ../bert is seen from the working folder.
        warnings.simplefilter("ignore")
        adapted.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    # A set in PEFT, so in another order at each run.
    config["target_modules"].sort()
    write_json(folder / "adapter_config.json", config)

    model = load(out / "bert", torch.float32)
    plain = model.encode(TEXTS, convert_to_tensor=True)
    model[0].model = PeftModel.from_pretrained(model[0].model, folder).merge_and_unload()
    sentence = model.encode(TEXTS, convert_to_tensor=True)
    assert (sentence - plain).abs().max() > 0.05
    safetensors.torch.save_file({"sentence": sentence}, folder / "expected.safetensors")
    write_json(folder / "expected.json", {"case": "bert-lora", "base": "../bert", "texts": TEXTS})


# -------------------------------------------------------------------- main


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the cases")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="only these cases")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for case in CASES:
        if args.cases and case.folder_name not in args.cases:
            continue
        folder = args.out / case.folder_name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        case.write(folder)
        expected(case, folder)
        check_loads(folder)
        print(f"{case.folder_name:20} {size_of(folder):9,} bytes", flush=True)
    if not args.cases or "bert-lora" in args.cases:
        shutil.rmtree(args.out / "bert-lora", ignore_errors=True)
        write_lora(args.out)
        print(f"{'bert-lora':20} {size_of(args.out / 'bert-lora'):9,} bytes")
    for path in args.out.rglob("*.safetensors"):
        path.chmod(0o644)
    total = size_of(args.out)
    print(f"{'all':20} {total:9,} bytes")
    assert total <= MAX_BYTES, "the fixtures grew too large for the repository"


def check_loads(folder: Path) -> None:
    """As a user would load it, in the number type of the file."""
    vectors = SentenceTransformer(str(folder), device="cpu", local_files_only=True).encode(TEXTS)
    wanted = safetensors.torch.load_file(folder / "expected.safetensors")["sentence"]
    torch.testing.assert_close(torch.tensor(vectors).float(), wanted, rtol=0.1, atol=0.1)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
