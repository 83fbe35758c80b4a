"""What a request may ask for: the defaults of the service that this one stands in for."""

MAX_INPUTS = 4096
MAX_TEXT_BYTES = 1 << 20
MAX_IDS = 1 << 22
MAX_STREAMED_IDS = 1 << 17
MAX_TOKENS = 1 << 23
MAX_MULTIPLE = 4096
MAX_REQUEST_BYTES = 16 << 20
MAX_RESPONSE_BYTES = 64 << 20
# Tokens in one part of a vocabulary.
VOCABULARY_PART = 4096
# Calls in progress; more are refused with RESOURCE_EXHAUSTED.
MAX_CALLS = 512
# Requests of at most so many bytes are worked on at once; larger ones on a thread, so that they hold up nobody.
INLINE_BYTES = 8192
