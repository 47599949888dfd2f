"""The one training step, and all that makes it repeatable.

Random state is set from (seed, micro-step, rank) before every micro-step, `batches_seen` is our own counter, and an
LSTM's carried state travels in the checkpoint stream by stream; so a run that was stopped goes on bit by bit as if it
had not been (design rule 3). Metrics are summed on the device and written every so many steps: Lightning's own
`self.log` on every step would cost more than the rest of the platform together.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lmexp.config.schema import build
from lmexp.config.task import TaskConfig
from lmexp.config.train import TrainConfig
from lmexp.config.trainer import Strategy
from lmexp.data.batches import Batch
from lmexp.data.corpus import Corpus
from lmexp.errors import NumericsError
from lmexp.metrics import bits_per_byte, model_flops_utilization, peak_flops, perplexity
from lmexp.models.state import LanguageModel, LSTMState
from lmexp.optim.schedules import Schedule
from lmexp.tasks.counters import Counters, Evaluation, Stopwatch
from lmexp.tokenization import Tokenizer

Metrics = dict[str, float]
LONGEST_STRETCH = 10


class Shown(NamedTuple):
    """A token of a batch."""

    token: int
    is_learned: bool
    segment: int | None
    """The document that it is in, None for what only fills a row."""


class Task(LightningModule):
    """A model, its optimizer, and how both are trained; subclasses say what the loss is.

    Lightning hands in a stretch of optimizer steps at a time, for its hooks cost more than a small model's step.
    """

    num_sums: ClassVar[int] = 1
    """What an evaluation sums up beside the number of targets."""

    def __init__(
        self, config: TaskConfig, *, train_config: TrainConfig, model: LanguageModel, corpus: Corpus, max_steps: int
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.config, self.model, self.corpus = train_config, model, corpus
        self.max_steps, self.accumulate = max_steps, train_config.trainer.accumulate
        self.steps_per_stretch = steps_per_stretch(train_config)
        self.tokens_per_step = train_config.data.rows * train_config.data.context_length * self.accumulate
        self.flops_per_token = self.count_flops(config, model, train_config.data.context_length)
        self.schedule: Schedule = build(
            train_config.schedule, max_steps=max_steps, tokens_per_step=self.tokens_per_step
        )
        self.counters = Counters()
        self.stopwatch = Stopwatch()
        self.last_metrics: Metrics = {}
        self.after_step: Callable[[bool], None] = lambda ends_stretch: None
        self._weights: list[nn.Parameter] = []
        self._is_sharded = False
        self._peak_flops: float | None = None
        self._carried: dict[int, LSTMState] = {}
        self._evaluation = Evaluation(self.num_sums)
        self._resumes_stopwatch = False

    def start_head_at_frequencies(self) -> None:
        """Let an output bias, where there is one, start at the frequencies of the tokens in the training split."""
        counts = np.bincount(self.corpus.open("train").ids, minlength=len(self.model.head.weight))
        self.model.head.start_at_frequencies(torch.from_numpy(counts))

    @staticmethod
    def count_flops(config: Any, model: LanguageModel, context_length: int) -> float:
        """Return the floating-point operations of one training step for each token."""
        return model.flops_per_token(context_length)

    @staticmethod
    def shown(batch: Batch, config: TrainConfig, tokenizer: Tokenizer) -> Iterator[list[Shown]]:
        """Yield what each row of a batch holds, for people."""
        tokens_BT, targets_BT = batch["tokens_BT"], batch["targets_BT"]
        segments_BT = batch.get("segments_BT", torch.ones_like(tokens_BT))
        for tokens, targets, segments in zip(
            tokens_BT.tolist(), targets_BT.tolist(), segments_BT.tolist(), strict=True
        ):
            yield [
                Shown(tokens[0], False, segments[0]),
                *map(Shown, targets, [True] * len(targets), [*segments[1:], segments[-1]]),
            ]

    def loss(self, batch: Batch, carried: Any) -> tuple[Tensor, float | Tensor, Any]:
        """Return (sum of losses, what it is divided by, state to carry to the next batch of these rows)."""
        raise NotImplementedError

    def token_losses(self, batch: Batch, carried: Any) -> tuple[Tensor, Tensor, Any]:
        """Return (the loss of each token, 0 where none is predicted; whether one is; state to carry).

        Shape: (B, T) each. Unit: nats.
        """
        raise NotImplementedError

    def evaluate(self, batch: Batch, carried: Any) -> tuple[Tensor, Tensor, Any]:
        """Return (sum of losses, number of targets, state to carry) without gradients; in the place of the first
        `num_sums` sums, the losses first.
        """
        nll_BT, is_target_BT, state = self.token_losses(batch, carried)
        return nll_BT.double().sum(), is_target_BT.sum(), state

    def metrics_of(self, split: str, sums: Sequence[float], num_targets: float) -> Metrics:
        """Return the metrics of a split from what `evaluate` has summed, the loss first."""
        loss_sum = sums[0]
        return {
            f"{split}/loss_nats": loss_sum / num_targets,
            f"{split}/bits_per_byte": bits_per_byte(loss_sum, num_bytes=self.corpus.splits[split].bytes),
            f"{split}/perplexity": perplexity(loss_sum / num_targets),
        }

    def written_metrics(self, split: str) -> Metrics:
        """Return the metrics of what the model writes, the same on every rank; most tasks have none."""
        return {}

    def files_of(self, split: str) -> dict[str, str]:
        """Return files for the run folder about the last evaluation of a split, by name; most tasks have none."""
        return {}

    @property
    def batches_seen(self) -> int:
        """Micro-steps done, over all starts of the run."""
        return self.counters.batches_seen

    @property
    def steps_done(self) -> int:
        """Whole optimizer steps done, over all starts of the run."""
        return self.counters.batches_seen // self.accumulate

    def configure_model(self) -> None:
        """Cut the model into parts where the config asks for it; Lightning calls this on every device."""
        if self.config.trainer.strategy is Strategy.fsdp and not self._is_sharded:
            from lmexp.models.sharding import shard  # some tenths of a second to import

            mesh: Any = self.device_mesh
            shard(self.model, mesh["data_parallel"])
            self._is_sharded = True

    # -- the training step ------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        optimizer = build(self.config.optimizer, model=self.model)
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
        return optimizer

    def on_train_start(self) -> None:
        self._weights = list(self.model.parameters())
        if self.device.type == "cuda" and self.config.trainer.precision == "bf16-mixed":
            self._peak_flops = peak_flops(torch.cuda.get_device_name(self.device))
        self.counters.loss_sum = self.counters.loss_sum.to(self.device)
        self.stopwatch.start()

    def training_step(self, stretch: list[Batch], batch_idx: int) -> None:
        optimizer: Any = self.optimizers()
        for batch in stretch:
            if batch["micro_step"] < self.batches_seen:
                continue  # done before the run was stopped
            self._micro_step(batch)
            if self.batches_seen % self.accumulate:
                continue
            self._optimizer_step(optimizer)
            if self.steps_done % self.config.trainer.log_every_steps == 0:
                self._log_training()
            self.after_step(batch is stretch[-1])

    def _micro_step(self, batch: Batch) -> None:
        """Add the gradient of one batch."""
        counters = self.counters
        assert batch["micro_step"] == counters.batches_seen, "the loader and the task disagree about the batch"
        seed_everything(self.config.seed, counters.batches_seen, self.global_rank)
        slot = counters.batches_seen % self.accumulate
        loss_sum, num_targets, carried = self.loss(batch, self._carried.get(slot))
        if "resets_B" in batch:
            self._carried[slot] = carried.detach()
        loss = loss_sum / num_targets
        penalised = loss if self.model.penalty is None else loss + self.model.penalty
        if slot + 1 < self.accumulate:
            with self._without_sync():
                self.manual_backward(penalised / self.accumulate)
        else:
            self.manual_backward(penalised / self.accumulate)
        counters.loss_sum += loss.detach()
        counters.losses_summed += 1
        counters.batches_seen += 1
        tokens = batch["num_tokens"] if "num_tokens" in batch else self.tokens_per_step // self.accumulate
        counters.tokens_seen += tokens

    def _optimizer_step(self, optimizer: Any) -> None:
        factor = self.schedule(self.steps_done - 1)
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        limit, callbacks = self.config.trainer.gradient_clip_norm, self.config.callbacks
        is_logged = callbacks.log_gradient_norm and self.steps_done % self.config.trainer.log_every_steps == 0
        if limit is not None or is_logged:
            norm = torch.nn.utils.clip_grad_norm_(self._weights, limit or math.inf)
            self.counters.gradient_norm = norm if is_logged else None
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _without_sync(self) -> AbstractContextManager[None]:
        """Keep the ranks from exchanging gradients that are not whole yet."""
        wrapped = self.trainer.strategy.model
        return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) else nullcontext()

    def _log_training(self) -> None:
        counters = self.counters
        loss = self._mean_over_ranks(counters.loss_sum / counters.losses_summed)
        self.require_finite(loss)
        seconds = max(self.stopwatch.restart(), 1e-9)
        metrics = {
            "train/loss_nats": loss,
            "train/tokens_per_second": (counters.tokens_seen - counters.tokens_logged) / seconds,
        }
        if self._peak_flops is not None:
            metrics["train/mfu"] = model_flops_utilization(
                self.flops_per_token,
                tokens_per_second=metrics["train/tokens_per_second"],
                peak_flops=self._peak_flops * self.trainer.world_size,
            )
        if self.config.callbacks.log_learning_rate:
            metrics["train/learning_rate"] = self.config.optimizer.learning_rate * self.schedule(self.steps_done - 1)
        if counters.gradient_norm is not None:
            norm: Any = counters.gradient_norm
            metrics["train/gradient_norm"] = (norm.full_tensor() if self._is_sharded else norm).item()
        counters.loss_sum.zero_()
        counters.losses_summed = 0
        counters.tokens_logged = counters.tokens_seen
        self.record(metrics)

    def require_finite(self, loss: float | None = None) -> None:
        """Raise when the loss is no longer a number.

        Raises:
            NumericsError: saying at which step.
        """
        value = self.counters.loss_sum.item() if loss is None else loss
        if not math.isfinite(value):
            raise NumericsError(
                f"the training loss is {value} at step {self.steps_done}; a lower optimizer.learning_rate, a longer "
                "schedule warm-up or trainer.gradient_clip_norm usually helps"
            )

    def record(self, metrics: Metrics) -> None:
        """Hand metrics to the run folder and its mirrors."""
        self.last_metrics = self.last_metrics | metrics
        for logger in self.loggers:
            logger.log_metrics({**metrics, "tokens": self.counters.tokens_seen}, step=self.steps_done)

    # -- evaluation -------------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        self._resumes_stopwatch = self.stopwatch.is_running
        self.stopwatch.pause()
        self._evaluation = Evaluation(self.num_sums)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluation.add(*self.evaluate(batch, self._evaluation.carried))

    def on_validation_epoch_end(self) -> None:
        self._finish_evaluation("val")
        if self._resumes_stopwatch:
            self.stopwatch.start()

    on_test_epoch_start = on_validation_epoch_start
    test_step = validation_step

    def on_test_epoch_end(self) -> None:
        self._finish_evaluation("test")

    def _finish_evaluation(self, split: str) -> None:
        totals = self._evaluation.totals.to(self.device)
        *sums, num_targets = self.trainer.strategy.reduce(totals, reduce_op="sum").tolist()
        metrics = self.metrics_of(split, sums, num_targets) | self.written_metrics(split)
        self.record(metrics)
        self.log_dict(metrics, logger=False)  # for callbacks that watch a metric

    # -- what a checkpoint holds beside weights and optimizer ---------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add our own counters; every rank comes here, so ranks can be gathered."""
        checkpoint["lmexp"] = {
            "batches_seen": self.batches_seen,
            "losses_summed": self.counters.losses_summed,
            "tokens": [self.counters.tokens_seen, self.counters.tokens_logged],
            "loss_sums_of_ranks": self._gather(self.counters.loss_sum[None]).flatten(),
            "seconds": self.stopwatch.total,
        }
        if self._carried:
            slots = [torch.stack((s.hidden_LBC, s.cell_LBC)) for _, s in sorted(self._carried.items())]
            gathered = self._gather(torch.stack(slots))  # rank, slot, (h c), layer, row, hidden
            checkpoint["lmexp"]["carried"] = torch.cat(list(gathered), dim=-2)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["lmexp"]
        sums, world_size = state["loss_sums_of_ranks"], self.trainer.world_size
        nominal = state["batches_seen"] * self.tokens_per_step // self.accumulate
        tokens_seen, tokens_logged = state.get("tokens", (nominal, nominal))  # checkpoints of 0.1 have none
        self.counters = Counters(
            batches_seen=state["batches_seen"],
            tokens_seen=tokens_seen,
            tokens_logged=tokens_logged,
            losses_summed=state["losses_summed"],
            loss_sum=(sums[self.global_rank] if len(sums) == world_size else sums.mean()).clone(),
        )
        self.stopwatch.total = state["seconds"]
        if "carried" in state:
            rows = state["carried"].shape[-2] // world_size
            mine = state["carried"][..., self.global_rank * rows : (self.global_rank + 1) * rows, :]
            self._carried = {
                slot: LSTMState(part[0].to(self.device).contiguous(), part[1].to(self.device).contiguous())
                for slot, part in enumerate(mine)
            }
        round_up = self.steps_per_stretch - 1 if self.steps_done >= self.max_steps else 0  # the last one may be shorter
        _set_lightnings_progress(checkpoint, (self.steps_done + round_up) // self.steps_per_stretch)

    def _gather(self, tensor: Tensor) -> Tensor:
        gathered: Any = self.all_gather(tensor) if self.trainer.world_size > 1 else tensor[None]
        return gathered

    def _mean_over_ranks(self, value: Tensor) -> float:
        return self.trainer.strategy.reduce(value, reduce_op="mean").item()


def scattered(nll_N: Tensor, is_target_BT: Tensor) -> Tensor:
    """Return the losses of the targets at their places, 0 elsewhere.

    Shape: (N), (B, T) -> (B, T).
    """
    return nll_N.new_zeros(is_target_BT.shape).masked_scatter(is_target_BT, nll_N)


def steps_per_stretch(config: TrainConfig) -> int:
    """Return how many optimizer steps Lightning hands in at once: what must happen between two steps (validation,
    checkpoints, samples, a moving average) falls on the end of a stretch. The result does not depend on it.
    """
    if config.callbacks.ema_decay is not None or config.trainer.profiler is not None:
        return 1
    trainer, samples = config.trainer, config.callbacks.samples
    periods = (trainer.validate_every_steps, trainer.checkpoint_every_steps, samples.every_steps)
    common = math.gcd(*(period for period in periods if period is not None))
    return max(n for n in range(1, LONGEST_STRETCH + 1) if common % n == 0)


def _set_lightnings_progress(checkpoint: dict[str, Any], stretches: int) -> None:
    """Tell Lightning that exactly these stretches are over.

    A checkpoint is written when the next one is fetched already; counting that one too would move every validation.
    """
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    for part in ("total", "current"):
        progress[part] |= dict.fromkeys(("ready", "started", "processed", "completed"), stretches)
    progress["is_last_batch"] = False


def seed_everything(*numbers: int) -> None:
    """Set torch's random state from numbers; a hash, for neighbouring sums would collide."""
    text = ",".join(map(str, numbers)).encode()
    seed = int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big")
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed(seed)
