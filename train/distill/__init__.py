"""Distillation: a trained generator teaches a small one of the same direction, in one stage.

    teacher.py    the teacher's translation of every training picture, made once and kept
    step.py       what the student minimises, in pixels and in the features of a frozen ImageNet network
    loop.py       teacher's pictures in, a distilled run out

Only the teacher's pictures are needed, so anyone's generator can teach. What was tried and left out is in docs/log.md.
"""
