"""What `lmexp prepare` finds, keeps and takes, on real documents and on faults planted in them.

    python -m benchmarks.corpus COMMAND DATA [--rounds 3] [--seed 0]

DATA is the folder of real data. Commands: extraction, repair, duplicates, personal, leaks, speed, large, again, and
chinese.
"""

import argparse
import bz2
import hashlib
import json
import random
import shutil
import string
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from lmexp.config.corpus import KINDS, ExtractConfig, WordsConfig
from lmexp.config.prepare import compose_preparation
from lmexp.corpus.cleaning import repaired
from lmexp.corpus.html import extract
from lmexp.corpus.leaks import Leaks
from lmexp.corpus.prepare import prepare
from lmexp.corpus.readers import Reader
from lmexp.corpus.redaction import luhn, redact
from lmexp.corpus.words import as_words
from lmexp.tokenization.compared import words_of


def extraction(data: Path) -> None:
    """Print how much of pages, a dump and a book is found, and how much markup is left."""
    raw = data / "raw-documents"
    gold = json.loads((raw / "html" / "gold.json").read_text()).values()
    with_, without = [], []
    for page in gold:
        text = extract((raw / "html" / page["file"]).read_bytes())[0]
        with_ += [wanted in text for wanted in page["with"]]
        without += [unwanted not in text for unwanted in page["without"]]
    print(f"html: {sum(with_)}/{len(with_)} must-have strings found ({sum(with_) / len(with_):.1%}),", end=" ")
    print(f"{sum(without)}/{len(without)} must-not strings absent ({sum(without) / len(without):.1%})")
    reader = Reader(ExtractConfig())
    articles = list(reader.read(next(raw.glob("*.bz2")), print))
    left = Counter(mark for one in articles for mark in ("{{", "[[", "{|", "<ref") if mark in one.text)
    titled = sum(one.text.startswith(one.metadata["title"]) for one in articles)
    print(f"dump: {len(articles)} articles, {titled} with their title, markup left over: {dict(left) or 'none'}")
    book = next(iter(reader.read(raw / "Metamorphosis-jackson.epub", print)))
    firsts = [book.text.find(start) for start in ("One morning, when Gregor", "It was not until it was getting dark")]
    print(f"epub: chapters at {firsts}, {sum(book.text.count(mark) for mark in '<>')} marks of markup")
    reader.close()


def repair(data: Path) -> None:
    """Print how much broken text is repaired, and how much odd text is left alone."""
    import ftfy

    for name in ("in-the-wild", "negative"):
        cases = json.loads((data / "raw-documents" / f"ftfy-{name}.json").read_text())
        as_wanted = sum(repaired(case["original"]) == case["fixed"] for case in cases)
        alone = sum(repaired(case["original"]) == case["original"] for case in cases)
        as_ftfy = sum(repaired(case["original"]) == ftfy.fix_encoding(case["original"]) for case in cases)
        print(f"{name}: of {len(cases)} {as_wanted} as wanted, {alone} left alone, {as_ftfy} as ftfy.fix_encoding")


def duplicates(data: Path, seed: int) -> None:
    """Plant 1,000 near-duplicates among 10,000 documents and print how many are found, and what else is dropped."""
    draw = random.Random(seed)
    documents = paragraphs(data, 10_000)
    vocabulary = sorted({word for text in documents[:500] for word in text.split()})
    chosen = draw.sample(range(len(documents)), 1_000)
    twins = {number: twin_of(documents[number], draw.uniform(0.8, 0.95), vocabulary, draw) for number in chosen}
    similarities = [similarity(documents[number], twin) for number, twin in twins.items()]
    rows = [{"id": f"own {number}", "text": text} for number, text in enumerate(documents)]
    rows += [{"id": f"twin {number}", "text": text} for number, text in twins.items()]
    draw.shuffle(rows)
    with tempfile.TemporaryDirectory() as folder:
        for part in range(4):
            write_rows(Path(folder, "in", f"{part}.jsonl"), rows[part::4])
        out = Path(folder, "out")
        prepare(compose_preparation([f"corpus.path={folder}/in", f"out={out}", "corpus.redact.kinds=[]"]), say=print)
        dropped = {row["original_id"] for path in (out / "dropped").glob("*") for row in read_rows(path)}
    found = sum(f"own {number}" in dropped or f"twin {number}" in dropped for number in twins)
    right = sum(int(name.split()[1]) in twins for name in dropped)
    low, middle, high = min(similarities), median(similarities), max(similarities)
    print(f"Jaccard similarity of the pairs, on 5 words: {low:.3f} to {high:.3f}, median {middle:.3f}")
    print(f"recall {found / len(twins):.3f} ({found} of {len(twins)}),", end=" ")
    print(f"precision {right / len(dropped):.3f} ({right} of {len(dropped)} dropped)")


