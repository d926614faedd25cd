"""Mask heads as ONNX graphs that a stock onnxruntime runs."""
