"""How gradients change the weights. Norms, biases and embeddings are never decayed."""

from dataclasses import dataclass

from lmexp.config.schema import Option, setting


@dataclass(kw_only=True)
class OptimizerConfig(Option):
    """What every optimizer has."""

    group = "optimizer"

    learning_rate: float = setting(1e-3, above=0)
    """Step size at the peak of the schedule."""
    weight_decay: float = setting(0.1, at_least=0)
    """Decoupled decay of weight matrices, times the learning rate, per step."""


@dataclass(kw_only=True)
class AdamWConfig(OptimizerConfig):
    """AdamW (Loshchilov and Hutter 2019)."""

    name = "adamw"
    builds = "lmexp.optim.adamw:build_adamw"

    beta1: float = setting(0.9, at_least=0, below=1)
    """Decay of the mean of gradients."""
    beta2: float = setting(0.99, at_least=0, below=1)
    """Decay of the mean of squared gradients; lower forgets sooner, for short runs and small batches."""
    epsilon: float = setting(1e-8, above=0)
    """Added to the root of the second moment."""


@dataclass(kw_only=True)
class MuonConfig(AdamWConfig):
    """Muon (Jordan et al. 2024) for the matrices inside the layers, AdamW for everything else."""

    name = "muon"
    builds = "lmexp.optim.muon:build_muon"

    learning_rate: float = setting(0.03, above=0)
    """Step size of the matrices: a matrix moves by about this much in spectral norm, times sqrt(rows / columns) where
    it has more rows than columns."""
    weight_decay: float = setting(0.0, at_least=0)
    """Decoupled decay of the matrices that Muon moves, times the learning rate, per step."""
    adamw_learning_rate: float = setting(0.01, above=0)
    """Step size of embeddings, output layer, norms and biases."""
    momentum: float = setting(0.95, at_least=0, below=1)
    """Momentum of the matrices (Nesterov)."""
    newton_schulz_steps: int = setting(5, at_least=1, at_most=20)
    """Iterations that make an update orthogonal."""
    newton_schulz_bf16: bool | None = setting(None)
    """Iterate in bfloat16: twice as fast on a CPU with bfloat16 instructions, many times slower on one without; null
    does so on a GPU only."""


@dataclass(kw_only=True)
class SGDConfig(OptimizerConfig):
    """Stochastic gradient descent with momentum."""

    name = "sgd"
    builds = "lmexp.optim.sgd:build_sgd"

    learning_rate: float = setting(0.1, above=0)
    """Step size at the peak of the schedule."""
    weight_decay: float = setting(0.0, at_least=0)
    """Decay of weight matrices, added to the gradient."""
    momentum: float = setting(0.9, at_least=0, below=1)
    """Share of the last update that is kept; 0 is plain gradient descent."""
