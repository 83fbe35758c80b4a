"""A model repository for both services: the embedded text models, one of them with a chat template, and a tokenizer for each
template that the chat's golden values are made with."""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ROOT / "deploy" / "models"
TEMPLATES = ROOT / "scripts" / "golden" / "chat" / "templates"

# A template that special tokens, blocks and the clock have a part in.
CHAT = (
    "{{ bos_token }}{% for message in messages %}{{ message.role }}: "
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content }}{% endgeneration %}{% else %}{{ message.content }}{% endif %}"
    "{{ eos_token }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


def make(folder: pathlib.Path) -> list[str]:
    """Writes the repository, and gives the names of its tokenizers that have a chat template."""
    for name in ["all-minilm-l6-v2", "gpt-english", "restore-case"]:
        shutil.copytree(MODELS / name, folder / name)
    with_template(folder / "gpt-english" / "1")
    names = ["gpt-english"]
    for template in sorted(TEMPLATES.glob("*.jinja")):
        made = folder / f"chat-{template.stem.replace('_', '-')}"
        made.mkdir()
        shutil.copy(MODELS / "gpt-english" / "1" / "tokenizer.json", made)
        config = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "chat_template": template.read_text()}
        (made / "tokenizer_config.json").write_text(json.dumps(config))
        names.append(made.name)
    return names


def with_template(model: pathlib.Path) -> None:
    """Gives a model a chat template, and its manifest the hash of the changed file."""
    file, manifest = model / "tokenizer_config.json", model / "quintet.toml"
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": CHAT}))
    after = hashlib.sha256(file.read_bytes()).hexdigest()
    described = manifest.read_text()
    if before not in described:
        raise SystemExit(f"{manifest} does not have the hash of {file.name}")
    manifest.write_text(described.replace(before, after))
