"""How the page looks: light and dark by the reader's setting, from 320 px up, on paper too. No colour says anything alone."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --sheet: #ffffff; --ink: #1b1f27; --soft: #5a6372; --line: #dfe3ea; --code: #eef1f5;
  --clean: #14703f; --drifted: #c2410c; --pending: #1d5fc4; --absent: #626b7a; --locked: #6d43b8;
  --error: #b4123b; --accepted: #626b7a;
  --wash: 9%;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12151b; --sheet: #1b2029; --ink: #e7eaf0; --soft: #9aa5b5; --line: #303845; --code: #262d38;
    --clean: #4cc38a; --drifted: #ff9457; --pending: #7ab2ff; --absent: #9aa5b5; --locked: #b99bf5;
    --error: #ff7d98; --accepted: #9aa5b5;
    --wash: 14%;
  }
}
.clean { --tone: var(--clean); } .drifted, .drift, .high { --tone: var(--drifted); } .pending { --tone: var(--pending); }
.not-deployed { --tone: var(--absent); } .locked { --tone: var(--locked); } .error { --tone: var(--error); }
.accepted, .medium, .low { --tone: var(--accepted); }
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif;
  overflow-wrap: anywhere;
}
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1, h2, h3 { line-height: 1.25; margin: 0; text-wrap: balance; }
h1 { font-size: 1.5rem; letter-spacing: -0.01em; }
h2 { font-size: 1.1rem; margin: 2.25rem 0 .75rem; }
h3 { font-size: .95rem; margin: 1.25rem 0 .5rem; color: var(--soft); font-weight: 600; }
p { margin: 0; }
a { color: inherit; }
code, .address, .change { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .88em; }
.soft { color: var(--soft); }
.sheet { background: var(--sheet); border: 1px solid var(--line); border-radius: 10px; }

header.sheet { padding: 1.25rem 1.4rem; border-left: 6px solid var(--tone); }
header .top { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center; margin-bottom: .6rem; }
header .headline { font-size: 1.05rem; max-width: 78ch; }
header .soft { margin-top: .5rem; font-size: .9rem; }
.badge {
  display: inline-flex; align-items: center; gap: .35em; padding: .1em .6em; border-radius: 99px; white-space: nowrap;
  font-size: .82rem; font-weight: 600; color: var(--tone); border: 1px solid currentColor;
  background: color-mix(in srgb, var(--tone) var(--wash), transparent);
}
h1 + .badge { font-size: .95rem; }

.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(7.5rem, 1fr)); gap: .6rem; margin: .8rem 0 0; }
.figures div { padding: .6rem .9rem; display: flex; flex-direction: column-reverse; justify-content: flex-end; }
.figures dt { font-size: .82rem; line-height: 1.3; color: var(--soft); }
.figures dd { margin: 0; font-size: 1.5rem; font-weight: 650; font-variant-numeric: tabular-nums; line-height: 1.2; }
.figures .some dd { color: var(--tone); }

.map { padding: .25rem 1.1rem; }
.map .row { display: grid; grid-template-columns: 7.5rem 1fr; gap: .3rem 1rem; padding: .8rem 0; }
.map .row + .row { border-top: 1px solid var(--line); }
.map .row > h3 { margin: .35rem 0 0; }
.map ul { list-style: none; margin: 0; padding: 0; }
.map ul { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .5rem; }
.box {
  border: 1px solid color-mix(in srgb, var(--tone) 45%, var(--line)); border-left: 4px solid var(--tone); border-radius: 7px;
  padding: .4rem .6rem; background: color-mix(in srgb, var(--tone) var(--wash), var(--sheet)); min-width: 0;
}
.box b { display: block; font-weight: 600; line-height: 1.3; }
.box.not-deployed, .box.locked { border-style: dashed; border-left-style: solid; }
.box em, .box small { display: block; font-size: .78rem; line-height: 1.4; }
.box em { font-style: normal; font-weight: 600; color: var(--tone); }
.box small { color: var(--soft); }

.finding { padding: .9rem 1.1rem; margin-bottom: .6rem; border-left: 4px solid var(--tone); }
.finding .head { display: flex; flex-wrap: wrap; gap: .3rem .6rem; align-items: baseline; }
.finding .address { font-weight: 600; font-size: .92rem; }
.finding .text { margin: .35rem 0 0; max-width: 75ch; }
.finding .facts { margin: .35rem 0 0; font-size: .85rem; color: var(--soft); }
.high .severity, .severity.high { color: var(--drifted); font-weight: 700; }
.severity { font-size: .82rem; color: var(--soft); font-weight: 600; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; }
th { text-align: left; font-weight: 600; color: var(--soft); }
th, td { padding: .35rem .7rem .35rem 0; border-top: 1px solid var(--line); vertical-align: top; }
thead th { border-top: 0; }
.changes { margin-top: .6rem; }
.changes thead th { width: 30%; font-weight: 400; }
.changes thead th:first-child { width: 40%; }
.changes tbody th { font-weight: 400; color: inherit; }
.changes .after { color: var(--tone); font-weight: 600; }
.remedies { margin: .6rem 0 0; padding: 0; list-style: none; font-size: .85rem; display: grid; gap: .3rem; }
code { background: var(--code); padding: .12em .4em; border-radius: 4px; }
details.sheet { padding: .7rem 1.1rem; margin-bottom: .6rem; }
summary { cursor: pointer; font-weight: 600; }
details ul { margin: .6rem 0 .2rem; padding-left: 1.1rem; }
details li { margin-bottom: .35rem; }
.problem { padding: .7rem 1.1rem; margin-bottom: .6rem; border-left: 4px solid var(--tone); }

.history { padding: .6rem 1.1rem .8rem; overflow-x: auto; }
.history td, .history th { white-space: nowrap; }
.history .number { text-align: right; font-variant-numeric: tabular-nums; }
.history tr:last-child { font-weight: 600; }
.history .bar { width: 35%; min-width: 5rem; padding-left: 1.2rem; }
.bar span { display: flex; height: .7rem; margin-top: .4rem; border-radius: 3px; overflow: hidden; }
.bar i { background: var(--tone); }
.bar i + i { margin-left: 1px; }
.bar i.pending { background: repeating-linear-gradient(135deg, var(--tone) 0 3px, transparent 3px 5px); }
footer { margin-top: 2.5rem; font-size: .82rem; color: var(--soft); }

@media (max-width: 36rem) {
  main { padding: .75rem .75rem 2rem; }
  header.sheet { padding: 1rem; }
  .map .row { grid-template-columns: 1fr; }
  .map ul { grid-template-columns: repeat(auto-fill, minmax(8.2rem, 1fr)); }
  .figures { grid-template-columns: repeat(auto-fit, minmax(6.2rem, 1fr)); }
  .history .wide { display: none; }
  .changes thead { position: absolute; clip-path: inset(50%); }
  .changes tr { display: block; border-top: 1px solid var(--line); padding: .35rem 0; }
  .changes th, .changes td { display: block; border: 0; padding: .05rem 0; }
  .changes td::before { content: attr(data-name) " "; font-family: system-ui, sans-serif; color: var(--soft); }
}
@media print { body { background: none; } .sheet { break-inside: avoid; } }
"""
