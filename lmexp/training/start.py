"""Find or make the folder of a run, and start training from it. Nothing here imports torch.

The same experiment has the same folder: done is shown, cut off is resumed, failed is tried again when asked.
"""

import contextlib
import gc
import json
import os
import shutil
import signal
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import IO, Any

from lmexp.config.data import AUTO, DataConfig
from lmexp.config.pretrained import HFConfig
from lmexp.config.store import identity_hash, to_yaml
from lmexp.config.train import TrainConfig
from lmexp.config.trainer import count_gpus
from lmexp.data.corpus import Corpus, check_length, prepare
from lmexp.data.counts import has_examples, remarks, summary
from lmexp.data.files import corpus_of
from lmexp.data.source import SPLITS
from lmexp.errors import ConfigError, DataError, DistributedError, LmexpError, Problem, RunError, Stopped, StorageError
from lmexp.runs import RunFolder
from lmexp.runs.folder import now, status_of
from lmexp.runs.provenance import provenance, source_hash, weights_hash
from lmexp.tokenization import learn
from lmexp.training.children import Start, Watch, cause_of, start_process, wait

KEYWORDS = ("auto", "force", "never")


class Decision(Enum):
    """What to do with the folder."""

    show = "show"
    begin = "begin"
    go_on = "go on"


def train(
    config: TrainConfig,
    *,
    command: Sequence[str] = (),
    plugins: Sequence[str] = (),
    say: Callable[[str], None] = lambda text: None,
    start: Start | None = None,
    watch: Watch | None = None,
    sweep: str | None = None,
    retry: bool = False,
) -> RunFolder:
    """Train what a config says, or show it when it is there, and return its folder.

    With more than one device, training runs in processes of its own; with `start`, in what that starts, under the eyes
    of `watch`. A `sweep` that it is a trial of is noted in run.json. `retry` goes on with what failed, as resume=force
    does.

    Raises:
        LmexpError: with the exit code that the outcome has.
    """
    _require_parents(config)
    say("preparing the text")
    corpus = prepare(config.data, config.tokenizer)
    check_length(corpus, config.data, accumulate=config.trainer.accumulate)
    _require_trained_tokens(config, corpus)
    with open_run(config, corpus, plugins, say, retry=retry) as (run, decision, lock):
        if decision is Decision.show:
            _note_sweep(run, sweep)
            say(f"{run.path} is done already")
            return run
        say(f"training {run.path}" if decision is Decision.begin else f"going on with {run.path}")
        if decision is Decision.begin:
            _begin(run, config, corpus)
        _count_examples(run, config.data, corpus, say)
        _settle_batch_size(run, config, corpus)
        run.create(config)
        run.update(command=list(command), heartbeat=now(), status="running", **provenance(plugins))
        _note_sweep(run, sweep)
        devices = config.trainer.devices or count_gpus()
        if devices > 1 or start is not None:
            code = wait(run, (start or start_process)(run, devices, lock), watch)
            raise_outcome(run, code)
        else:
            with loading():
                from lmexp.training.loop import train_from_folder

            train_from_folder(run, corpus)
        return run


def _note_sweep(run: RunFolder, sweep: str | None) -> None:
    """Note that a run is a trial of a sweep; its lock is held, and no child writes yet."""
    before = run.record.get("sweeps", [])
    if sweep is not None and sweep not in before:
        run.update(sweeps=[*before, sweep])


@contextmanager
def loading() -> Iterator[None]:
    """Load torch and Lightning without looking for garbage among what stays: 0.8 of 4 seconds.

    It is left out when garbage is looked for later, too. Once they are there, other objects must not be made to stay.
    """
    if "torch" in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


