// What the pages of `wattle explain` share: elements, numbers, walking through the steps. A page
// brings `steps` ({phase, title, short}) and `drawStep(step, number)`.
#include "tools/explain_page.h"

namespace wattle::cli::explain {

const std::string_view basics_script = R"js(
const svgNS = 'http://www.w3.org/2000/svg';
function el(tag, attrs = {}, ...kids) {
  const e =
      tag[0] === ':' ? document.createElementNS(svgNS, tag.slice(1)) : document.createElement(tag);
  for (const [k, v] of Object.entries(attrs))
    if (k.startsWith('on')) e.addEventListener(k.slice(2), v);
    else if (v !== undefined && v !== false) e.setAttribute(k, v);
  for (const kid of kids.flat())
    if (kid !== null && kid !== undefined) e.append(kid);
  return e;
}
// Four significant digits; a true minus sign.
function num(v) {
  if (v === null) return 'nan';
  if (v === 0) return '0';
  const a = Math.abs(v);
  const s = a < 1e-3 || a >= 1e5 ? a.toExponential(2).replace('e-', 'e\u2212').replace('e+', 'e') :
                                   String(Number(a.toPrecision(4)));
  return (v < 0 ? '\u2212' : '') + s;
}
// The same inside a product or sum: negative numbers in brackets.
const fac = v => v < 0 ? '(' + num(v) + ')' : num(v);
const $ = id => document.getElementById(id);
)js";

const std::string_view walk_script = R"js(
// ---- Navigation ----
const stepFromHash = () => Math.max(
    0, Math.min(steps.length - 1, Number((location.hash.match(/step=(\d+)/) || [])[1] || 0)));
let current = -1;
function show(n) {
  if (n === current || n < 0 || n >= steps.length) return;
  current = n;
  const s = steps[n];
  document.body.className = s.phase;
  drawStep(s, n);
  $('counter').textContent = `step ${n} of ${steps.length - 1}`;
  $('first').disabled = $('back').disabled = n === 0;
  $('last').disabled = $('next').disabled = n === steps.length - 1;
  [...$('timeline').children].forEach((b, i) => {
    b.className = steps[i].phase + (i < n ? ' done' : '');
    b.setAttribute('aria-selected', i === n);
  });
  if (stepFromHash() !== n) history.replaceState(null, '', '#step=' + n);
}
steps.forEach(
    (s, i) =>
        $('timeline')
            .append(el('button', {role: 'tab', title: s.title, onclick: () => show(i)}, s.short)));
$('first').onclick = () => show(0);
$('back').onclick = () => show(current - 1);
$('next').onclick = () => show(current + 1);
$('last').onclick = () => show(steps.length - 1);
addEventListener('keydown', e => {
  const to =
      {ArrowRight: current + 1, ArrowLeft: current - 1, Home: 0, End: steps.length - 1}[e.key];
  if (to === undefined || e.ctrlKey || e.metaKey || e.altKey) return;
  e.preventDefault();
  show(to);
});
addEventListener('hashchange', () => show(stepFromHash()));
show(stepFromHash());
)js";

}  // namespace wattle::cli::explain
