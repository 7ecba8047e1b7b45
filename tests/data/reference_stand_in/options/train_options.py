"""Reads the command line as the reference implementation does, and writes its options beside the checkpoints."""

from argparse import ArgumentParser, Namespace
from pathlib import Path


class TrainOptions:
    def initialize(self, parser: ArgumentParser) -> ArgumentParser:
        for word in ("dataroot", "model", "netG", "checkpoints_dir"):
            parser.add_argument(f"--{word}", required=True)
        for word in ("ngf", "ndf", "batch_size", "crop_size"):
            parser.add_argument(f"--{word}", type=int)
        parser.add_argument("--gpu_ids", default="0", help="-1 for the CPU")
        return parser

    def parse(self) -> Namespace:
        options = self.initialize(ArgumentParser()).parse_args()
        print(options)  # noqa: T201  # as the reference does
        (Path(options.checkpoints_dir) / "train_opt.txt").write_text(str(options))
        options.gpu_ids = [int(it) for it in options.gpu_ids.split(",") if int(it) >= 0]
        return options
