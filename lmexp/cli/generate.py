"""lmexp generate: a trained model writes, or tells labels."""

import json
from typing import Annotated

import typer

from lmexp.cli.door import Checkpoint, Run, errors


def generate(
    run: Run,
    prompt: Annotated[list[str] | None, typer.Option(help="What a text begins with; may come more than once.")] = None,
    prompts_file: Annotated[
        str | None, typer.Option(help='A prompt a line, or {"prompt": ...} a line in .jsonl; - reads stdin.')
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens to write at most.")] = 200,
    temperature: Annotated[
        float | None,
        typer.Option(min=0, help="0: the likeliest token; 1: as the model is.  [default: 0.8; from a source 0]"),
    ] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Choose among the k likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(min=0, max=1, help="Choose among the likeliest of this share.")] = None,
    min_p: Annotated[
        float | None, typer.Option(min=0, max=1, help="Choose among those this share as likely as the likeliest.")
    ] = None,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1: what was said before is less likely.")] = 1.0,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; may come more than once.")] = None,
    num_beams: Annotated[int, typer.Option(min=1, help="Above 1: search for the likeliest text.")] = 1,
    length_penalty: Annotated[float, typer.Option(help="Of beam search: larger for longer texts.")] = 1.0,
    num_samples: Annotated[int, typer.Option(min=1, help="Texts for each prompt; each has the next seed.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another text.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts at once; changes none of them.")] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    checkpoint: Checkpoint = "last",
) -> None:
    """Write texts with a trained model, or tell labels."""
    with errors():
        from lmexp.generation.prompts import read_prompts, require_writer
        from lmexp.generation.sampling import Sampling
        from lmexp.runs import find_run

        config = find_run(run).config
        is_classifier, has_source = config.task.name == "classify", config.model.kind.name == "encoder_decoder"
        sampling = Sampling(
            max_tokens=max_tokens,
            temperature=(0.0 if num_beams > 1 or has_source else 0.8) if temperature is None else temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            stop=tuple(stop or ()),
            num_beams=num_beams,
            length_penalty=length_penalty,
            seed=seed,
        )
        sampling.require_samples(num_samples)
        if not is_classifier:
            require_writer(find_run(run))  # what is wrong is said before torch is imported
        prompts = read_prompts(prompt or [], prompts_file)
        from lmexp.checkpoints import load_run
        from lmexp.generation.forms import form_of
        from lmexp.generation.text import complete, printable, write

        loaded = load_run(run, checkpoint)
        if is_classifier:
            from lmexp.serving.labels import label
            from lmexp.serving.labels import shown as shown_label

            for found in label(loaded, prompts, batch_size=batch_size):
                line = json.dumps(found, ensure_ascii=False) if as_json else printable(shown_label(found))
                print(line, flush=True)
            return
        form = form_of(loaded.config, loaded.tokenizer)
        if len(prompts) * num_samples * num_beams == 1 and not as_json:
            for text in write(loaded.model, form, prompts[0], sampling):
                print(text, end="", flush=True)
            print()
            return
        completions = complete(loaded.model, form, prompts, sampling, num_samples=num_samples, batch_size=batch_size)
        for number, completion in enumerate(completions):
            if as_json:
                print(json.dumps(completion.as_dict()), flush=True)
            else:
                shown = printable(form.shown(completion.prompt, completion.text))
                print(("\n" if number and not has_source else "") + shown, flush=True)  # a source a line
