"""AdamW on all parameters of a network as one vector.

One vector means one kernel for the step and one for the norm of the gradient, where a list of a few hundred small
tensors would cost a few hundred.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from tgmm.train.settings import AssignmentTraining, Budget

BETAS = (0.9, 0.98)
ALIGNMENT = 16  # numbers: tensors begin at multiples of 64 bytes


class Optimizer:
    """Steps of a network whose parameters and gradients it lays out in two vectors.

    Parameters
    ----------
    network : its parameters become views of ``value``; they may be read, but not replaced.
    budget : learning rate, weight decay and clipping.

    Attributes
    ----------
    gradient : Tensor, the gradients of all parameters, summed up by every backward pass until :meth:`zero`.
    """

    def __init__(self, network: nn.Module, budget: Budget | AssignmentTraining):
        parameters = list(network.parameters())
        sizes = [-(-parameter.numel() // ALIGNMENT) * ALIGNMENT for parameter in parameters]
        self.value = torch.zeros(sum(sizes), device=parameters[0].device)
        self.gradient = torch.zeros_like(self.value)
        for parameter, (start, _) in zip(
            parameters, pairwise(torch.tensor([0, *sizes]).cumsum(0).tolist()), strict=True
        ):
            part = slice(start, start + parameter.numel())
            self.value[part] = parameter.detach().flatten()
            parameter.data = self.value[part].view_as(parameter)
            parameter.grad = self.gradient[part].view_as(parameter)
        self.clip, cuda = budget.clip, self.value.is_cuda
        self.vector = nn.Parameter(self.value)
        self.vector.grad = self.gradient
        rate = torch.tensor(budget.learning_rate, device=self.value.device) if cuda else budget.learning_rate
        self.adamw = torch.optim.AdamW(
            [self.vector], lr=rate, betas=BETAS, weight_decay=budget.weight_decay, fused=True, capturable=cuda
        )

    def zero(self) -> None:
        """Forget the gradients."""
        self.gradient.zero_()

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next steps."""
        group = self.adamw.param_groups[0]
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate

    def step(self) -> Tensor:
        """Clip the gradient and step. Return the norm before clipping, a scalar Tensor."""
        norm = self.gradient.norm()
        self.gradient.mul_((self.clip / (norm + 1e-6)).clamp(max=1.0))
        self.adamw.step()
        return norm

    def tensors(self) -> dict[str, Tensor]:
        """AdamW's memory by name: the number of steps and the moments; nothing before the first step."""
        return {name: torch.as_tensor(value) for name, value in self.adamw.state.get(self.vector, {}).items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what :meth:`tensors` gave."""
        state = {0: dict(tensors)} if tensors else {}
        self.adamw.load_state_dict({**self.adamw.state_dict(), "state": state})
