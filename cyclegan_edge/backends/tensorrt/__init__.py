"""TensorRT: which one is here (library), building an engine (build), opening it (plan), running it (run), its layers.

Needs no torch and no ONNX, so that an engine can be built, rebuilt and explained on the device that runs it.
"""
