"""Exports a Hugging Face model as an ONNX graph, checks it against torch, and writes a model folder that Quintet serves.

    python scripts/export/text.py Qwen/Qwen3-0.6B models/qwen3-0.6b/1 --weights int8
    python scripts/export/text.py BAAI/bge-small-en-v1.5 models/bge-small/1

needs torch, transformers, onnx and onnxruntime (scripts/train/requirements.txt). Decoders: {decoders}.
Encoders, for embeddings or with the head that their config.json names: {encoders}.
Encoder–decoders: {pairs}.
"""

from __future__ import annotations

import argparse
import pathlib
import shlex
import sys
import tempfile

import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "scripts/export"), str(ROOT / "scripts/train")]
import destination  # noqa: E402
import folder  # noqa: E402
from decoder import cache, card, families, packed, parity, runs, weights  # noqa: E402
from decoder.anatomy import Unsupported  # noqa: E402
from decoder.report import Report  # noqa: E402
from encoder import export as encoders  # noqa: E402
from encoder import families as encoder_families  # noqa: E402
from seq2seq import export as seq2seq  # noqa: E402
from seq2seq import families as pairs  # noqa: E402

# Largest difference of logits to torch, over the largest logit (over 1 where that is smaller).
FULL_TOLERANCE = 1e-3
# What rounding the activations may cost, as a share of the logits' size. It adds up over the layers: 24 of random weights lose 0.031.
ROUNDED_TOLERANCE = 0.05
# One scale for a row's activations loses more than one for each block: there 0.053.
ROW_TOLERANCE = 0.08
# So does one scale for all activations of a run.
DYNAMIC_TOLERANCE = 0.08
# What rounding the keys and values may cost besides.
CACHE_TOLERANCE = 0.03


def main() -> None:
    options = parsed()
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    try:
        config = transformers.AutoConfig.from_pretrained(options.model)
        exporter = exporter_of(config.model_type)
        destination.check(options.output, options.overwrite)
        exporter(config, options, shlex.join(["python", "scripts/export/text.py", *sys.argv[1:]]))
    except (Unsupported, OSError) as error:
        sys.exit(f"error: {error}")


def exporter_of(model_type: str):
    """What exports models of this type: a function of the configuration, the options and the command."""
    exporters = [(families.READERS, export_decoder), (encoder_families.READERS, encoders.export), (pairs.READERS, export_pair)]
    for readers, exporter in exporters:
        if model_type in readers:
            return exporter
    known = [name for readers, _ in exporters for name in readers]
    raise Unsupported(f"model_type {model_type!r} is not supported: {', '.join(known)} are")


def export_decoder(config, options: argparse.Namespace, command: str) -> None:
    context = families.check(config, options.context)
    form = weights.named(options.weights, options.block_size)
    print(f"reading {options.model}", flush=True)
    loaded = load(options.model)
    with destination.written(options.output, options.overwrite):
        export(*loaded, context, form, options, command)


def export_pair(config, options: argparse.Namespace, command: str) -> None:
    context = seq2seq.check(config, options)
    print(f"reading {options.model}", flush=True)
    loaded = seq2seq.load(options.model)
    with destination.written(options.output, options.overwrite):
        seq2seq.export(*loaded, context, options, command, judge)


def load(source: str):
    """A model in float32, and its tokenizer."""
    model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, attn_implementation="eager")
    return model.eval(), transformers.AutoTokenizer.from_pretrained(source)