def twin_of(text: str, wanted: float, vocabulary: list[str], draw: random.Random) -> str:
    """Return a text with words replaced until its similarity to the original is what is wanted, 0.8 at least."""
    words = text.split()
    while True:
        place = draw.randrange(len(words))
        changed = [*words[:place], draw.choice(vocabulary), *words[place + 1 :]]
        now = similarity(text, " ".join(changed))
        if now < 0.8:
            return " ".join(words)
        words = changed
        if now <= wanted:
            return " ".join(words)


def similarity(one: str, other: str) -> float:
    """Return the Jaccard similarity of the stretches of 5 words of two texts."""
    a, b = (set(zip(*(words_of(text)[start:] for start in range(5)), strict=False)) for text in (one, other))
    return len(a & b) / len(a | b)


def personal(data: Path, seed: int) -> None:
    """Plant 500 personal items of 8 kinds in real text, and print recall, precision and speed."""
    draw = random.Random(seed)
    texts = paragraphs(data, 2_000) + [row["text"] for row in read_rows(data / "raw-documents" / "c4_demo.jsonl")]
    before: Counter[str] = Counter()
    for text in texts:
        before.update(redact(text, KINDS)[1])
    makers = list(MAKERS.items())
    planted: list[tuple[str, str, int]] = []
    for number, place in enumerate(draw.sample(range(len(texts)), 500)):
        kind, make = makers[number % len(makers)]
        item, words = make(draw), texts[place].split(" ")
        at = draw.randrange(len(words) + 1)
        texts[place] = " ".join([*words[:at], item, *words[at:]])
        planted.append((kind, item, place))
    redacted, after = [], Counter[str]()
    started = time.perf_counter()
    for text in texts:
        kept, found = redact(text, KINDS)
        redacted.append(kept)
        after.update(found)
    seconds = time.perf_counter() - started
    missed = [(kind, item) for kind, item, place in planted if item in redacted[place]]
    wrong_kind = [(kind, item) for kind, item, place in planted if f"[{kind.upper()}]" not in redacted[place]]
    # what was found before anything was planted is real personal data, or a mistake: shown, not counted
    extra = max(0, sum(after.values()) - sum(before.values()) - (len(planted) - len(missed)))
    size = sum(len(text.encode()) for text in texts) / 1e6
    new = max(1, sum(after.values()) - sum(before.values()))
    print(f"recall {1 - len(missed) / len(planted):.3f} of {len(planted)}, missed: {missed[:10]},", end=" ")
    print(f"of another kind: {wrong_kind[:10]}")
    print(f"precision {1 - extra / new:.3f} of what was planted; found before: {dict(before)}")
    print(f"{size / seconds:.1f} MB/s on one core ({size:.2f} MB)")


def _digits(draw: random.Random, count: int) -> str:
    return "".join(draw.choice(string.digits) for _ in range(count))


def _email(draw: random.Random) -> str:
    name = "".join(draw.choice(string.ascii_lowercase) for _ in range(draw.randint(3, 9)))
    host = draw.choice(["example.com", "mail.example.co.uk", "uni-bonn.de", "firma.fr", "corp.example.org"])
    return f"{name}{draw.choice(['', '.', '_', '+tag.'])}{draw.choice(['smith', 'li', 'x1', '07'])}@{host}"


def _phone(draw: random.Random) -> str:
    nine = _digits(draw, 9)
    return draw.choice(
        [
            f"({draw.randint(2, 9)}{nine[:2]}) {draw.randint(2, 9)}{nine[2:4]}-{nine[4:8]}",
            f"{draw.randint(2, 9)}{nine[:2]}-{draw.randint(2, 9)}{nine[2:4]}-{nine[4:8]}",
            f"+1 {draw.randint(2, 9)}{nine[:2]} {draw.randint(2, 9)}{nine[2:4]} {nine[4:8]}",
            f"+44 20 {nine[:4]} {nine[4:8]}",
            f"+49 {draw.randint(151, 179)} {nine[:8]}",
            f"0{draw.randint(151, 179)} {nine[:8]}",
            f"+33 {draw.randint(1, 9)} {nine[:2]} {nine[2:4]} {nine[4:6]} {nine[6:8]}",
            f"1{draw.randint(30, 99)}{nine[:8]}",
        ]
    )


