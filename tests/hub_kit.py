"""Teachers as a model hub serves them, but tiny and of random weights: the same architecture, special tokens and quirks.

BART: `<s> text </s>`, a bias on the logits, first and last token forced, tied embeddings. T5: a unigram tokenizer without
a beginning of text, a tied head that is scaled, an embedding table padded past the tokenizer. GPT-2: one special token
for everything and no padding.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

torch.set_num_threads(1)


def bart_folder(folder: Path, texts: Sequence[str]) -> Path:
    """A BART of 4 + 3 layers; its positions allow 1024 tokens, as the real one's."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = _byte_level(texts, special)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
    )
    config = BartConfig(
        vocab_size=len(fast),
        d_model=16,
        encoder_layers=4,
        decoder_layers=3,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
    )
    model = BartForConditionalGeneration(config)
    _spread(model, 8.0)
    with torch.no_grad():
        model.final_logits_bias.copy_(torch.randn(1, len(fast), generator=torch.Generator().manual_seed(1)))
    _save(folder, model, fast)
    # The hub's BART says in its model's configuration what decoding forces, as was usual in its day.
    (folder / "generation_config.json").unlink()
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"forced_bos_token_id": 0, "forced_eos_token_id": 2}))
    return folder


def t5_folder(folder: Path, texts: Sequence[str]) -> Path:
    """A T5 of 4 + 2 layers whose table of embeddings is longer than its tokenizer."""
    special = ["<pad>", "</s>", "<unk>"]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        texts,
        trainers.UnigramTrainer(vocab_size=150, special_tokens=special, unk_token="<unk>", show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    config = T5Config(
        vocab_size=len(fast) + 28,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_heads=2,
        num_layers=4,
        num_decoder_layers=2,
        decoder_start_token_id=0,
    )
    model = T5ForConditionalGeneration(config)
    _spread(model, 3.0)
    return _save(folder, model, fast)


def gpt2_folder(folder: Path, texts: Sequence[str]) -> Path:
    """A GPT-2 of 5 layers, like DialoGPT: <|endoftext|> begins, ends and pads, and there is no token for padding."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=_byte_level(texts, ["<|endoftext|>"]),
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        unk_token="<|endoftext|>",
    )
    config = GPT2Config(
        vocab_size=len(fast), n_embd=16, n_layer=5, n_head=2, n_positions=1024, bos_token_id=0, eos_token_id=0
    )
    model = GPT2LMHeadModel(config)
    _spread(model, 8.0)
    return _save(folder, model, fast)


def smollm2_folder(folder: Path, texts: Sequence[str]) -> Path:
    """A Llama of 5 layers with the chat template of SmolLM2 and its special tokens."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=_byte_level(texts, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]),
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        pad_token="<|im_end|>",
    )
    fast.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=5,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    _spread(model, 8.0)
    return _save(folder, model, fast)


def _byte_level(texts: Sequence[str], special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _spread(model: Any, factor: float) -> None:
    """Larger weights than usual, so that next-token distributions are far from uniform."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(factor)


def _save(folder: Path, model: Any, tokenizer: Any) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


# --------------------------------------------------------------------------- data in the original formats

FACTS = [
    ("Mars Hill College", "JOINED", "1973", "A school named Mars Hill College joined in 1973."),
    ("Mars Hill College", "Location", "Mars Hill", "Mars Hill College is in Mars Hill."),
    ("Kettle", "foodType", "Thai", "The Kettle serves Thai food."),
    ("Lantern", "nearTo", "Oak", "The Lantern stands near the Oak."),
    ("Oak", "Capacity", "120", "The Oak holds 120 people."),
    ("Fox", "Owner", "Ann Bell", "Ann Bell owns the Fox."),
]


def dart_json(path: Path) -> Path:
    """Six entries of DART's json; the first has two texts, the third two triples."""
    entries = [{"tripleset": [[s, r, o]], "annotations": [{"source": "x", "text": t}]} for s, r, o, t in FACTS]
    entries[0]["annotations"].append({"source": "x", "text": "Mars Hill College joined in 1973."})
    entries[2]["tripleset"].append(["Kettle", "PRICE_RANGE", "low"])
    path.write_text(json.dumps(entries))
    return path


def dart_xml(path: Path) -> Path:
    """Six entries of DART's xml."""
    entries = "".join(
        f'<entry category="MISC" eid="Id{i}" size="1"><modifiedtripleset><mtriple>{s} | {r} | {o}</mtriple>'
        f'</modifiedtripleset><lex comment="good" lid="Id1">{t}</lex></entry>'
        for i, (s, r, o, t) in enumerate(FACTS)
    )
    path.write_text(f'<?xml version="1.0"?><benchmark><entries>{entries}</entries></benchmark>')
    return path


def xsum_rows(path: Path) -> Path:
    """Six documents and their summaries as the hub's columns, in JSON lines."""
    rows = [
        {"document": f"{s} was in the news. {t} People spoke about {o}.", "summary": t, "id": str(i)}
        for i, (s, _, o, t) in enumerate(FACTS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def wmt_rows(path: Path) -> Path:
    """Six pairs as the hub's JSON lines."""
    pairs = [
        ("The house is large.", "Casa este mare."),
        ("The garden is small.", "Grădina este mică."),
        ("We thank you.", "Vă mulțumim."),
        ("Open the window.", "Deschide fereastra."),
        ("The train leaves at noon.", "Trenul pleacă la amiază."),
        ("I do not know.", "Nu știu."),
    ]
    rows = [{"translation": {"en": en, "ro": ro}} for en, ro in pairs]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def dialogues(path: Path) -> Path:
    """Three dialogues of Commonsense-Dialogues' json, of two or three turns."""
    talks = [
        ("Ann lost her keys.", ["I cannot find my keys.", "Look under the table.", "There they are!"]),
        ("Bo baked bread.", ["It smells good.", "Have a piece."]),
        ("Cy moved to a new town.", ["Do you like it there?", "It is quiet."]),
    ]
    found = {str(i): {"context": c, "speaker": c.split()[0], "turns": turns} for i, (c, turns) in enumerate(talks)}
    path.write_text(json.dumps(found))
    return path


DATA: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "dart": ("entries.json", dart_json),
    "xsum": ("rows.jsonl", xsum_rows),
    "wmt16-en-ro": ("pairs.jsonl", wmt_rows),
    "commonsense-dialogue": ("dialogues.json", dialogues),
}
TEACHERS: dict[str, Callable[[Path, Sequence[str]], Path]] = {
    "dart": bart_folder,
    "xsum": bart_folder,
    "wmt16-en-ro": t5_folder,
    "commonsense-dialogue": gpt2_folder,
}
