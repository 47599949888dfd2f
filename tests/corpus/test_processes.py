"""`lmexp prepare` as processes: killed and begun again, and handed to Slurm with a stand-in for its commands."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import sentences

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SBATCH = """#!/bin/sh
# Runs the tasks of an array here, one after the other, as Slurm would on its nodes.
for script; do :; done
number=$(ls "$SLURM_SCRIPTS" | grep -c script-)
cp "$script" "$SLURM_SCRIPTS/script-$number.sh"
echo "$*" > "$SLURM_SCRIPTS/called-$number"
last=$(grep -o 'array=0-[0-9]*' "$script" | grep -o '[0-9]*$')
for task in $(seq 0 "${last:-0}"); do
  SLURM_JOB_ID=7 SLURM_ARRAY_TASK_ID=$task SLURM_NODELIST=localhost bash "$script" \
    > "$SLURM_SCRIPTS/log-$number-$task" 2>&1
done
echo "Submitted batch job $number"
"""
SRUN = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do if [ "$1" = -n ]; then shift; fi; shift; done
exec "$@"
"""
SCONTROL = """#!/bin/sh
echo localhost
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for part in range(6):
        rows = [{"text": " ".join(sentences(1_500, seed=100 * part + n).split("\n"))} for n in range(150)]
        (folder / f"{part}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def texts(out: Path) -> dict[str, str]:
    files = [*(out / "data").glob("*.jsonl"), *(out / "dropped").glob("*"), out / "README.md", out / "card.html"]
    return {str(path.relative_to(out)): path.read_text() for path in files}


def command(source: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "lmexp", "prepare", f"corpus.path={source}", f"out={out}", "workers=2", *more]


def begun(stage: str, source: Path, out: Path) -> "subprocess.Popen[str]":
    """Return a process of `lmexp prepare` that is at work on a stage, or has ended."""
    process = subprocess.Popen(
        command(source, out),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )
    while process.poll() is None and not list((out / ".stages").glob(f"{stage}-*")):
        time.sleep(0.02)
    return process


def test_killed_again_and_again_it_ends_with_what_an_undisturbed_run_makes(source: Path, tmp_path: Path) -> None:
    subprocess.run(command(source, tmp_path / "a" / "out"), check=True, capture_output=True, timeout=200)
    for stage in ("extract", "clean", "deduplicate", "redact"):
        process = begun(stage, source, tmp_path / "b" / "out")
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
    ended = subprocess.run(command(source, tmp_path / "b" / "out"), capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stderr
    assert texts(tmp_path / "b" / "out") == texts(tmp_path / "a" / "out")


@pytest.mark.parametrize("stage", ["extract", "clean", "deduplicate", "split"])
def test_control_c_ends_it_with_one_line_and_its_processes_with_it(stage: str, source: Path, tmp_path: Path) -> None:
    process = begun(stage, source, tmp_path / "out")
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert said.rstrip().endswith("stopped")


def test_slurm_is_given_a_chain_of_jobs_that_make_the_same_corpus(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(command(source, tmp_path / "here" / "out"), check=True, capture_output=True, timeout=200)
    scripts = tmp_path / "bin"
    scripts.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("scontrol", SCONTROL)):
        (scripts / name).write_text(text)
        (scripts / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{scripts}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_SCRIPTS", str(scripts))
    options = ["executor=slurm", "slurm.partition=cpu", "slurm.time=01:00:00", "corpus.deduplicate.num_buckets=14"]
    there = tmp_path / "there" / "out"
    said = subprocess.run(command(source, there, *options), capture_output=True, text=True, timeout=280)
    assert said.returncode == 0, said.stderr
    script = (scripts / "script-0.sh").read_text()
    assert "#SBATCH --partition=cpu" in script
    assert "#SBATCH --time=01:00:00" in script
    assert "#SBATCH --array=0-5" in script
    called = [path.read_text() for path in scripts.glob("called-*")]
    chained = sum("RUN_OFFSET" in text and "--dependency=afterok:" in text for text in called)
    assert chained == sum("RUN_OFFSET" in text for text in called) - 1
    assert texts(there) == texts(tmp_path / "here" / "out")


def test_files_that_are_large_are_shared_among_all_tasks_and_nothing_is_lost(tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    rows = [{"text": f"Row {n}. " + " ".join(sentences(3_000, seed=n).split("\n"))} for n in range(3_000)]
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    pages = [
        f"<page><title>Page {n}</title><ns>0</ns><id>{n}</id><revision><text>'''Page''' {n} of [[Wort:a|this]] and "
        f"[[Datei:x.jpg|that]] dump. {sentences(3_000, seed=9_000 + n)}</text></revision></page>"
        for n in range(2_800)
    ]
    names = '<siteinfo><namespaces><namespace key="6">Datei</namespace></namespaces></siteinfo>'
    (folder / "dump.xml").write_text(f"<mediawiki>{names}{''.join(pages)}</mediawiki>")
    (folder / "small.txt").write_text("A file of its own. " + sentences(500, seed=77_777))
    options = ["corpus.deduplicate.near=false", "corpus.deduplicate.exact=false", "corpus.redact.kinds=[]"]
    for name, workers in (("one", 1), ("two", 2)):
        arguments = command(folder, tmp_path / name / "out", *options, f"workers={workers}")
        subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=140)
    one = texts(tmp_path / "one" / "out")
    assert one == texts(tmp_path / "two" / "out")
    found = [json.loads(line) for name, text in one.items() if "data/" in name for line in text.splitlines()]
    of_rows, of_pages = (f"large/rows.jsonl, line {n + 1}" for n in range(3_000)), (f"page {n}" for n in range(2_800))
    wanted = {*of_rows, *(f"large/dump.xml, {page}" for page in of_pages), "large/small.txt, line 1"}
    assert sorted(row["id"] for row in found) == sorted(wanted)
    assert not {"task", "namespaces"} & {key for row in found for key in row}
    page = next(row["text"] for row in found if row["id"] == "large/dump.xml, page 12")
    assert page.startswith("Page 12\n\nPage 12 of this and dump. ")
    sizes = [len(text) for name, text in one.items() if "train-" in name]
    assert len(sizes) == 8
    assert max(sizes) < 1.25 * min(sizes)
    assert not list((tmp_path / "one" / "out" / ".stages").glob("*/dealt"))
