"""README.md from nbs/index.ipynb, without Quarto. Usage: python tools/readme.py [OUT]"""
import re, sys
from pathlib import Path
import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parent.parent

def build(out):
    "Write OUT/README.md and its figures in OUT/README_files/."
    nb = nbformat.read(ROOT/"nbs"/"index.ipynb", as_version=4)
    cells = []
    for c in nb.cells:
        directives = re.findall(r"^#\|\s*(\w+)", c.source, flags=re.M) if c.cell_type == "code" else []
        if c.cell_type == "raw" or "hide" in directives or "default_exp" in directives: continue
        if "echo" in directives: c.source = ""                    # `#| echo: false` keeps the output only
        if c.cell_type == "code": c.source = re.sub(r"^#\|.*\n?", "", c.source, flags=re.M)
        if c.source.strip() or c.get("outputs"): cells.append(c)
    nb.cells = cells
    nb.metadata["language_info"] = {"name": "python"}
    body, res = MarkdownExporter().from_notebook_node(nb)
    for i, (name, data) in enumerate(sorted(res["outputs"].items())):
        figure = Path("README_files")/f"figure_{i}{Path(name).suffix}"
        (out/figure).parent.mkdir(exist_ok=True); (out/figure).write_bytes(data)
        body = body.replace(f"]({name})", f"]({figure.as_posix()})")
    body = re.sub(r"```python\s*```\n?", "", body)
    (out/"README.md").write_text("<!-- Made from nbs/index.ipynb by `make readme`; edit the notebook. -->\n\n" + re.sub(r"\n{3,}", "\n\n", body).strip() + "\n", encoding="utf-8")

if __name__ == "__main__": build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
