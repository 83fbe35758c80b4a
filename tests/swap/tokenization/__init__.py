"""The tokenization service in Python: a second implementation of the contract, by Hugging Face's own library.

It serves every folder of a model repository that has a `tokenizer.json`, and stands in for the service of this project:
the text service runs with it unchanged. What it leaves out:

* Chunk answers UNIMPLEMENTED, and files of tiktoken and SentencePiece are not read.
* A chat template has no budget of work: trust the templates that you load.
* Tokenizers are loaded once, at start.
"""
