"""DATA_LICENCES.md from what the readers know of their data sets. Usage: python tools/licences.py [OUT]"""
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

HEAD = """<!-- Made from the readers' own facts by tools/licences.py; edit the `source(...)` of a reader in nbs/16_data.formats or nbs/17_data.sources. -->

# Data and licences

| what | terms |
|---|---|
| code, notebooks, texts | Apache-2.0, see `LICENSE` |
| procedural images (`iad_nb.data.surface`) and what is made of them: pictures in the notebooks, pools, captions, questions | Apache-2.0; drawn by the code from a seed, no photograph is in them |
| shipped models (`iad_nb/snapshots`) | Apache-2.0; trained on procedural images alone, each says so in its card |
| public data sets | their owners'; **none is part of this repository**, neither a file nor a pixel of one in a notebook's outputs. Only figures measured on some of them are |

A manifest carries the terms of each row in its column `licence`, and a corpus built of several sets keeps them apart. A model trained on a set with a non-commercial or share-alike licence may have to follow it: name the set in the model's card.

## Data sets with a reader

You get them from their owners; `iad data list` prints them, `iad data check NAME FOLDER` compares what you have with the published counts. *As stated* repeats what the owners write and is no advice; what is **not stated** is not thereby permitted. Read their page before you use a set.
"""

FORMATS = """
## Formats with a reader

For files of your own: {}.
"""

def build(out):
    "Write OUT/DATA_LICENCES.md."
    from iad_nb.data.sources import SOURCES
    cell = lambda v: str(v).replace("|", "\\|")
    count = lambda s: "–" if s.images is None else f"{s.images:,}" + ("" if s.defective is None else f" ({s.defective:,})")
    sets = [s for s in SOURCES.values() if s.homepage]
    rows = [f"| `{s.name}` | [{cell(s.title)}](<{s.homepage}>) | {count(s)} | {cell(s.licence) or '**not stated**'} | {cell(s.citation) or '–'} |" for s in sets]
    table = "\n".join(["| name | data set | images (defective) | licence, as stated | cite |", "|---|---|---|---|---|", *rows])
    formats = ", ".join(f"`{s.name}` ({s.title})" for s in SOURCES.values() if not s.homepage)
    (out/"DATA_LICENCES.md").write_text(f"{HEAD}\n{table}\n{FORMATS.format(formats)}", encoding="utf-8")

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