def _card(draw: random.Random) -> str:
    head, length = draw.choice([("4", 16), ("51", 16), ("55", 16), ("6011", 16), ("34", 15), ("37", 15)])
    body = head + _digits(draw, length - len(head) - 1)
    number = next(body + digit for digit in string.digits if luhn(body + digit))
    groups = (4, 4, 4, 4) if length == 16 else (4, 6, 5)
    parts = [number[sum(groups[:n]) : sum(groups[: n + 1])] for n in range(len(groups))]
    return draw.choice(["", " ", "-"]).join(parts)


def _iban(draw: random.Random) -> str:
    country, body = draw.choice(
        [("DE", _digits(draw, 18)), ("GB", "WEST" + _digits(draw, 14)), ("NL", "ABNA" + _digits(draw, 10))]
    )
    value = "".join(str(int(character, 36)) for character in f"{body}{country}00")
    number = f"{country}{98 - int(value) % 97:02d}{body}"
    return number if draw.random() < 0.5 else " ".join(number[n : n + 4] for n in range(0, len(number), 4))


def _ip(draw: random.Random) -> str:
    if draw.random() < 0.3:
        return ":".join(f"{draw.randrange(1, 65536):x}" for _ in range(8))
    return ".".join(str(draw.randint(11, 250)) for _ in range(4))


def _url(draw: random.Random) -> str:
    word = "".join(draw.choice(string.ascii_letters + string.digits) for _ in range(12))
    return draw.choice(
        [
            f"https://admin:{word}@db.example.com/path",
            f"ftp://bob:{word}@10.0.0.7",
            f"https://api.example.com/v1?q=1&api_key={word}",
        ]
    )


def _national_id(draw: random.Random) -> str:
    kind = draw.randrange(4)
    if kind == 0:
        return f"{draw.randint(100, 665)}-{draw.randint(10, 99)}-{draw.randint(1000, 9999)}"
    if kind == 1:
        number = draw.randint(10_000_000, 99_999_999)
        return f"{number}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"
    if kind == 2:
        body = f"110105{draw.randint(1950, 2005)}{draw.randint(1, 12):02d}{draw.randint(1, 28):02d}{_digits(draw, 3)}"
        return body + "10X98765432"[sum(int(d) * pow(2, 17 - n, 11) for n, d in enumerate(body)) % 11]
    return " ".join([draw.choice(["AB", "JG", "CE"]), *(_digits(draw, 2) for _ in range(3)), draw.choice("ABCD")])


def _secret(draw: random.Random) -> str:
    letters = string.ascii_letters + string.digits
    head, length, kind = draw.choice(
        [("AKIA", 16, letters[26:]), ("ghp_", 36, letters), ("sk-", 40, letters), ("hf_", 34, letters)]
    )
    return head + "".join(draw.choice(kind) for _ in range(length))


MAKERS: dict[str, Callable[[random.Random], str]] = {
    "email": _email,
    "phone": _phone,
    "card": _card,
    "iban": _iban,
    "ip": _ip,
    "url_credentials": _url,
    "national_id": _national_id,
    "secret": _secret,
}


def leaks(data: Path, seed: int) -> None:
    """Plant 100 exact and 100 edited examples of an evaluation set in documents, and look at 1,000 clean ones."""
    draw = random.Random(seed)
    rows = [row["context"] + row["continuation"] for row in read_rows(data / "lambada" / "lambada_openai.jsonl")]
    sentences = [line.split("\t")[0] for line in (data / "sst2-sentences" / "test.tsv").read_text().splitlines()[1:]]
    examples = draw.sample([text for text in rows if len(words_of(text)) >= 8], 100)
    examples += draw.sample([text for text in sentences if len(words_of(text)) >= 8], 100)
    found_by = Leaks([("set", text) for text in examples], ngram_size=13, min_words=5, share=0.4)
    documents = paragraphs(data, 1_200)
    draw.shuffle(examples)
    exact = [f"{documents[n]}\n{text}\n{documents[-n]}" for n, text in enumerate(examples[:100])]
    edited = [f"{documents[n]}\n{edited_(text, draw)}\n{documents[-n]}" for n, text in enumerate(examples[100:])]
    for name, texts in (("exact", exact), ("edited", edited), ("clean", documents[200:])):
        print(
            f"{name}: {sum(found_by.in_text(text) is not None for text in texts[:1_000])} of {len(texts[:1_000])} found"
        )


