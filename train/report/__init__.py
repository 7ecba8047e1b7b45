"""A run as one page, runs/<name>/report.html, which opens anywhere and asks the network for nothing.

write_report(run)      from settings, TensorBoard's files, samples, evaluations and warnings of the run
"""

from cyclegan_edge.train.report.page import write_report

__all__ = ["write_report"]