def export(model, tokenizer, context: int, form: weights.Weights, options: argparse.Namespace, command: str) -> None:
    """Writes the model folder; exits with a message where the graph does not do what torch does."""
    output, path = options.output, options.output / "model.onnx"
    anatomy = families.read(model, context)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    family, size = model.config.model_type, card.size(parameters)
    print(f"writing {path}: {family}, {size} parameters, {options.weights}, context {context}", flush=True)
    half = options.device == "cuda"
    scales = calibrated(tokenizer, anatomy, options) if options.cache == "int8" else None
    packed.packed_graph(anatomy, form, options.ragged, half, scales).save(path)
    section = {"graph": path.name, "form": "packed"}
    if options.weights in weights.DEPENDENT or half:
        section["batch_invariant"] = False
    if options.decode_weights:
        section["decode_graph"] = "decode.onnx"
        steps = weights.named(options.decode_weights, options.block_size)
        # Both read and write one cache.
        packed.packed_graph(anatomy, steps, options.ragged, half, scales).save(output / section["decode_graph"])
    save_settings(model, tokenizer, context, output)

    print("comparing with torch", flush=True)
    texts = parity.texts(anatomy)
    original = parity.truth(model, texts)
    matrices = parity.matrices(model)
    report = compared(model, path, options.weights, form, anatomy, texts, original, options)
    if options.decode_weights:
        parity.restore(model, matrices)
        print(f"comparing {section['decode_graph']} with torch", flush=True)
        compared(model, output / section["decode_graph"], options.decode_weights, steps, anatomy, texts, original, options)

    name = options.name or pathlib.PurePath(options.model.rstrip("/")).name
    calibration = None
    if scales is not None:
        calibration = f"the texts of {options.calibration.name}" if options.calibration else "random tokens"
    about = card.Export(name, options.model, options.license, family, parameters, options.weights, options.ragged, calibration, command)
    folder.write(
        output,
        kind="causal-lm",
        description=f"{name}, {size} parameters, {options.weights}",
        license=options.license,
        training_data=[f"what {options.model} was trained with"],
        section=section,
        golden=golden_pairs(path, tokenizer, anatomy),
        # Kernels for rounded activations differ between kinds of processor, and so does what is rounded up and what down.
        golden_tolerance=FULL_TOLERANCE if options.weights == "fp32" and scales is None else 0.05,
        card=card.card(about, anatomy, report),
    )
    megabytes = sum(file.stat().st_size for file in output.iterdir()) / 1e6
    print(f"wrote {output}: {megabytes:.1f} MB")


def calibrated(tokenizer, anatomy, options: argparse.Namespace) -> cache.Scales:
    """The scales of an 8-bit cache, by a graph that keeps it whole."""
    texts = cache.texts(options.calibration, tokenizer, anatomy) if options.calibration else cache.random_texts(anatomy)
    print(f"calibrating the cache with {len(texts)} texts", flush=True)
    with tempfile.TemporaryDirectory(dir=options.output) as place:
        path = pathlib.Path(place) / "model.onnx"
        # A form of its own: it knows what of its graph is rounded already.
        packed.packed_graph(anatomy, weights.named(options.weights, options.block_size), options.ragged).save(path)
        return cache.scales(path, anatomy, texts)


def compared(model, path: pathlib.Path, name: str, form: weights.Weights, anatomy, texts, original, options: argparse.Namespace) -> Report:
    """What a graph does beside torch with the graph's matrices, which the model keeps."""
    is_full = name in ("fp32", "fp16")
    if not is_full:
        parity.degrade(model, form)
    seen = original if is_full else parity.truth(model, texts)
    report = parity.measure(path, anatomy, texts, seen, original)
    if options.device == "cuda":
        report.bits.clear()
        report.notes = ["compared on the processor; on a GPU other kernels run, and nothing is said of a row's bits there"]
    judge(report, name, options.cache)
    return report


def judge(report: Report, form: str, kept: str = "float") -> None:
    """Prints what was measured; exits where it does not do. `kept`: the form of the cache."""
    print(f"  largest difference {report.largest:.1e} beside a largest logit of {report.scale:.1f}; {report.relative:.1e} of their size")
    print(f"  first token as with the original weights: {report.agreement:.1%}")
    for statement, held in report.bits:
        print(f"  {'holds' if held else 'DOES NOT HOLD'}: {statement}")
    for note in report.notes:
        print(f"  note: {note}", flush=True)
    faults = [] if form in weights.DEPENDENT else [f"does not hold: {statement}" for statement in report.failures()]
    is_full = form == "fp32" and kept == "float"
    if is_full and not report.largest < FULL_TOLERANCE * report.scale:
        faults.append(f"logits differ from torch by {report.largest:.1e}")
    tolerance = tolerance_of(form, kept)
    if not is_full and not report.relative < tolerance:
        faults.append(f"logits differ from torch with the same weights by {report.relative:.1%}, allowed are {tolerance:.0%}")
    if faults:
        sys.exit("\n".join(["error: the graph is not what it should be; no quintet.toml was written", *faults]))


def tolerance_of(form: str, kept: str) -> float:
    """How far logits may be from torch's with the same weights, as a share of their size."""
    tolerances = {"fp32": 0.0, "w8a8": ROW_TOLERANCE} | dict.fromkeys(weights.DEPENDENT, DYNAMIC_TOLERANCE)
    tolerance = tolerances.get(form, ROUNDED_TOLERANCE)
    return tolerance + (CACHE_TOLERANCE if kept == "int8" else 0)


def save_settings(model, tokenizer, context: int, output: pathlib.Path) -> None:
    """config.json, generation_config.json and the tokenizer's files, as transformers writes them."""
    # For GPT-2 this sets n_positions, which is its name for it.
    model.config.max_position_embeddings = context
    model.config.save_pretrained(output)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(output)
    tokenizer.save_pretrained(output)