def edited_(text: str, draw: random.Random) -> str:
    """Return a text as somebody changes it: one word in twelve replaced, another case, other punctuation."""
    words = text.split()
    for place in draw.sample(range(len(words)), max(1, len(words) // 12)):
        words[place] = draw.choice(["somewhat", "thing", "indeed", "one", "later"])
    return " ".join(words).upper().replace(",", " -")


def speed(data: Path, rounds: int) -> None:
    """Print MB/s of the whole pipeline on 20 MB, and the same steps by datatrove alone, in turns."""
    from benchmarks import datatrove_alone

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in")
        size = make_20_mb(data, source)
        ours, theirs = [], []
        for number in range(rounds):
            out = Path(folder, f"ours {number}")
            ours.append(timed([sys.executable, "-m", "lmexp", "prepare", f"corpus.path={source}", f"out={out}"]))
            other = Path(folder, f"theirs {number}")
            theirs.append(timed([sys.executable, "-m", datatrove_alone.__name__, str(source), str(other)]))
            print(f"round {number}: ours {ours[-1]:.1f} s, datatrove alone {theirs[-1]:.1f} s", flush=True)
            print(f"  documents {count(out / 'data')} and {count(other / 'final')}")
            shutil.rmtree(out)
            shutil.rmtree(other)
    ratios = sorted(b / a for a, b in zip(ours, theirs, strict=True))
    print(f"{size / 1e6:.1f} MB: {size / 1e6 / median(ours):.2f} MB/s,", end=" ")
    print(f"datatrove alone {size / 1e6 / median(theirs):.2f} MB/s;")
    print(f"{median(ratios):.2f} times as fast [{ratios[0]:.2f}, {ratios[-1]:.2f}]")


def large(data: Path, rounds: int) -> None:
    """Print what two workers do for one large file, in turns: JSON lines, and a dump of Wikipedia."""
    with tempfile.TemporaryDirectory() as folder:
        make_20_mb(data, Path(folder, "in"))
        rows = b"".join(path.read_bytes() for path in sorted(Path(folder, "in").glob("*.jsonl")))
        head, *pages = Path(folder, "in", "dump.xml").read_bytes().split(b"<page>")
        tail = pages[-1].partition(b"</page>")[2]
        pages = [page.removesuffix(tail) for page in pages]
        copies = (page.replace(b"<title>", b"<title>%d " % n) for n in range(4) for page in pages)
        dump = b"<page>".join((head, *copies)) + tail
        for name, content in (("rows.jsonl", rows), ("dump.xml.bz2", bz2.compress(dump))):
            source = Path(folder, name)
            source.write_bytes(content)
            command = [sys.executable, "-m", "lmexp", "prepare", f"corpus.path={source}"]
            seconds: dict[int, list[float]] = {1: [], 2: []}
            for _ in range(rounds):
                for workers, taken in seconds.items():
                    taken.append(timed([*command, f"out={folder}/{name}-{workers}", f"workers={workers}"]))
                    shutil.rmtree(Path(folder, f"{name}-{workers}"))
            ratios = sorted(one / two for one, two in zip(*seconds.values(), strict=True))
            size = len(rows) if name == "rows.jsonl" else len(dump)
            print(f"{name}, {size / 1e6:.1f} MB: {median(seconds[1]):.1f} s, with two workers", end=" ")
            print(f"{median(seconds[2]):.1f} s; {median(ratios):.2f} times as fast [{ratios[0]:.2f}, {ratios[-1]:.2f}]")


def again(data: Path) -> None:
    """Print what a second run takes when nothing has changed, and whether a run from nothing gives the same bytes."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "in"), Path(folder, "out")
        make_20_mb(data, source)
        command = [sys.executable, "-m", "lmexp", "prepare", f"corpus.path={source}"]
        first = timed([*command, f"out={out}"])
        before = hashes(out)
        second = timed([*command, f"out={out}"])
        same = hashes(out) == before
        timed([*command, f"out={folder}/other/out", "workers=1"])
        from_nothing = {n: h for n, h in hashes(Path(folder, "other", "out")).items() if n != "corpus.json"}
        before.pop("corpus.json")
        print(f"first {first:.1f} s, second {second:.2f} s ({second / first:.1%}), byte-identical: {same};")
        print(f"made from nothing in another folder by one process: the same bytes: {from_nothing == before}")


def chinese(data: Path) -> None:
    """Print whether every character of Chinese text stays, with segmentation and stop words on and off."""
    paths = [*sorted((data / "chinese-poetry").glob("*.json*")), data / "chnsenticorp" / "ChnSentiCorp_htl_all.csv"]
    reader = Reader(ExtractConfig())
    texts = [one.text for path in paths for one in reader.read(path, print)]
    print(f"{len(texts):,} texts, {sum(map(len, texts)):,} characters")
    for name, config in (("segmented", WordsConfig(segment=True)), ("off", WordsConfig())):
        lost = sum("".join(text.split()) != "".join(as_words(text, config, "zh").split()) for text in texts)
        print(f"{name}: {lost} texts lost a character")
    stop = WordsConfig(segment=True, remove_stop_words=["zh"])
    counts = Counter(word for text in texts[-7_000:] for word in as_words(text, stop, "zh").split())
    print(f"with stop words away: {sum(counts.values()):,} words, of them {counts['的']} are 的")
    with tempfile.TemporaryDirectory() as folder:
        for switches in ([], ["corpus.words.segment=true", "corpus.words.remove_stop_words=[zh]"]):
            options = [f"corpus.path={data / 'chinese-poetry'}", f"+corpus.sources.hotels={paths[-1]}", *switches]
            made = prepare(compose_preparation([*options, f"out={folder}/{len(switches)}"]), say=lambda text: None)
            print(
                switches or "plain",
                f"{made['documents']:,} documents, {made['bytes'] / 1e6:.2f} MB, {made['languages']}",
            )


def paragraphs(data: Path, count: int) -> list[str]:
    """Return real paragraphs of WikiText-2, all different, of 80 words or more."""
    import gzip

    with gzip.open(data / "wikitext-2" / "train.txt.gz", "rt") as file:
        lines = dict.fromkeys(line.strip() for line in file if len(line.split()) >= 80)
    return list(lines)[:count]


def make_20_mb(data: Path, folder: Path) -> int:
    """Write WikiText-2, the dump and web pages in their formats, about 20 MB, and return the bytes."""
    import gzip

    folder.mkdir(parents=True)
    raw = data / "raw-documents"
    with gzip.open(data / "wikitext-2" / "train.txt.gz", "rt") as file:
        articles: list[list[str]] = [[]]
        for line in file:
            if line.startswith(" = ") and not line.startswith(" = ="):
                articles.append([])
            articles[-1].append(line)
    rows = [{"text": "".join(lines)} for lines in articles if lines]
    for part in range(4):
        write_rows(folder / f"wikitext-{part}.jsonl", rows[part::4])
    (folder / "dump.xml").write_bytes(bz2.decompress(next(raw.glob("*.bz2")).read_bytes()))
    pages = list(read_rows(raw / "c4_demo.jsonl"))
    for copy in range(4):  # the same pages with other words in front, so that 20 MB come together
        write_rows(folder / f"c4-{copy}.jsonl", [{"text": f"{copy} {row['text']}"} for row in pages])
    return sum(path.stat().st_size for path in folder.iterdir())


def timed(command: list[str]) -> float:
    """Run a command and return its seconds."""
    started = time.perf_counter()
    # not through pipes: datatrove's own server of processes outlives it, and holds them
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def hashes(folder: Path) -> dict[str, str]:
    """Return a hash of every file that people look at."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and ".stages" not in path.parts)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def count(folder: Path) -> int:
    """Return the documents of a folder of JSON lines."""
    return sum(1 for path in folder.glob("*.jsonl") for _ in path.open())


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    """Write rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of JSON lines."""
    with open(path, encoding="utf-8") as file:
        yield from map(json.loads, file)


def main() -> int:
    """Run a command."""
    commands = {
        one.__name__: one for one in (extraction, repair, duplicates, personal, leaks, speed, large, again, chinese)
    }
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=commands)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of what is planted, and where")
    options = parser.parse_args()
    of_seed = options.command in ("duplicates", "personal", "leaks")
    more = (options.seed,) if of_seed else (options.rounds,) if options.command in ("speed", "large") else ()
    commands[options.command](options.data, *more)
    return 0


if __name__ == "__main__":
    sys.exit(main())
