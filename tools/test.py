"""All tests: the fast check, every notebook in a fresh kernel, pytest. Ends with a line that counts. Usage: python tools/test.py [--only check|notebooks|pytest] [--slow] [NAME...]"""
import argparse, json, os, re, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
ENV = dict(os.environ, OMP_NUM_THREADS="1", TQDM_DISABLE="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", PYTHONWARNINGS="ignore")

def run(name, command, tail=40):
    "Run one test as a process: (name, passed, seconds, what to show)."
    t = time.time()
    r = subprocess.run(command, cwd=ROOT, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return name, r.returncode == 0, time.time() - t, "\n".join(r.stdout.splitlines()[-tail:]), r.stdout

def main():
    ap = argparse.ArgumentParser(); ap.add_argument("--only"); ap.add_argument("--slow", action="store_true"); ap.add_argument("names", nargs="*")
    a = ap.parse_args()
    passed = failed = skipped = 0
    def count(name, ok, seconds, text, n=1):
        nonlocal passed, failed
        passed, failed = passed + (n if ok else 0), failed + (0 if ok else 1)
        print(f"{'ok  ' if ok else 'FAIL'} {name} ({seconds:.0f} s)" + ("" if ok else f"\n{text}\n"), flush=True)

    if a.only in (None, "check"): count(*run("check", [sys.executable, "tools/check.py"])[:4])
    if a.only in (None, "notebooks"):
        books = sorted(p.relative_to(ROOT) for d in ("nbs", "nbs/experiments", "tutorials") for p in (ROOT/d).glob("*.ipynb"))
        books = [b for b in books if not a.names or any(n in b.name for n in a.names)]
        flags = ["--flags", "slow"] if a.slow else []
        one = lambda b: run(str(b), [BIN/"nbdev_test", "--path", str(b), "--n_workers", "0", *flags])
        with ThreadPoolExecutor(int(os.environ.get("IAD_TEST_JOBS", min(2, os.cpu_count() or 1)))) as ex:
            for r in ex.map(one, books): count(*r[:4])
    if a.only in (None, "pytest"):
        name, ok, seconds, text, full = run("pytest", [sys.executable, "-m", "pytest", "-q", "tests", *(["-k", " or ".join(a.names)] if a.names else [])], tail=80)
        n, s = (int(m[1]) if (m := re.search(rf"(\d+) {w}", full)) else 0 for w in ("passed", "skipped"))
        skipped += s
        if ok or n: passed += n
        if not ok: failed += int(m[1]) if (m := re.search(r"(\d+) failed", full)) else 1
        print(f"{'ok  ' if ok else 'FAIL'} pytest ({seconds:.0f} s)" + ("" if ok else f"\n{text}\n"), flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return bool(failed)

if __name__ == "__main__": sys.exit(main())
