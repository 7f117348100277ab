"""The documentation as plain pages: they open from disk, search without a server, and load nothing from outside. Usage: python tools/site.py [OUT [WORD...]]; with words, only the pages whose source holds one"""
import ast, base64, hashlib, html, io, json, os, re, sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from configparser import ConfigParser
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit
import nbformat, yaml

ROOT = Path(__file__).resolve().parent.parent
LIB = "iad_nb"
HERE = Path(__file__).parent/"pages"                                         # style.css, site.js

@dataclass
class Page:
    "A page of the site."
    source: str                  # path in the project, or a module's name
    url: str                     # below the site's root
    section: str
    title: str = ""
    subtitle: str = ""
    body: str = ""
    parts: list = field(default_factory=list)          # [(anchor, heading, level, text)]: what is searched

# Sources ---------------------------------------------------------------------------------------------------------------------------

def pages_of():
    "The pages of the sidebar of _quarto.yml, in its order, and one for each module."
    sidebar = yaml.safe_load((ROOT/"_quarto.yml").read_text(encoding="utf-8"))["website"]["sidebar"]["contents"]
    pages = [Page(s, url_of(s), part["section"]) for part in sidebar for s in part["contents"] if (ROOT/s).exists()]
    modules = sorted(p for p in (ROOT/LIB).rglob("*.py") if not p.name.startswith("_") and p.stat().st_size)
    return pages + [Page(p.relative_to(ROOT).as_posix(), f"api/{'.'.join(p.relative_to(ROOT/LIB).with_suffix('').parts)}.html", "API") for p in modules]

def url_of(source):
    if source == "nbs/index.ipynb": return "index.html"
    if source.endswith("README.md"): return f"models/{Path(source).parent.name}.html"
    return Path(source).with_suffix(".html").as_posix()

# Notebooks and texts -----------------------------------------------------------------------------------------------------------------

def formula(tex, block=False):
    "A formula as an image of its own (matplotlib's mathtext), or as readable TeX if that does not know it."
    import matplotlib
    from matplotlib.mathtext import math_to_image
    matplotlib.rcParams.update({"svg.hashsalt": "iad_nb", "savefig.transparent": True})
    plain = re.sub(r"\\t?frac\s*([A-Za-z\d])\s*([A-Za-z\d])", r"\\frac{\1}{\2}", re.sub(r"\\t?frac\s*([A-Za-z\d])\s*\{", r"\\frac{\1}{", tex)).replace(r"\tfrac", r"\frac")
    plain = re.sub(r"\\([lg])e(?![a-z])", r"\\\1eq", re.sub(r"\\[bB]ig[lr]?(?![a-z])", "", plain))
    try: svg = io.BytesIO(); depth = math_to_image(f"${' '.join(plain.split())}$", svg, dpi=72, format="svg")
    except ValueError: return f'<code class="tex">{html.escape(tex)}</code>'
    height = float(re.search(rb'height="([\d.]+)pt"', svg.getvalue())[1])
    image = f'<img class="formula" alt="{html.escape(tex, quote=True)}" style="height:{height/10:.2f}em;vertical-align:{-depth/10:.2f}em" src="data:image/svg+xml;base64,{base64.b64encode(svg.getvalue()).decode()}">'
    return f'<div class="formula">{image}</div>' if block else image

def without_formulas(text, kept):
    "Markdown in which formulas outside code are replaced by words; `kept` takes them."
    def keep(m):
        if not (m["block"] or m["inline"]): return m[0]                      # code
        kept.append((m["block"] or m["inline"], bool(m["block"])))
        return f"FORMULA{len(kept) - 1}X"
    return re.sub(r"```.*?```|`[^`\n]*`|\$\$(?P<block>.+?)\$\$|(?<![\\$\w])\$(?P<inline>[^$\s](?:[^$\n]*[^$\s])?)\$(?!\d)", keep, text, flags=re.S)

