"""The page in a real browser: Chromium, headless, from disk."""

import contextlib
import json
import shutil
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from report_fixture import HOSTILE, IMAGE, PIXEL, SCRIPT, arguments, write_study
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

import write_report
from pipeline.common.files import write_json
from pipeline.common.tables import write_csv
from pipeline.report import page_rows

SECTIONS = (
    *("summary", "figure1", "models", "comparison", "human-check", "audit", "predictions"),
    *("methods", "settings", "codebook"),
)
pytestmark = pytest.mark.browser
CONTROLS = ("run", "q", "label", "predicted", "verdict", "order")
NAMES = ["Positive", "Mild", "Negative", "Irrelevant"]


def found(*names):
    """Return the path of the first of some programs that is installed, or None."""
    return next((path for name in names if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def chromium():
    """Start a browser that logs what it says and what it fetches."""
    browser = found("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    driver = found("chromedriver")
    if not (browser and driver):
        missing = "chromedriver" if browser else "chromium"
        pytest.fail(f"{missing} is not installed: `make browser`, or leave out the marker browser")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(executable_path=driver))
    yield started
    started.quit()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Write a study with every step's files and its page; return the results folder."""
    folder = tmp_path_factory.mktemp("study")
    shutil.copy(Path(write_report.__file__).with_name("prompt.txt"), folder)
    with contextlib.chdir(folder):
        written = write_study(folder)
        write_report.main(arguments(folder))
    return written


@pytest.fixture
def page(chromium, results):
    """Open the page anew, at a computer's width, with empty logs."""
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    open_anew(chromium, address(results))
    return chromium


def address(results):
    return (results / "report.html").as_uri()


def open_anew(browser, url):
    """Load an address even where only its fragment differs from the page that is open."""
    browser.get("about:blank")
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(url)


def choose(page, **views):
    """Set controls as a user does, and wait until the address holds the view."""
    for name, value in views.items():
        control = page.find_element(By.ID, name)
        if control.get_attribute("value") == str(value):
            continue
        if name == "q":
            control.send_keys(value)
        else:
            Select(control).select_by_value(str(value))
        WebDriverWait(page, 60, 0.02).until(partial(keeps, name=name, value=str(value)))


def keeps(page, name, value):
    """Return whether the address holds a control's value."""
    view = "new URLSearchParams(location.hash.slice('#predictions?'.length))"
    return page.execute_script(f"return {view}.get(arguments[0]) ?? ''", name) == value


def shown_rows(page):
    """Return the cells of the rows that are drawn."""
    script = "return [...document.getElementById('rows').rows].map("
    return page.execute_script(script + "row => [...row.cells].map(cell => cell.textContent))")


def count(page):
    return page.find_element(By.ID, "count").text


def predictions(results, run):
    path = results / run / "predictions.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return table.astype({"class": int, "predicted": int})


def test_the_page_opens_with_all_sections_and_nothing_in_the_browser_s_log(page):
    for name in SECTIONS:
        assert page.find_element(By.ID, name).is_displayed()
        assert page.find_element(By.CSS_SELECTOR, f'nav a[href="#{name}"]').is_displayed()
    assert len(page.find_elements(By.CSS_SELECTOR, "#models .matrix")) == 5
    assert page.get_log("browser") == []


def test_every_link_of_the_page_leads_somewhere(page):
    script = (
        "return [...document.links].filter(a => !document.querySelector(a.getAttribute('href')))"
    )
    assert page.execute_script(script + ".length") == 0
    assert page.execute_script("return document.links.length") == len(SECTIONS) + 5


def test_the_pictures_are_drawn_from_the_page_itself(page):
    sizes = page.execute_script("return [...document.images].map(image => image.naturalWidth)")
    assert sizes == [1, 1, 1] and len(PIXEL) < 100


def test_nothing_but_the_file_is_fetched(page):
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    fetched = [params["request"]["url"] for params in sent]
    assert fetched and all(url.startswith(("file:///", "data:")) for url in fetched)
    assert sum(url.startswith("file:///") for url in fetched) == 1


def test_the_policy_stops_a_script_and_a_picture_that_came_in_with_the_data(page):
    page.execute_script(
        "for (const [tag, name] of [['script', 'textContent'], ['img', 'onerror']]) {"
        "  const made = document.createElement(tag);"
        "  if (tag === 'img') made.setAttribute('onerror', 'document.title = 1'), made.src = 'x';"
        "  else made.textContent = 'document.title = 1';"
        "  document.body.append(made); }"
        "return fetch('https://example.com/').catch(error => error.name)"
    )
    assert page.title == "Comments coded by models"
    refused = [entry["message"] for entry in page.get_log("browser")]
    assert any("script" in text for text in refused) and any("image" in text for text in refused)
    assert all("Content Security Policy" in text for text in refused)


def test_a_comment_that_is_markup_shows_as_text_and_does_nothing(page):
    for text in HOSTILE:
        page.find_element(By.ID, "q").clear()
        choose(page, q=text)
        assert [row[1] for row in shown_rows(page)] == [text]
        assert page.find_element(By.CSS_SELECTOR, "#rows .text").text == text
        assert page.title == "Comments coded by models"
        assert len(page.find_elements(By.TAG_NAME, "img")) == 3
    assert page.get_log("browser") == []


def test_markup_among_the_examples_and_in_the_audit_shows_as_text(page):
    page.find_element(By.CSS_SELECTOR, "#comparison details summary").click()
    assert SCRIPT in page.find_element(By.CSS_SELECTOR, "#comparison details").text
    assert IMAGE in page.find_element(By.ID, "audit").text
    assert "Bo <b> coded" in page.find_element(By.ID, "human-check").text


def test_the_filters_find_what_pandas_finds(page, results):
    for run, label, predicted, verdict in (
        ("qwen-after", "", "", ""),
        ("qwen-after", 1, "", ""),
        ("bert-after", "", 2, "wrong"),
        ("bert-before", 0, "", "right"),
        ("bert-before", 3, 1, "wrong"),
        ("qwen-before", "", -1, ""),
        ("qwen-before", 2, -1, "wrong"),
        ("bert-human", "", "", "right"),
        ("bert-human", 1, 1, "unscored"),
    ):
        choose(page, run=run, label=label, predicted=predicted, verdict=verdict)
        table = predictions(results, run)
        right = table["class"] == table["predicted"]
        wanted = table[
            (table["class"] == label if label != "" else True)
            & (table["predicted"] == predicted if predicted != "" else True)
            & ({"right": right, "wrong": ~right, "unscored": False}.get(verdict, right | True))
        ].set_index("custom_id")
        assert count(page).split(";")[0] == f"{len(wanted)} of {len(table)} rows"
        assert len(shown_rows(page)) == min(len(wanted), 100)
        for custom_id, message, true, guess, outcome, _ in shown_rows(page):
            row = wanted.loc[custom_id]
            assert (message, true) == (row["message"], NAMES[row["class"]])
            expected = "invalid" + row["reply"] if row["predicted"] < 0 else NAMES[row["predicted"]]
            assert guess == expected
            assert outcome == ("✓ right" if row["class"] == row["predicted"] else "✗ wrong")


def test_a_row_that_people_coded_is_marked_where_the_others_are_silver(chromium, tmp_path):
    results = write_study(tmp_path)
    path = results / "bert-after/predictions.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table["coded_by"] = ["human" if n % 3 == 0 else "" for n in range(len(table))]
    write_csv(table, path)
    metrics = json.loads((results / "bert-after/metrics.json").read_bytes())
    against = "agreement with the labels of 87 human, 173 silver rows (test.csv)"
    metrics |= {"label_source": "silver labels and human coders", "measured_against": against}
    metrics |= {"human_rows": 87, "accuracy_human_rows": 0.8, "accuracy_human_rows_ci95": [0.7, 1]}
    write_json(metrics, results / "bert-after/metrics.json")
    write_report.main(arguments(tmp_path))
    open_anew(chromium, address(results))
    choose(chromium, run="bert-after")
    human = table.set_index("custom_id")["coded_by"]
    for custom_id, _, label, *_ in shown_rows(chromium):
        assert label.endswith("by people") == (human[custom_id] == "human")
    assert chromium.find_element(By.ID, "against").text == against
    choose(chromium, run="qwen-after")
    assert not any(label.endswith("by people") for _, _, label, *_ in shown_rows(chromium))


def test_the_search_finds_what_pandas_finds(page, results):
    table = predictions(results, "bert-after")
    text = (table["custom_id"] + "\n" + table["message"]).str.lower()
    for words in ("女", "ROW-25", "没有这样的话"):
        page.find_element(By.ID, "q").clear()
        choose(page, run="bert-after", q=words)
        matches = text.str.contains(words.lower(), regex=False).sum()
        assert count(page).split(";")[0] == f"{matches} of {len(table)} rows"


def test_more_rows_are_drawn_by_the_hundred(page):
    choose(page, run="qwen-after")
    more = page.find_element(By.ID, "more")
    assert count(page) == "260 of 260 rows; the first 100 are shown"
    more.send_keys(Keys.ENTER)
    assert len(shown_rows(page)) == 200 and more.text == "Show 60 more"
    more.click()
    assert len(shown_rows(page)) == 260 and not more.is_displayed()
    assert count(page) == "260 of 260 rows"
    assert page.switch_to.active_element.text == shown_rows(page)[200][0]


def test_rows_are_ordered_by_confidence_and_those_without_one_stay_in_order(page, results):
    table = predictions(results, "bert-after")
    confidence = table["confidence"].astype(float).round(4).sort_values()
    for order, values in (("lowest", confidence), ("highest", confidence[::-1])):
        choose(page, run="bert-after", order=order)
        shown = [float(row[5].rstrip("%")) for row in shown_rows(page)]
        assert shown == pytest.approx([100 * value for value in values[:100]], abs=0.051)
    choose(page, run="qwen-before", order="highest")
    assert [row[0] for row in shown_rows(page)[:2]] == ["row-2", "row-3"]


def test_a_view_outlives_a_reload_and_opens_from_its_address(page, results):
    choose(page, run="bert-human", label=3, verdict="wrong", q="女")
    url, counted, rows = page.current_url, count(page), shown_rows(page)
    page.refresh()
    assert (count(page), shown_rows(page)) == (counted, rows)
    open_anew(page, url)
    assert (count(page), shown_rows(page)) == (counted, rows)
    assert page.execute_script("return scrollY") > 1000
    assert page.get_log("browser") == []


def test_an_address_with_unknown_values_opens_the_whole_table(page, results):
    open_anew(page, address(results) + "#predictions?run=gone&label=9&verdict=%3Cb%3E&x=1")
    best = page.execute_script("return data.best")
    assert page.find_element(By.ID, "run").get_attribute("value") == best
    assert count(page).startswith(f"{len(predictions(results, best))} of")


def test_a_link_to_a_section_is_followed_from_a_filtered_view(page):
    choose(page, verdict="wrong")
    told = count(page)
    page.execute_script("document.querySelector('nav a[href=\"#audit\"]').click()")
    assert page.current_url.endswith("#audit")
    page.back()
    assert count(page) == told


def test_what_the_scores_are_against_is_said_beside_the_table(page):
    choose(page, run="bert-human")
    text = "accuracy against human coders (human coders.csv)"
    assert page.find_element(By.ID, "against").text == text
    assert text in page.find_element(By.ID, "summary").text


@pytest.mark.parametrize("width", [360, 768, 1200])
def test_the_page_never_scrolls_sideways(page, results, width):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    open_anew(page, address(results))
    page.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.execute_script("return innerWidth") == width
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    assert page.find_element(By.ID, "more").is_displayed()


def test_in_print_the_controls_are_gone_the_errors_open_and_no_table_is_cut_off(page):
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    width = {
        "width": 680,
        "height": 900,
        "deviceScaleFactor": 1,
        "mobile": False,
    }  # A4 less margins
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", width)
    page.execute_script("dispatchEvent(new Event('beforeprint'))")
    for name in CONTROLS:
        assert not page.find_element(By.ID, name).is_displayed()
    assert SCRIPT in page.find_element(By.CSS_SELECTOR, "#comparison details").text
    script = "return [...document.querySelectorAll('table')].filter("
    script += "t => t.getBoundingClientRect().right > innerWidth + 1).map(t => t.textContent)"
    assert page.execute_script(script) == []


def test_without_scripts_the_page_is_read_and_says_where_the_rows_stand(chromium, page, results):
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        open_anew(chromium, address(results))
        assert "needs JavaScript" in chromium.find_element(By.CSS_SELECTOR, "noscript").text
        assert not chromium.find_element(By.ID, "browser").is_displayed()
        assert "Krippendorff" in chromium.find_element(By.ID, "methods").text
    finally:
        chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_controls_have_labels_headers_a_scope_and_the_count_is_announced(page):
    for name in CONTROLS:
        assert page.execute_script(f"return document.getElementById('{name}').labels.length") == 1
    assert page.find_elements(By.CSS_SELECTOR, "th:not([scope])") == []
    assert page.find_element(By.ID, "count").get_attribute("aria-live") == "polite"
    assert page.execute_script("return document.documentElement.lang") == "en"
    order = []
    page.execute_script("document.getElementById('run').focus()")
    for _ in CONTROLS:
        order.append(page.switch_to.active_element.get_attribute("id"))
        page.switch_to.active_element.send_keys(Keys.TAB)
    assert order == list(CONTROLS)


HOSTILE_TEXTS = {
    "row-100": "\u202e\u2066 reversed \u202d and never closed",
    "row-101": "a\u200b\u200d\ufeffb \u2060zero-width",
    "row-102": "line\u2028paragraph\u2029end",
    "row-103": "\u0627\u0644\u0633\u0644\u0627\u0645 (right to left) !",
    "row-104": "Z" + "\u0335\u034a\u0320" * 60,
    "row-105": "x" * 100_000,
    "row-106": "</script></td></table><style>*{display:none}</style>" * 30,
}


@pytest.fixture(scope="module")
def hostile_results(tmp_path_factory):
    """Write a study with hostile comments and its page; return the results folder."""
    folder = tmp_path_factory.mktemp("hostile")
    shutil.copy(Path(write_report.__file__).with_name("prompt.txt"), folder)
    with contextlib.chdir(folder):
        written = write_study(folder)
        path = written / "bert-after/predictions.csv"
        table = pd.read_csv(path, dtype=str, keep_default_na=False).set_index("custom_id")
        for custom_id, text in HOSTILE_TEXTS.items():
            table.loc[custom_id, "message"] = text
        write_csv(table.reset_index(), path)
        write_report.main(arguments(folder))
    return written


@pytest.mark.parametrize("width", [360, 1200])
def test_hostile_comments_stay_in_their_cell_and_change_no_other_row(
    chromium, hostile_results, width
):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    open_anew(chromium, address(hostile_results))
    choose(chromium, run="bert-after", q="row-10")
    shown = {row[0]: row for row in shown_rows(chromium)}
    table = predictions(hostile_results, "bert-after").set_index("custom_id")
    assert HOSTILE_TEXTS.keys() <= shown.keys()
    for custom_id, row in shown.items():
        assert row[2] == NAMES[table.loc[custom_id, "class"]]
        assert row[3] == NAMES[table.loc[custom_id, "predicted"]]
        text = HOSTILE_TEXTS.get(custom_id, row[1])
        assert row[1] == text or row[1].startswith(text[:1000] + "…Show ")
    script = "return document.documentElement.scrollWidth"
    assert chromium.execute_script(script) <= width
    script = """return [...document.querySelectorAll("#rows .comment")].filter((one) =>
      getComputedStyle(one).unicodeBidi !== "isolate" || getComputedStyle(one).overflowX !== "clip"
    ).length"""
    assert chromium.execute_script(script) == 0
    assert (
        max(row.size["height"] for row in chromium.find_elements(By.CSS_SELECTOR, "#rows tr"))
        < 1500
    )
    assert chromium.get_log("browser") == []
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_long_comment_is_folded_and_unfolds(chromium, hostile_results):
    open_anew(chromium, address(hostile_results))
    choose(chromium, run="bert-after", q="row-106")
    cell = chromium.find_element(By.CSS_SELECTOR, "#rows .text")
    button = cell.find_element(By.TAG_NAME, "button")
    assert button.text == f"Show all {len(HOSTILE_TEXTS['row-106']):,} letters"
    button.click()
    assert cell.text == HOSTILE_TEXTS["row-106"]
    chromium.find_element(By.ID, "q").clear()
    choose(chromium, q="row-105")
    cell = chromium.find_element(By.CSS_SELECTOR, "#rows .text")
    button = cell.find_element(By.TAG_NAME, "button")
    assert button.text == "Show the first 10,000 of 100,000 letters"
    button.click()
    assert cell.text == "x" * 10_000 + "… [the rest stands in predictions.csv]"


def test_counts_of_a_page_of_some_rows_tell_them_from_all_rows(chromium, tmp_path, monkeypatch):
    monkeypatch.setattr(page_rows, "MOST_ROWS", 100)
    results = write_study(tmp_path)
    shutil.rmtree(results / "bert-human")
    write_report.main(arguments(tmp_path))
    open_anew(chromium, address(results))
    choose(chromium, run="bert-after", label=1, predicted=1)
    here = len(shown_rows(chromium))
    table = predictions(results, "bert-after")
    such = ((table["class"] == 1) & (table["predicted"] == 1)).sum()
    total = len(chromium.execute_script("return data.rows"))
    assert here < such and total == 100
    assert count(chromium) == (
        f"{here} of the {total} rows on this page. Among all 260 rows there are {such} such."
    )
    choose(chromium, part="sample")
    assert count(chromium).endswith("These are not counted among all 260 rows.")
    drawn = chromium.execute_script("return data.sample.map(place => data.rows[place][0])")
    assert {row[0] for row in shown_rows(chromium)} <= set(drawn)
    choose(chromium, label="", predicted="", part="differ")
    runs = {run: predictions(results, run) for run in ("qwen-before", "qwen-after", "bert-before")}
    runs["bert-after"] = table
    guesses = pd.DataFrame({run: t.set_index("custom_id")["predicted"] for run, t in runs.items()})
    differ = guesses.index[guesses.nunique(axis=1) > 1]
    assert {row[0] for row in shown_rows(chromium)} <= set(differ)
