"""Conversion: a checkpoint in, a bundle of proven graphs and engines out.

Graphs need `pip install 'cyclegan-edge[export]'`; an engine needs TensorRT and a GPU, but no torch.
"""
