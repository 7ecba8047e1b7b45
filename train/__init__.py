"""Training: folders of pictures in, checkpoints out. Needs `pip install 'cyclegan-edge[train]'`."""
