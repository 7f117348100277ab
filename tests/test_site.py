"""The plain documentation site: links resolve, nothing is loaded from outside, the search finds."""
import json, os, re, shutil, subprocess, sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit
import pytest

ROOT = Path(__file__).resolve().parent.parent
SOME = ("nbs/index", "21_metrics", "t05_painting", "60_models.ltc", "iad_nb/metrics", "region-expert-tiny", ".md")

@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "A part of the site, built as a process."
    out = tmp_path_factory.mktemp("site")
    r = subprocess.run([sys.executable, "tools/site.py", out, *SOME], cwd=ROOT, capture_output=True, text=True, timeout=300, env=dict(os.environ, OMP_NUM_THREADS="1"))
    assert r.returncode == 0, r.stderr
    return out

class Links(HTMLParser):
    "What a page loads, where it leads, and its anchors."
    def __init__(self, text): super().__init__(); self.loads, self.leads, self.anchors = [], [], set(); self.feed(text)
    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if a.get("id"): self.anchors.add(a["id"])
        if tag == "a" and "href" in a: self.leads.append(a["href"])
        elif a.get("src") or a.get("href"): self.loads.append(a.get("src") or a["href"])

def test_links_resolve_and_nothing_comes_from_outside(site):
    pages = {p: Links(p.read_text(encoding="utf-8")) for p in site.rglob("*.html")}
    assert len(pages) >= 10 and site/"index.html" in pages and site/"api/metrics.html" in pages
    for p, page in pages.items():
        for url in page.loads:
            assert url.startswith("data:") or (not urlsplit(url).scheme and not url.startswith("//") and (p.parent/url).is_file()), f"{p}: loads {url}"
        for url in page.leads:
            u = urlsplit(url)
            if u.scheme or u.netloc: assert u.scheme in ("https", "http"), f"{p}: {url}"; continue
            to = (p.parent/unquote(u.path)).resolve() if u.path else p
            assert to in pages, f"{p}: leads to {url}"
            if u.fragment: assert unquote(u.fragment) in pages[to].anchors or u.fragment in pages[to].anchors, f"{p}: no anchor {url}"
        assert not re.search(r"url\(\s*['\"]?(?!data:|#)", p.read_text(encoding="utf-8")), p
    for f in (site/"style.css", site/"site.js"): assert not re.search(r"https?://|@import|url\(", f.read_text(encoding="utf-8")), f

def test_search_index(site):
    text = (site/"index.js").read_text(encoding="utf-8")
    index = json.loads(text.removeprefix("window.INDEX = ").rstrip(";\n"))
    hits = [e for e in index if "aupro" in f"{e['t']} {e['h']} {e['x']}".lower()]
    assert {"nbs/21_metrics.html#AUPRO", "api/metrics.html#aupro"} <= {e["u"] for e in hits}
    assert all((site/e["u"].partition("#")[0]).is_file() for e in index)

def test_formulas_and_signatures(site):
    painting, api = (site/"tutorials/t05_painting.html").read_text(encoding="utf-8"), (site/"api/metrics.html").read_text(encoding="utf-8")
    assert painting.count('class="formula"') >= 8 and 'class="tex"' not in painting and "FORMULA" not in painting
    assert 'id="Evaluation"' in api and "Exact AUPRO of score maps and masks" in api and "../nbs/21_metrics.html#cell-id=" in api

def test_search_from_disk(site):
    "In a browser, from file://, nothing but files is asked for."
    sync = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium: pytest.skip("no browser")
    with sync.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for width in (1400, 390):
            page, asked, wrong = browser.new_page(viewport=dict(width=width, height=800)), [], []
            page.on("request", lambda r: asked.append(r.url)); page.on("pageerror", lambda e: wrong.append(e))
            page.goto((site/"tutorials/t05_painting.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            page.fill("#find", "per-region aupro"); page.wait_for_selector("#found a")
            page.keyboard.press("Enter"); page.wait_for_url("**/21_metrics.html*")
            assert not wrong and all(u.startswith(("file:", "data:")) for u in asked)
        browser.close()
