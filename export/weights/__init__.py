"""Anyone's checkpoint becomes a generator that can be exported or evaluated.

open.py -> recognise.py -> generators.py    a file -> its architecture -> the module that computes it
        -> read.py                          a file -> its tensors; never code
"""
