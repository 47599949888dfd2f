"""A command line becomes the config of a corpus, or every problem of it is said at once."""

from pathlib import Path

import pytest

from lmexp.config.corpus import KINDS, DatasetCorpusConfig, Executor, FilesCorpusConfig, PrepareConfig, UnicodeForm
from lmexp.config.options import CONF
from lmexp.config.prepare import compose_preparation
from lmexp.errors import ConfigError

GIVEN = ["corpus.path=pages", "out=clean"]
OPTIONS = sorted(path.stem for path in (CONF / "corpus").glob("*.yaml"))


def problems(*overrides: str) -> dict[str, str]:
    """Return what is wrong with a command line, by key."""
    with pytest.raises(ConfigError) as caught:
        compose_preparation(overrides)
    return {problem.key: problem.message for problem in caught.value.problems}


def composed(*overrides: str) -> PrepareConfig:
    return compose_preparation([*GIVEN, *overrides])


def test_a_path_and_a_folder_are_enough() -> None:
    config = composed()
    assert isinstance(config.corpus, FilesCorpusConfig)
    assert config.corpus.paths == {"pages": "pages"}
    assert config.out == "clean"
    assert config.executor is Executor.local
    assert config.corpus.redact.kinds == list(KINDS)
    assert not config.corpus.words.is_on
    assert config.num_workers >= 1


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes(option: str) -> None:
    given = "corpus.dataset=name" if option == "dataset" else "corpus.path=pages"
    config = compose_preparation([f"corpus={option}", given, "out=clean"])
    assert isinstance(config.corpus, DatasetCorpusConfig if option == "dataset" else FilesCorpusConfig)


def test_values_become_their_types() -> None:
    config = composed(
        "corpus.clean.unicode=NFKC",
        "corpus.clean.languages=[en,zh]",
        "corpus.redact.kinds=[]",
        "corpus.extract.max_document_mb=1",
        "+corpus.sources.wiki=dump.xml.bz2",
        "+corpus.licenses.wiki=CC-BY-SA-4.0",
        "+corpus.decontaminate.against.sst2=test.tsv",
    )
    corpus = config.corpus
    assert isinstance(corpus, FilesCorpusConfig)
    assert corpus.clean.unicode is UnicodeForm.NFKC
    assert corpus.clean.languages == ["en", "zh"]
    assert corpus.redact.kinds == []
    assert corpus.extract.max_document_mb == 1.0
    assert corpus.paths == {"pages": "pages", "wiki": "dump.xml.bz2"}
    assert corpus.licenses == {"wiki": "CC-BY-SA-4.0"}
    assert corpus.decontaminate.against == {"sst2": "test.tsv"}
    assert composed("corpus.clean.unicode=null").corpus.clean.unicode is None


def test_what_must_be_given_is_said_with_everything_else_that_is_wrong() -> None:
    found = problems("corpus.split.val_fraction=2", "corpus.redact.kinds=[email,phones]", "executor=slurm")
    assert {"corpus.path", "out", "corpus.split.val_fraction", "corpus.redact.kinds", "slurm.partition"} <= set(found)
    assert "phones" in found["corpus.redact.kinds"]
    assert "dataset" in str(problems("corpus=dataset", "out=clean"))


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("corpus.split.val_fraction=-0.1", "corpus.split.val_fraction"),
        ("corpus.extract.max_document_mb=0", "corpus.extract.max_document_mb"),
        ("corpus.extract.timeout_seconds=-1", "corpus.extract.timeout_seconds"),
        ("corpus.extract.max_document_mb=many", "corpus.extract.max_document_mb"),
        ("corpus.clean.min_language_score=1.5", "corpus.clean.min_language_score"),
        ("corpus.clean.unicode=NFX", "corpus.clean.unicode"),
        ("corpus.decontaminate.share=0", "corpus.decontaminate.share"),
        ("corpus.deduplicate.num_buckets=0", "corpus.deduplicate.num_buckets"),
        ("workers=0", "workers"),
        ("executor=cloud", "executor"),
        ("+corpus.licenses.nothing=MIT", "corpus.licenses"),
        ("corpus.extract.documents=page", "corpus.extract.documents"),
    ],
)
def test_a_value_that_cannot_be_is_named_by_its_key(override: str, key: str) -> None:
    assert [found for found in problems(*GIVEN, override) if found.startswith(key)]


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("corpus.extract.encoding=no-such-encoding", "corpus.extract.encoding"),
        ("corpus.words.remove_stop_words=[zz]", "corpus.words.remove_stop_words"),
    ],
)
def test_names_that_only_a_library_knows_are_checked_before_the_work(override: str, key: str) -> None:
    assert key in problems(*GIVEN, override)


def test_both_held_out_parts_together_leave_some_text() -> None:
    assert problems(*GIVEN, "corpus.split.val_fraction=0.6", "corpus.split.test_fraction=0.5")
    assert composed("corpus.split.val_fraction=0", "corpus.split.test_fraction=0").corpus.split.val_fraction == 0


def test_unknown_keys_and_options_come_with_what_is_meant() -> None:
    assert "redact" in str(problems(*GIVEN, "corpus.redct.kinds=[]"))
    assert "wikipedia" in str(problems(*GIVEN, "corpus=wikipeda"))
    assert problems(*GIVEN, "corpus.clean")


def test_the_folder_of_a_corpus_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "is a file" in problems("corpus.path=pages", f"out={tmp_path / 'file'}")["out"]


@pytest.mark.parametrize("name", ["a/b", "a\\b"])
def test_the_name_of_a_source_cannot_leave_the_folder(name: str) -> None:
    config = FilesCorpusConfig(sources={name: "pages"})
    assert [key for key, _ in config.check()] == ["sources"]


def test_the_source_of_a_path_is_called_as_its_file_is() -> None:
    for path, name in (("data/dump.xml.bz2", "dump"), ("/data/pages", "pages"), ("books/*.epub", "*")):
        assert list(FilesCorpusConfig(path=path).paths) == [name]


def test_a_source_that_is_called_as_the_path_does_not_take_its_place() -> None:
    config = FilesCorpusConfig(path="pages", sources={"pages": "other"})
    assert len(config.paths) == 2 or list(config.check())
