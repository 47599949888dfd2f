"""The report page shows what it is given and runs nothing of it; in a real browser it sorts, filters and remembers."""

import base64
import hashlib
import html
import json
import math
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lmexp.errors import MissingPackageError, RunError
from lmexp.runs.dashboard import Newest, serve
from lmexp.runs.report.page import as_json, page

Content = dict[str, Any]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = [
    "<script>window.__pwned = 1</script>", "</script><script>window.__pwned = 2</script>", "<!--<script>", "]]>", "-->",
    "<img src=x onerror='window.__pwned = 3'>", "<svg onload=window.__pwned=4>", "\"><b onclick=alert(1)>bold</b>",
    "' onmouseover='window.__pwned = 5", "javascript:window.__pwned=6", "<iframe src='javascript:alert(2)'></iframe>",
    "<a href='https://evil.example/a'>click</a>", "<link rel=stylesheet href=//evil.example/b.css>",
    "<style>body{display:none}</style>", "<base href='https://evil.example/'>", "<form action=//evil.example><input>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>", "<object data=//evil.example></object>",
    "{{content}}", "{{scripts}}", "${window.__pwned = 7}", "__proto__", "constructor", "=HYPERLINK(\"//evil.example\")",
    "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "line\u2028separator\u2029", "\u202egnp.exe", "nul\x00 del\x7f csi\x9b1m",
    "&lt;script&gt;alert(3)&lt;/script&gt; &amp;",
]  # fmt: skip


