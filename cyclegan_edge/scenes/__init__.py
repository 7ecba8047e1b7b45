"""Landscapes that exist in summer and in winter: a task to try everything with, without a picture of one's own.

    render(seed, season)      one picture
    write_dataset(out)        trainA/ testA/ in summer, trainB/ testB/ in winter, truthB/ the winter of testA/

Summer and winter of a world have the same outlines, light and clouds; only colours differ, each by what it is the
colour of. So the translation can be learned from unpaired pictures, and, rare for this task, measured against a truth.
"""

from cyclegan_edge.scenes.camera import render
from cyclegan_edge.scenes.dataset import write_dataset
from cyclegan_edge.scenes.landscape import Season

__all__ = ["Season", "render", "write_dataset"]
