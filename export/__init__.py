"""Conversion: a checkpoint in, a bundle of proven graphs and engines out. Needs `pip install 'cyclegan-edge[export]'`."""
