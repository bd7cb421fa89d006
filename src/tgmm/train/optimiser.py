"""AdamW, or Muon beside it, on all parameters of a network as one vector.

One vector means one kernel for the step, one for the norm of the gradient and one to average over processes, where a
list of a few hundred small tensors would cost a few hundred.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from tgmm.train.settings import Budget

BETAS = (0.9, 0.98)
ALIGNMENT = 16  # numbers: tensors begin at multiples of 64 bytes


class Optimiser:
    """Steps of a network whose parameters and gradients it lays out in two vectors.

    Parameters
    ----------
    network : its parameters become views of ``value``; they may be read, but not replaced.
    budget : kind of optimiser, weight decay and clipping.

    Attributes
    ----------
    gradient : Tensor, the gradients of all parameters, summed up by every backward pass until :meth:`zero`.
    """

    def __init__(self, network: nn.Module, budget: Budget):
        matrices = _block_matrices(network) if budget.optimiser == "muon" else []
        chosen = set(map(id, matrices))
        rest = [parameter for parameter in network.parameters() if id(parameter) not in chosen]
        sizes = [_aligned(parameter.numel()) for parameter in (*rest, *matrices)]
        self.value = torch.zeros(sum(sizes), device=rest[0].device)
        self.gradient = torch.zeros_like(self.value)
        ends = torch.tensor([0, *sizes]).cumsum(0).tolist()
        for parameter, (start, _) in zip((*rest, *matrices), pairwise(ends), strict=True):
            part = slice(start, start + parameter.numel())
            self.value[part] = parameter.detach().flatten()
            parameter.data = self.value[part].view_as(parameter)
            parameter.grad = self.gradient[part].view_as(parameter)
        self.clip, cuda = budget.clip, self.value.is_cuda
        front = slice(0, ends[len(rest)])
        self.vector = nn.Parameter(self.value[front])
        self.vector.grad = self.gradient[front]
        rate = torch.tensor(budget.learning_rate, device=self.value.device) if cuda else budget.learning_rate
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(
                [self.vector], lr=rate, betas=BETAS, weight_decay=budget.weight_decay, fused=True, capturable=cuda
            )
        ]
        if matrices:
            self.parts.append(
                torch.optim.Muon(
                    matrices, lr=budget.learning_rate, weight_decay=budget.weight_decay, adjust_lr_fn="match_rms_adamw"
                )
            )

    def zero(self) -> None:
        """Forget the gradients."""
        self.gradient.zero_()

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next steps."""
        for part in self.parts:
            for group in part.param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate

    def step(self) -> Tensor:
        """Clip the gradient and step; the norm before clipping, a scalar Tensor."""
        norm = self.gradient.norm()
        self.gradient.mul_((self.clip / (norm + 1e-6)).clamp(max=1.0))
        for part in self.parts:
            part.step()
        return norm

    def tensors(self) -> dict[str, Tensor]:
        """The optimisers' memory by name, ``<optimiser>.<parameter>.<moment>``."""
        return {
            f"{number}.{position}.{name}": torch.as_tensor(value)
            for number, part in enumerate(self.parts)
            for position, moments in part.state_dict()["state"].items()
            for name, value in moments.items()
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what :meth:`tensors` gave."""
        for number, part in enumerate(self.parts):
            state: dict[int, dict[str, Tensor]] = {}
            for key, tensor in tensors.items():
                owner, position, name = key.split(".")
                if int(owner) == number:
                    state.setdefault(int(position), {})[name] = tensor
            part.load_state_dict({**part.state_dict(), "state": state})


def _block_matrices(network: nn.Module) -> list[nn.Parameter]:
    """The weight matrices inside the blocks, for which Muon is meant (not read-in, embeddings and read-outs)."""
    return [
        parameter
        for name, parameter in network.named_parameters()
        if parameter.dim() == 2 and name.split(".")[0] in ("gathers", "scatters", "blocks")
    ]


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
