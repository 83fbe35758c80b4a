"""Checkpoints of Hugging Face's form with random weights: three shapes that people serve."""
import json

import torch
import transformers
from tokenizers import Tokenizer

# Wide enough that a text does not settle on one token over and over; narrow enough that rounding does not grow through the layers past
# what the exporter lets pass. What is measured does not depend on what is written.
RANGE = 0.02
CONTEXT = 2048

SHAPES = {
    # GPT-2-small with room for 2,048 tokens in place of 1,024, so that all shapes answer the same questions.
    "gpt2": lambda: transformers.GPT2Config(n_positions=CONTEXT, initializer_range=RANGE, bos_token_id=0, eos_token_id=0),
    "llama": lambda: transformers.LlamaConfig(
        vocab_size=32_000, hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12, num_key_value_heads=4,
        head_dim=64, max_position_embeddings=CONTEXT, initializer_range=RANGE, bos_token_id=0, eos_token_id=0,
    ),  # fmt: skip
    # Qwen2.5-0.5B.
    "qwen": lambda: transformers.Qwen2Config(
        vocab_size=151_936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2,
        max_position_embeddings=CONTEXT, rope_theta=1e6, rms_norm_eps=1e-6, tie_word_embeddings=True, initializer_range=RANGE,
        bos_token_id=0, eos_token_id=0,
    ),  # fmt: skip
}


def write(shape, tokenizer, folder):
    """In bfloat16, as such checkpoints come."""
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(SHAPES[shape](), dtype=torch.bfloat16)
    model.save_pretrained(folder)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=widened(tokenizer, model.config.vocab_size), bos_token="<|endoftext|>", eos_token="<|endoftext|>",
        model_max_length=CONTEXT, clean_up_tokenization_spaces=False,
    )  # fmt: skip
    fast.save_pretrained(folder)


def widened(tokenizer, size):
    """As many tokens as the model has, so that whatever is drawn is text. Those that are added join two words: no text is ever split
    into them, since words are split apart before."""
    written = json.loads(tokenizer.to_str())
    vocabulary, merges = written["model"]["vocab"], written["model"]["merges"]
    words = [token for token in vocabulary if token.startswith("Ġ") and token[1:].isascii() and token[1:].isalpha()]
    pairs = ((first, second) for distance in range(1, len(words)) for first, second in zip(words, words[distance:] + words[:distance]))
    while len(vocabulary) < size:
        first, second = next(pairs)
        vocabulary[first + second] = len(vocabulary)
        merges.append([first, second])
    return Tokenizer.from_str(json.dumps(written))