@contextmanager
def open_run(
    config: TrainConfig, corpus: Corpus, plugins: Sequence[str], say: Callable[[str], None], *, retry: bool = False
) -> Iterator[tuple[RunFolder, Decision, IO[str]]]:
    """Hold the folder of an experiment, and say what to do with it; the open file is the lock.

    Raises:
        RunError: it is busy, failed, or of other code, and the config does not say what to do then.
    """
    parent = None if config.resume in KEYWORDS else _finished_parent(config)
    identity: dict[str, Any] = {"fingerprint": corpus.fingerprint}
    if not config.tokenizer.is_learned:  # then the config says only where it is, not what it is
        identity["tokenizer"] = corpus.tokenizer.hash
    if isinstance(config.model, HFConfig) and config.init_from is None:
        identity["pretrained"] = weights_hash(config.model.path)
    if parent is not None:
        identity["parent"] = parent.record["id"]
    if config.init_from is not None:
        identity["init_from"] = source_of(config.init_from)["weights"]
    base = Path(config.output_dir) / config.project / f"{config.display_name}-{identity_hash(config, **identity)}"
    number = 1
    while True:
        run = RunFolder(base if number == 1 else base.with_name(f"{base.name}-{number}"))
        number += 1
        if config.resume == "never" and run.record:
            continue
        with run.lock() as lock:
            decision = _decide(run, config, plugins, identity, say, retry=retry)
            if decision is not None:
                yield run, decision, lock
                return


def _decide(
    run: RunFolder,
    config: TrainConfig,
    plugins: Sequence[str],
    identity: dict[str, Any],
    say: Callable[[str], None],
    *,
    retry: bool,
) -> Decision | None:
    """Return what to do with a folder, None to look at the next one."""
    record = run.record
    if not record:
        return Decision.begin
    if identity_hash(run.config, **identity) != identity_hash(config, **identity):
        raise RunError(f"{run.path} holds another config: its config.yaml was changed; delete or move the folder")
    same_code, status = record.get("source_hash") == source_hash(plugins), status_of(record)
    if status == "done":
        if same_code:
            return Decision.show
        say(f"{run.path} was made by other code; a new folder is made beside it")
        return None
    if retry or config.resume == "force" or (same_code and status != "failed"):
        return Decision.go_on
    choices = "resume=force goes on from its last checkpoint, resume=never starts again in a new folder"
    if status == "failed":
        raise RunError(f"{run.path} failed: {record.get('error', 'see its log.txt')}\n{choices}")
    raise RunError(f"{run.path} was cut off, and the code has changed since; {choices}")


def _finished_parent(config: TrainConfig) -> RunFolder:
    parent = RunFolder(Path(config.resume))
    status = status_of(parent.record)
    if parent.record.get("imported"):
        raise RunError(f"{parent.path} was imported, not trained here; begin with its weights: init_from={parent.path}")
    if status != "done":
        raise RunError(f"{parent.path} is {status}; only a finished run can be trained for longer")
    if parent.record["step"] >= config.trainer.max_steps and config.trainer.max_epochs is None:
        raise ConfigError(
            f"trainer.max_steps: {parent.path} has {parent.record['step']} steps already; give a larger number"
        )
    return parent


def _require_parents(config: TrainConfig) -> None:
    """Raise when the run that this one goes on from, or begins with, cannot serve; said before the text is prepared."""
    if config.resume not in KEYWORDS:
        _finished_parent(config)
    if config.init_from is not None:
        source_of(config.init_from)


def source_of(init_from: str) -> dict[str, Any]:
    """Return what run.json keeps about the weights that a run begins with.

    Raises:
        RunError: there is no such run, or it has no checkpoint.
    """
    source = RunFolder(Path(init_from).expanduser().resolve())
    checkpoints = list(source.checkpoints.glob("step-*[0-9]"))
    if not checkpoints:
        raise RunError(f"init_from: {source.path} has no checkpoint to begin with")
    newest = max(checkpoints, key=_by_step)
    try:
        meta = json.loads((newest / "meta.json").read_text(encoding="utf-8"))
        weights = meta["files"]["weights.safetensors"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"init_from: {newest} is damaged ({error})") from None
    return {"id": source.record.get("id"), "path": str(source.path), "checkpoint": newest.name, "weights": weights}


def _by_step(checkpoint: Path) -> str:
    return checkpoint.name.zfill(20)


