"""Hugging Face encoders as ONNX graphs: `families` reads a model into an `anatomy`, `graph` writes that, `export` is the whole way."""
