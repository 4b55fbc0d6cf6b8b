// Style sheet and the one small script of report.html.
#include "green/report_parts.h"

namespace wattle::green::report {

// Layer types: the palette of Okabe and Ito (2008), made to be told apart with any colour vision,
// plus two greys and a violet; hues keep their meaning in both themes.
const std::string_view css = R"(
:root{color-scheme:light dark;--bg:#fff;--fg:#1d2430;--soft:#5b6675;--line:#d9dee5;--card:#f6f8fa;
--accent:#0b6e4f;--warn:#8a4b00;--warnbg:#fff4e3;
--conv:#0072b2;--linear:#e69f00;--relu:#009e73;--batch_norm:#cc79a7;--pool:#56b4e9;--loss:#d55e00;
--optimizer:#7a68ae;--data:#7d8794;--other:#b9c0c9;--n1:#0072b2;--n4:#d55e00;--dense:#6c7683}
@media (prefers-color-scheme:dark){:root{--bg:#14181e;--fg:#e4e9ef;--soft:#9aa6b4;--line:#333c47;
--card:#1c222a;--accent:#4cc79c;--warn:#f0b76a;--warnbg:#33281a;
--conv:#3a9bd9;--linear:#f0b432;--relu:#2bbd92;--batch_norm:#da93bb;--pool:#7cc7f2;--loss:#e8772e;
--optimizer:#9d8ed0;--data:#8f99a6;--other:#5d6773;--n1:#4ea9e3;--n4:#ee8347;--dense:#98a3b0}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,"DejaVu Sans",
sans-serif}
main{max-width:1128px;margin:0 auto;padding:36px 24px 72px}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 6px;letter-spacing:-.01em}
h2{font-size:1.3rem;margin:52px 0 6px;padding-top:18px;border-top:1px solid var(--line)}
h3{font-size:1.02rem;margin:24px 0 4px}
p{margin:8px 0;max-width:78ch} .sub{color:var(--soft);margin:0 0 20px}
.note{color:var(--soft);font-size:.89rem}
ol.findings{padding:6px 0;margin:20px 0 0;list-style:none;counter-reset:f}
ol.findings li{counter-increment:f;position:relative;padding:10px 0 10px 44px;max-width:96ch}
ol.findings li::before{content:counter(f);position:absolute;left:0;top:11px;width:28px;height:28px;
border-radius:50%;background:var(--accent);color:var(--bg);font-weight:600;font-size:.85rem;
display:grid;place-items:center}
ol.findings b:first-child{display:block}
.box{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 20px;
margin:18px 0}
.box p,.box li{max-width:90ch}
.box.warn{background:var(--warnbg);border-color:var(--warn)}
.box h2,.box h3{border:0;padding:0;margin:6px 0} .box ul{margin:6px 0;padding-left:20px}
figure{margin:16px 0} .pair{display:grid;grid-template-columns:1fr 1fr;gap:20px}
@media (max-width:860px){.pair{grid-template-columns:1fr}}
svg{display:block;width:100%;height:auto;overflow:visible}
svg text{font-family:inherit;fill:var(--fg)}
.tick,.value,.rowlabel,.ptlabel,.axis-title{font-size:12px}
.tick,.axis-title{fill:var(--soft)!important} .value{font-size:11.5px;
font-variant-numeric:tabular-nums}
.rowlabel{font-size:13px} .panel-title{font-size:14px;font-weight:600}
.mid{text-anchor:middle} .end{text-anchor:end} .strong{font-weight:700}
.grid{stroke:var(--line);stroke-width:1} .axis{stroke:var(--soft);stroke-width:1}
.seg{stroke:var(--bg);stroke-width:.7}
.t-conv{fill:var(--conv)}.t-linear{fill:var(--linear)}.t-relu{fill:var(--relu)}
.t-batch_norm{fill:var(--batch_norm)}.t-pool{fill:var(--pool)}.t-loss{fill:var(--loss)}
.t-optimizer,.p-optimizer{fill:var(--optimizer)}.t-data,.p-data{fill:var(--data)}
.t-other{fill:var(--other)}
.p-forward{fill:#7cc4ad}.p-backward{fill:#23806a}
.mark{stroke-width:2.2}
.n1{stroke:var(--n1);fill:var(--n1)}.n4{stroke:var(--n4);fill:var(--n4)}
.dense{stroke:var(--dense);fill:var(--dense)}
.hollow{fill:var(--bg)} .error{stroke-width:1.4;opacity:.55}
.front{fill:none;stroke:var(--accent);stroke-width:1.6;stroke-dasharray:5 4}
.leader{stroke:var(--soft);stroke-width:.7;opacity:.7}
.curve{fill:none!important;stroke-width:2.4;stroke-linejoin:round}.curve.thin{stroke-width:1.2}
.curve.dashed{stroke-dasharray:6 4}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:.87rem;color:var(--soft);max-width:none}
.legend span{display:inline-flex;align-items:center;gap:6px}
svg.key{width:12px;height:12px;flex:none} svg.key.wide{width:26px}
.scroll{overflow-x:auto;margin:12px 0}
table{border-collapse:collapse;font-size:.87rem;font-variant-numeric:tabular-nums;min-width:100%}
caption{text-align:left;font-weight:600;padding:4px 0 8px;font-size:.95rem}
th,td{padding:5px 9px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
table.even{table-layout:fixed;width:100%} table.even th:first-child{width:24%}
th{color:var(--soft);font-weight:600;vertical-align:bottom}
thead th{border-bottom:2px solid var(--line)}
td.l,th.l{text-align:left} td.wrap{white-space:normal;min-width:22ch} tr.front td{font-weight:600}
tr.sum td{border-top:2px solid var(--line);font-weight:600}
tbody tr:hover{background:var(--card)}
table.sortable th{cursor:pointer} table.sortable th[aria-sort]{color:var(--fg)}
th[aria-sort=ascending]::after{content:" \25b4"} th[aria-sort=descending]::after{content:" \25be"}
td.heat{background:color-mix(in srgb,var(--conv) calc(var(--h)*45%),transparent)}
details{border-bottom:1px solid var(--line);padding:4px 0} summary{cursor:pointer;padding:6px 0}
summary b{margin-right:10px} footer{margin-top:56px;color:var(--soft);font-size:.85rem}
@media print{main{max-width:none;padding:0} figure,.box,li,tr{break-inside:avoid}}
)";

const std::string_view sort_script = R"(
for (const table of document.querySelectorAll('table.sortable')) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const value = (row, i) => row.cells[i].dataset.v ?? row.cells[i].textContent;
  heads.forEach((head, i) => head.addEventListener('click', () => {
    const up = head.getAttribute('aria-sort') !== 'ascending';
    heads.forEach(h => h.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    const order = (a, b) => isNaN(a - b) ? a.localeCompare(b) : a - b;
    [...body.rows].sort((a, b) => (up ? 1 : -1) * order(value(a, i), value(b, i)))
        .forEach(row => body.append(row));
  }));
}
)";

}  // namespace wattle::green::report
