"""How runs look in a browser: one palette, light and dark, and the style of HTML. Nothing is fetched or has an id.

The colours say what a status means for the reader, in six tones. They follow the notebook's or editor's own theme where
there is one (JupyterLab's ``--jp-*`` and ``data-jp-theme-light``, VS Code's classes), else what the reader's system
prefers.
"""

from __future__ import annotations

LIGHT = {
    "fg": "#1c2024", "dim": "#60646c", "bg": "#ffffff", "soft": "#f4f5f7", "line": "#dcdfe4",
    "good": "#18794e", "bad": "#c4272e", "doubt": "#8a5a00", "busy": "#0b62c4", "back": "#6346c8", "calm": "#60646c",
}  # fmt: skip
DARK = {
    "fg": "#edeef0", "dim": "#a3a9b4", "bg": "#15171b", "soft": "#20242b", "line": "#3a3f48",
    "good": "#5bd69a", "bad": "#ff8589", "doubt": "#f3bd55", "busy": "#75b6ff", "back": "#b9a8ff", "calm": "#a3a9b4",
}  # fmt: skip

GLYPHS = {"+": "✓", "x": "✕", "~": "…", "-": "↶", "<": "↶", ">": "▸", "=": "‖"}
"""How the signs of plain text are drawn where there is more than ASCII; the others stay as they are."""


def themed(selector: str) -> str:
    """Return the rules that give *selector* the palette's colours, as variables that begin with ``--s-``."""

    def colours(palette: dict[str, str]) -> str:
        return ";".join(f"--s-{name}:{colour}" for name, colour in palette.items())

    light = f'[data-jp-theme-light="true"] {selector},body.vscode-light {selector}'
    dark = f'[data-jp-theme-light="false"] {selector},body.vscode-dark {selector}'
    return (
        f"{selector}{{{colours(LIGHT)}}}"
        f"@media (prefers-color-scheme:dark){{{selector}{{{colours(DARK)}}}}}"
        f"{light}{{{colours(LIGHT)}}}{dark}{{{colours(DARK)}}}"
    )


def tones(selector: str) -> str:
    """Return a rule for each tone that makes it the tone of *selector*."""
    names = ("good", "bad", "doubt", "busy", "back", "calm")
    return "".join(f"{selector}.s-{name}{{--s-tone:var(--s-{name})}}" for name in names)


