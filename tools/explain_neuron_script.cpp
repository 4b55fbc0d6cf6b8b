// The script of the page about a spiking neuron: the plots over time, and each step worked by hand.
#include "tools/explain_neuron.h"

namespace wattle::cli::explain {

const std::string_view neuron_script = R"js(
const T = D.steps.length, A = D.attr, yes = k => A[k] === 'true';
const steps = [{kind: 'intro', phase: 'intro', title: 'The neuron', short: 'start'}];
D.steps.forEach(
    (_, t) => steps.push(
        {kind: 'forward', phase: 'forward', t, title: `Step ${t}`, short: `t=${t}`}));
D.steps.map((_, t) => T - 1 - t)
    .forEach(
        t => steps.push(
            {kind: 'backward', phase: 'backward', t, title: `Back through step ${t}`,
             short: `\u2190 ${t}`}));

// ---- The equations, with the numbers of a step in them ----
const hard = A.reset === 'hard', soft = A.reset === 'soft', late = yes('delayed');
const clear = A.reset === 'clear';
const vth = Number(A.v_th), vr = Number(A.v_reset), tau = Number(A.tau), rest = hard || clear ? vr : 0;
const sign = yes('strict') ? '>' : '\u2265', over = h => yes('strict') ? h > vth : h >= vth;
function chargeText(s) {
  const fired = late && over(s.from), from = late && hard && fired ? vr : s.from;
  if (clear && fired) return `h = v_reset = ${num(s.h)}: the spike before clears this charge`;
  const v = fac(from), x = fac(s.x), r = rest ? ` \u2212 ${fac(rest)}` : '';
  const minus = late && soft && fired ? ` \u2212 ${num(vth)}` : '';
  const sum = {
    integrate: `${v} + ${x}`,
    leaky: `${A.beta} \u00b7 ${v} + ${x}`,
    lif: yes('decay_input') ? `${v} + (${x} \u2212 ${rest ? `(${v}${r})` : v}) / ${tau}` :
                              `${v} \u2212 (${v}${r}) / ${tau} + ${x}`
  }[A.charge];
  return `h = ${sum}${minus} = ${num(s.h)}`;
}
function resetText(s) {
  if (A.reset === 'none') return `v = h = ${num(s.v)}: this neuron is never reset`;
  if (late) return `v = h = ${num(s.v)}: the reset waits for the next step`;
  if (!s.s) return `v = h = ${num(s.v)}: nothing to reset`;
  return hard ? `v = v_reset = ${num(s.v)}` :
                `v = h \u2212 v_th = ${num(s.h)} \u2212 ${num(vth)} = ${num(s.v)}`;
}
const equations = {
  charge: {integrate: 'h = v + x', leaky: `h = ${A.beta} v + x`, lif: yes('decay_input') ?
    `h = v + (x \u2212 ${rest ? '(v \u2212 v_reset)' : 'v'}) / \u03c4` :
    `h = v \u2212 ${rest ? '(v \u2212 v_reset)' : 'v'} / \u03c4 + x`}[A.charge],
  fire: `s = 1 where h ${sign} v_th, else 0`,
  reset: {hard: 'v = v_reset after a spike', soft: 'v = h \u2212 v_th after a spike',
    clear: 'h = v_reset where v fired, whatever was charged', none: 'v = h'}[A.reset] + (late ? ', at the start of the next step' : '')
};

// ---- Plots ----
const W = 860, L = 46, R = 560;
const px = t => L + (t + .5) * (R - L) / T;
function plot(top, height, low, high) {
  const y = v => top + height - (v - low) / (high - low) * height;
  return {y, top, bottom: top + height};
}
const span = (values, ...more) => {
  const all = [...values, ...more], low = Math.min(...all), high = Math.max(...all);
  const pad = (high - low || 1) * .08;
  return [low - pad, high + pad];
};
const text = (x, y, cls, ...kids) => el(':text', {x, y, class: cls}, ...kids);
const path = (points, attrs) =>
    el(':path', {d: points.map(([x, y], i) => (i ? 'L' : 'M') + x + ' ' + y).join(''),
       fill: 'none', ...attrs});
function frame(svg, p, name, marks) {
  svg.append(text(L, p.top - 6, 't-name t-left', name));
  for (const m of marks) {
    svg.append(el(':line', {class: 'axis', x1: L, x2: R, y1: p.y(m), y2: p.y(m)}));
    svg.append(text(L - 22, p.y(m) + 4, 't-small', num(m)));
  }
}
function drawPlots(s) {
  const svg = el(':svg', {viewBox: `0 0 ${W} 366`, role: 'img',
                          'aria-label': 'Current, potential, spikes and gradients over time'});
  const shown = s.kind === 'intro' ? -1 : s.kind === 'forward' ? s.t : T - 1;
  const back = s.kind === 'backward' ? s.t : T;
  if (s.t !== undefined)
    svg.append(el(':rect', {x: px(s.t) - (R - L) / T / 2, y: 8, width: (R - L) / T, height: 340,
                            fill: 'var(--c)', opacity: .12}));
  const x = plot(26, 36, ...span(D.steps.map(q => q.x), 0));
  frame(svg, x, 'current x', [0]);
  D.steps.forEach((q, t) => svg.append(
      el(':line', {x1: px(t), x2: px(t), y1: x.y(0), y2: x.y(q.x), stroke: 'var(--soft)',
                   'stroke-width': 8})));
  svg.append(text(L, 94, 't-name t-left', 'spikes s'));
  const h = plot(130, 104, ...span(D.steps.flatMap(q => [q.h, q.v]), vth, 0));
  frame(svg, h, 'potential: h (dots), then v behind the reset (line)', [0]);
  svg.append(el(':line', {x1: L, x2: R, y1: h.y(vth), y2: h.y(vth), stroke: 'var(--backward)',
                          'stroke-dasharray': '5 4'}));
  svg.append(text(L - 22, h.y(vth) + 4, 't-small', 'v_th'));
  const line = [];
  D.steps.slice(0, shown + 1).forEach((q, t) => {
    line.push([px(t), h.y(q.h)], [px(t), h.y(q.v)]);
    svg.append(el(':circle', {cx: px(t), cy: h.y(q.h), r: 4.5, fill: 'var(--forward)'}));
    if (q.s)
      svg.append(el(':line', {x1: px(t), x2: px(t), y1: 78, y2: 100, stroke: 'var(--fg)',
                              'stroke-width': 3}));
  });
  svg.append(path(line, {stroke: 'var(--forward)', 'stroke-width': 1.6}));
  const g = plot(264, 76, ...span(D.steps.flatMap(q => [q.slope, q.gh]), 0));
  frame(svg, g, 'surrogate at h (open), dL/dh (filled)', [0]);
  D.steps.forEach((q, t) => {
    if (t <= shown)
      svg.append(el(':circle', {cx: px(t), cy: g.y(q.slope), r: 4.5, fill: 'var(--card)',
                                stroke: 'var(--optimizer)', 'stroke-width': 2}));
    if (t < back) return;
    svg.append(el(':line', {x1: px(t), x2: px(t), y1: g.y(0), y2: g.y(q.gh),
                            stroke: 'var(--backward)', 'stroke-width': 2}));
    svg.append(el(':circle', {cx: px(t), cy: g.y(q.gh), r: 4.5, fill: 'var(--backward)'}));
  });
  D.steps.forEach((_, t) => svg.append(text(px(t), 360, 't-small', String(t))));
  drawCurve(svg, s);
  return svg;
}
function drawCurve(svg, s) {
  const left = 630, right = W - 14, u = D.curve.u, end = u[u.length - 1];
  const x = v => left + (v + end) / (2 * end) * (right - left);
  const y = plot(58, 170, 0, Math.max(...D.curve.slope) * 1.08).y;
  svg.append(text(left, 26, 't-name t-left', `surrogate: ${A.surrogate}`));
  svg.append(text((left + right) / 2, 252, 't-small', 'h \u2212 v_th'));
  svg.append(el(':line', {class: 'axis', x1: left, x2: right, y1: y(0), y2: y(0)}));
  svg.append(el(':line', {class: 'axis', x1: x(0), x2: x(0), y1: 46, y2: y(0)}));
  svg.append(path(u.map((v, i) => [x(v), y(D.curve.slope[i])]),
                  {stroke: 'var(--optimizer)', 'stroke-width': 2.4}));
  svg.append(path([[left, y(0)], [x(0), y(0)], [x(0), 66], [right, 66]],
                  {stroke: 'var(--soft)', 'stroke-dasharray': '3 3'}));
  if (s.t === undefined) return;
  const q = D.steps[s.t], at = q.h - vth, inside = Math.max(-end, Math.min(end, at));
  svg.append(el(':circle', {cx: x(inside), cy: y(Math.min(q.slope, Math.max(...D.curve.slope))),
                            r: 6, fill: 'var(--optimizer)'}));
  svg.append(text((left + right) / 2, 276, 't-small',
                  `here: h \u2212 v_th = ${num(at)}, slope ${num(q.slope)}`));
}

// ---- Words ----
const card = (head, ...lines) => el('div', {class: 'card'}, el('div', {class: 'cardhead'},
    el('b', {}, head)), el('div', {class: 'work'}, lines.join('\n')));
const stages = {
  intro: () => [card('Every step', equations.charge, equations.fire, equations.reset),
    el('p', {}, 'A spike is a step function of the potential: its derivative is 0 wherever it ' +
       'exists, and nothing would be learnt. The way back puts a smooth slope, the surrogate, in ' +
       'its place. Go forward to see the potential rise and fall, then back through the same ' +
       'steps.')],
  forward: s => {
    const q = D.steps[s.t];
    return [card('Charge', equations.charge, chargeText(q)),
      card('Fire', `h ${sign} v_th?  ${num(q.h)} ${sign} ${num(vth)}: ` +
           (q.s ? 'yes, s = 1' : 'no, s = 0')),
      card('Reset', resetText(q)),
      card('Kept for the way back', `h = ${num(q.h)}: spike, state and slope follow from it`)];
  },
  backward: s => {
    const q = D.steps[s.t], first = s.t === T - 1;
    const scale = A.charge === 'lif' && yes('decay_input') ? ` / ${tau}` : '';
    return [card('The spike itself', 'L is the sum of the spikes, so dL/ds = 1',
                 `through the surrogate: 1 \u00b7 ${num(q.slope)} = ${num(q.slope)}`),
      card('What comes back from the next step', first ? 'nothing: this is the last step' :
           `dL/dh of step ${s.t + 1}, ${num(D.steps[s.t + 1].gh)}, through its charge and this ` +
           `step's reset${yes('detach_reset') ? ' (detached: without a surrogate)' : ''}: ` +
           num(q.through)),
      card('Together', `dL/dh = ${num(q.slope)} + ${fac(q.through)} = ${num(q.gh)}`,
           clear && over(q.from) ? 'dL/dx = 0: the charge of this step was cleared' :
                       `dL/dx = dL/dh${scale} = ${num(q.gx)}`)];
  }
};
function panel(s) {
  const of = s.phase === 'backward' ? D.backward : D.forward;
  const rows = [['Charge', A.charge], ['Reset', A.reset + (late ? ', delayed' : '')],
    ['Surrogate', A.surrogate], ['All steps', `${of.flops} FLOP, ${of.bytes} B`],
    ['Joules (modelled)', of.joules], ['Source', el('code', {}, D.source)]];
  return [el('span', {class: 'tag'}, s.phase === 'intro' ? 'Start' : s.phase),
    el('h2', {}, s.title),
    el('dl', {}, rows.flatMap(([k, v]) => [el('dt', {}, k), el('dd', {}, v)])),
    el('p', {class: 'soft'}, D.agrees ? 'Worked by hand and by the tape, the gradients agree.' :
       'Worked by hand and by the tape, the gradients do NOT agree.')];
}
function drawStep(s) {
  $('graph').replaceChildren(drawPlots(s));
  $('stage').replaceChildren(...stages[s.kind](s));
  $('panel').replaceChildren(...panel(s));
}
const idle = {tau: A.charge !== 'lif', decay_input: A.charge !== 'lif',
  beta: A.charge !== 'leaky', v_reset: !hard && !clear, slope: A.slope === '0', steps: 1, out: 1,
  by_difference: A.by_difference === 'false', delayed: A.reset === 'none',
  detach_reset: A.reset === 'none'};
$('subtitle').textContent = `${T} steps; ` +
    Object.entries(A).filter(([k]) => !idle[k]).map(([k, v]) => `${k} ${v}`).join(', ');
$('foot').textContent = `Joules are modelled, none is measured: ${D.energy}.`;
)js";

}  // namespace wattle::cli::explain
