"""Checks that a smaller vocabulary changes nothing for the tokens that stay, with other code: the libraries tokenizers and
ONNX Runtime.

    python tests/vocabulary.py --tool target/debug/onnx-prune
    python tests/vocabulary.py --tool target/debug/onnx-prune --model M.onnx --tokenizer tokenizer.json --ids S.npz [--rows R.npy]

The first trains tokenizers of every kind on made-up sentences and gives each a small language model. The second takes a model, its
tokenizer, and sentences as an archive of `input_ids` (they are decoded to text); R.npy has the tokenizer's ids of the model's rows,
where these are not all. Either way half of the tokens stay: those of 1,000 sentences, and others. Then

  - the smaller tokenizer must split each sentence into the same tokens, with the ids of OUT.tokens.json;
  - the smaller model must give for them what the original gives for the old ids.

Needs numpy, onnx, onnxruntime and tokenizers. Exit code 1 if a check fails.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SENTENCES = 1000
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
TOLERANCE = 1e-5


def sentences(count, seed):
    """Sentences of made-up words, frequent and rare ones."""
    rng = np.random.default_rng(seed)
    syllables = ["ba", "de", "ki", "lo", "mu", "na", "pe", "ro", "si", "tu", "wa", "zé"]
    words = ["".join(rng.choice(syllables, rng.integers(1, 5))) for _ in range(800)]
    share = 1 / np.arange(1, len(words) + 1)
    draw = lambda: " ".join(rng.choice(words, rng.integers(3, 12), p=share / share.sum()))
    return [draw() for _ in range(count)]


def trained(kind, texts):
    """A tokenizer of a kind."""
    options = {"vocab_size": 1500, "special_tokens": SPECIAL, "show_progress": False}
    if kind == "WordPiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.pre_tokenizer, trainer = pre_tokenizers.Whitespace(), trainers.WordPieceTrainer(**options)
    elif kind == "BPE":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
        trainer = trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **options)
    elif kind == "Unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(unk_token="[UNK]", **options)
    else:
        tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
        tokenizer.pre_tokenizer, trainer = pre_tokenizers.Whitespace(), trainers.WordLevelTrainer(**options)
    tokenizer.train_from_iterator(texts, trainer)
    around = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=around)
    return tokenizer


def language_model(rows, seed):
    """An embedding, one layer, and a projection that is tied to the embedding."""
    rng = np.random.default_rng(seed)
    weights = {"table": (rows, 32), "layer": (32, 32), "bias": (rows,)}
    stored = [numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name) for name, shape in weights.items()]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["e"]),
        helper.make_node("MatMul", ["e", "layer"], ["m"]),
        helper.make_node("Tanh", ["m"], ["h"]),
        helper.make_node("Transpose", ["table"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["h", "turned"], ["p"]),
        helper.make_node("Add", ["p", "bias"], ["logits"]),
    ]
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "s"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", "s", rows])
    graph = helper.make_graph(nodes, "language_model", [ids], [logits], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def of_rows(tokenizer, rows):
    """The text of a tokenizer of word pieces with these ids alone, counted by their places."""
    cut = json.loads(tokenizer.to_str())
    new = {int(old): place for place, old in enumerate(rows)}
    renumbered = lambda ids: [new[old] for old in ids]
    cut["model"]["vocab"] = {token: new[old] for token, old in cut["model"]["vocab"].items() if old in new}
    cut["added_tokens"] = [dict(token, id=new[token["id"]]) for token in cut["added_tokens"] if token["id"] in new]
    cut["padding"] = cut["truncation"] = None
    for token in cut["post_processor"]["special_tokens"].values():
        token["ids"] = renumbered(token["ids"])
    return json.dumps(cut, ensure_ascii=False)


def feeds(session, ids):
    """One sentence as the inputs of a model: ids, all of them looked at, of one sentence."""
    named = {"input_ids": np.array([ids], np.int64)}
    for value in session.get_inputs():
        if value.name not in named:
            fill = np.ones if "mask" in value.name else np.zeros
            named[value.name] = fill((1, len(ids)), np.int64)
    return named


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def check(name, tool, folder, texts):
    """Cuts the model in a folder to half of its tokens and compares. Returns whether all is the same."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    texts = texts[:SENTENCES]
    before = [tokenizer.encode(text) for text in texts]
    used = sorted({token for encoding in before for token in encoding.tokens})
    others = [token for token in sorted(tokenizer.get_vocab()) if token not in set(used)]
    others = np.random.default_rng(1).permutation(others)[: max(0, tokenizer.get_vocab_size() // 2 - len(used))]
    (folder / "keep.txt").write_text("\n".join([*used, *others, "[PAD]"]) + "\n", encoding="utf-8")
    (folder / "small").mkdir()
    out = folder / "small/model.onnx"
    command = [tool, folder / "model.onnx", "-o", out, "--keep-tokens", folder / "keep.txt", "-q"]
    subprocess.run([str(word) for word in command], check=True)
    ids = {int(old): new for old, new in json.loads((folder / "small/model.tokens.json").read_text())["ids"].items()}
    smaller = Tokenizer.from_file(str(folder / "small/tokenizer.json"))
    after = [smaller.encode(text) for text in texts]
    split = sum(
        one.tokens == other.tokens and [ids[old] for old in one.ids] == other.ids for one, other in zip(before, after)
    )
    original, cut = session(folder / "model.onnx"), session(out)
    kept, worst = sorted(ids), 0.0
    for one, other in zip(before, after):
        pairs = zip(original.run(None, feeds(original, one.ids)), cut.run(None, feeds(cut, other.ids)))
        for whole, left in pairs:
            whole = whole[..., kept] if whole.shape != left.shape else whole
            worst = max(worst, float(np.abs(whole - left).max() / np.abs(whole).max()))
    print(
        f"{name}: {len(ids)} of {tokenizer.get_vocab_size()} tokens; {split} of {len(texts)} sentences split alike; "
        f"outputs differ by {worst:.1e} at most"
    )
    return split == len(texts) and worst <= TOLERANCE


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tool", required=True, type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--ids", type=Path)
    parser.add_argument("--rows", type=Path)
    args = parser.parse_args()
    good = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if args.model:
            tokenizer = Tokenizer.from_file(str(args.tokenizer))
            text = of_rows(tokenizer, np.load(args.rows)) if args.rows else tokenizer.to_str()
            shutil.copy(args.model, folder / "model.onnx")
            (folder / "tokenizer.json").write_text(text, encoding="utf-8")
            own = Tokenizer.from_str(text)
            texts = [own.decode(row) for row in np.load(args.ids)["input_ids"][:SENTENCES].tolist()]
            good.append(check(args.model.stem, args.tool, folder, texts))
        else:
            texts = sentences(4 * SENTENCES, 0)
            for kind in ("WordPiece", "BPE", "Unigram", "WordLevel"):
                own = folder / kind
                own.mkdir()
                tokenizer = trained(kind, texts)
                tokenizer.save(str(own / "tokenizer.json"))
                onnx.save(language_model(tokenizer.get_vocab_size(), 2), str(own / "model.onnx"))
                # Sentences of the frequent words: half of the tokens have to do for them.
                short = sorted(texts, key=lambda text: (len(text.split()), text))
                good.append(check(kind, args.tool, own, short))
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
