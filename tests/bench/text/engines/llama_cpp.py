"""llama.cpp by the low-level interface of llama-cpp-python, batched continuously as its server does it: each run has the next token of
every text that is being written, and as much as there is room for of the prompts that wait."""
import time

import llama_cpp as native
import numpy

# As llama.cpp's server has them.
BATCH, UNIT = 2048, 512


@native.llama_log_callback
def quiet(level, text, user_data):
    """It says much; what fails is seen by its result."""


def convert(checkpoint, folder):
    from engines import gguf_file

    gguf_file.write(checkpoint, folder / "model.gguf")


class Engine:
    def __init__(self, folder, slots, context, threads):
        native.llama_log_set(quiet, None)
        native.llama_backend_init()
        path = folder / "model.gguf"
        self.weights = path.stat().st_size
        self.model = native.llama_model_load_from_file(str(path).encode(), native.llama_model_default_params())
        assert self.model, f"{path} was not loaded"
        self.vocabulary = native.llama_vocab_n_tokens(native.llama_model_get_vocab(self.model))
        settings = native.llama_context_default_params()
        settings.n_ctx, settings.n_seq_max = slots * context, slots
        settings.n_batch, settings.n_ubatch = BATCH, UNIT
        settings.n_threads = settings.n_threads_batch = threads
        settings.no_perf = True
        self.context = native.llama_init_from_model(self.model, settings)
        assert self.context, "there is no room for the context"
        self.batch = native.llama_batch_init(BATCH, 0, 1)

    def run(self, requests):
        native.llama_memory_clear(native.llama_get_memory(self.context), False)
        return self._run([Text(slot, request) for slot, request in enumerate(requests)])

    def prefixed(self, requests):
        """What the second prompt shares with the first stays in its slot, as with the server's `cache_prompt`."""
        memory = native.llama_get_memory(self.context)
        native.llama_memory_clear(memory, False)
        known, seconds = [], []
        for request in requests:
            begun = time.perf_counter()
            shared = next((at for at, (a, b) in enumerate(zip(known, request.ids)) if a != b), len(known))
            native.llama_memory_seq_rm(memory, 0, shared, -1)
            (times,) = self._run([Text(0, request, shared)])
            seconds.append(times[0] - begun)
            known = request.ids
        return seconds

    def _run(self, texts):
        while any(text.left for text in texts):
            self._step([text for text in texts if text.left])
        return [text.times for text in texts]

    def _step(self, texts):
        batch, self.batch.n_tokens, asking = self.batch, 0, []
        for text in sorted(texts, key=lambda text: len(text.waiting)):
            taken = text.waiting[: BATCH - batch.n_tokens]
            for token in taken:
                at = batch.n_tokens
                batch.token[at], batch.pos[at], batch.n_seq_id[at], batch.seq_id[at][0], batch.logits[at] = token, text.position, 1, text.slot, False
                text.position += 1
                batch.n_tokens += 1
            del text.waiting[: len(taken)]
            if taken and not text.waiting:
                batch.logits[batch.n_tokens - 1] = True
                asking.append((text, batch.n_tokens - 1))
        code = native.llama_decode(self.context, batch)
        assert code == 0, f"llama_decode: {code}"
        for text, at in asking:
            logits = numpy.ctypeslib.as_array(native.llama_get_logits_ith(self.context, at), (self.vocabulary,))
            text.take(int(logits.argmax()))


class Text:
    """A text under way: the tokens that the next run is to have of it, and when its own came."""

    def __init__(self, slot, request, known=0):
        self.slot, self.position = slot, known
        self.waiting, self.left, self.times = request.ids[known:], request.new_tokens, []

    def take(self, token):
        self.times.append(time.perf_counter())
        self.left -= 1
        self.waiting.append(token)
