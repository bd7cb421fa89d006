"""The training loop that one writes first: Hugging Face's GPT-2 with eager attention in float32, one batch a step."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2Model

from tgmm.losses import training_loss
from tgmm.mixture import LogEstimate
from tgmm.models.attention import component_slots
from tgmm.models.encoder import AttentivePooling
from tgmm.models.settings import GPT2Network
from tgmm.tasks.stream import TaskBatch
from tgmm.train.settings import TrainingSettings
from tgmm.train.trainer import training_stream


class PlainNetwork(nn.Module):
    """``transformers.GPT2Model`` between a linear read-in of [X ‖ embed(K)] and the paper's attentive pooling.

    Without dropout, cache and vocabulary, which training on points does not use.
    """

    def __init__(self, settings: GPT2Network):
        super().__init__()
        self.settings = settings
        self.size_embedding = nn.Embedding(len(settings.n_components), settings.width)
        self.read_in = nn.Linear(settings.dimension + settings.width, settings.width)
        self.backbone = GPT2Model(
            GPT2Config(
                vocab_size=1, n_positions=settings.positions, n_embd=settings.width, n_layer=settings.blocks,
                n_head=settings.heads, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
                bos_token_id=0, eos_token_id=0, attn_implementation="eager",
            )
        )  # fmt: skip
        self.read_out = AttentivePooling(settings)

    def forward(self, points: Tensor, n_components: Tensor) -> list[LogEstimate]:
        """The estimate of a batch, as a list of one.

        Parameters
        ----------
        points : Tensor (B, N, d).
        n_components : Tensor (B,) of int64.
        """
        size, unused = component_slots(self.settings, n_components)
        embedded = self.size_embedding(size)[:, None].expand(-1, points.shape[1], -1)
        tokens = self.read_in(torch.cat([points, embedded], dim=-1))
        return [self.read_out(self.backbone(inputs_embeds=tokens).last_hidden_state, size, unused)]


class PlainLoop:
    """Samples a batch, takes an AdamW step, and so on.

    Parameters
    ----------
    settings : tasks, sizes (the network's kind is ignored), loss and batch; the learning rate is constant.
    device : where to train.
    """

    def __init__(self, settings: TrainingSettings, device: torch.device):
        torch.manual_seed(settings.seed)
        self.settings, self.device, self.steps = settings, device, 0
        self.network = PlainNetwork(settings.network).to(device)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4)
        self.stream = training_stream(settings, device)

    def train(self, seconds: float) -> int:
        """Train for so long, at least one step; the number of steps taken."""
        before, end = self.steps, time.perf_counter() + seconds
        while self.steps == before or time.perf_counter() < end:
            self.step(self.stream.batch(self.steps))
            self.steps += 1
        return self.steps - before

    def step(self, batch: TaskBatch) -> float:
        """One step of the optimizer; the loss before it."""
        estimates = self.network(batch.points, batch.n_components)
        loss, _ = training_loss(estimates, batch, self.settings.loss)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()
