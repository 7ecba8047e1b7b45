"""The discriminators' memory of generated pictures (Shrivastava et al. 2017; CycleGAN, section 4)."""

from typing import TypedDict

import torch
from torch import Tensor


class ReplayState(TypedDict):
    """What a checkpoint keeps of a buffer."""

    pictures: list[Tensor]  # each (C, H, W), at most as many as the capacity
    random: Tensor  # state of its random generator


class ReplayBuffer:
    """Keeps up to `capacity` pictures; once full, half of the queries are answered with an old one.

    A query fills the buffer first. Then, for each picture, a fair coin decides between giving that picture back and
    giving back a random old one whose place the new one takes. Its randomness is its own, so a checkpoint repeats it.
    """

    def __init__(self, capacity: int, seed: int) -> None:
        self.capacity = capacity
        self._pictures: list[Tensor] = []
        self._random = torch.Generator().manual_seed(seed)

    def query(self, pictures: Tensor) -> Tensor:
        """(N, C, H, W) newly generated -> (N, C, H, W) new or old, without gradient; one at a time may change size."""
        return torch.stack([self._exchange(picture) for picture in pictures.detach()])

    def _exchange(self, new: Tensor) -> Tensor:
        if len(self._pictures) < self.capacity:
            self._pictures.append(_kept(new))
            return new
        if self.capacity == 0 or torch.rand((), generator=self._random).item() < 0.5:
            return new
        place = int(torch.randint(self.capacity, (), generator=self._random))
        old, self._pictures[place] = self._pictures[place], _kept(new)
        return old

    def state_dict(self) -> ReplayState:
        """Everything that decides the next answers."""
        return {"pictures": list(self._pictures), "random": self._random.get_state()}

    def load_state_dict(self, state: ReplayState) -> None:
        """Go on where `state_dict` was taken; the pictures stay on the device they were loaded to."""
        self._pictures = list(state["pictures"])[: self.capacity]
        self._random.set_state(state["random"].cpu())


def _kept(picture: Tensor) -> Tensor:
    """A copy; a NaN becomes grey, or one bad step would come back for as long as the picture is kept."""
    return picture.nan_to_num(nan=0.0, posinf=1.0, neginf=-1.0)
