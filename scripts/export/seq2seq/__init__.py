"""Encoder–decoders as two ONNX graphs: one that reads an input, one that takes a step of many texts over two key–value caches."""
