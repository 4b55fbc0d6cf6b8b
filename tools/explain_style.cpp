// Style sheet of the page that `wattle explain --html` writes; both themes.
#include "tools/explain_page.h"

namespace wattle::cli::explain {

// Blue is forward, orange the gradient, violet the update, as in the phases of the reports; in
// tables blue is positive and red negative, told apart by the sign as well.
const std::string_view page_style = R"css(
:root{color-scheme:light dark;--bg:#fbfbfa;--fg:#1d2430;--soft:#5d6876;--line:#dde1e6;--card:#fff;
--sunk:#f1f3f5;--forward:#0067a8;--backward:#c4530a;--optimizer:#6f4fb3;--result:#0b7a55;
--plus:#2f86cc;--minus:#d0453a;--zero:#3f7fb8;--one:#e8933a;--shadow:0 1px 3px #1d243018}
@media (prefers-color-scheme:dark){:root{--bg:#12161b;--fg:#e5eaf0;--soft:#9aa6b3;--line:#333c47;
--card:#1b2128;--sunk:#232a33;--forward:#58b0ee;--backward:#f2935a;--optimizer:#b49cf0;
--result:#4cc79c;--plus:#3f97dd;--minus:#e0625a;--zero:#3d7fb5;--one:#d9873a;--shadow:none}}
*{box-sizing:border-box}
body{margin:0 auto;padding:18px 28px 40px;max-width:1400px;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,"DejaVu Sans",
sans-serif}
header{display:flex;flex-wrap:wrap;justify-content:space-between;align-items:center;gap:8px 24px}
h1{font-size:1.35rem;line-height:1.2;margin:0;letter-spacing:-.01em} h1+p{margin:2px 0 0}
h2{font-size:1.2rem;margin:0 0 2px} h3{font-size:.95rem;margin:18px 0 4px}
p{margin:6px 0} #subtitle,.soft,footer{color:var(--soft);font-size:.87rem}
nav{display:flex;align-items:center;gap:6px} #counter{min-width:6.5em;text-align:center;
font-variant-numeric:tabular-nums;color:var(--soft)}
button{font:inherit;color:var(--fg);background:var(--card);border:1px solid var(--line);
border-radius:8px;padding:6px 14px;cursor:pointer} button:hover:enabled{border-color:var(--soft)}
#next{background:var(--fg);color:var(--bg);border-color:var(--fg);font-weight:600}
button:disabled{opacity:.35;cursor:default}
:focus-visible{outline:2px solid var(--forward);outline-offset:2px}
#timeline{display:flex;gap:3px;margin:12px 0 4px}
#timeline button{flex:1;min-width:0;height:26px;padding:0 4px;border:0;border-radius:5px;
background:color-mix(in srgb,var(--c) 14%,var(--bg));color:var(--soft);font-size:.72rem;
white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
#timeline button.done{background:color-mix(in srgb,var(--c) 34%,var(--bg));color:var(--fg)}
#timeline button[aria-selected=true]{background:var(--c);color:var(--bg);font-weight:700}
.forward{--c:var(--forward)}.backward{--c:var(--backward)}.optimizer{--c:var(--optimizer)}
.result,.intro{--c:var(--result)}
#graph{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:6px 10px;
box-shadow:var(--shadow)}
svg{display:block;width:100%;height:auto} svg text{font-family:inherit;fill:var(--fg)}
#graph text{text-anchor:middle} #graph .t-left{text-anchor:start} .t-op{font-size:16px;
font-weight:650} .t-eq{font-size:12px}
.t-small{font-size:11.5px;fill:var(--soft)!important} .t-name{font-size:12.5px;font-weight:600}
.t-grad{font-size:11.5px;font-weight:600;fill:var(--backward)!important}
.node rect{fill:var(--card);stroke:var(--line);stroke-width:1.5} .node{cursor:pointer}
.node.leaf{cursor:default} .node.leaf rect{fill:var(--sunk)}
.node.todo{opacity:.45} .node.done rect{stroke:var(--forward)}
.node.passed rect{stroke:var(--backward)} .node.leaf.updated rect{stroke:var(--optimizer)}
.node.now rect{stroke:var(--c);stroke-width:3;fill:color-mix(in srgb,var(--c) 13%,var(--card))}
.edge{fill:none;stroke:var(--line);stroke-width:2}
.edge.done{stroke:color-mix(in srgb,var(--forward) 55%,var(--line))}
.edge.now{stroke:var(--forward);stroke-width:3.2;stroke-dasharray:8 6;
animation:flow .7s linear infinite}
.edge.grad{stroke:var(--backward);stroke-width:3.2;stroke-dasharray:8 6;
animation:flow .7s linear infinite}
.edge.passed{stroke:color-mix(in srgb,var(--backward) 60%,var(--line))}
.arrow{fill:context-stroke} @keyframes flow{to{stroke-dashoffset:-14}}
@media (prefers-reduced-motion:reduce){.edge{animation:none!important}}
main{display:grid;grid-template-columns:minmax(0,1fr) 370px;gap:18px;margin-top:14px}
@media (max-width:1000px){main{grid-template-columns:minmax(0,1fr)}}
.card,#panel{background:var(--card);border:1px solid var(--line);border-radius:12px;
padding:12px 18px 14px;box-shadow:var(--shadow)} .card+.card{margin-top:12px}
.card.view{padding:7px 18px;color:var(--soft);font-size:.87rem;box-shadow:none}
#panel{border-top:4px solid var(--c);align-self:start}
.tag{color:var(--c);font-weight:700;font-size:.78rem;letter-spacing:.05em;text-transform:uppercase}
code,.eq,.work{font-family:ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
code{font-size:.86em} .eq{font-size:.95rem;background:var(--sunk);border-radius:8px;
padding:7px 12px;margin:6px 0 8px;overflow-wrap:anywhere}
.cardhead{display:flex;flex-wrap:wrap;gap:2px 14px;align-items:baseline;margin-bottom:8px}
.cardhead b{font-size:1.02rem} .cardhead .cost{margin-left:auto;color:var(--soft);font-size:.8rem;
font-variant-numeric:tabular-nums}
.tables{display:flex;flex-wrap:wrap;gap:12px 16px;align-items:center}
.tables .sign{font-size:1.5rem;color:var(--soft)}
figure{margin:0} figcaption{font-size:.83rem;margin-bottom:4px} figcaption .soft{font-size:.78rem}
.saved{display:inline-block;font-size:.7rem;font-weight:600;border-radius:9px;padding:0 7px;
margin-left:5px;background:color-mix(in srgb,var(--backward) 16%,transparent);color:var(--backward)}
table.t{border-collapse:separate;border-spacing:2px;font-variant-numeric:tabular-nums}
table.t td{min-width:54px;padding:4px 6px;text-align:right;border-radius:4px;font-size:.82rem;
background:color-mix(in srgb,var(--h,transparent) calc(var(--a,0)*52%),var(--sunk))}
table.t.tall td{padding:2px 7px}
td.used{outline:2px solid var(--c)} td.pick{outline:3px solid var(--fg)}
table.out td{cursor:pointer}
.work{margin:10px 0;padding:8px 12px;border-left:4px solid var(--c);background:var(--sunk);
border-radius:0 8px 8px 0;font-size:.82rem;line-height:1.65;white-space:pre-wrap;
overflow-wrap:anywhere}
.flow{display:flex;flex-wrap:wrap;gap:4px 18px;align-items:flex-start} .flow>p{flex-basis:100%;
margin:4px 0 0}
.flow .sign{font-size:1.5rem;color:var(--soft);align-self:center}
.flow .tables{align-items:flex-start} .lead{font-weight:600;color:var(--c);margin:14px 0 6px}
.flow .lead{margin:0 0 4px}
dl{display:grid;grid-template-columns:auto 1fr;gap:2px 14px;margin:8px 0;font-size:.86rem;
font-variant-numeric:tabular-nums} dt{color:var(--soft)} dd{margin:0;text-align:right}
.bar{display:grid;grid-template-columns:76px 1fr 66px;gap:8px;align-items:center;font-size:.82rem;
margin:5px 0;font-variant-numeric:tabular-nums} .bar span:last-child{text-align:right}
.track{height:13px;border-radius:4px;background:var(--sunk);overflow:hidden;display:flex}
.track i{background:var(--c);transition:width .25s} .track i+i{opacity:.45}
.maps{display:flex;flex-wrap:wrap;gap:22px;align-items:flex-start} .maps figure{width:250px}
.maps .wide{flex:1;min-width:280px} .maps svg text{font-size:11px}
.scale{height:10px;border-radius:5px;background:linear-gradient(90deg in oklab,var(--zero),
var(--one))}
.point{stroke:var(--bg);stroke-width:2} .curve{fill:none;stroke:var(--result);stroke-width:2.5}
.axis{stroke:var(--line)} ul.plain{padding-left:20px;margin:6px 0} li{margin:3px 0}
table.list{border-collapse:collapse;font-size:.86rem;font-variant-numeric:tabular-nums}
table.list td,table.list th{padding:4px 14px 4px 0;text-align:right;
border-bottom:1px solid var(--line)}
table.list th{color:var(--soft);font-weight:600} table.left td,table.left th{text-align:left}
footer{margin-top:18px}
)css";

}  // namespace wattle::cli::explain
