"""The file by which benchmarks/train.py knows a clone."""
