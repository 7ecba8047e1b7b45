"""Training: folders of pictures in, checkpoints out. Needs `pip install 'cyclegan-edge[train]'`.

Import from the modules (`cyclegan_edge.train.loop`, `.config`, ...): export reads checkpoints without TensorBoard.
"""
