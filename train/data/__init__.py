"""Training data: two folders of pictures, or shards of them, become batches of crops.

folders, shards   where pairs of pictures come from, in an order that a seed decides (pairs.py: what both offer)
cache             decoded pictures, kept in memory between epochs
crops, loader     a picture becomes a crop, pairs become batches, in threads
check, pack       look at a folder before training; write it as shards
"""