def golden_pairs(path: pathlib.Path, tokenizer, anatomy) -> dict:
    """Two prompts of different length side by side, on an empty cache."""
    ids = tokenizer("In the beginning God created the heaven and the earth.").input_ids[: min(12, anatomy.context)]
    rows = [runs.Row(0, ids), runs.Row(1, ids[: max(1, len(ids) // 2)])]
    session = runs.session(path)
    inputs = runs.feed(rows, {tensor.name for tensor in session.get_inputs()}, every=False)
    inputs |= {f"past_key_values.{name}": value for name, value in runs.empty_cache(session, anatomy, len(rows), 32).items()}
    return folder.golden_pairs(path, inputs, ["logits"])


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    known = {"decoders": families.READERS, "encoders": encoder_families.READERS, "pairs": pairs.READERS}
    description = __doc__.format(**{name: ", ".join(readers) for name, readers in known.items()})
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="a name on Hugging Face or a local folder")
    parser.add_argument("output", metavar="OUTPUT", type=pathlib.Path, help="the model folder to write, NAME/VERSION")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu",
                        help="where it will run: on a GPU numbers have 16 bits, and the cache too (decoders alone; default: cpu)")  # fmt: skip
    parser.add_argument("--weights", choices=weights.NAMES,
                        help="form of the matrices: int8 and int4 are quickest for a few sequences, w8a8 for many and for prompts; "
                        "w8a8-dynamic is quicker still, and bits depend on what shares a run (default: fp32; on cuda fp16)")  # fmt: skip
    parser.add_argument("--decode-weights", choices=weights.NAMES,
                        help="another form for single steps, in a graph of its own: both are held in memory (default: one graph; "
                        "decoders alone)")  # fmt: skip
    parser.add_argument("--block-size", type=int, default=32, metavar="N", help="weights that share a scale (default: 32; larger ones can "
                        "make a row's bits depend on its neighbours, which the export then refuses)")  # fmt: skip
    parser.add_argument("--cache", choices=cache.NAMES, default="float",
                        help="form of the keys and values that are kept: int8 takes a quarter of the memory, makes steps of long texts quicker "
                        "and prompts slower (decoders on a processor alone; default: float)")  # fmt: skip
    parser.add_argument("--calibration", metavar="FILE", type=pathlib.Path,
                        help=f"texts like those that will come, one a line, of which the first {cache.TOKENS} tokens say how large keys and values "
                        "become, for --cache int8 (default: random tokens)")  # fmt: skip
    parser.add_argument("--context", type=int, metavar="N", help="longest text in tokens (default: the model's own)")
    parser.add_argument("--without-ragged", dest="ragged", action="store_false",
                        help="leave out query_seqlens: for ONNX Runtime before 1.32 (decoders alone; with --device cuda always)")  # fmt: skip
    parser.add_argument("--pooling", choices=["mean", "cls", "last", "max"],
                        help="how an encoder's token vectors become a text's (default: as sentence-transformers' files say, else mean)")  # fmt: skip
    parser.add_argument("--padding", action="store_true",
                        help="an encoder's graph takes attention_mask, so that texts of different lengths may share a run; the bits of a "
                        "text depend on its neighbours then (serving.max_padding)")  # fmt: skip
    parser.add_argument("--name", help="name in the card (default: the last part of MODEL)")
    parser.add_argument("--license", default="see the source", help="license of the weights, for the card and quintet.toml")
    parser.add_argument("--overwrite", action="store_true", help="replace the files that OUTPUT holds")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads for torch (default: 1)")
    options = parser.parse_args(arguments)
    on_gpu = options.device == "cuda"
    options.weights = options.weights or ("fp16" if on_gpu else "fp32")
    for chosen in filter(None, (options.weights, options.decode_weights)):
        if on_gpu and chosen not in weights.ON_GPU:
            parser.error(f"weights {chosen} have no kernel on a GPU: {', '.join(weights.ON_GPU)} have")
        if not on_gpu and chosen == "fp16":
            parser.error("weights fp16 are for --device cuda: on a processor fp32 is quicker, and int8 is smaller")
    if options.cache == "int8" and on_gpu:
        parser.error("--cache int8 is for processors: on a GPU the cache has 16 bits")
    if options.cache == "int8" and not options.ragged:
        parser.error("--cache int8 needs ONNX Runtime 1.32, and --without-ragged is for those before")
    if options.calibration and options.cache == "float":
        parser.error("--calibration says how a cache is rounded: it needs --cache int8")
    options.ragged = options.ragged and not on_gpu
    return options


if __name__ == "__main__":
    main()