ROOT = ".sagadsl"
RULES = """
.sagadsl{container-type:inline-size;max-width:64rem;margin:.25rem 0;
font:13px/1.5 var(--jp-ui-font-family,system-ui,sans-serif);color:var(--jp-content-font-color1,var(--s-fg))}
.sagadsl *{box-sizing:border-box}
.sagadsl code{font:12px/1.5 var(--jp-code-font-family,ui-monospace,Menlo,Consolas,monospace);color:inherit;
background:none;padding:0;border:0;overflow-wrap:anywhere}
.sagadsl .s-head{display:flex;flex-wrap:wrap;align-items:center;gap:.2rem .7rem;margin:0 0 .5rem}
.sagadsl .s-head b{font-size:15px}
.sagadsl .s-head code,.sagadsl .s-at,.sagadsl .s-notes,.sagadsl .s-dim{color:var(--jp-content-font-color2,var(--s-dim))}
.sagadsl .s-pill{color:var(--s-tone);background:color-mix(in srgb,var(--s-tone) 13%,transparent);
border-radius:1em;padding:.05rem .65rem;font-weight:600;white-space:nowrap}
.sagadsl dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.05rem .9rem;margin:0 0 .6rem;padding:0}
.sagadsl dt{margin:0;padding:0;width:auto;white-space:nowrap;font-weight:400;
color:var(--jp-content-font-color2,var(--s-dim))}
.sagadsl dd{margin:0;padding:0;overflow-wrap:anywhere}
.sagadsl .s-part{margin:.7rem 0 .15rem;font-weight:600}
.sagadsl .s-part small{font-size:13px;font-weight:400;color:var(--jp-content-font-color2,var(--s-dim))}
.sagadsl .s-rows{border-top:1px solid var(--jp-border-color2,var(--s-line))}
.sagadsl details,.sagadsl .s-row{margin:0;padding:0;border:0}
.sagadsl summary,.sagadsl .s-row{display:grid;align-items:start;gap:0 .7rem;padding:.22rem .2rem;list-style:none;
grid-template-columns:.5rem 1.1rem 3.4rem minmax(6rem,1.4fr) minmax(4rem,1fr) 8.6rem minmax(8rem,2.2fr);
border-bottom:1px solid var(--jp-border-color2,var(--s-line))}
.sagadsl summary{cursor:pointer}
.sagadsl summary::-webkit-details-marker{display:none}
.sagadsl summary::before,.sagadsl .s-row::before{content:"";font-size:.7em;line-height:2.1;
color:var(--jp-content-font-color2,var(--s-dim))}
.sagadsl summary::before{content:"▸"}
.sagadsl [open]>summary::before{content:"▾"}
.sagadsl summary:hover{background:var(--jp-layout-color2,var(--s-soft))}
.sagadsl summary:focus-visible{outline:2px solid var(--s-busy);outline-offset:-2px}
.sagadsl .s-sign{color:var(--s-tone);font-weight:700;text-align:center}
.sagadsl .s-at{font-variant-numeric:tabular-nums}
.sagadsl .s-name{font-weight:500;overflow-wrap:anywhere}
.sagadsl .s-words{color:var(--s-tone)}
.sagadsl .s-notes{overflow-wrap:anywhere}
.sagadsl .s-bar{position:relative;height:.5rem;margin-top:.42rem;border-radius:.25rem;
background:var(--jp-layout-color2,var(--s-soft))}
.sagadsl .s-bar i{position:absolute;top:0;bottom:0;min-width:3px;max-width:100%;border-radius:.25rem;
background:var(--s-tone)}
.sagadsl details dl{margin:0;padding:.35rem .5rem .45rem 6.9rem;background:var(--jp-layout-color2,var(--s-soft));
border-bottom:1px solid var(--jp-border-color2,var(--s-line))}
.sagadsl .s-gap{padding:.25rem .2rem .25rem 6.9rem;color:var(--jp-content-font-color2,var(--s-dim));
border-bottom:1px solid var(--jp-border-color2,var(--s-line))}
.sagadsl ol{margin:0;padding:0;list-style:none}
.sagadsl li{display:grid;grid-template-columns:1.6rem minmax(0,1fr);margin:0;padding:.1rem .2rem}
.sagadsl .s-now{margin:.8rem 0 0;padding:.45rem .8rem;border-left:3px solid var(--s-tone);border-radius:0 4px 4px 0;
background:color-mix(in srgb,var(--s-tone) 8%,transparent)}
.sagadsl .s-now dl{margin:.1rem 0 0}
.sagadsl .s-now code{user-select:all}
.sagadsl table{border-collapse:collapse;margin:0;font-size:13px}
.sagadsl th,.sagadsl td{padding:.22rem .9rem .22rem .2rem;text-align:left;vertical-align:top;background:none;
border:0;border-bottom:1px solid var(--jp-border-color2,var(--s-line));overflow-wrap:anywhere}
.sagadsl th{font-weight:600}
.sagadsl tr,.sagadsl th{background:none}
.sagadsl th,.sagadsl td code{white-space:nowrap}
.sagadsl td.s-state{color:var(--s-tone);font-weight:600}
.sagadsl td:not(:last-child){white-space:nowrap;max-width:20rem;overflow:hidden;text-overflow:ellipsis}
@container (max-width:36rem){.sagadsl summary,.sagadsl .s-row{
grid-template-columns:.5rem 1.1rem 3rem minmax(0,1fr) auto}
.sagadsl .s-bar{display:none}.sagadsl .s-notes{grid-column:4/-1}.sagadsl .s-notes:empty{display:none}
.sagadsl details dl,.sagadsl .s-gap{padding-left:1.4rem}}
"""

STYLE = f"<style>{themed('.sagadsl')}{tones('.sagadsl ')}{RULES.replace(chr(10), '').replace(ROOT, 2 * ROOT)}</style>"
"""The style of every fragment; it concerns nothing outside of an element of class ``sagadsl``.

The class is named twice, so that it counts for more than what a notebook says of any table, list or code.
"""

PAGE = f"""<style>{themed("body")}body{{margin:0 auto;padding:1.5rem;max-width:64rem;
background:var(--s-bg);color:var(--s-fg)}}.s-picture{{margin-top:1.5rem;overflow-x:auto}}
@media print{{body{{padding:0}}.sagadsl details{{break-inside:avoid}}}}</style>""".replace("\n", "")
"""The style of a page that shows one run."""
