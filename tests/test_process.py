"""What notebooks cannot test: the command line as a process, runs that are killed, an install from a clean clone."""
import json, os, resource, shutil, signal, subprocess, sys, time
from pathlib import Path
import numpy as np, pytest
from PIL import Image
from iad_nb.cli import main
from iad_nb.core import Run
from iad_nb.data.surface import World

ROOT = Path(__file__).resolve().parent.parent
ENV = dict(os.environ, TQDM_DISABLE="1", HF_HUB_OFFLINE="1")
SHORT = ["data.images=64", "train.batch_size=4", "train.warmup=2", "train.save_every=4", "validate=8", "train.precision=fp32"]

def iad(*args, **kw): return subprocess.run([sys.executable, "-m", "iad_nb.cli", *map(str, args)], env=ENV, capture_output=True, text=True, timeout=300, **kw)
def lines(path): return [json.loads(l) for l in path.read_text().splitlines()]

@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    "Training settings that share one small pool."
    return [*SHORT, f"data.pool={tmp_path_factory.mktemp('pool')/'p'}"]

@pytest.fixture(scope="module")
def photo(): return World("test", 128, 3, "nut", 1., 1)[0].pixels

def odd_files(folder, photo):
    "Images of every kind that a user may have; returns the names of those that cannot be read."
    folder.mkdir()
    im, rng = Image.fromarray(photo), np.random.default_rng(0)
    im.save(folder/"rgb.png")
    Image.fromarray((photo[..., 0].astype(np.uint16)*257)).save(folder/"deep.png")
    im.convert("CMYK").save(folder/"cmyk.jpg")
    im.quantize(16).save(folder/"palette.png")
    im.convert("RGBA").save(folder/"alpha.png")
    exif = Image.Exif(); exif[0x0112] = 6
    im.crop((0, 0, 128, 96)).save(folder/"turned.jpg", exif=exif)
    im.resize((1, 1)).save(folder/"one.png")
    Image.fromarray(rng.integers(0, 255, (50, 20_000), np.uint8)).save(folder/"long.png")
    data = (folder/"rgb.png").read_bytes()
    (folder/"truncated.png").write_bytes(data[:len(data)//2]); (folder/"zero.png").write_bytes(b""); (folder/"text.png").write_bytes(b"hello")
    return {"truncated.png", "zero.png", "text.png"}

def test_inspect_all_kinds(tmp_path, photo):
    bad = odd_files(tmp_path/"in", photo)
    (tmp_path/"empty").mkdir()
    r = iad("inspect", tmp_path/"in", tmp_path/"gone.png", tmp_path/"empty", "--out", tmp_path/"out")
    assert r.returncode == 1 and "Traceback" not in r.stderr, r.stderr
    rows = lines(tmp_path/"out"/"results.jsonl")
    assert {Path(x["id"]).name for x in rows if "error" in x} == bad | {"gone.png", "empty"}
    done = {Path(x["id"]).name: x for x in rows if "error" not in x}
    assert set(done) == {"rgb.png", "deep.png", "cmyk.jpg", "palette.png", "alpha.png", "turned.jpg", "one.png", "long.png"}
    assert done["turned.jpg"]["size"] == [96, 128] and done["long.png"]["size"] == [20000, 50]            # EXIF is obeyed
    assert abs(done["rgb.png"]["score"] - done["alpha.png"]["score"]) < 1e-5
    assert (tmp_path/"out"/"report.html").read_text().count("<figure>") == len(rows)

def test_bad_usage(tmp_path, photo, capsys):
    Image.fromarray(photo).save(tmp_path/"a.png"); (tmp_path/"file").write_text("x"); (tmp_path/"m").mkdir()
    broken = tmp_path/"m"; (broken/"config.json").write_text("{"); (broken/"model.safetensors").write_bytes(b"123")
    for args, hint in [(("inspect", tmp_path/"gone.png"), "no such file"), (("inspect", tmp_path/"a.png", "--out", tmp_path/"file"/"o"), "cannot write here"),
                       (("inspect", tmp_path/"a.png", "--model", broken, "--out", tmp_path/"o"), "cannot load"), (("inspect", tmp_path/"a.png", "--model", "region-exprt-tiny"), "did you mean 'region-expert-tiny'"),
                       (("inspect", tmp_path/"a.png", "--reference", tmp_path/"none", "--out", tmp_path/"o"), "no such file"), (("eval", "--source", "mvtec", "--root", tmp_path), "expected <category>/train"),
                       (("train", "region-expert", "train.batchsize=3"), "did you mean 'batch_size'"), (("train", "region-expert", "train.steps=many"), "wrong value")]:
        with pytest.raises(SystemExit) as stop: main(list(map(str, args)))
        assert stop.value.code == 2 and hint in capsys.readouterr().err, args
    r = iad("inspect", tmp_path/"gone.png")                                                            # once as a process
    assert r.returncode == 2 and "no such file" in r.stderr and "Traceback" not in r.stderr

def test_ask_and_edit(tmp_path, photo):
    "Answers on the terminal; edits that leave the rest alone and depend on the seed only."
    hole = np.zeros((128, 128), np.uint8); hole[30:50, 60:90] = 255
    Image.fromarray(photo).save(tmp_path/"a.png"); Image.fromarray(hole).save(tmp_path/"m.png"); Image.fromarray(hole[:50]).save(tmp_path/"small.png"); Image.fromarray(hole*0).save(tmp_path/"empty.png")
    r = iad("ask", tmp_path/"a.png", "Is there a defect in this image?", "Where in the image is the defect?", "--regions", "oracle", "--mask", tmp_path/"m.png")
    assert r.returncode == 0 and r.stdout.count("?") == 2 and len(r.stdout.splitlines()) == 4, r.stderr
    r = iad("ask", tmp_path/"a.png", "What is shown?", "-c", "a nut", "-c", "a pill")
    assert r.returncode == 0 and r.stdout.splitlines()[1].strip() in ("a nut", "a pill")
    edit = lambda *a: iad("edit", tmp_path/"a.png", "--prompt", "Add a severe scratch to the nut.", "--steps", 6, *a)
    assert edit("--mask", tmp_path/"m.png", "--seed", 7, "--n", 2, "--out", tmp_path/"e.png").returncode == 0 and edit("--mask", tmp_path/"m.png", "--seed", 8).returncode == 0
    seven, eight, again = (np.array(Image.open(tmp_path/n)) for n in ("e_7.png", "e_8.png", "a_edited.png"))
    assert np.array_equal(eight, again) and not np.array_equal(seven, eight) and np.array_equal(seven[hole == 0], photo[hole == 0]) and (seven[hole > 0] != photo[hole > 0]).any()
    for args, says in ((("ask", tmp_path/"a.png", " "), "empty question"), (("ask", tmp_path/"no.png", "What?"), "no.png"), (("ask", tmp_path/"a.png", "What?", "-m", "region-expert-tiny"), "cannot understand"), (("ask", tmp_path/"a.png", "What?", "-m", "iad-unify-tini"), "did you mean 'iad-unify-tiny'"),
                       (("edit", tmp_path/"a.png", "--mask", tmp_path/"small.png", "--prompt", "A dent."), "128"), (("edit", tmp_path/"a.png", "--mask", tmp_path/"empty.png", "--prompt", "A dent."), "empty mask")):
        r = iad(*args); assert r.returncode == 2 and says in r.stderr and "Traceback" not in r.stderr, (args, r.stderr)

def test_generate_and_vocabulary(tmp_path, photo):
    "Pictures of texts that depend on the seed only; names of the user's own vocabulary."
    r = iad("generate", "a leather hide with a long scratch", "a nut", "--n", 2, "--steps", 4, "--seed", 5, "--out", tmp_path/"g")
    assert r.returncode == 0, r.stderr
    names = [Path(l).name for l in r.stdout.splitlines()]
    assert names == ["00_a_leather_hide_with_a_long_scratch_5.png", "00_a_leather_hide_with_a_long_scratch_6.png", "01_a_nut_5.png", "01_a_nut_6.png"]
    Image.fromarray(photo).save(tmp_path/"a.png")
    assert iad("generate", "a nut", "--from", tmp_path/"g"/names[2], "--strength", .3, "--steps", 4, "--out", tmp_path/"h").returncode == 0
    a, b, c = (np.array(Image.open(tmp_path/x)).astype(int) for x in (f"g/{names[2]}", f"g/{names[3]}", "h/00_a_nut_0.png"))
    assert a.shape == (128, 128, 3) and abs(a - b).mean() > 3 and 0 < abs(a - c).mean() < abs(a - b).mean()                 # image-to-image stays nearer
    r = iad("inspect", tmp_path/"a.png", "--vocabulary", "scratch, stain, hole", "--out", tmp_path/"o")
    assert r.returncode == 0, r.stderr
    row = lines(tmp_path/"o"/"results.jsonl")[0]
    assert set(row["classes"]) == {"scratch", "stain", "hole", "normal"} and all(x["label"] in row["classes"] for x in row["regions"])
    for args, says in ((("generate", " "), "empty prompt"), (("generate", "a nut", "--from", tmp_path/"no.png"), "no.png"), (("generate", "a nut", "--sampler", "dmp"), "did you mean 'dpm'"), (("generate", "a nut", "-m", "region-expert-tiny"), "cannot generate"),
                       (("inspect", tmp_path/"a.png", "--vocabulary", "a,a", "--out", tmp_path/"o"), "twice"), (("inspect", tmp_path/"a.png", "--vocabulary", "a, ", "--out", tmp_path/"o"), "empty name")):
        r = iad(*args); assert r.returncode == 2 and says in r.stderr and "Traceback" not in r.stderr, (args, r.stderr)

def test_full_disk_keeps_what_is_done(tmp_path, photo):
    (tmp_path/"in").mkdir()
    for i in range(40): Image.fromarray(photo).save(tmp_path/"in"/f"{i:02d}.png")
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))                             # no file may grow beyond 6 kB
    r = iad("inspect", tmp_path/"in", "--out", tmp_path/"out", preexec_fn=limit)
    assert r.returncode == 2 and "cannot write" in r.stderr and "Traceback" not in r.stderr, r.stderr
    rows = (tmp_path/"out"/"results.jsonl").read_text().splitlines()
    assert len(rows) >= 1 and all(json.loads(l)["score"] >= 0 for l in rows[:-1])

