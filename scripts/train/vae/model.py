"""Variational autoencoders (Kingma and Welling 2014): networks, training, and the two scores."""

from __future__ import annotations

import dataclasses
import math

import numpy
import torch
from torch import nn
from torch.nn import functional as F


@dataclasses.dataclass(frozen=True)
class Likelihood:
    """How a reconstruction explains a sample: "gaussian" with a fixed sigma, or "bernoulli"."""

    kind: str
    sigma: float = 1.0

    def negative_log(self, x: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
        """-log p(x | reconstruction) in nats, one value for each sample."""
        if self.kind == "bernoulli":
            p = reconstruction.clamp(1e-6, 1 - 1e-6)
            terms = -(x * p.log() + (1 - x) * (1 - p).log())
        else:
            terms = (x - reconstruction) ** 2 / (2 * self.sigma**2) + 0.5 * math.log(2 * math.pi * self.sigma**2)
        return terms.flatten(1).sum(1)


class Encoder(nn.Module):
    def __init__(self, body: nn.Module, width: int, latent: int):
        super().__init__()
        self.body, self.mean, self.log_variance = body, nn.Linear(width, latent), nn.Linear(width, latent)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.body(x)
        return self.mean(hidden), self.log_variance(hidden).clamp(-12.0, 6.0)


class Vae(nn.Module):
    def __init__(self, encoder: Encoder, decoder: nn.Module, likelihood: Likelihood):
        super().__init__()
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood

    def loss(self, x: torch.Tensor, beta: float = 1.0) -> torch.Tensor:
        """The mean negative ELBO with one sample of the posterior."""
        mean, log_variance = self.encoder(x)
        z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        return (self.likelihood.negative_log(x, self.decoder(z)) + beta * divergence(mean, log_variance)).mean()

    @torch.no_grad()
    def scores(self, x: torch.Tensor) -> dict[str, numpy.ndarray]:
        """Both scores at the posterior mean: higher is more anomalous."""
        self.eval()
        mean, log_variance = self.encoder(x)
        reconstruction = self.decoder(mean)
        return {
            "reconstruction_error": ((x - reconstruction) ** 2).flatten(1).mean(1).numpy(),
            "negative_elbo": (self.likelihood.negative_log(x, reconstruction) + divergence(mean, log_variance)).numpy(),
        }


def divergence(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """KL(q || N(0, I)) in nats."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)


def dense(sizes: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in zip(sizes, sizes[1:]):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def tabular(features: int, hidden: int, latent: int, likelihood: Likelihood) -> Vae:
    """Rows [n, features]."""
    body = nn.Sequential(*dense([features, hidden, hidden]), nn.ReLU())
    return Vae(Encoder(body, hidden, latent), dense([latent, hidden, hidden, features]), likelihood)


def small_images(side: int, hidden: int, latent: int, likelihood: Likelihood) -> Vae:
    """Images [n, 1, side, side], dense throughout."""
    body = nn.Sequential(nn.Flatten(), *dense([side * side, hidden, hidden]), nn.ReLU())
    decoder = nn.Sequential(dense([latent, hidden, hidden, side * side]), nn.Sigmoid(), nn.Unflatten(1, (1, side, side)))
    return Vae(Encoder(body, hidden, latent), decoder, likelihood)


def images_32(width: int, latent: int, likelihood: Likelihood) -> Vae:
    """Images [n, 1, 32, 32], convolutional."""
    body = nn.Sequential(
        nn.Conv2d(1, width, 4, 2, 1), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 4, 2, 1), nn.ReLU(),
        nn.Conv2d(2 * width, 4 * width, 4, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(64 * width, 256), nn.ReLU(),
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.Linear(latent, 256), nn.ReLU(), nn.Linear(256, 64 * width), nn.ReLU(), nn.Unflatten(1, (4 * width, 4, 4)),
        nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1), nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.ReLU(),
        nn.ConvTranspose2d(width, 1, 4, 2, 1), nn.Sigmoid(),
    )  # fmt: skip
    return Vae(Encoder(body, 256, latent), decoder, likelihood)


def fit(vae: Vae, x: torch.Tensor, *, steps: int, batch: int, rate: float = 1e-3, beta: float = 1.0, augment=None, seed: int = 0) -> Vae:
    """Trains on normal samples alone; the learning rate falls to zero along a cosine."""
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=rate, weight_decay=1e-3)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        chosen = x[torch.randint(0, len(x), (batch,))]
        loss = vae.loss(augment(chosen) if augment else chosen, beta * min(1.0, 4 * step / steps))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step % max(1, steps // 10) == 0:
            print(f"  step {step}, -ELBO {loss.item():.2f}", flush=True)
    return vae.eval()
