// The part of the page's script that fills the stage: what happens in a step, with its figures.
#include "tools/explain_page.h"

namespace wattle::cli::explain {

const std::string_view stage_script = R"js(
// ---- The stage: what happens in this step ----
const stages = {
  intro() {
    return [
      el('div', {class: 'card'}, el('h2', {}, 'Teach a net the exclusive or'),
         el('p', {},
            'Four points, four wanted answers: 1 where exactly one coordinate is 1. No ' +
                'straight line separates the ones from the zeros, so the net needs a hidden ' +
                'layer. It starts with random weights and knows nothing:'),
         el('div', {class: 'maps'}, map(D.map.first, D.first, 'Before training'),
            el('div', {class: 'wide'}, el('p', {}, el('b', {}, 'How to read this page')),
               el('ul', {class: 'plain'},
                  el('li', {},
                     'Press the right arrow key to run the next op, the left one to go back. ' +
                         'The graph above shows where you are; click an op to go there.'),
                  el('li', {},
                     'Forward (blue), numbers run from left to right and end in one number, ' +
                         'the loss.'),
                  el('li', {},
                     'Backward (orange), the gradient runs from right to left: how much ' +
                         'would the loss change if this number grew a little?'),
                  el('li', {},
                     'The optimiser (violet) then moves every parameter a little against its ' +
                         'gradient.'),
                  el('li', {},
                     'Move the mouse over a result: the numbers it came from light up, with ' +
                         'the arithmetic below.'),
                  el('li', {},
                     'Names: %1 is the result of line 1 of the tape, d%1 its gradient. ' +
                         'Saved: kept until the walk back has used it.'),
                  el('li', {},
                     'Every op is charged its operations, bytes and joules. The joules are ' +
                         'modelled from a published table, not measured.')))))
    ];
  },
  forward(s) {
    const l = lines[s.i];
    const way = l.derivative &&
        el('div', {class: 'card'}, el('b', {}, 'What this will mean on the way back'),
           el('p', {}, l.derivative));
    return [card(l), way || []];
  },
  seed() {
    const y = lines[lines.length - 1].out[0];
    return [
      el('div', {class: 'card'}, el('h2', {}, `The loss is ${num(y.v[0])}. Who is to blame?`),
         el('p', {},
            'The tape now holds every op of the way forward, in order, with what each has ' +
                'saved. Backward reads it from the last line to the first and asks each op the ' +
                'same question: if your result should change, how do your operands have to ' +
                'change?'),
         el('p', {},
            'The loss changes one to one with itself, so the walk starts with d(loss) = 1. ' +
                'Each op multiplies what arrives by its own derivative and hands it on. That is ' +
                'the chain rule.')),
      el('div', {class: 'card'}, el('b', {}, 'What the tape has kept for it'), kept())
    ];
  },
  backward(s) {
    const b = D.backward[s.k], l = lines[s.i];
    const incoming = b.grad_out.filter(Boolean).map(g => figure(g, {plain: true}));
    const going = b.grad_in.map((g, k) => g && figure(g, {plain: true, note: 'to ' + l.in[k].name}))
                      .filter(Boolean);
    const idle = l.in.filter((v, k) => v && !b.grad_in[k]).map(v => v.name);
    return [
      el('div', {class: 'card flow'},
         el('div', {}, el('p', {class: 'lead'}, 'Arrives'), el('div', {class: 'tables'}, incoming)),
         el('span', {class: 'sign'}, '\u2192'),
         el('div', {}, el('p', {class: 'lead'}, 'Leaves'), el('div', {class: 'tables'}, going)),
         idle.length ?
             el('p', {class: 'soft'},
                `Nothing goes to ${idle.join(', ')}: it is no parameter, so nobody asks.`) :
             null),
      el('p', {class: 'lead'},
         `How: ${l.op}'s backward runs ${
             b.calls.length === 1 ? 'one op' : b.calls.length + ' ops'}`),
      b.calls.map(c => card(c))
    ];
  },
  optimizer(s) { return [card(D.optimizer[s.k], {in : 'before', out: 'after'})]; },
  result() {
    const rows = D.x.v.length / 2, list = el('table', {class: 'list'});
    list.append(el('tr', {}, ['point', 'wanted', 'before', 'after'].map(h => el('th', {}, h))));
    for (let r = 0; r < rows; ++r)
      list.append(el('tr', {}, [
        `(${D.x.v[2 * r]}, ${D.x.v[2 * r + 1]})`, D.target.v[r], answer(D.first.v[r]),
        answer(D.last.v[r])
      ].map(v => el('td', {}, String(v)))));
    const st = D.settings;
    return [el(
        'div', {class: 'card'}, el('h2', {}, `The same step ${st.steps} times`),
        el('p', {},
           `You have seen step ${st.at}. It took the loss from ${num(D.losses[st.at - 1])} to ${
               num(D.loss_after_step)}. After ${st.steps} steps it is ${num(D.loss_end)}.`),
        el('div', {class: 'maps'}, map(D.map.first, D.first, 'Before training'),
           map(D.map.last, D.last, `After ${st.steps} steps`),
           el('div', {class: 'wide'}, list, el('h3', {}, 'Loss of every step'), curve())))];
  },
};

// Per line of the tape: which tensors the walk back may read.
function kept() {
  const list =
      el('table', {class: 'list left'},
         el('tr', {}, ['line', 'op', 'saved'].map(h => el('th', {}, h))));
  for (const l of lines) {
    const names = [...new Set(
        [...l.in, ...l.out].filter(v => v && v.saved).map(v => v.name + ' ' + shapeText(v.shape)))];
    list.append(el('tr', {}, [l.n, l.op, names.join(', ') || 'nothing'].map(v => el('td', {}, v))));
  }
  return list;
}

// The net's answer over the unit square; the four points with what is wanted.
function map(values, at, title) {
  const n = D.map.side, c = 200 / n,
        svg = el(':svg', {viewBox: '-14 -14 228 228', role: 'img', 'aria-label': title});
  values.forEach((v, i) => svg.append(el(':rect', {
    x: i % n * c,
    y: 200 - (Math.floor(i / n) + 1) * c,
    width: c + .4,
    height: c + .4,
    'shape-rendering': 'crispEdges',
    style: `fill:color-mix(in oklab,var(--one) ${
        (100 * Math.max(0, Math.min(1, v))).toFixed(0)}%,var(--zero))`
  })));
  for (let r = 0; r < at.v.length; ++r) {
    const x = D.x.v[2 * r] * 200, y = 200 - D.x.v[2 * r + 1] * 200;
    svg.append(
        el(':circle', {
          class: 'point',
          cx: x,
          cy: y,
          r: 12,
          style: `fill:var(--${D.target.v[r] ? 'one' : 'zero'})`
        }),
        el(':text', {x, y: y + 4, 'text-anchor': 'middle', style: 'fill:#fff;font-weight:700'},
           String(D.target.v[r])));
  }
  return el(
      'figure', {},
      el('figcaption', {}, el('b', {}, title), el('span', {class: 'soft'}, ': its answers')), svg,
      el('div', {class: 'scale'}),
      el('div', {class: 'soft', style: 'display:flex;justify-content:space-between'},
         el('span', {}, '0'), el('span', {}, '1')));
}
const answer = v => v === null ? 'nan' : v.toFixed(3);

function curve() {
  const v = D.losses.filter(t => t !== null),  // a run that diverged ends early
        w = 300, h = 120, top = Math.max(...v),
        x = i => 48 + i / Math.max(1, v.length - 1) * (w - 58),
        y = t => h - 22 - t / top * (h - 34);
  const at = D.settings.at - 1,
        svg =
            el(':svg', {viewBox: `0 0 ${w} ${h}`, role: 'img', 'aria-label': 'Loss of every step'});
  svg.append(
      el(':path', {class: 'axis', d: `M48 ${y(0)}H${w - 10}M48 ${y(top)}V${y(0)}`}), el(':path', {
        class: 'curve',
        d: 'M' + v.map((t, i) => `${x(i).toFixed(1)} ${y(t).toFixed(1)}`).join('L')
      }),
      el(':circle', {cx: x(at), cy: y(v[at]), r: 5, fill: 'var(--backward)'}),
      el(':text', {x: x(at) + 10, y: y(v[at]) + 4, 'font-size': 11}, 'this step'),
      el(':text', {x: 42, y: y(top) + 4, 'font-size': 11, 'text-anchor': 'end'}, num(top)),
      el(':text', {x: 42, y: y(0) + 4, 'font-size': 11, 'text-anchor': 'end'}, '0'),
      el(':text', {x: 48, y: h - 5, 'font-size': 11}, 'step 1'),
      el(':text', {x: w - 10, y: h - 5, 'font-size': 11, 'text-anchor': 'end'},
         `step ${v.length}`));
  return svg;
}
)js";

}  // namespace wattle::cli::explain