def _begin(run: RunFolder, config: TrainConfig, corpus: Corpus) -> None:
    """Fill a new folder: the tokenizer, and what a run for longer takes over from its parent."""
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        corpus.tokenizer.save(run.tokenizer)
        if corpus.labels:
            run.labels.write_text(json.dumps(corpus.labels, ensure_ascii=False), encoding="utf-8")
        parent = None if config.resume in KEYWORDS else RunFolder(Path(config.resume))
        if parent is not None:
            _take_over(parent, run)
    except OSError as error:
        raise StorageError(f"{error.filename or run.path}: {error.strerror or error}; free some space") from None
    run.create(config)
    run.update(
        id=uuid.uuid4().hex[:8],
        project=config.project,
        name=config.display_name,
        created=now(),
        seed=config.seed,
        data_fingerprint=corpus.fingerprint,
        tokenizer_hash=corpus.tokenizer.hash,
        corpus=_prepared(config.data),
        parent=None if parent is None else {"id": parent.record["id"], "step": parent.record["step"]},
        batch_size=None if parent is None else parent.record.get("batch_size"),
        init_from=None if config.init_from is None else source_of(config.init_from),
    )


def _prepared(data: DataConfig) -> dict[str, Any] | None:
    """Return which corpus of `lmexp prepare` the text is from, and where its card is."""
    manifest = corpus_of(getattr(data, "path", None))
    if manifest is None:
        return None
    try:
        made = json.loads(manifest.read_text(encoding="utf-8"))
        kept = {key: made[key] for key in ("name", "fingerprint", "documents")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{manifest}: is damaged ({error}); make the corpus again with lmexp prepare") from None
    return {**kept, "card": str((manifest.parent / "README.md").resolve())}


def _count_examples(run: RunFolder, data: DataConfig, corpus: Corpus, say: Callable[[str], None]) -> None:
    """Note how many examples are used, cut and left out, and say it; a plain text has none."""
    if not has_examples(data):
        return
    counts = {split: summary(corpus.open(split), data) for split in SPLITS if corpus.splits[split].documents}
    run.update(examples=counts)
    for split, of_split in counts.items():
        for remark in remarks(split, of_split, data):
            say(remark)


def _require_trained_tokens(config: TrainConfig, corpus: Corpus) -> None:
    """Raise when a template adds tokens that adapters, which leave the embedding as it is, would not train.

    Raises:
        ConfigError: naming the templates that add none.
    """
    if config.model.lora.rank is None or config.tokenizer.is_learned:
        return
    if corpus.tokenizer.vocab_size > learn(config.tokenizer, ()).vocab_size:
        message = "adds tokens to the model, which adapters do not train; take data.template=plain or alpaca"
        raise ConfigError([Problem("data.template", message)])


def _settle_batch_size(run: RunFolder, config: TrainConfig, corpus: Corpus) -> None:
    """Note what data.batch_size=auto comes to here; a run that goes on keeps what it began with, elsewhere too."""
    if config.data.batch_size != AUTO or run.record.get("batch_size") is not None:
        return
    from lmexp.training.batch_size import largest_batch_size

    run.update(batch_size=largest_batch_size(config, corpus))


def _take_over(parent: RunFolder, run: RunFolder) -> None:
    newest = max(parent.checkpoints.glob("step-*"), key=_by_step)
    shutil.copytree(newest, run.checkpoints / newest.name, dirs_exist_ok=True)
    for name in ("metrics.jsonl", "samples.jsonl", run.architecture.name):
        if (parent.path / name).is_file():
            shutil.copy(parent.path / name, run.path / name)


def usable_cores() -> int:
    """Return the CPU cores that this process may use: those it is bound to, and a container's share of their time."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        cores = os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # "max 100000" where there is no limit
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def raise_outcome(run: RunFolder, code: int) -> None:
    """Raise what run.json says about a training process that has ended; nothing when it is done."""
    record = run.record
    status, error = record.get("status"), record.get("error") or "see its log.txt"
    if status == "done":
        return
    if status == "stopped":
        number = record.get("exit_code", 128 + signal.SIGTERM) - 128
        raise Stopped(f"stopped; the same command goes on from step {record.get('step', 0)}", number)
    if status == "failed":
        failure = LmexpError(error)
        failure.exit_code = record.get("exit_code", 1)
        raise failure
    message = f"a training process died without a word, {cause_of(code)}; see {run.path / 'log.txt'}"
    run.update(status="failed", error=message, exit_code=5)
    raise DistributedError(message)


def show_config(config: TrainConfig) -> str:
    """Return what config.yaml will hold."""
    return to_yaml(config)