def convert(path):
    "The body of a notebook's or a Markdown file's page, by nbconvert's HTML exporter."
    from nbconvert import HTMLExporter
    if path.endswith(".md"): nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(re.sub(r"\A---\n.*?\n---\n", "", (ROOT/path).read_text(encoding="utf-8"), flags=re.S))])
    else: nb = nbformat.read(ROOT/path, 4)
    cells, kept = [], []
    for c in nb.cells:
        if c.cell_type == "markdown": c.source = without_formulas(c.source, kept)
        elif c.cell_type == "code":
            said = re.findall(r"^#\|\s*(\w+)", c.source, re.M)
            if {"hide", "default_exp"} & set(said): continue
            c.metadata["tags"] = [*c.metadata.get("tags", []), *["exported"]*("export" in said or "exports" in said), *["silent"]*("echo" in said)]          # the template makes classes of them
            c.source = re.sub(r"^#\|.*\n?", "", c.source, flags=re.M)
            for o in c.get("outputs", []):
                if o.get("data"): o.data.pop("application/vnd.jupyter.widget-view+json", None)
            if not c.source.strip() and not c.get("outputs"): continue
        cells.append(c)
    nb.cells = cells
    nb.metadata["language_info"] = {"name": "python"}
    nb.metadata.pop("widgets", None)
    body, _ = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True).from_notebook_node(nb)
    body = body.replace('alt="No description has been provided for this image"', 'alt="figure" loading="lazy"')
    return re.sub(r"(<p>\s*)?FORMULA(\d+)X(\s*</p>)?", lambda m: formula(*kept[int(m[2])]) if kept[int(m[2])][1] else f"{m[1] or ''}{formula(*kept[int(m[2])])}{m[3] or ''}", body)

# Modules -----------------------------------------------------------------------------------------------------------------------------

def code(text):
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer
    return highlight(text, PythonLexer(), HtmlFormatter())

def docstring(node):
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(ast.get_docstring(node) or "", quote=False))
    return f'<p class="doc">{text}</p>' if text else ""

def signature(node, lines):
    "The head of a definition as it is written, with the comments that explain its parameters."
    start, stop = node.lineno - 1, node.body[0].lineno - 1
    last = lines[stop].encode()[:node.body[0].col_offset].decode()            # what stands before the body on its line
    return "\n".join(line[node.col_offset:].rstrip() for line in [*lines[start:stop], *[last]*bool(last.strip())])

def module(path):
    "The body of a module's page: signatures and docstrings of all public definitions, in the order of their notebook."
    text = (ROOT/path).read_text(encoding="utf-8")
    lines, tree, cell, marks = text.splitlines(), ast.parse(text), {}, {}
    for i, line in enumerate(lines, 1):
        if m := re.match(r"# %% (\S+\.ipynb) #(\S+)", line): marks[i] = ((ROOT/path).parent/m[1]).resolve().relative_to(ROOT).as_posix(), m[2]
    name = ".".join(Path(path).with_suffix("").parts)
    notebook = next((m[0] for m in marks.values()), None)
    here = lambda node: next((f'<a class="source" href="/{m[0]}#cell-id={m[1]}">in the notebook</a>' for i, m in reversed(marks.items()) if i < node.lineno), "")
    out = [f"<h1>{name}</h1>{docstring(tree)}" + (f'<p class="small">Exported from <a href="/{notebook}">{notebook}</a>.</p>' if notebook else "")]
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            out.append(f'<section class="definition"><h2 id="{node.name}">{node.name}{here(node)}</h2>')
            if isinstance(node, ast.FunctionDef): out.append(code(signature(node, lines)) + docstring(node))
            else:
                methods = [n for n in node.body if isinstance(n, ast.FunctionDef) and (not n.name.startswith("_") or n.name == "__init__")]
                fields = [n for n in node.body if isinstance(n, ast.AnnAssign)]
                head = "\n".join([signature(node, lines), *(lines[n.lineno - 1] for n in fields)])
                out.append(code(head) + docstring(node) + "".join(f'<div class="method">{code(signature(n, lines))}{docstring(n)}</div>' for n in methods))
            out.append("</section>")
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper():
            line = lines[node.lineno - 1]
            out.append(f'<section class="definition"><h2 id="{node.targets[0].id}">{node.targets[0].id}{here(node)}</h2>{code(line if len(line) < 300 and node.end_lineno == node.lineno else line[:300] + " …")}</section>')
    return "\n".join(out)

def render(page):
    "(body, title, subtitle, parts) of a page."
    body = module(page.source) if page.section == "API" else convert(page.source)
    reader = Reader(); reader.feed(body); reader.close()
    return body, reader.title, reader.subtitle, reader.parts

