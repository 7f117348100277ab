// Search over index.js, which is loaded when it is first needed; the menu of small screens.
"use strict";
const root = document.body.dataset.root, find = document.getElementById("find"), found = document.getElementById("found");
const escape = s => s.replace(/[&<>"]/g, c => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
let chosen = -1;

function load(then) {
  if (window.INDEX) return then();
  const s = document.createElement("script");
  s.src = root + "index.js"; s.onload = then; document.head.append(s);
}
function rank(entry, words) {                                    // 0: not found
  const title = entry.t.toLowerCase(), head = entry.h.toLowerCase(), text = entry.x.toLowerCase();
  let sum = 0;
  for (const w of words) {
    const score = (head === w ? 60 : head.startsWith(w) ? 25 : head.includes(w) ? 15 : 0) + (title === w ? 40 : title.includes(w) ? 12 : 0) + Math.min(5, text.split(w).length - 1);
    if (!score) return 0;
    sum += score;
  }
  return sum + (entry.h ? 0 : 1);
}
function snippet(text, words) {
  const low = text.toLowerCase(), at = Math.max(0, Math.min(...words.map(w => low.indexOf(w)).filter(i => i >= 0).concat(low.length ? [low.length] : [0])) - 60);
  const part = text.slice(at >= text.length ? 0 : at).slice(0, 180);
  const marks = new RegExp("(" + words.map(w => escape(w).replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|") + ")", "gi");
  return (at && at < text.length ? "…" : "") + escape(part).replace(marks, "<mark>$1</mark>");
}
function search() {
  const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
  chosen = -1;
  found.className = words.length ? "open" : "";
  if (!words.length) return;
  const hits = INDEX.map(e => [rank(e, words), e]).filter(h => h[0]).sort((a, b) => b[0] - a[0]).slice(0, 25);
  found.innerHTML = hits.map(([, e]) => `<a href="${root}${escape(e.u)}"><i>${escape(e.s)}</i><b>${escape(e.h || e.t)}</b>${e.h ? " · " + escape(e.t) : ""}<span>${snippet(e.x, words)}</span></a>`).join("") || "<p>Nothing found.</p>";
}
function choose(step) {
  const links = found.querySelectorAll("a");
  if (!links.length) return;
  chosen = (chosen + step + links.length) % links.length;
  links.forEach((a, i) => a.classList.toggle("chosen", i === chosen));
  links[chosen].scrollIntoView({ block: "nearest" });
}
find.addEventListener("input", () => load(search));
find.addEventListener("focus", () => load(() => { if (find.value) search(); }));
find.addEventListener("keydown", e => {
  if (e.key === "ArrowDown" || e.key === "ArrowUp") { e.preventDefault(); choose(e.key === "ArrowDown" ? 1 : -1); }
  else if (e.key === "Enter") { const a = found.querySelector("a.chosen") || found.querySelector("a"); if (a) location.href = a.href; }
  else if (e.key === "Escape") { find.blur(); found.className = ""; }
});
document.addEventListener("keydown", e => { if (e.key === "/" && !/INPUT|TEXTAREA/.test(e.target.tagName)) { e.preventDefault(); find.focus(); } });
document.addEventListener("click", e => { if (!e.target.closest("#search") || e.target.closest("#found a")) found.className = ""; });
document.getElementById("menu").onclick = () => document.body.classList.toggle("menu");
document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "center" });
