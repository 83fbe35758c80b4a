"""Writes tests/models/encoders: tiny encoders with random weights, one for each family that scripts/export/text.py exports and for each
head, and what transformers and sentence-transformers make of texts with them; and one as Optimum leaves it, without a manifest.

    python scripts/golden/encoders.py [MODEL …]

needs what scripts/export/text.py needs, and sentence-transformers (6.2). Each folder's `reference.json` says what is in it.
"""

from __future__ import annotations

import json
import pathlib
import platform
import shutil
import sys
import tempfile

import sentence_transformers
import tokenizers
import torch
import transformers
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from sentence_transformers.sparse_encoder.modules import SpladePooling
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors
from transformers.convert_slow_tokenizer import bytes_to_unicode

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "scripts/export")]
import text  # noqa: E402
from encoder import export as encoders  # noqa: E402

OUTPUT = ROOT / "tests/models/encoders"
CONTEXT = 96
TEXTS = ["the lamb", "In the beginning God created the heaven, and the earth!", "a", "light and darkness; day and night", "wait, 12 days?"]
PROMPTS = {"query": "query: ", "passage": "passage: ", "clustering": "sort this: "}
LABELS = {0: "joy", 1: "anger", 2: "fear"}
WORDS = "the and of to in lamb light god day night earth heaven ##ed ##ing ##ness begin dark create"
BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
SHAPE = {
    "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.2,
    "pad_token_id": 0,
}  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name in sys.argv[1:] or MODELS:
        torch.manual_seed(sum(name.encode()))
        shutil.rmtree(OUTPUT / name, ignore_errors=True)
        folder = OUTPUT / name / "1"
        folder.mkdir(parents=True)
        with tempfile.TemporaryDirectory() as checkpoint:
            reference = MODELS[name](pathlib.Path(checkpoint), folder)
        (folder / "reference.json").write_text(json.dumps({"about": about(name)} | rounded(reference), indent=1) + "\n")
        print(f"{name}: {sum(file.stat().st_size for file in folder.rglob('*') if file.is_file()) / 1e3:.0f} KB")


def about(name: str) -> dict:
    return {
        "model": name,
        "made_by": "scripts/golden/encoders.py: transformers and sentence-transformers in float32",
        "versions": {
            "python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
            "sentence_transformers": sentence_transformers.__version__,
        },
    }  # fmt: skip


def rounded(value):
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return round(value, 7) if isinstance(value, float) else value


# --- What the models are.


