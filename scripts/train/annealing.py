"""Training against the clock: a learning rate that follows the share of the time that has passed, and the optimizers it drives."""

from __future__ import annotations

import time

import torch


class Clock:
    """The time for a loop of training steps: from now to `ends` (of `time.monotonic`)."""

    def __init__(self, ends: float):
        self.begun, self.ends = time.monotonic(), ends

    def share(self) -> float:
        """How much of the time has passed; 1 and more when it is over."""
        return (time.monotonic() - self.begun) / max(self.ends - self.begun, 1e-9)


class Optimizers:
    """Muon for the layers' matrices, AdamW for embeddings, norms and tables; their rates rise, stay and come down together."""

    def __init__(self, model: torch.nn.Module, *, matrix_rate: float, rate: float, decay: float, slower: dict[str, float] | None = None):
        """`slower` maps parts of matrices' names to a factor of their rate."""
        groups: dict[float, list[torch.nn.Parameter]] = {}
        embeddings, others = [], []
        for name, parameter in model.named_parameters():
            if parameter.dim() < 2:
                others.append(parameter)
            elif any(word in name for word in ("embed", "shared", "relative_attention_bias", "lm_head")):
                embeddings.append(parameter)
            else:
                factor = next((factor for part, factor in (slower or {}).items() if part in name), 1.0)
                groups.setdefault(factor, []).append(parameter)
        matrices = [{"params": parameters, "lr": matrix_rate * factor} for factor, parameters in groups.items()]
        rest = [{"params": embeddings, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
        fused = next(model.parameters()).is_cuda
        self.optimizers = [
            torch.optim.Muon(matrices, lr=matrix_rate, momentum=0.95, weight_decay=decay, adjust_lr_fn="original"),
            torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.95), fused=fused),
        ]
        self.groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        self.peaks = [group["lr"] for group in self.groups]

    def step(self, share: float) -> None:
        for group, peak in zip(self.groups, self.peaks):
            group["lr"] = peak * learning_rate(share)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def learning_rate(share: float) -> float:
    """A share of the peak: up over 2 % of the time, then flat, then down to zero over the second half."""
    return max(0.0, min(1.0, share / 0.02, (1.0 - share) / 0.5))


class Best:
    """The weights with the lowest validation loss so far."""

    def __init__(self) -> None:
        self.loss, self.weights, self.step = float("inf"), None, 0

    def offer(self, loss: float, model: torch.nn.Module, step: int) -> None:
        if loss < self.loss:
            self.loss, self.step = loss, step
            self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    def restore(self, model: torch.nn.Module) -> None:
        if self.weights is not None:
            model.load_state_dict(self.weights)