class Reader(HTMLParser):
    "Title, subtitle and the texts under each heading; code is searched by the names that it defines."
    def __init__(self):
        super().__init__(); self.parts, self.title, self.subtitle, self.text, self.quoted, self.level, self.skip, self.pre, self.code, self.depth, self.output, self.hidden = [], "", "", [], False, 0, 0, 0, [], 0, None, False
        self.anchor = self.heading = ""
    def close_part(self):
        words = " ".join("".join(self.text).split())
        if words or self.heading: self.parts.append((self.anchor, self.heading.strip(), self.at if self.heading else 1, words))
        self.text = []
    at = 1
    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "div":                                                     # what a cell printed is not searched
            self.depth += 1
            if attrs.get("class") == "output_wrapper" and self.output is None: self.output = self.depth
        if tag in ("style", "script"): self.hidden = True
        if re.fullmatch("h[1-3]", tag): self.close_part(); self.level, self.anchor, self.heading, self.at = int(tag[1]), attrs.get("id") or "", "", int(tag[1])
        if tag == "a" and attrs.get("class") in ("anchor-link", "source"): self.skip += 1
        elif self.skip and tag == "a": self.skip += 1
        if tag == "pre": self.pre += 1; self.code = []
        self.quoted = self.quoted or (tag == "blockquote" and not self.subtitle and len(self.parts) < 2)
        if tag in ("p", "li", "td", "th", "br", "div"): self.text.append(" ")
        if tag == "img" and attrs.get("class") == "formula": self.handle_data(attrs["alt"])
    def handle_endtag(self, tag):
        if re.fullmatch("h[1-3]", tag): self.title = self.title or self.heading.strip(); self.level = 0
        if tag == "div":
            if self.output == self.depth: self.output = None
            self.depth -= 1
        if tag in ("style", "script"): self.hidden = False
        if tag == "a" and self.skip: self.skip -= 1
        if tag == "blockquote" and self.quoted: self.subtitle, self.quoted = " ".join(self.subtitle.split()), False
        if tag == "pre": self.pre -= 1; self.text.append(" ".join(["", *re.findall(r"^(?:def|class) \w+", "".join(self.code), re.M), ""]))
    def handle_data(self, data):
        if self.skip or self.hidden or self.output is not None: return
        if self.level: self.heading += data
        elif self.pre: self.code.append(data)
        else:
            self.text.append(data)
            if self.quoted: self.subtitle += data
    def close(self): super().close(); self.close_part()

# The site ----------------------------------------------------------------------------------------------------------------------------

def relative(url, page): return os.path.relpath(url, Path(page.url).parent.as_posix() or ".").replace(os.sep, "/")

def linked(page, by_source, symbols, git):
    "The body with links to notebooks, texts and files as links within the site, or into the repository; names in prose lead to their definition."
    here = Path(".") if page.section == "API" or page.source == "nbs/index.ipynb" else Path(page.source).parent          # the index is the README, too: its links start at the root
    def target(m):
        url = urlsplit(html.unescape(m[2]))
        if url.scheme or url.netloc or not url.path: return m[0]
        place = os.path.normpath(url.path.lstrip("/") if url.path.startswith("/") else here/unquote(url.path)).replace(os.sep, "/")
        to = relative(by_source[place], page) if place in by_source else f"{git}/blob/main/{place}" if (ROOT/place).exists() else m[2]
        return f'{m[1]}{html.escape(to, quote=True)}{"#" + url.fragment if url.fragment else ""}"'
    body = re.sub(r'(<a\b[^>]*?\bhref=")([^"]*)"', target, page.body)
    if page.section == "API": return body
    def name(m):                                                             # what could be a word like any other is left alone
        known = m[1] in symbols and (m[2] or re.search(r"[_/]|[a-z][A-Z]|^[A-Z]+[a-z]", m[1]))
        return f'<a class="name" href="{relative(symbols[m[1]], page)}">{m[0]}</a>' if known else m[0]
    return "".join(part if part.startswith(("<pre", "<a ")) else re.sub(r"<code>([\w./]+?)(\(\))?</code>", name, part) for part in re.split(r"(<pre.*?</pre>|<a .*?</a>)", body, flags=re.S))

def document(page, pages, body, about):
    "The complete page."
    root = relative(".", page) + "/"
    sections = dict.fromkeys(p.section for p in pages)
    def item(p): return f'<li><a href="{relative(p.url, page)}"{" aria-current=page" if p is page else ""}>{html.escape(p.title)}</a></li>'
    nav = "".join(f'<details{" open" if s == page.section else ""}><summary>{s}</summary><ul>{"".join(item(p) for p in pages if p.section == s)}</ul></details>' for s in sections)
    i = pages.index(page)
    step = lambda p, rel, sign: f'<a rel="{rel}" href="{relative(p.url, page)}">{sign.format(html.escape(p.title))}</a>' if p else "<span></span>"
    steps = step(pages[i - 1] if i else None, "prev", "← {}") + step(pages[i + 1] if i + 1 < len(pages) else None, "next", "{} →")
    heads = [(a, h, l) for a, h, l, _ in page.parts if h and l > 1 and a]
    toc = f'<aside><b>On this page</b>{"".join(f"""<a class="level{l}" href="#{html.escape(a, quote=True)}">{html.escape(h)}</a>""" for a, h, l in heads)}</aside>' if len(heads) > 1 else "<aside></aside>"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>{html.escape(page.title)} · {about["title"]}</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="{root}style.css"></head><body data-root="{root}">
