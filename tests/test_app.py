"""The demo as a process, used over HTTP and in a real browser: mouse, keyboard, phone."""
import io, os, re, shutil, signal, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np, pytest
from PIL import Image
from gradio_client import Client, handle_file
from iad_nb.cli import main
from iad_nb.core import Run
from iad_nb.data.surface import World
from iad_nb.report import result_rows

ENV = dict(os.environ, TQDM_DISABLE="1", HF_HUB_OFFLINE="1")
CHROMIUM = shutil.which("chromium")

def started(*args, **env):
    "An `iad demo` and its address."
    p = subprocess.Popen([sys.executable, "-m", "iad_nb.cli", "demo", *map(str, args)], env=dict(ENV, **env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return p, p.stdout.readline().split(" ")[0].strip()

@pytest.fixture(scope="module")
def url(tmp_path_factory):
    "Address of a running demo; in the end a stop must close it without a word, and no file may stay behind."
    runs, kept = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("kept")
    for name, v in (("region-expert-tiny", .81), ("a-system-of-a-very-long-name model.width=16 train.steps=100", .7)):
        Run(runs/name.split()[0], {}, 0).finish(results=result_rows(name, "surface:unseen", {k: v for k in ("image_auroc", "pixel_auroc", "aupro", "image_ap", "pixel_ap")}, 0))
    p, address = started("--port", 0, IAD_RUNS=str(runs), TMPDIR=str(kept))
    yield address
    p.send_signal(signal.SIGTERM); _, err = p.communicate(timeout=60)             # as Ctrl-C does, which a shell's background jobs never get
    assert p.returncode == 0 and "Traceback" not in err, err
    left = [f.relative_to(kept) for f in kept.rglob("*") if f.is_file()]
    assert not left, left

@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM: pytest.skip("no browser: apt install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    with api.sync_playwright() as p:
        b = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"])
        yield b
        b.close()

def opened(browser, url, tmp_path, **view):
    asked, wrong = [], []
    page = browser.new_page(**{**dict(viewport=dict(width=1280, height=1000), color_scheme="light"), **view})
    page.set_default_timeout(60_000)                                                                   # a machine may be busy
    page.on("request", lambda r: asked.append(r.url)); page.on("pageerror", lambda e: wrong.append(str(e)))
    page.goto(url); page.wait_for_selector("#go")
    yield page
    page.screenshot(path=tmp_path/"end.png", full_page=True); page.close()
    elsewhere = [u for u in asked if not u.startswith((url, "data:", "blob:"))]
    assert len(asked) > 10 and not elsewhere and not wrong, (elsewhere, wrong)                          # nothing was asked of anyone else

@pytest.fixture
def page(browser, url, tmp_path): yield from opened(browser, url, tmp_path)
@pytest.fixture
def phone(browser, url, tmp_path): yield from opened(browser, url, tmp_path, viewport=dict(width=390, height=844), device_scale_factor=2, has_touch=True, is_mobile=True)

@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    "A file with a hole in a concrete slab."
    place = tmp_path_factory.mktemp("photo")/"part.png"
    Image.fromarray(World("test", 320, 7, "all", .75, 24)[22].pixels).save(place)
    return place

def tab(page, name): page.get_by_role("tab", name=name).click(); page.wait_for_timeout(500)
def pixels(page, source): return np.asarray(Image.open(io.BytesIO(page.request.get(source).body())).convert("RGB")).astype(int)

def test_upload_and_ask(page, photo):
    page.locator("#picture input[type=file]").set_input_files(photo)
    t = time.time(); page.wait_for_selector("#found .finding"); cold = time.time() - t
    assert "Defective" in page.inner_text("#found") and "bottom right" in page.inner_text("#found") and page.locator("#overlay img").count() == 1
    page.fill("#question textarea", "Where in the image is the defect?"); page.press("#question textarea", "Enter")
    page.locator("#chat").get_by_text("bottom right", exact=True).wait_for()
    page.get_by_role("button", name="Is there a defect in this image?").click()                        # a follow-up question
    page.locator("#chat").get_by_text("yes", exact=True).wait_for()
    t = time.time()
    for k in (1, 4): page.locator("button.gallery-item:visible").nth(k).click(); page.wait_for_function("text => !document.querySelector('#chat').innerText.includes(text)", arg="bottom right")
    assert page.locator("#chat").get_by_text("yes", exact=True).count() == 0                           # another picture, another talk
    print(f"cold {cold:.2f} s, two examples {time.time() - t:.2f} s")

def test_systems(page, photo):
    "VMAD draws as it answers; one that does not answer says so; names of defects are the user's."
    page.locator("#picture input[type=file]").set_input_files(photo); page.wait_for_selector("#found .finding")
    def choose(name):
        page.click("#system input"); page.get_by_role("option", name=name).click(); page.get_by_text(re.compile(f"^{name}, ")).wait_for()
    choose("diffuse-defect-tiny")
    page.wait_for_selector("#question textarea:disabled"); assert "does not answer" in page.get_attribute("#question textarea", "placeholder")
    page.get_by_role("button", name="More").first.click(); page.get_by_label("Names of defects").fill("hole, banana"); page.keyboard.press("Enter")
    page.locator("#found").get_by_text("banana").wait_for()
    page.get_by_label("Names of defects").fill(""); choose("vmad-tiny")
    before = page.get_attribute("#overlay img", "src")
    page.get_by_role("button", name="Are there any abnormalities").click()
    page.locator("#chat").get_by_text("[SEG]").wait_for()
    page.wait_for_function("s => document.querySelector('#overlay img').src != s", arg=before)

def test_draw_and_edit(page):
    tab(page, "Edit")
    canvas = page.locator("#drawing canvas").first; canvas.wait_for(); page.wait_for_timeout(1500)
    page.click("#paint"); page.get_by_text("no place is marked").wait_for()
    page.locator("#drawing button[aria-label=Brush]").click()
    b = canvas.bounding_box(); x, y = b["x"] + b["width"]/2, b["y"] + b["height"]/2
    page.mouse.move(x - 30, y); page.mouse.down(); page.mouse.move(x + 30, y, steps=10); page.mouse.up(); page.wait_for_timeout(800)
    page.click("#paint"); page.wait_for_selector("#slide img")
    two = lambda: [pixels(page, i.get_attribute("src")) for i in page.locator("#slide img").all()]
    before, after = two()
    ys, xs = np.nonzero((before != after).any(2))
    assert before.shape == after.shape == (320, 320, 3) and 30 < np.ptp(xs) < 130 and 10 < np.ptp(ys) < 60, (np.ptp(xs), np.ptp(ys))          # the stroke, nothing else
    first = page.get_attribute("#slide img:last-of-type", "src")
    page.fill("#seed input", "5"); page.press("#wish textarea", "Enter"); page.wait_for_function("s => ![...document.querySelectorAll('#slide img')].some(i => i.src == s)", arg=first)
    page.wait_for_timeout(500); assert (two()[1] != after).any()                                        # another seed
    page.click("#again"); page.wait_for_selector("#found .finding"); assert page.locator("#picture img").is_visible()

def test_generate_compare_runs(page, photo):
    tab(page, "Generate"); page.click("#make"); page.locator("#gallery img").nth(3).wait_for()
    tab(page, "Compare"); page.locator("#picture3 input[type=file]").set_input_files(photo)
    page.locator(".side .finding").nth(2).wait_for(); assert page.locator(".side .finding").count() == 3
    tab(page, "Runs"); page.locator("#board td").first.wait_for(); assert "0.810 (1) ★" in page.inner_text("#board")

def test_keyboard(page):
    "From the address bar to an answer and an edit without a mouse."
    def reach(selector, most=60):
        for _ in range(most):
            page.keyboard.press("Tab")
            if page.evaluate("s => document.activeElement.matches(s)", selector): return
        pytest.fail(f"Tab does not reach {selector}")
    reach("button.gallery-item"); page.keyboard.press("Enter"); page.wait_for_selector("#found .finding")
    reach("#question textarea"); page.keyboard.type("Where in the image is the defect?"); page.keyboard.press("Enter")
    page.locator("#chat").get_by_text("bottom right", exact=True).wait_for()
    page.get_by_role("tab", name="Inspect").focus(); page.keyboard.press("Tab"); page.keyboard.press("Enter"); page.wait_for_selector("#drawing canvas")
    reach("#place input[value=top]"); page.keyboard.press("Space"); page.wait_for_selector("#place input[value=top]:checked")
    reach("#paint"); page.keyboard.press("Enter"); page.wait_for_selector("#slide img")
    before, after = (pixels(page, i.get_attribute("src")) for i in page.locator("#slide img").all())
    assert (before != after).any()
    where = lambda: page.evaluate("document.querySelector('#slide .inner').getBoundingClientRect().x")
    x = where(); reach("#divider input[type=range]"); [page.keyboard.press("ArrowLeft") for _ in range(4)]; page.wait_for_timeout(800)
    assert where() < x - 20

def test_phone(phone, photo, tmp_path):
    "Nothing is wider than the screen, nothing is squeezed."
    phone.locator("#picture input[type=file]").set_input_files(photo); phone.wait_for_selector("#found .finding")
    for name in ("Inspect", "Edit", "Generate", "Compare", "Runs"):
        tab(phone, name); phone.wait_for_timeout(1000); phone.screenshot(path=tmp_path/f"{name}.png", full_page=True)
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390, name
        buttons = [b.bounding_box()["width"] for b in phone.locator("button.primary:visible").all()]
        assert all(w > 300 for w in buttons), (name, buttons)                                           # columns are below one another
    assert phone.locator("#board td").count() > 0

def test_damaged_upload(page, tmp_path, photo):
    (tmp_path/"note.png").write_text("hello")
    page.locator("#picture input[type=file]").set_input_files(tmp_path/"note.png"); page.get_by_text("not an image [note.png]").wait_for()
    assert page.locator("#overlay img").count() == 0
    page.reload(); page.locator("#picture input[type=file]").set_input_files(photo); page.wait_for_selector("#found .finding")

def test_many_callers(url, photo):
    "36 calls of six endpoints from 6 callers, all answered."
    def caller(k):
        c, f = Client(url, verbose=False), handle_file(photo)
        for i in range(6):
            what = (i + k) % 6
            if what == 0: assert c.predict(f, api_name="/ask", question="Where in the image is the defect?") == "bottom right"
            elif what == 1: assert len(c.predict(f, api_name="/compare")) == 4
            elif what == 2: assert c.predict(api_name="/runs")
            elif what == 3: assert Path(c.predict(f, "A dent.", place="top", steps=2, api_name="/edit")).exists()
            elif what == 4: assert len(c.predict("a nut", n=1, steps=2, api_name="/generate")) == 1
            else: assert c.predict(f, api_name="/inspect")[1]["defective"]
        return i
    with ThreadPoolExecutor(6) as ex: assert list(ex.map(caller, range(6))) == [5]*6

def test_bad_start(url, capsys, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *a: None)
    for args, says in ((("--port", url.rstrip("/").split(":")[-1]), "cannot be used"), (("-m", "vmad-tini"), "did you mean 'vmad-tiny'"), (("--device", "warp"), "unknown device")):
        with pytest.raises(SystemExit) as stop: main(["demo", *args])
        assert stop.value.code == 2 and says in capsys.readouterr().err, args