def word_piece() -> transformers.PreTrainedTokenizerFast:
    """Pieces of one character, some words and endings; [CLS] A [SEP], [CLS] A [SEP] B [SEP]."""
    characters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    pieces = [*BERT_SPECIAL, *characters, *(f"##{character}" for character in characters), *WORDS.split()]
    made = tokenizers.Tokenizer(models.WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
        model_max_length=CONTEXT, model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip


def byte_level() -> transformers.PreTrainedTokenizerFast:
    """A token for each byte below 0xF8, a blank among them; <s> A </s>, <s> A </s></s> B </s>; the mask takes in blanks before it."""
    characters = bytes_to_unicode()
    vocabulary = {token: index for index, token in enumerate(ROBERTA_SPECIAL[:-1])}
    vocabulary |= {characters[byte]: byte + 4 for byte in range(248)} | {"<mask>": 252}
    made = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    mask = tokenizers.AddedToken("<mask>", lstrip=True, special=True)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>", pad_token="<pad>", unk_token="<unk>",
        mask_token=mask, model_max_length=CONTEXT, model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def unigram() -> transformers.PreTrainedTokenizerFast:
    """Characters and some words behind a mark for blanks, as XLM-RoBERTa has them."""
    characters = [chr(code) for code in range(33, 127)]
    pieces = [*ROBERTA_SPECIAL[:-1], "▁", *characters, *(f"▁{word}" for word in WORDS.split() if word.isalpha()), "<mask>"]
    scores = [(piece, 0.0 if index < 4 else -1.0 - index / 50) for index, piece in enumerate(pieces)]
    made = tokenizers.Tokenizer(models.Unigram(scores, unk_id=3))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    mask = tokenizers.AddedToken("<mask>", lstrip=True, special=True)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>", pad_token="<pad>", unk_token="<unk>",
        mask_token=mask, model_max_length=CONTEXT, model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def bert(tokenizer, **more) -> transformers.BertConfig:
    return transformers.BertConfig(**SHAPE, vocab_size=len(tokenizer), max_position_embeddings=CONTEXT, **more)


def roberta(tokenizer, kind=transformers.RobertaConfig, **more):
    shape = SHAPE | {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    return kind(**shape, vocab_size=len(tokenizer), max_position_embeddings=CONTEXT + 2, type_vocab_size=1, layer_norm_eps=1e-5, **more)


def distilbert(tokenizer, **more) -> transformers.DistilBertConfig:
    return transformers.DistilBertConfig(
        vocab_size=len(tokenizer), dim=32, hidden_dim=40, n_layers=2, n_heads=2, max_position_embeddings=CONTEXT, initializer_range=0.2,
        pad_token_id=0, **more,
    )  # fmt: skip


def mpnet(tokenizer) -> transformers.MPNetConfig:
    shape = SHAPE | {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    return transformers.MPNetConfig(**shape, vocab_size=len(tokenizer), max_position_embeddings=CONTEXT + 2)


@torch.no_grad()
def drawn(kind, config, tokenizer, checkpoint: pathlib.Path):
    """A model with random weights, whose norms and biases are not the ones and zeros that they start with."""
    model = kind._from_config(config, attn_implementation="eager").eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(checkpoint)
    tokenizer.save_pretrained(checkpoint)
    return model


def export(checkpoint: pathlib.Path, folder: pathlib.Path, *more: str) -> None:
    options = text.parsed([str(checkpoint), str(folder), "--license", "Apache-2.0", "--overwrite", "--name", f"tiny-{folder.parent.name}", *more])
    config = transformers.AutoConfig.from_pretrained(checkpoint)
    # A temporary folder is no source to name.
    encoders.export(config, options, f"python scripts/golden/encoders.py {folder.parent.name}", source=f"random weights, {config.model_type}")


# --- What the references make of texts.


def embedding(kind, config, tokenizer, pooling: str, normalize: bool, prompts: dict, checkpoint: pathlib.Path) -> dict:
    """A sentence-transformers folder, and its embeddings."""
    drawn(kind, config, tokenizer, checkpoint)
    body = Transformer(str(checkpoint), max_seq_length=40, model_kwargs={"attn_implementation": "eager"})
    modules = [body, Pooling(32, pooling_mode=pooling)]
    modules += [Normalize()] if normalize else []
    model = SentenceTransformer(modules=modules, prompts=prompts, device="cpu")
    model.save(str(checkpoint), create_model_card=False)
    long = "the night and the day " * 12
    tokens = model.encode(TEXTS[:2], output_value="token_embeddings")
    return {
        "texts": TEXTS,
        "ids": [tokenizer(text).input_ids for text in TEXTS],
        "embeddings": model.encode(TEXTS).tolist(),
        "unit_of_first_8": model.encode(TEXTS, truncate_dim=8, normalize_embeddings=True).tolist(),
        "as_query": model.encode_query(TEXTS).tolist(),
        "as_document": model.encode_document(TEXTS).tolist(),
        "by_prompt": {name: model.encode(TEXTS, prompt_name=name).tolist() for name in prompts},
        "tokens": [vectors.tolist() for vectors in tokens],
        "cut_at_40_tokens": {"text": long, "embedding": model.encode(long).tolist()},
    }


@torch.no_grad()
def filled(model, tokenizer, mask: str) -> dict:
    """Probabilities of tokens for masks, and SPLADE's weights."""
    texts = [f"the {mask} and the light", f"{mask} of day{mask} night", f"[SEP] </s> {mask}"]
    found = []
    for passage in texts:
        encoded = tokenizer(passage, return_tensors="pt")
        if passage == texts[2]:
            # Special tokens other than the mask are text: what stands before the mask is encoded so.
            before = tokenizer.backend_tokenizer
            before.encode_special_tokens = True
            ids = before.encode("[SEP] </s> ".rstrip() if "<" in mask else "[SEP] </s> ", add_special_tokens=False).ids
            before.encode_special_tokens = False
            encoded = {"input_ids": torch.tensor([[tokenizer.cls_token_id, *ids, tokenizer.mask_token_id, tokenizer.sep_token_id]])}
        ids = encoded["input_ids"][0]
        logits = model(**encoded).logits[0].softmax(-1)
        best = [logits[place].topk(5) for place in (ids == tokenizer.mask_token_id).nonzero()[:, 0]]
        found.append([[{"id": int(i), "token": tokenizer.decode([int(i)]), "score": float(p)} for p, i in zip(*top)] for top in best])
    ids = tokenizer(texts[0], return_tensors="pt")["input_ids"]
    place = int((ids[0] == tokenizer.mask_token_id).nonzero()[0, 0])
    scores = model(ids).logits[0, place].softmax(-1)
    targets = {target: float(scores[tokenizer(target, add_special_tokens=False).input_ids[0]]) for target in ("a", "b", "?")}
    return {"texts": texts, "filled": found, "targets": targets}


def splade(checkpoint: pathlib.Path) -> dict:
    body = Transformer(str(checkpoint), transformer_task="fill-mask", model_kwargs={"attn_implementation": "eager"})
    model = SparseEncoder(modules=[body, SpladePooling("max")], device="cpu")
    weights = model.encode(TEXTS, convert_to_sparse_tensor=False)
    return {"sparse_texts": TEXTS, "sparse": [{str(i): float(row[i]) for i in row.nonzero()[:, 0].tolist()} for row in weights]}


@torch.no_grad()
def classified(model, tokenizer, activation, pairs: bool) -> dict:
    inputs = [[text, other] for text, other in zip(TEXTS, TEXTS[1:])] if pairs else [[text] for text in TEXTS]
    logits = [model(**tokenizer(*members, return_tensors="pt")).logits[0] for members in inputs]
    return {"inputs": inputs, "logits": [row.tolist() for row in logits], "scores": [activation(row).tolist() for row in logits]}


# --- The models.


def bert_embedding(checkpoint, folder) -> dict:
    tokenizer = word_piece()
    reference = embedding(transformers.BertModel, bert(tokenizer), tokenizer, "mean", True, PROMPTS, checkpoint)
    export(checkpoint, folder)
    return reference


def xlm_roberta_embedding(checkpoint, folder) -> dict:
    tokenizer = unigram()
    config = roberta(tokenizer, transformers.XLMRobertaConfig)
    reference = embedding(transformers.XLMRobertaModel, config, tokenizer, "cls", False, {}, checkpoint)
    export(checkpoint, folder)
    return reference


def mpnet_embedding(checkpoint, folder) -> dict:
    tokenizer = byte_level()
    reference = embedding(transformers.MPNetModel, mpnet(tokenizer), tokenizer, "lasttoken", True, {}, checkpoint)
    export(checkpoint, folder, "--padding")
    return reference


def distilbert_embedding(checkpoint, folder) -> dict:
    tokenizer = word_piece()
    reference = embedding(transformers.DistilBertModel, distilbert(tokenizer), tokenizer, "max", False, {}, checkpoint)
    export(checkpoint, folder)
    return reference


def bert_mlm(checkpoint, folder) -> dict:
    tokenizer = word_piece()
    model = drawn(transformers.BertForMaskedLM, bert(tokenizer), tokenizer, checkpoint)
    export(checkpoint, folder)
    return filled(model, tokenizer, "[MASK]") | splade(checkpoint)


def roberta_mlm(checkpoint, folder) -> dict:
    tokenizer = byte_level()
    model = drawn(transformers.RobertaForMaskedLM, roberta(tokenizer), tokenizer, checkpoint)
    export(checkpoint, folder)
    return filled(model, tokenizer, "<mask>") | splade(checkpoint)


def bert_rerank(checkpoint, folder) -> dict:
    tokenizer = word_piece()
    drawn(transformers.BertForSequenceClassification, bert(tokenizer, num_labels=1), tokenizer, checkpoint)
    export(checkpoint, folder)
    model = CrossEncoder(str(checkpoint), device="cpu", model_kwargs={"attn_implementation": "eager"})
    query, documents = "what is light?", [*TEXTS, "the night and the day " * 30]
    raw = model.predict([[query, document] for document in documents], activation_fn=torch.nn.Identity())
    ranked = model.rank(query, documents, top_k=3)
    return {
        "query": query,
        "documents": documents,
        "raw": raw.tolist(),
        "scores": torch.tensor(raw).sigmoid().tolist(),
        "best": [int(row["corpus_id"]) for row in ranked],
    }


def distilbert_classify(checkpoint, folder) -> dict:
    tokenizer = word_piece()
    config = distilbert(tokenizer, id2label=LABELS, label2id={label: index for index, label in LABELS.items()})
    model = drawn(transformers.DistilBertForSequenceClassification, config, tokenizer, checkpoint)
    export(checkpoint, folder)
    return classified(model, tokenizer, lambda logits: logits.softmax(-1), pairs=False)


def roberta_classify(checkpoint, folder) -> dict:
    tokenizer = byte_level()
    config = roberta(tokenizer, num_labels=4, problem_type="multi_label_classification")
    model = drawn(transformers.RobertaForSequenceClassification, config, tokenizer, checkpoint)
    export(checkpoint, folder)
    return classified(model, tokenizer, torch.sigmoid, pairs=True)


class TokenVectors(torch.nn.Module):
    """The arguments in the order of the graph's inputs."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state


def bare(checkpoint, folder) -> dict:
    """As Optimum leaves a sentence-transformers model: model.onnx beside the files that were there."""
    tokenizer = word_piece()
    reference = embedding(transformers.BertModel, bert(tokenizer), tokenizer, "cls", True, PROMPTS, checkpoint)
    model = transformers.BertModel.from_pretrained(checkpoint, attn_implementation="eager", add_pooling_layer=False)
    example = tuple(torch.full((2, 9), value, dtype=torch.int64) for value in (7, 1, 0))
    sizes = {0: torch.export.Dim("batch_size", min=1, max=4096), 1: torch.export.Dim("sequence_length", min=2, max=CONTEXT)}
    program = torch.onnx.export(
        TokenVectors(model).eval(), example, input_names=["input_ids", "attention_mask", "token_type_ids"],
        output_names=["last_hidden_state"], dynamic_shapes=(sizes, sizes, sizes), opset_version=20, dynamo=True, verbose=False,
    )  # fmt: skip
    program.save(str(folder / "model.onnx"), external_data=False)
    text.folder.strip(folder / "model.onnx")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "modules.json", "sentence_bert_config.json",
                 "config_sentence_transformers.json"):  # fmt: skip
        shutil.copy(checkpoint / name, folder / name)
    (folder / "1_Pooling").mkdir()
    shutil.copy(checkpoint / "1_Pooling/config.json", folder / "1_Pooling/config.json")
    return reference


MODELS = {
    "bert": bert_embedding,
    "bert-mlm": bert_mlm,
    "bert-optimum": bare,
    "bert-rerank": bert_rerank,
    "distilbert": distilbert_embedding,
    "distilbert-classify": distilbert_classify,
    "mpnet": mpnet_embedding,
    "roberta-classify": roberta_classify,
    "roberta-mlm": roberta_mlm,
    "xlm-roberta": xlm_roberta_embedding,
}


if __name__ == "__main__":
    main()