<header><button id="menu" aria-label="pages">☰</button><a class="home" href="{root}index.html">{about["title"]}</a><div id="search"><input id="find" type="search" placeholder="Search (press /)" aria-label="search" autocomplete="off"><div id="found"></div></div><a class="git" href="{about["git"]}">Repository</a></header>
<div id="page"><nav>{nav}</nav><main>{body}<div class="steps">{steps}</div>
<footer>{about["title"]} {about["version"]}, Apache-2.0. Made from <a href="{about["git"]}/blob/main/{page.source}">{page.source}</a>.</footer></main>{toc}</div>
<script src="{root}site.js"></script></body></html>
"""

def overview(pages, page):
    "All pages as cards, for the index."
    card = lambda p: f'<a class="card" href="{relative(p.url, page)}"><b>{html.escape(p.title)}</b><span>{html.escape(p.subtitle)}</span></a>'
    return "<h2 id='all-pages'>All pages</h2>" + "".join(f'<h3>{s}</h3><div class="cards">{"".join(card(p) for p in pages if p.section == s and p is not page)}</div>' for s in dict.fromkeys(p.section for p in pages))

def style():
    "The style sheet, with the colours of code for light and dark."
    from pygments.formatters import HtmlFormatter
    light, dark = (HtmlFormatter(style=s).get_style_defs(".highlight") for s in ("default", "github-dark"))
    return f"{(HERE/'style.css').read_text(encoding='utf-8')}\n{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n.highlight {{ background: none }}\n"

def build(out, only=None):
    "Write the site to `out`; returns its pages. `only`: words of which a source must hold one, for a part of the site."
    out = Path(out); cache = out/".cache"
    ini = ConfigParser(); ini.read(ROOT/"settings.ini", encoding="utf-8"); cfg = ini["DEFAULT"]
    about = dict(title=cfg["title"], version=cfg["version"], git=cfg["git_url"])
    pages = [p for p in pages_of() if only is None or any(w in p.source for w in only)]
    ours = cache.is_dir(); cache.mkdir(parents=True, exist_ok=True)
    tool = Path(__file__).read_bytes()
    keys = [cache/(hashlib.sha256(tool + p.source.encode() + (ROOT/p.source).read_bytes()).hexdigest()[:24] + ".json") for p in pages]
    todo = [(p, k) for p, k in zip(pages, keys) if not k.exists()]
    with ProcessPoolExecutor(min(len(todo), os.cpu_count() or 1) or 1) as ex:
        for (p, k), found in zip(todo, ex.map(render, [p for p, _ in todo])): k.write_text(json.dumps(found), encoding="utf-8")
    for p, k in zip(pages, keys): p.body, p.title, p.subtitle, p.parts = json.loads(k.read_text(encoding="utf-8"))
    for p in pages:
        if p.section == "API": p.title = p.title.removeprefix(f"{LIB}."); p.subtitle = p.parts[0][3].split(" Exported from ")[0]
        if p.source == "nbs/index.ipynb": p.title = "Overview"
    by_source = {p.source: p.url for p in pages}
    defined = [(h, f"{p.url}#{a}") for p in pages if p.section == "API" for a, h, l, _ in p.parts if l == 2]
    times = Counter(h for h, _ in defined)
    symbols = {h: u for h, u in defined if times[h] == 1} | {name: p.url for p in pages if p.source.endswith(".ipynb") for name in (Path(p.source).stem, p.source.removesuffix(".ipynb"), p.source)}
    written = set()
    for p in pages:
        body = linked(p, by_source, symbols, about["git"])
        if p.url == "index.html": body += overview(pages, p)
        place = out/p.url; place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(document(p, pages, body, about), encoding="utf-8"); written.add(place)
    index = [dict(t=p.title, s=p.section, h="" if h == p.parts[0][1] and i < 2 else h, u=f"{p.url}#{a}" if a and l > 1 else p.url, x=x) for p in pages for i, (a, h, l, x) in enumerate(p.parts)]
    (out/"style.css").write_text(style(), encoding="utf-8")
    (out/"index.js").write_text("window.INDEX = " + json.dumps(index, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/") + ";\n", encoding="utf-8")
    (out/"site.js").write_text((HERE/"site.js").read_text(encoding="utf-8"), encoding="utf-8")
    if ours and only is None:                                                # pages and bodies of sources that are gone
        for f in [*(f for f in out.rglob("*.html") if f not in written), *(f for f in cache.glob("*.json") if f not in keys)]: f.unlink()
    return pages

if __name__ == "__main__":
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT/"_docs"
    pages = build(out, sys.argv[2:] or None)
    print(f"{len(pages)} pages: {out/'index.html'}")