def make_content(num_groups: int = 3, num_seeds: int = 4, num_points: int = 40, **changes: Any) -> Content:
    """Return a comparison of made-up runs: model and learning rate differ, group B is the best."""
    rng = random.Random(0)
    groups, runs = [], []
    for index in range(num_groups):
        group = chr(65 + index) if index < 26 else f"G{index}"
        name = ["lstm", "transformer", "rnn"][index % 3]
        values = {"model.name": name, "optimizer.learning_rate": 0.01 / (1 + index // 3)}
        level = 2.0 + [0.05, 0.0, 0.12][index % 3] + 0.01 * (index // 3)
        ends = [round(level + rng.gauss(0, 0.008), 5) for _ in range(num_seeds)]
        mean = sum(ends) / num_seeds
        sd = math.sqrt(sum((end - mean) ** 2 for end in ends) / max(1, num_seeds - 1)) if num_seeds > 1 else None
        groups.append(make_group(group, values, num_seeds, mean, sd, index))
        runs += [make_run(group, values, seed, end, num_points, rng) for seed, end in enumerate(ends)]
    content: Content = {
        "version": 1, "title": "LSTM against Transformer", "created": "2026-03-01T12:00:00+00:00",
        "command": "lmexp report python-docs", "metric": "val/bits_per_byte", "better": "lower",
        "unit": "bits per byte", "baseline": "A" if num_groups else None, "at": "the end", "notes": [],
        "groups": groups, "runs": runs,
        "keys": {"model.name": "Which network.", "optimizer.learning_rate": "The highest learning rate."},
        "importance": [
            {"key": "model.name", "share": 0.83, "text": "the model accounts for 83 % of the variation"},
            {"key": "optimizer.learning_rate", "share": 0.11, "text": "a lower rate is slightly worse"},
        ],
        "environment": {"common": {"python": "3.11.9", "device": "cpu"}, "differing": ["torch"]},
    }  # fmt: skip
    return content | changes


def make_group(group: str, values: Content, n: int, mean: float, sd: float | None, index: int) -> Content:
    half = None if sd is None else 3.18 * sd / math.sqrt(n)
    verdict = ["", "better", "worse"][index % 3] or "cannot tell"
    gap = round(mean - 2.05, 4)
    text = (
        f"{group} is {verdict} than A by {abs(gap):.3f} bits per byte [{abs(gap) - 0.012:.3f}, {abs(gap) + 0.012:.3f}]"
    )
    difference = {
        "value": gap, "low": gap - 0.012, "high": gap + 0.012, "p": 0.41 if verdict == "cannot tell" else 0.008,
        "verdict": verdict, "text": f"{text}, n = {n} and {n}" if index % 3 else f"{group}: cannot tell",
    }  # fmt: skip
    return {
        "id": group, "label": " ".join(f"{key.split('.')[-1]}={value}" for key, value in values.items()),
        "values": values, "n": n, "mean": mean, "sd": sd, "difference": difference if index else None,
        "low": None if half is None else mean - half, "high": None if half is None else mean + half,
    }  # fmt: skip


def make_run(group: str | None, values: Content, seed: int, end: float, points: int, rng: random.Random) -> Content:
    steps = [10 * (i + 1) for i in range(points)]
    curve = [end + 3.0 * math.exp(-5 * (i + 1) / points) + rng.gauss(0, 0.004) for i in range(points)]
    return {
        "id": f"lmexp/{values.get('model.name', 'x')}-{group}{seed:04d}", "group": group,
        "name": f"{values.get('model.name', 'x')}-python_docs", "project": "lmexp", "seed": seed, "status": "done",
        "created": f"2026-02-0{1 + seed % 9}T08:00:00+00:00", "tags": ["paper"] if seed == 0 else [], "value": end,
        "metrics": {"val/bits_per_byte": end, "val/loss_nats": end * 2}, "tokens": 4096 * 10 * points,
        "flops": 3.2e12 * points, "seconds": 12.5 * points, "parameters": 1_234_567, "config": values,
        "environment": {"torch": "2.11.0" if seed else "2.12.0"}, "error": None,
        "curves": {
            "step": steps, "tokens": [4096 * s for s in steps], "seconds": [1.25 * s for s in steps],
            "flops": [3.2e11 * s for s in steps],
            "series": {
                "train/loss_nats": [2 * value for value in curve],
                "train/learning_rate": [0.01 - 1e-6 * step for step in steps],
                "val/bits_per_byte": [v if i % 4 == 3 else None for i, v in enumerate(curve)],
                "val/loss_nats": [2 * v if i % 4 == 3 else None for i, v in enumerate(curve)],
            },
        },
        "samples": [
            {"step": step, "prompt": prompt, "text": f"{prompt[::-1]} of {group} at step {step}\nand a second line"}
            for step in (steps[-1] // 2, steps[-1]) for prompt in ("The", "def f(")
        ] if steps else [],
    }  # fmt: skip


def hostile_content() -> Content:
    """Return a comparison in which every text that a run or a user may choose is hostile."""
    content = make_content(len(HOSTILE), 1, 5)
    for text, group, run in zip(HOSTILE, content["groups"], content["runs"], strict=True):
        group |= {"label": text, "values": {text: text, "model.name": text}}
        run |= {"name": text, "project": text, "status": "failed", "tags": [text], "config": {text: text}}
        run |= {"error": text, "id": f"lmexp/{text}", "environment": {text: text, "torch": text}}
        run["curves"]["series"][text] = [1.0] * 5
        run["samples"] = [{"step": 5, "prompt": text, "text": "\n".join(HOSTILE)}]
    content |= {"keys": {text: text for text in HOSTILE}, "notes": HOSTILE, "title": HOSTILE[1], "command": HOSTILE[0]}
    content["importance"] = [{"key": text, "share": 0.03, "text": text} for text in HOSTILE]
    content["environment"] = {"common": {text: text for text in HOSTILE}, "differing": HOSTILE}
    return content


# ---- without a browser


def test_no_text_can_leave_the_data_block() -> None:
    document = page(hostile_content())
    block = document.split('<script type="application/json" id="content">')[1].split("</script>")[0]
    assert not set("<>&\u2028\u2029") & set(block)
    assert json.loads(block) == json.loads(as_json(hostile_content()))
    assert "window.__pwned = 1</script>" not in document


def test_control_characters_become_visible_marks() -> None:
    clean = json.loads(as_json({"a": HOSTILE, "\x1b[2J": "two\r\nlines\tand a tab", "surrogate": "\ud800"}))
    controls = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]"
    assert not re.search(controls, "".join(clean["a"]) + clean["surrogate"])
    assert clean["a"][24] == "\ufffd[31mred\ufffd[0m"
    assert clean["\ufffd[2J"] == "two\nlines\tand a tab"


def test_numbers_that_json_lacks_become_null_and_curves_are_rounded() -> None:
    curves = {"series": {"a": [math.inf, 1.23456789]}}
    clean = json.loads(as_json({"mean": 1.23456789, "sd": math.nan, "curves": curves}))
    assert clean == {"mean": 1.23456789, "sd": None, "curves": {"series": {"a": [None, 1.23457]}}}


def test_policy_allows_the_scripts_and_styles_of_the_page_and_nothing_else() -> None:
    document = page(make_content())
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', document)[1])  # type: ignore[index]
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split("; ")}
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == ["'none'"]
    assert "connect-src" not in rules
    assert "connect-src 'self'" in html.unescape(page(make_content(), live=True))
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        blocks = re.findall(rf"<{tag}>(.*?)</{tag}>", document, flags=re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(block.encode()).digest()).decode() for block in blocks]
        assert rules[rule] == [f"'sha256-{digest}'" for digest in digests]
        assert len(blocks) > 1


def test_page_loads_nothing_and_has_no_inline_style() -> None:
    document = page(make_content())
    markup = re.sub(r"<(script|style)\b.*?</\1>", "", document, flags=re.DOTALL)
    assert not re.search(r"""(src|href)\s*=\s*(?!["']?data:)""", markup)
    assert not re.search(r"""\s(style|on\w+)\s*=""", markup)
    assert not re.search(r"url\(|@import", "".join(re.findall(r"<style>.*?</style>", document, flags=re.DOTALL)))
    own = "".join(path.read_text() for path in Path(page.__code__.co_filename).parent.glob("*.js"))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function", own)


def test_content_is_read_at_most_once_in_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("lmexp.runs.dashboard.time.monotonic", lambda: now[0])
    counts: list[int] = []

    def read() -> Content:
        counts.append(1)
        return {"title": f"number {len(counts)}"}

    newest = Newest(read)
    first = newest.get()
    assert newest.get() is first
    now[0] += 2.1
    assert newest.get()[0]["title"] == "number 2"
    assert newest.get()[2] != first[2]


def test_missing_server_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingPackageError, match=r"uvicorn is not installed.*lmexp\[serve\]"):
        serve(make_content, port=0, open_browser=False, say=print)


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A running dashboard: its address and the file whose content it shows."""
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    file = tmp_path / "content.json"
    file.write_text(json.dumps(make_content()))
    code = (
        "import json, pathlib, sys; from lmexp.runs.dashboard import serve; file = pathlib.Path(sys.argv[1]);"
        "serve(lambda: json.loads(file.read_text()), port=0, open_browser=False, say=lambda t: print(t, flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield re.search(r"http://127\.0\.0\.1:\d+/", line)[0], file  # type: ignore[index]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, ""), "Ctrl-C ends quietly"


def fetch(address: str, **headers: str) -> tuple[int, dict[str, str], str]:
    request = urllib.request.Request(address, headers={name.replace("_", "-"): text for name, text in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, dict(answer.headers), answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read().decode()


def test_dashboard_serves_the_page_and_says_when_nothing_changed(dashboard: tuple[str, Path]) -> None:
    address, file = dashboard
    status, headers, document = fetch(address)
    assert status == 200
    assert 'data-live="true"' in document
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    status, headers, body = fetch(address + "content.json")
    assert json.loads(body) == json.loads(as_json(make_content()))
    assert fetch(address + "content.json", If_None_Match=headers["etag"])[0] == 304
    file.write_text(json.dumps(make_content(title="newer")))
    time.sleep(2.2)
    assert '"title":"newer"' in fetch(address + "content.json", If_None_Match=headers["etag"])[2]


def test_dashboard_refuses_other_host_names_and_a_port_in_use(dashboard: tuple[str, Path]) -> None:
    address, _ = dashboard
    assert fetch(address, Host="evil.example")[0] == 400
    port = int(address.rstrip("/").rsplit(":", 1)[1])
    with pytest.raises(RunError, match=f"port {port} cannot be used .* choose another port"):
        serve(make_content, port=port, open_browser=False, say=print)


# ---- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no chromium: apt-get install chromium")
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Reader:
    """Someone who looks at a page; errors, dialogs and requests are remembered and must not happen."""

    def __init__(self, browser: Any, folder: Path, **options: Any) -> None:
        self.context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        self.tab = self.context.new_page()
        self.folder = folder
        self.troubles: list[str] = []
        self.tab.on("console", lambda message: message.type in ("error", "warning") and self.trouble(message.text))
        self.tab.on("pageerror", lambda error: self.trouble(str(error)))
        self.tab.on("dialog", lambda dialog: (self.trouble(dialog.message), dialog.dismiss()))
        self.tab.on("request", lambda request: request.url.startswith(("file:", "data:")) or self.trouble(request.url))

    def trouble(self, text: str) -> None:
        self.troubles.append(text)

    def open(self, content: Content, view: str = "") -> Any:
        file = self.folder / "report.html"
        file.write_text(page(content), encoding="utf-8")
        return self.visit(f"{file.as_uri()}{view}")

    def visit(self, address: str) -> Any:
        self.tab.goto("about:blank")
        self.tab.goto(address)
        self.drawn()
        return self.tab

    def drawn(self) -> None:
        self.wait_for("document.documentElement.dataset.drawn === String(drawing)")

    def wait_for(self, code: str, seconds: float = 60.0) -> None:
        """Ask until `code` is true; Playwright's own waiting needs the eval that the page's policy forbids."""
        end = time.monotonic() + seconds
        while not self.tab.evaluate(code):
            assert time.monotonic() < end, f"still not true: {code}"
            self.tab.wait_for_timeout(20)

    def rows(self) -> list[str]:
        self.drawn()
        return self.tab.locator(".board > tbody > tr:not(.inside) .swatch").all_inner_texts()

    def ask(self, code: str) -> Any:
        self.drawn()
        return self.tab.evaluate(code)


@pytest.fixture
def reader(browser: Any, tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(browser, tmp_path)
    yield reader
    reader.context.close()
    assert reader.troubles == []


@pytest.mark.browser
def test_sections_show_the_content_and_nothing_goes_wrong(reader: Reader) -> None:
    tab = reader.open(make_content())
    assert tab.title() == "LSTM against Transformer"
    assert tab.locator("#summary").inner_text() == make_content()["groups"][1]["difference"]["text"] + "."
    assert reader.rows() == ["B", "A", "C"]
    assert tab.locator("canvas").count() == 1
    assert tab.locator("#differences-table tbody tr").count() == 2
    assert tab.locator("#importance-table tbody tr").count() == 2
    assert "ehT of B at step 400" in tab.locator("#samples-texts").inner_text()
    assert tab.locator("#failures-list").inner_text() == "No run failed."


@pytest.mark.browser
def test_columns_sort_both_ways(reader: Reader) -> None:
    tab = reader.open(make_content())
    button = tab.get_by_role("button", name="Mean")
    button.click()
    assert reader.rows() == ["C", "A", "B"]
    assert tab.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    assert button.evaluate("element => element === document.activeElement"), "the focus stays where it was"
    tab.get_by_role("button", name="Group", exact=True).click()
    assert reader.rows() == ["A", "C", "B"]
    tab.get_by_role("button", name="Verdict").click()
    assert reader.rows() == ["A", "B", "C"]


@pytest.mark.browser
def test_groups_without_a_number_come_last_in_both_directions(reader: Reader) -> None:
    content = make_content()
    content["groups"][1]["mean"] = None
    reader.open(content)
    assert reader.rows() == ["A", "C", "B"]
    reader.open(content, "#down=1")
    assert reader.rows() == ["C", "A", "B"]


@pytest.mark.browser
def test_filter_words_narrow_every_section(reader: Reader) -> None:
    tab = reader.open(make_content())
    tab.locator("#filter").fill("model.name=TRANSFORMER paper")
    assert reader.rows() == ["B"]
    assert tab.locator("#found").inner_text() == "1 of 12 runs"
    assert tab.locator(".legend li").count() == 1
    assert tab.locator(".parallel path.run:not(.away)").count() == 1
    assert tab.locator("#samples-texts article").count() == 1
    tab.locator("#filter").fill("nothing like this")
    reader.drawn()
    assert "No run matches" in tab.locator("#board-table").inner_text()
    tab.get_by_role("button", name="Show everything").click()
    assert len(reader.rows()) == 3


@pytest.mark.browser
def test_curves_switch_axis_metric_and_scale(reader: Reader) -> None:
    tab = reader.open(make_content())
    assert reader.ask("[chart.data[0].at(-1), chart.axes[0].label]") == [4096 * 400, "tokens"]
    for option, last, label in (("step", 400, "steps"), ("seconds", 500, "time"), ("flops", 3.2e11 * 400, "FLOPs")):
        tab.get_by_label("Across").select_option(option)
        assert reader.ask("[chart.data[0].at(-1), chart.axes[0].label]") == [last, label]
    tab.get_by_label("Metric").select_option("train/learning_rate")
    assert reader.ask("chart.axes[1].label") == "train/learning_rate"
    tab.get_by_label("log x").check()
    tab.get_by_label("log y").check()
    assert reader.ask("[chart.scales.x.distr, chart.scales.y.distr]") == [3, 3]


@pytest.mark.browser
def test_line_is_the_mean_and_band_the_extremes_of_the_seeds(reader: Reader) -> None:
    content = make_content(1, 3)
    cut_off = content["runs"][2]
    cut_off |= {"status": "cut off", "curves": {"tokens": [4096 * 10], "series": {"train/loss_nats": [99.0]}}}
    reader.open(content, "#metric=train%2Floss_nats")
    a, b = (run["curves"]["series"]["train/loss_nats"] for run in content["runs"][:2])
    high, low, alone, mean = reader.ask("chart.data.slice(1)")
    assert mean == pytest.approx([(x + y) / 2 for x, y in zip(a, b, strict=True)], rel=1e-5)
    assert high == pytest.approx([max(x, y) for x, y in zip(a, b, strict=True)], rel=1e-5)
    assert low == pytest.approx([min(x, y) for x, y in zip(a, b, strict=True)], rel=1e-5)
    assert alone == [99.0] + [None] * 39, "a run that did not finish is a line of its own"


@pytest.mark.browser
def test_seeds_logged_at_other_steps_are_interpolated_and_never_continued(reader: Reader) -> None:
    content = make_content(1, 2)
    content["runs"][0]["curves"] = {"tokens": [0, 10, 20], "series": {"a": [0.0, 10.0, 20.0]}}
    content["runs"][1]["curves"] = {"tokens": [0, 5, 15], "series": {"a": [0.0, 5.0, 15.0]}}
    reader.open(content)
    assert reader.ask("[chart.data[0], chart.data.at(-1)]") == [[0, 5, 10, 15, 20], [0, 5, 10, 15, None]]


@pytest.mark.browser
def test_groups_and_runs_are_toggled_everywhere(reader: Reader) -> None:
    tab = reader.open(make_content())
    before = reader.ask("chart.data.length")
    tab.get_by_label("Show group C").uncheck()
    assert reader.ask("chart.data.length") < before
    assert tab.locator("#found").inner_text() == "8 of 12 runs"
    tab.locator(".expand").first.click()
    mean = reader.ask("chart.data[3].at(-1)")
    tab.locator(".runs input").first.uncheck()
    assert reader.ask("chart.data[3].at(-1)") != mean
    tab.locator(".legend button").first.click()
    assert reader.ask("chart.series.length") == 4, "x, and the two ends and the mean of the one group left"
    assert tab.locator(".board > tbody > tr.off").count() == 2


@pytest.mark.browser
def test_single_runs_are_drawn_on_request(reader: Reader) -> None:
    tab = reader.open(make_content())
    before = reader.ask("chart.series.length")
    tab.get_by_label("single runs").check()
    assert reader.ask("chart.series.length") == before + 12


@pytest.mark.browser
def test_address_restores_the_view_and_back_undoes_a_step(reader: Reader) -> None:
    tab = reader.open(make_content())
    tab.get_by_role("button", name="Mean").click()
    tab.get_by_label("Show group A").uncheck()
    tab.get_by_label("Across").select_option("flops")
    tab.get_by_label("Theme").select_option("dark")
    tab.get_by_label("fit the later part").uncheck()
    tab.get_by_label("single runs").check()
    tab.locator(".expand").first.click()
    tab.locator("#environment summary").click()
    reader.wait_for("location.hash.includes('fold=environment')")
    tab.locator("#filter").fill("done")

    def seen() -> list[Any]:
        code = "[chart.axes[0].label, chart.data.length, document.documentElement.dataset.theme, byId('filter').value,"
        code += "...[...document.querySelectorAll('.controls input')].map((box) => box.checked)]"
        reader.drawn()
        shown = tab.locator("#environment-tables table").count(), tab.locator(".runs").count()
        return [reader.rows(), tab.locator("tr.off").count(), *shown, *reader.ask(code)]

    before = seen()
    reader.visit(tab.url)
    assert seen() == before
    assert before[0] == ["C", "A", "B"]
    assert before[1:4] == [1, 2, 1]
    tab.get_by_label("Across").select_option("step")
    reader.drawn()
    tab.go_back()
    assert seen() == before


@pytest.mark.browser
def test_axes_are_brushed_with_keys_and_mouse(reader: Reader) -> None:
    tab = reader.open(make_content(6))
    handle = tab.get_by_role("slider", name="model.name, lowest shown")
    handle.focus()
    tab.keyboard.press("ArrowUp")
    reader.drawn()
    assert handle.get_attribute("aria-valuetext") == "rnn"
    assert sorted(reader.rows()) == ["B", "C", "E", "F"]
    assert tab.locator(".parallel path.away").count() == 8
    tab.keyboard.press("Escape")
    assert len(reader.rows()) == 6
    area = tab.locator(".parallel .area").last
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    tab.mouse.move(box["x"] + 14, box["y"] + box["height"] * 0.8)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 14, box["y"] + box["height"])
    tab.mouse.up()
    assert set(reader.rows()) == {"B", "E"}
    assert "brush=0" in tab.url
    box = tab.get_by_role("slider", name="bits_per_byte, highest shown").bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + 2)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] / 2, 0)
    tab.mouse.up()
    assert len(reader.rows()) == 6, "a handle that is dragged leaves the other end where it was"


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_barrier(browser: Any, tmp_path: Path, theme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    content = make_content(4, notes=["One run was left out."])
    content["runs"][-1] |= {"status": "failed", "error": "NumericsError: the loss is not finite"}
    content["runs"][-2]["group"] = None
    reader = Reader(browser, tmp_path, color_scheme=theme)
    for width in (1280, 375):
        reader.tab.set_viewport_size({"width": width, "height": 900})
        reader.open(content, "#open=A&open=D&fold=environment&hide=g%3AC&brush=0.5%3A1%3Amodel.name")
        rules = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]
        found = axe.Axe().run(reader.tab, options={"runOnly": rules})
        assert found.violations_count == 0, found.generate_report()
    reader.context.close()


@pytest.mark.browser
def test_hostile_text_stays_text(reader: Reader) -> None:
    content = hostile_content()
    opened = "&".join(f"open={group['id']}" for group in content["groups"])
    reader.open(content, f"#fold=environment&rows=1&every=1&single=1&{opened}")
    text = reader.ask("[...document.querySelectorAll('body > :not(script)')].map(e => e.textContent).join(' ')")
    for given, seen in zip(HOSTILE, json.loads(as_json({"all": HOSTILE}))["all"], strict=True):
        assert text.count(seen) >= 12, given
    assert reader.ask("window.__pwned") is None
    foreign = ":is(header, search, main, footer) :is(script, img, iframe, object, form, a, style, base, meta, link)"
    assert reader.ask(f"document.querySelectorAll('{foreign}').length") == 0
    attack = "#q=&metric=__proto__&x=constructor&sort=__proto__&brush=0:1:__proto__&theme=<b>&prompt=<img>&step=x"
    content["keys"] = {}
    reader.open(content, attack + "&rows=1")
    assert "[native code]" not in reader.tab.locator("main").inner_text()
    assert len(reader.rows()) == 30


@pytest.mark.browser
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"version": 1}, ["There are no runs here yet.", "No runs yet.", "No run failed."]),
        (make_content(1, 1), ["One run: nothing to compare it with", "This needs two runs"]),
        (make_content(1, 3, 0), ["These runs have no curves", "No run here kept samples", "do not differ in any key"]),
    ],
)
def test_empty_cases_are_said_in_words(reader: Reader, content: Content, words: list[str]) -> None:
    content = json.loads(json.dumps(content))
    for run in content.get("runs", []):
        if not run["samples"]:
            run["curves"] = None
            content["groups"][0]["values"] = {}
    text = reader.open(content).locator("body").inner_text()
    for word in words:
        assert word in text
    assert not re.search(r"\b(NaN|undefined|null|Infinity)\b", text)


@pytest.mark.browser
def test_page_fits_a_small_phone(browser: Any, tmp_path: Path) -> None:
    reader = Reader(browser, tmp_path, viewport={"width": 360, "height": 740})
    content = make_content(6)
    content["groups"][0]["label"] = "a_very_long_name_without_any_spaces_" * 4
    tab = reader.open(content, "#open=A&open=B&fold=environment")
    assert reader.ask("document.documentElement.scrollWidth") == 360
    verdict = tab.locator(".board .verdict").first.bounding_box()
    assert verdict["x"] + verdict["width"] <= 360
    reader.context.close()


@pytest.mark.browser
def test_five_hundred_runs_are_painted_in_two_seconds(reader: Reader) -> None:
    content = make_content(100, 5, 250)
    assert len(content["runs"]) == 500
    start = time.monotonic()
    assert len(page(content).encode()) < 15e6
    assert time.monotonic() - start < 10
    reader.open(content)
    assert reader.ask("performance.getEntriesByName('first-contentful-paint')[0].startTime") < 2000
    assert len(reader.rows()) == 30
    reader.tab.get_by_role("button", name="Show all 100 groups").click()
    assert len(reader.rows()) == 100


@pytest.mark.browser
def test_live_page_shows_an_update_and_keeps_the_view(
    browser: Any, tmp_path: Path, dashboard: tuple[str, Path]
) -> None:
    address, file = dashboard
    reader = Reader(browser, tmp_path)
    tab = reader.visit(address + "#down=1&open=C")
    tab.locator("#filter").fill("seed")
    reader.wait_for("byId('live').textContent.startsWith('live ·')")
    file.write_text(json.dumps(make_content(4, title="a newer title")))
    reader.wait_for("document.title === 'a newer title'")
    assert reader.rows() == ["C", "D", "A", "B"]
    assert tab.locator(".runs").count() == 1
    assert tab.locator("#filter").input_value() == "seed"
    assert tab.locator("#filter").evaluate("element => element === document.activeElement")
    assert [text for text in reader.troubles if not text.startswith(address)] == []
    reader.context.close()
