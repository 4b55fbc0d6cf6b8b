// The script of the training step: the steps, the tables, the side panel.
#include "tools/explain_page.h"

namespace wattle::cli::explain {

const std::string_view page_script = R"js(
// ---- The steps of the lesson ----
const steps = [{kind: 'intro', phase: 'intro', title: 'The task', short: 'start'}];
lines.forEach(
    (l, i) => steps.push(
        {kind: 'forward', phase: 'forward', i, title: `${l.n}  ${l.op}`, short: `${l.n} ${l.op}`}));
steps.push({kind: 'seed', phase: 'backward', title: 'Turn round', short: 'seed'});
D.backward.forEach((b, k) => steps.push({
  kind: 'backward',
  phase: 'backward',
  k,
  i: b.line,
  title: `back through ${lines[b.line].n}  ${lines[b.line].op}`,
  short: `\u2190 ${lines[b.line].op}`
}));
D.optimizer.forEach((s, k) => steps.push({
  kind: 'optimizer',
  phase: 'optimizer',
  k,
  title: `${s.op}: ${s.in[0].name}`,
  short: s.in[0].name
}));
steps.push({kind: 'result', phase: 'result', title: 'After training', short: 'result'});

const phases = ['forward', 'backward', 'optimizer'];
const callsOf = s => s.kind === 'forward' ? [lines[s.i]] :
    s.kind === 'backward'                 ? D.backward[s.k].calls :
    s.kind === 'optimizer'                ? [D.optimizer[s.k]] :
                                            [];
const joules = nj => nj === 0 ? '0 J' :
    nj >= 999.5               ? (nj / 1000).toPrecision(3) + ' \u00b5J' :
    nj >= .9995               ? nj.toPrecision(3) + ' nJ' :
                                (nj * 1000).toPrecision(3) + ' pJ';
const time = ns => ns >= 999.5 ? (ns / 1000).toPrecision(3) + ' \u00b5s' : ns.toFixed(0) + ' ns';
const total = (calls, f) => calls.reduce((a, c) => a + f(c), 0);

// What the graph has to know of step n.
function stateAt(n) {
  const before = steps.slice(0, n + 1), s = steps[n];
  const ran = before.filter(t => t.kind === 'backward').map(t => D.backward[t.k]);
  const grads = new Map(ran.flatMap(b => b.grad_in.map((g, k) => [b.line + ':' + k, g])));
  const spent = i => {
    const nj = total(before.filter(t => t.i === i).flatMap(callsOf), c => c.nj);
    return nj ? joules(nj) + ' modelled' : '';
  };
  return {
    phase: s.phase,
    line: s.i,
    seed: s.kind === 'seed',
    spent,
    forward: before.filter(t => t.kind === 'forward').length,
    passed: new Set(ran.map(b => b.line)),
    gradOf: (i, k) => grads.get(i + ':' + k),
    hasGrad: name =>
        ran.some(b => lines[b.line].in.some((v, k) => v && v.name === name && b.grad_in[k])),
    param: s.kind === 'optimizer' ? D.optimizer[s.k].in[0].name : null,
    updated:
        new Set(before.filter(t => t.kind === 'optimizer').map(t => D.optimizer[t.k].in[0].name))
  };
}

// ---- Tables ----
function table(t, isOut) {
  const cols = t.shape.length ? t.shape[t.shape.length - 1] : 1,
        rows = Math.ceil(t.v.length / Math.max(cols, 1));
  const top = Math.max(...t.v.map(v => Math.abs(v ?? 0)), 1e-30);
  const body = el('table', {class: 't' + (isOut ? ' out' : '') + (rows > 4 ? ' tall' : '')});
  for (let r = 0; r < rows; ++r) {
    const tr = body.insertRow();
    t.v.slice(r * cols, (r + 1) * cols).forEach((v, c) => {
      const style =
          `--h:var(--${v < 0 ? 'minus' : 'plus'});--a:${(Math.abs(v ?? 0) / top).toFixed(3)}`;
      tr.append(el('td', {style, 'data-i': r * cols + c}, num(v)));
    });
  }
  return body;
}
function figure(t, opts = {}) {
  const same = t.role === t.name || opts.plain;
  const cap = el(
      'figcaption', {}, el('b', {}, same ? t.name : t.role), same ? '' : ' = ' + t.name, el('br'),
      el('span', {class: 'soft'}, shapeText(t.shape) + (opts.note ? ' ' + opts.note : '')),
      t.saved ?
          el('span', {class: 'saved', title: 'kept until the walk back has passed'}, 'saved') :
          null);
  const body = table(t, opts.out);
  const cut = t.v.length < t.shape.reduce((a, b) => a * b, 1) ?
      el('p', {class: 'soft'}, 'first elements') :
      null;
  return el('figure', {}, cap, body, cut);
}

// The result's largest element is worked by hand at first; hovering or clicking picks another.
function card(call, note = {}) {
  const head =
      el('div', {class: 'cardhead'}, el('b', {}, `${call.n}  ${call.op}`),
         el('code', {}, call.equation), el('span', {class: 'cost'}, costLine(call)));
  if (call.view) {
    const [a, b] = [call.in[0], call.out[0]], from = shapeText(a.shape), to = shapeText(b.shape);
    return el(
        'div', {class: 'card view'}, el('b', {}, `${call.n} ${call.op}: `),
        from === to ? `${b.name} has its shape ${to} already` :
                      `${a.name} ${from} \u2192 ${b.name} ${to}`,
        '; a view, no byte moves, 0 J modelled');
  }
  const ins = call.in.map(v => v && figure(v, {note: note.in && v.role !== 'grad' ? note.in : ''}));
  const outs = call.out.map(v => figure(v, {out: true, note: note.out}));
  const text = el('div', {class: 'work'});
  const pick = (o, at) => {
    const w = work(call, at);
    text.hidden = !w;
    if (!w) return;
    text.textContent = w.text;
    box.querySelectorAll('td').forEach(td => td.classList.remove('used', 'pick'));
    outs.forEach(
        (f, k) => f.querySelector(`td[data-i="${at}"]`)?.classList.toggle('pick', k === o));
    w.use.forEach(
        (cells, k) => ins[k] &&
            cells.forEach(i => ins[k].querySelector(`td[data-i="${i}"]`)?.classList.add('used')));
  };
  const tables = el('div', {class: 'tables'}, ins, el('span', {class: 'sign'}, '\u2192'), outs);
  const attrs = Object.entries(call.attrs).map(([k, v]) => `${k} = ${v}`).join(', ');
  const foot =
      el('p', {class: 'soft'}, attrs ? `with ${attrs} \u00b7 ` : '', el('code', {}, call.source),
         ` \u00b7 kernel ${call.kernel} \u00b7 ${time(call.ns)}`);
  const box = el('div', {class: 'card'}, head, tables, text, foot);
  outs.forEach((f, o) => ['mouseover', 'click'].forEach(type => f.addEventListener(type, ev => {
    const td = ev.target.closest('td');
    if (td) pick(o, Number(td.dataset.i));
  })));
  const sizes = (call.out[0]?.v ?? []).map(v => Math.abs(v ?? 0));
  pick(0, Math.max(0, sizes.indexOf(Math.max(...sizes))));
  return box;
}
const costLine = c =>
    `${c.flops} FLOP \u00b7 ${c.read + c.written} B \u00b7 ${joules(c.nj)} modelled`;

// ---- The side panel ----
const phaseWord = {
  intro: 'Start',
  forward: 'Forward',
  backward: 'Backward',
  optimizer: 'Optimiser',
  result: 'Result'
};
function facts(calls, source) {
  const nj = total(calls, c => c.nj), mem = total(calls, c => c.memory_nj),
        flops = total(calls, c => c.flops);
  const uniq = f => [...new Set(calls.map(f).filter(Boolean))];
  const rows = [
    ['Operations', `${flops} FLOP`], ['Bytes read', `${total(calls, c => c.read)} B`],
    ['Bytes written', `${total(calls, c => c.written)} B`], ['Joules (modelled)', joules(nj)],
    ['\u2003arithmetic', joules(Math.max(0, nj - mem))], ['\u2003moving bytes', joules(mem)],
    ['Time in kernels', time(total(calls, c => c.ns))],
    ['Kernel', uniq(c => c.view ? '' : c.kernel).join(', ')],
    ['Layer', uniq(c => c.layer).join(', ') || 'none'], ['Source', el('code', {}, source)]
  ];
  return el('dl', {}, rows.flatMap(([k, v]) => [el('dt', {}, k), el('dd', {}, v)]));
}
function totals(n) {
  const now = steps.slice(0, n + 1), all = steps.flatMap(callsOf),
        most = Math.max(...phases.map(
            p => total(steps.filter(s => s.phase === p).flatMap(callsOf), c => c.nj)));
  const bars = phases.map(p => {
    const calls = now.filter(s => s.phase === p).flatMap(callsOf), nj = total(calls, c => c.nj),
          mem = total(calls, c => c.memory_nj);
    return el(
        'div', {class: 'bar ' + p}, el('span', {}, phaseWord[p]),
        el('span', {class: 'track'}, el('i', {style: `width:${(nj - mem) / most * 100}%`}),
           el('i', {style: `width:${mem / most * 100}%`})),
        el('span', {}, joules(nj)));
  });
  const spent = total(now.flatMap(callsOf), c => c.nj);
  return [
    el('h3', {}, 'Joules so far (modelled)'), bars,
    el('p', {class: 'soft'},
       `${joules(spent)} of the ${
           joules(total(all, c => c.nj))} that the whole step takes. Moving the bytes takes ${
           (100 * total(all, c => c.memory_nj) / total(all, c => c.nj))
               .toFixed(0)} % of it (the light part of the bars), the arithmetic the rest.`)
  ];
}
function panel(s, n) {
  const calls = callsOf(s), call = s.kind === 'backward' ? lines[s.i] : calls[0];
  const words = {
    intro: ['This net has two linear layers with a tanh between them.', D.net],
    seed: ['No op runs here: the first gradient is given.'],
    result: [
      'Every other step runs the same ops on the same shapes, whether the net is still wrong ' +
          'or already right.'
    ]
  }[s.kind];
  const parts = [el('span', {class: 'tag'}, phaseWord[s.phase]), el('h2', {}, s.title)];
  if (words) parts.push(...words.map(w => el('p', {}, w)));
  else {
    parts.push(el('div', {class: 'eq'}, call.equation));
    parts.push(el('p', {}, s.kind === 'backward' ? call.derivative || call.about : call.about));
    parts.push(facts(calls, call.source));
  }
  return [...parts, ...totals(n)];
}

// ---- What a step shows ----
function drawStep(s, n) {
  $('graph').replaceChildren(drawGraph(stateAt(n), i => show(1 + i)));
  $('stage').replaceChildren(...stages[s.kind](s).flat());
  $('panel').replaceChildren(...panel(s, n).flat());
}
$('subtitle').textContent = `${D.net}   (${D.settings.optimizer}, learning rate ${
    D.settings.lr}, step ${D.settings.at} of ${D.settings.steps}, seed ${D.settings.seed})`;
$('foot').textContent =
    `Joules are modelled, none is measured: operations executed and unique bytes, times ${
        D.energy_title || D.energy_source}. Energies of the datapath and of DRAM alone. ` +
    (D.counters_agree ? 'The ops shown add up to the counters of the whole step.' : '');
)js";

}  // namespace wattle::cli::explain
