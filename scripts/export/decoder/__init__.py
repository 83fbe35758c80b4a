"""Hugging Face decoders as packed ONNX graphs: `families` reads a model into an `anatomy`, `packed` writes that as a graph."""
