"""The fast check: notebooks clean and exported, README, licences and sidebar in step, import order, no orphan module, no conflict marker, sizes. Usage: python tools/check.py"""
import ast, filecmp, importlib, json, os, re, shutil, subprocess, sys, tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIB, NOTEBOOK_KB, FILE_MB = "iad_nb", 300, 12
problems = []

def problem(where, what): problems.append(f"{where}: {what}")

def tracked():
    out = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT/p for p in out.decode().split("\0") if p and (ROOT/p).is_file()]

def sources(nb): return ["".join(c["source"]) for c in nb["cells"] if c["cell_type"] == "code"]

def number(path): return int(re.match(r"(\d+)", path.name)[1]) if re.match(r"\d+", path.name) else None

def check_exports(files):
    "Clean and export a copy of the project; whatever differs afterwards was not in step."
    with tempfile.TemporaryDirectory() as d:
        copy = Path(d)/"p"
        for f in files:
            if f.suffix in (".ipynb", ".ini", ".py") or f.name == "_quarto.yml":
                to = copy/f.relative_to(ROOT); to.parent.mkdir(parents=True, exist_ok=True); shutil.copy(f, to)
        env = dict(os.environ, PYTHONPATH=str(copy))
        for cmd in ("nbdev_clean", "nbdev_export"):
            r = subprocess.run([Path(sys.executable).parent/cmd], cwd=copy, env=env, capture_output=True, text=True)
            if r.returncode or "Error" in r.stderr: problem(cmd, (r.stderr or r.stdout).strip()[-400:])
        for f in sorted({p.relative_to(copy) for p in copy.rglob("*") if p.is_file()} | {p.relative_to(ROOT) for p in files if p.suffix == ".py" and p.is_relative_to(ROOT/LIB)}):
            if "__pycache__" in f.parts: continue
            if not (ROOT/f).exists(): problem(f, "would be made by nbdev_export but is not committed")
            elif not (copy/f).exists(): problem(f, "no notebook exports it")
            elif not filecmp.cmp(ROOT/f, copy/f, shallow=False): problem(f, "not clean: run nbdev_clean" if f.suffix == ".ipynb" else "differs from its notebook: run nbdev_export or nbdev_update")

def check_notebooks(files):
    "Numbers are topological, module names unique, systems independent, outputs present and small."
    seen, number_of = {}, {}
    books = [f for f in files if f.suffix == ".ipynb"]
    for f in books:
        exp = [m[1] for s in sources(json.loads(f.read_text())) for m in [re.search(r"^#\|\s*default_exp\s+(\S+)", s, re.M)] if m]
        for name in exp:
            if name in seen: problem(f.name, f"exports '{name}' as does {seen[name]}")
            seen[name] = f.name; number_of[name] = number(f)
            want = re.sub(r"^\d+_", "", f.stem)
            if name != want: problem(f.name, f"exports '{name}', its name says '{want}'")
    for f in books:
        nb = json.loads(f.read_text())
        if f.stat().st_size > NOTEBOOK_KB*1024: problem(f.relative_to(ROOT), f"{f.stat().st_size//1024} KB, more than {NOTEBOOK_KB}: make its figures smaller")
        if any(o.get("output_type") == "error" for c in nb["cells"] for o in c.get("outputs", [])): problem(f.relative_to(ROOT), "an error is among its outputs")
        code = [c for c in nb["cells"] if c["cell_type"] == "code"]
        if code and not any(c.get("execution_count") or c.get("outputs") for c in code): problem(f.relative_to(ROOT), "was never executed")
        own = number(f)
        for s in sources(nb):
            if f.parent.name in ("tutorials", "experiments") and re.search(r"^#\|\s*exports?\b", s, re.M): problem(f.relative_to(ROOT), "tutorials and experiments export nothing")
            for m in re.finditer(rf"^\s*(?:from|import)\s+{LIB}\.([\w.]+)", s, re.M):
                n = number_of.get(m[1])
                exported = re.search(r"^#\|\s*exports?\b", s, re.M)
                if own is not None and n is not None and (n > own or (exported and n == own)): problem(f.name, f"imports {m[1]}, which comes later ({n})")
    systems = ("models.iad_unify", "models.diffuse_defect", "models.vmad")
    for a in systems:
        p = ROOT/LIB/(a.replace(".", "/") + ".py")
        for b in systems:
            if a != b and p.exists() and f"{LIB}.{b}" in p.read_text(): problem(p.relative_to(ROOT), f"imports {b}: systems do not import one another")

def check_modules(files):
    "Every module imports and has no syntax that only a notebook has."
    for f in sorted(p for p in files if p.suffix == ".py" and p.is_relative_to(ROOT/LIB)):
        name = ".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        try: ast.parse(f.read_text()); importlib.import_module(name)
        except Exception as e: problem(f.relative_to(ROOT), f"does not import: {type(e).__name__}: {e}")

def check_text(files):
    for f in files:
        if f.stat().st_size > FILE_MB*1e6: problem(f.relative_to(ROOT), f"{f.stat().st_size/1e6:.1f} MB, more than {FILE_MB}")
        if f.suffix in (".ipynb", ".py", ".md", ".yml", ".ini", ".txt", "") and f.stat().st_size < 3e6:
            for i, line in enumerate(f.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                if re.match(r'^\s*"?(<{7}|>{7}|={7})(\s|$|\\n)', line): problem(f"{f.relative_to(ROOT)}:{i}", "conflict marker")

def check_made():
    "README and licences are what their sources say."
    sys.path[:0] = [str(ROOT/"tools"), str(ROOT)]
    import licences, readme
    for tool, source in ((readme, "nbs/index.ipynb says: run make readme"), (licences, "the readers say: run make export")):
        with tempfile.TemporaryDirectory() as d:
            tool.build(Path(d))
            for p in sorted(q.relative_to(d) for q in Path(d).rglob("*") if q.is_file()):
                if not (ROOT/p).exists() or (ROOT/p).read_bytes() != (Path(d)/p).read_bytes(): problem(p, f"is not what {source}")

def check_sidebar(files):
    "The documentation lists every notebook once."
    listed = re.findall(r"^\s*- (\S+\.ipynb)\s*$", (ROOT/"_quarto.yml").read_text(), re.M)
    books = {f.relative_to(ROOT).as_posix() for f in files if f.suffix == ".ipynb"}
    for b in sorted(books ^ set(listed)): problem("_quarto.yml", f"its sidebar {'lacks' if b in books else 'lists, but there is not,'} {b}")
    for b in {b for b in listed if listed.count(b) > 1}: problem("_quarto.yml", f"its sidebar lists {b} twice")

def check_cards(files):
    "Every shipped model says how it was made, what was measured, its limits, its use and its licence."
    for f in files:
        if f.name == "README.md" and f.parent.parent == ROOT/LIB/"snapshots":
            for part in ("Made", "Measured", "Limits", "Intended use", "Use", "Licence"):
                if f"\n## {part}\n" not in f.read_text(): problem(f.relative_to(ROOT), f"the card has no section '{part}'")

if __name__ == "__main__":
    files = tracked()
    check_exports(files); check_notebooks(files); check_text(files); check_modules(files); check_made(); check_sidebar(files); check_cards(files)
    print("\n".join(problems) if problems else f"check: {len(files)} files in order")
    sys.exit(bool(problems))
