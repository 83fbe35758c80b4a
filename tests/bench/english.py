"""English that every machine with Python has, and a tokenizer trained on it.

The text is prose: the docstrings and comments of Python's standard library and its own help, some megabytes.
"""
import ast
import pathlib
import sysconfig

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

# The split of Llama 3, which Llama's, Qwen's and OpenAI's are like.
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def prose():
    """Docstrings, comments and help texts."""
    for file in sorted(pathlib.Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if "site-packages" in file.parts:
            continue
        try:
            source = file.read_text("utf-8")
            tree = ast.parse(source)
        except (UnicodeDecodeError, SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                yield ast.get_docstring(node) or ""
        yield "\n".join(line.strip()[2:] for line in source.splitlines() if line.strip().startswith("# "))
        if file.name == "topics.py" and file.parent.name == "pydoc_data":
            yield from ast.literal_eval(tree.body[-1].value).values()


def kilobytes(text):
    """Pieces of about a kilobyte, cut at spaces."""
    words, piece, size = text.split(" "), [], 0
    for word in words:
        piece.append(word)
        size += len(word.encode()) + 1
        if size >= 1024:
            yield " ".join(piece)
            piece, size = [], 0


def byte_level(texts):
    """Byte-level BPE of 32,000 tokens."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=32_000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False, special_tokens=["<|endoftext|>"])
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
