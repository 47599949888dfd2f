"""Zero- and few-shot tasks through EleutherAI's lm-evaluation-harness: our models as it asks them.

A task is one that the harness knows, or a YAML file of the user, whose data may be files too; then nothing is fetched.
A text is read without a token before it; where there is nothing before what is scored, the token that begins texts
stands there, else the one that ends documents.
Shapes: B rows, T tokens, V vocabulary.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from lmexp.checkpoints import LoadedRun, load_run
from lmexp.config.model import Kind
from lmexp.errors import DataError, LmexpError, MissingPackageError, RunError
from lmexp.generation.forms import Continuation
from lmexp.generation.sampling import Sampling
from lmexp.generation.text import Text, sample
from lmexp.models.heads import single
from lmexp.runs.folder import now, replace_file

try:
    from lm_eval import simple_evaluate, utils
    from lm_eval.api.model import TemplateLM
    from lm_eval.tasks import TaskManager
except ModuleNotFoundError as error:
    raise MissingPackageError((error.name or "lm_eval").partition(".")[0], "eval") from None

LONGEST = 2048
"""Tokens that a model without a window of its own reads at once."""
MAX_NEW_TOKENS = 256


class Adapter(TemplateLM):
    """A run as the harness asks it."""

    def __init__(self, loaded: LoadedRun, *, batch_size: int = 16) -> None:
        super().__init__()
        self.loaded, self.batch_size = loaded, batch_size
        self.model, self.text_tokenizer = loaded.model, loaded.tokenizer
        self.max_length = loaded.model.max_length or LONGEST
        self.place = next(loaded.model.parameters()).device

    @property
    def eot_token_id(self) -> int:
        end = self.text_tokenizer.end_of_document_id
        if end is None:
            raise RunError(f"{self.loaded.run.path.name}: its tokenizer has no token that ends a document")
        return end

    @property
    def prefix_token_id(self) -> int:
        first = self.text_tokenizer.begin_of_text_id
        return self.eot_token_id if first is None else first

    @property
    def tokenizer_name(self) -> str:
        return self.text_tokenizer.hash

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        return self.text_tokenizer.encode(string).tolist()

    @torch.inference_mode()
    def _loglikelihood_tokens(self, requests: Any, **_: Any) -> list[tuple[float, bool]]:
        """Return of each continuation how likely it is after its context, and whether it is what comes out greedily."""
        pairs = [(list(context), list(continuation)) for _, context, continuation in requests]
        order = sorted(range(len(pairs)), key=lambda number: -sum(map(len, pairs[number])))
        found: list[tuple[float, bool]] = [(0.0, True)] * len(pairs)
        for first in range(0, len(order), self.batch_size):
            numbers = order[first : first + self.batch_size]
            for number, result in zip(numbers, self._scored([pairs[n] for n in numbers]), strict=True):
                found[number] = result
        return found

    def _scored(self, pairs: Sequence[tuple[list[int], list[int]]]) -> Iterator[tuple[float, bool]]:
        rows = [(context + continuation)[-(self.max_length + 1) :] for context, continuation in pairs]
        width = max(map(len, rows)) - 1
        tokens_BT = torch.tensor([row[:-1] + [0] * (width + 1 - len(row)) for row in rows], device=self.place)
        hidden_BTC, _ = self.model(tokens_BT)
        for row, hidden_TC, (_, continuation) in zip(rows, hidden_BTC, pairs, strict=True):
            count = min(len(continuation), len(row) - 1)
            targets_T = torch.tensor(row[len(row) - count :], device=self.place)
            scores_TV: Tensor = single(self.model.head.logits(hidden_TC[len(row) - 1 - count : len(row) - 1]))
            log_p_T = scores_TV.log_softmax(-1).gather(1, targets_T[:, None])[:, 0]
            yield log_p_T.double().sum().item(), bool((scores_TV.argmax(-1) == targets_T).all())

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        """Return how likely whole texts are, in windows side by side."""
        windows, owners = [], []
        for number, request in enumerate(requests):
            (text,) = request.args
            cut = utils.get_rolling_token_windows(
                token_list=self.tok_encode(text),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            for pair in map(utils.make_disjoint_window, cut):
                windows.append((None, *pair))
                owners.append(number)
        totals = np.zeros(len(requests))
        np.add.at(totals, np.array(owners, dtype=int), [total for total, _ in self._loglikelihood_tokens(windows)])
        return totals.tolist()

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        """Return what the model writes after each context; a context that is too long loses its beginning."""
        form, found = Continuation(self.text_tokenizer), [""] * len(requests)
        by_settings: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            by_settings.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(number)
        for settings, numbers in by_settings.items():
            sampling = _sampling(json.loads(settings))
            room = max(1, self.max_length - sampling.max_tokens)
            for first in range(0, len(numbers), self.batch_size):
                batch = numbers[first : first + self.batch_size]
                contexts = (self.tok_encode(requests[number].args[0])[-room:] for number in batch)
                texts = [Text(form, context or [self.prefix_token_id], sampling) for context in contexts]
                for _ in sample(self.model, texts, sampling):
                    pass
                for number, text in zip(batch, texts, strict=True):
                    found[number] = text.text
        return found


def _sampling(settings: dict[str, Any]) -> Sampling:
    stop = settings.get("until") or []
    is_drawn = settings.get("do_sample", False)
    return Sampling(
        max_tokens=settings.get("max_gen_toks", MAX_NEW_TOKENS),
        temperature=settings.get("temperature", 1.0) if is_drawn else 0.0,
        top_p=settings.get("top_p") if is_drawn else None,
        stop=tuple([stop] if isinstance(stop, str) else (text for text in stop if text)),
    )


def evaluate(
    run: str,
    tasks: Sequence[str],
    *,
    checkpoint: str = "last",
    limit: int | None = None,
    num_fewshot: int | None = None,
    batch_size: int = 16,
) -> dict[str, Any]:
    """Return {"run", "checkpoint", "results", "versions", "num_examples", "file"} of tasks of the harness.

    `results` has for each task its metrics, each with its standard error where the harness gives one.

    Raises:
        LmexpError: there is no such run, it cannot write, or a task cannot be loaded.
    """
    names, folders, are_alone = zip(*map(_named, tasks), strict=True)
    loaded = load_run(run, checkpoint)
    if loaded.config.model.kind is not Kind.decoder or loaded.labels:
        raise RunError(f"{loaded.run.path.name}: the harness asks models that go on with a text; this one does not")
    found_in = [folder for folder in dict.fromkeys(folders) if folder]
    manager = TaskManager(include_path=found_in, include_defaults=not all(are_alone))  # to list its own takes seconds
    try:
        found = simple_evaluate(
            model=Adapter(loaded, batch_size=batch_size),
            tasks=list(names),
            limit=limit,
            num_fewshot=num_fewshot,
            task_manager=manager,
            bootstrap_iters=1000,
            log_samples=False,
        )
    except LmexpError:
        raise
    except Exception as error:  # whatever a task, its data set or a network leads to inside the library
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(f"--harness {','.join(tasks)}: {reason}") from None
    assert found is not None
    result = {
        "run": str(loaded.run.path),
        "checkpoint": f"step-{loaded.step:06d}",
        "results": {task: _plain(values) for task, values in found["results"].items()},
        "versions": found["versions"],
        "num_examples": {task: counts["effective"] for task, counts in found["n-samples"].items()},
        "harness": found.get("lm_eval_version"),
        "created": now(),
    }
    path = loaded.run.evaluations / f"harness-{result['checkpoint']}-{'-'.join(names)[:80]}.json"
    path.parent.mkdir(exist_ok=True)
    replace_file(path, json.dumps(result | {"file": str(path)}, ensure_ascii=False, indent=1))
    return result | {"file": str(path)}


def as_table(result: dict[str, Any]) -> str:
    """Return the result of `evaluate` for a terminal."""
    lines = [f"{result['run']} at {result['checkpoint']}, lm-evaluation-harness {result['harness']}"]
    for task, values in result["results"].items():
        lines.append(f"{task}: {result['num_examples'].get(task, 0):,} examples")
        for name, value in values.items():
            if name.endswith("_stderr") or not isinstance(value, float):
                continue
            error = values.get(f"{name}_stderr")
            lines.append(f"  {name:<16}  {value:.4f}" + (f"  \u00b1 {error:.4f}" if isinstance(error, float) else ""))
    return "\n".join([*lines, f"kept in {result['file']}"])


def _named(task: str) -> tuple[str, str | None, bool]:
    """Return the name of a task, the folder where it is found (None: the harness's), whether it needs none of others.

    Raises:
        DataError: a file holds no task.
    """
    path = Path(task).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        return task, None, False
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith(("task:", "group:"))]
        name = yaml.safe_load(min(lines)) if lines else {}  # a group names itself, and its tasks too
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"--harness {task}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not name:
        raise DataError(f"--harness {task}: the file names no task; it needs a line task: NAME")
    ((kind, value),) = name.items()
    return str(value), os.fspath(path.resolve().parent), kind == "task"


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return metrics by name, without the filter that the harness adds where it is none."""
    named = {key.removesuffix(",none"): value for key, value in values.items()}
    return {key: float(value) if isinstance(value, int | float) else value for key, value in named.items()}