def test_one_class_and_wrong_masks(tmp_path):
    assert iad("data", "make", tmp_path/"d", "--n", 12, "--categories", "nut", "--size", 64).returncode == 0
    nut = tmp_path/"d"/"nut"
    kinds = [p for p in (nut/"test").iterdir() if p.name != "good"]
    mask = next((nut/"ground_truth"/kinds[0].name).iterdir())
    Image.new("L", (9, 9), 255).save(mask)                                                             # a mask of another size
    r = iad("eval", "--source", "mvtec", "--root", tmp_path/"d", "--out", tmp_path/"o")
    m = json.loads((tmp_path/"o"/"metrics.json").read_text())
    assert r.returncode == 1 and m["failed"] == 1 and "the mask is 9×9 but the image 64×64" in m["errors"][0]
    for p in kinds: shutil.rmtree(p)
    r = iad("eval", "--source", "mvtec", "--root", tmp_path/"d", "--out", tmp_path/"o")
    assert r.returncode == 0 and "undefined" in r.stdout and "normal" in r.stdout, r.stdout + r.stderr

def start(*args): return subprocess.Popen([sys.executable, "-m", "iad_nb.cli", *map(str, args)], env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
def wait_for(run, step):
    for _ in range(1500):
        if any(r["step"] >= step for r in Run(run).rows()): return
        time.sleep(.1)
    raise TimeoutError(step)

def test_killed_and_stopped_runs_go_on(tmp_path, pool, photo):
    command = ["train", "region-expert", *pool, "train.steps=24"]
    whole = iad(*command, "--out", tmp_path/"whole")
    assert whole.returncode == 0, whole.stderr
    p = start(*command, "--out", tmp_path/"killed"); wait_for(tmp_path/"killed", 6); p.kill(); p.wait()
    p = start(*command, "--out", tmp_path/"killed"); wait_for(tmp_path/"killed", 10); p.send_signal(signal.SIGINT); _, err = p.communicate(timeout=120)
    assert p.returncode == 130 and "goes on from here" in err, err
    assert iad(*command, "--out", tmp_path/"killed").returncode == 0
    a, b = Run(tmp_path/"whole").rows(), Run(tmp_path/"killed").rows()
    assert a == b and len(a) == 24                                                                     # bit for bit
    assert iad(*command, "--out", tmp_path/"killed").returncode == 0 and Run(tmp_path/"killed").done    # nothing is run twice
    r = iad("train", "region-expert", *pool, "train.steps=25", "--out", tmp_path/"killed")
    assert r.returncode == 2 and "another recipe" in r.stderr
    assert "done" in iad("runs", tmp_path).stdout
    Image.fromarray(photo).save(tmp_path/"a.png")
    assert iad("inspect", tmp_path/"a.png", "--model", tmp_path/"whole", "--out", tmp_path/"o").returncode == 0   # a run folder is a model

def test_install_from_a_clean_clone(tmp_path):
    "What is committed, installed without the repository around it, has its snapshot and works."
    if subprocess.run(["git", "clone", "-q", "--depth", "1", f"file://{ROOT}", tmp_path/"clone"]).returncode: pytest.skip("not a git repository")
    r = subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index", "--target", tmp_path/"site", tmp_path/"clone"], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    code = "import iad_nb, numpy as np; from iad_nb.inspector import load; f = load().inspect(np.zeros((50, 60, 3), np.uint8))[0]; print(iad_nb.__file__, f.heatmap.shape)"
    r = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=dict(ENV, PYTHONPATH=str(tmp_path/"site")), capture_output=True, text=True)
    assert r.returncode == 0 and str(tmp_path/"site") in r.stdout and "(50, 60)" in r.stdout, r.stderr
