// The part of the page's script that lays out and draws the graph.
#include "tools/explain_page.h"

namespace wattle::cli::explain {

// Layout: ops stand in columns by the longest path that leads to them, and in rows where several
// share a column. Parameters stand above the op that reads them, data to its left (first column)
// or below it. The last result gets a place of its own at the right end.
const std::string_view graph_script = R"js(
const shapeText = s => s.length ? '[' + s.join(', ') + ']' : 'a number';

function layout(lines) {
  const COL = 212, OPW = 150, OPH = 72, LEAFW = 110, LEAFH = 44, TOP = 14, ROW = 150;
  const made = new Map();  // name of a result -> index of its line
  lines.forEach((l, i) => l.out.forEach(o => made.set(o.name, i)));
  const depth = [];
  lines.forEach(
      (l, i) => depth[i] = 1 +
          Math.max(
              0, ...l.in.filter(v => v && made.has(v.name)).map(v => depth[made.get(v.name)])));
  const filled = {}, nodes = [], edges = [];
  lines.forEach((l, i) => {
    const row = filled[depth[i]] = (filled[depth[i]] ?? -1) + 1;
    nodes.push({
      kind: 'op',
      i,
      line: l,
      x: 100 + depth[i] * COL,
      y: TOP + 122 + row * ROW,
      w: OPW,
      h: OPH
    });
  });
  const seen = new Map(), bottom = Math.max(...nodes.map(n => n.y)) + 96;
  lines.forEach((l, i) => {
    const op = nodes[i];
    const fresh = l.in.filter(v => v && !made.has(v.name) && !seen.has(v.name));
    const up = fresh.filter(v => v.name.includes('.')),
          data = fresh.filter(v => !v.name.includes('.'));
    up.forEach((v, k) => seen.set(v.name, {
      kind: 'leaf',
      value: v,
      w: LEAFW,
      h: LEAFH,
      y: TOP + LEAFH / 2,
      x: op.x + (k - (up.length - 1) / 2) * (LEAFW + 6),
      param: true
    }));
    data.forEach((v, k) => seen.set(v.name, {
      kind: 'leaf',
      value: v,
      w: LEAFW,
      h: LEAFH,
      x: depth[i] === 1 ? op.x - COL : op.x + 44,
      y: depth[i] === 1 ? op.y + k * 60 : bottom + k * 60
    }));
  });
  nodes.push(...seen.values());
  lines.forEach((l, i) => l.in.forEach((v, k) => {
                                if (!v) return;
                                const j = made.get(v.name);
                                edges.push({
                                  from: j === undefined ? seen.get(v.name) : nodes[j],
                                  to: nodes[i],
                                  value: v,
                                  line: i,
                                  k,
                                  source: j
                                });
                              }));
  const final = lines.length - 1, end = nodes[final], y = lines[final].out[0];
  nodes.push({kind: 'end', value: y, x: end.x + COL - 30, y: end.y, w: 92, h: 52});
  edges.push({from: end, to: nodes[nodes.length - 1], value: y, source: final});
  return {
    nodes,
    edges,
    w: end.x + COL + 40,
    h: Math.max(bottom + 26, ...nodes.map(n => n.y + n.h / 2 + 14))
  };
}

// Sideways between columns, upright from a leaf above or below.
function path(e) {
  const {from: a, to: b} = e;
  if (a.kind === 'leaf' && Math.abs(a.y - b.y) > 60) {
    const s = a.y < b.y ? 1 : -1, reach = b.w / 2 - 16,
          x = Math.max(b.x - reach, Math.min(b.x + reach, a.x));
    const y0 = a.y + s * a.h / 2, y1 = b.y - s * b.h / 2;
    return {pts: [a.x, y0, a.x, (y0 + y1) / 2, x, (y0 + y1) / 2, x, y1]};
  }
  const x0 = a.x + a.w / 2, x1 = b.x - b.w / 2, m = (x0 + x1) / 2;
  return {pts: [x0, a.y, m, a.y, m, b.y, x1, b.y], mid: [m, (a.y + b.y) / 2]};
}
const draw = p => `M${p[0]} ${p[1]}C${p[2]} ${p[3]} ${p[4]} ${p[5]} ${p[6]} ${p[7]}`;
const reversed = p => [6, 7, 4, 5, 2, 3, 0, 1].map(i => p[i]);

const cls = (...names) => names.filter(Boolean).join(' ');
const label = (x, y, c, s) => el(':text', {x, y, class: c}, s);

// What a step shows of a node or an edge: not yet run, done, passed by the walk back, now.
function nodeClass(n, at) {
  if (n.kind === 'op') {
    const now = at.line === n.i;
    return cls(
        'node', now && 'now ' + at.phase,
        !now &&
            (at.passed.has(n.i)   ? 'passed' :
                 n.i < at.forward ? 'done' :
                                    'todo'));
  }
  if (n.kind === 'end')
    return cls(
        'node leaf', at.seed && 'now backward', at.forward === lines.length ? 'done' : 'todo');
  const name = n.value.name, now = at.param === name;
  return cls('node leaf', now && 'now optimizer', !now && at.updated.has(name) && 'updated');
}

function edgeState(e, at) {
  const grad = e.line === undefined ?
      at.seed || at.passed.size > 0 || at.phase !== 'forward' && at.line !== undefined :
      at.gradOf(e.line, e.k);
  if (e.line !== undefined && at.line === e.line)
    return at.phase === 'forward' ? 'now' : at.phase === 'backward' && grad ? 'grad' : 'done';
  if (at.phase === 'backward' && (e.line === undefined ? at.seed : false)) return 'grad';
  if (at.phase === 'backward' && e.source !== undefined && e.source === at.line) return 'grad';
  if (e.line !== undefined && at.passed.has(e.line) && grad) return 'passed';
  if (e.line === undefined && at.forward === lines.length)
    return at.passed.size ? 'passed' : 'done';
  return e.line !== undefined && e.line < at.forward ? 'done' : '';
}

const place = layout(lines);

function drawGraph(at, go) {
  const svg = el(':svg', {
    viewBox: `0 0 ${place.w} ${place.h}`,
    role: 'img',
    'aria-label': 'The graph of ops; data flows from left to right, gradients from right to left'
  });
  svg.append(
      el(':defs', {},
         el(':marker', {
           id: 'tip',
           viewBox: '0 0 10 10',
           refX: 8,
           refY: 5,
           markerWidth: 9,
           markerHeight: 9,
           markerUnits: 'userSpaceOnUse',
           orient: 'auto'
         },
            el(':path', {class: 'arrow', d: 'M0 0L10 5L0 10z'}))));
  for (const e of place.edges) {
    const p = path(e), state = edgeState(e, at);
    const back = state === 'grad' || state === 'passed';
    svg.append(el(':path', {
      class: cls('edge', state),
      d: draw(back ? reversed(p.pts) : p.pts),
      'marker-end': state ? 'url(#tip)' : undefined
    }));
    if (!p.mid || e.line === undefined) continue;
    const known = e.source === undefined || e.source < at.forward;
    if (known && e.source !== undefined)
      svg.append(label(p.mid[0], p.mid[1] - 24, 't-name', e.value.name));
    if (known && e.source !== undefined)
      svg.append(label(p.mid[0], p.mid[1] - 10, 't-small', shapeText(e.value.shape)));
    if (back) svg.append(label(p.mid[0], p.mid[1] + 19, 't-grad', at.gradOf(e.line, e.k).name));
  }
  for (const n of place.nodes) svg.append(drawNode(n, at, go));
  return svg;
}

function drawNode(n, at, go) {
  const g =
      el(':g', {class: nodeClass(n, at), ...(n.kind === 'op' ? {onclick: () => go(n.i)} : {})});
  g.append(el(':rect', {
    x: n.x - n.w / 2,
    y: n.y - n.h / 2,
    width: n.w,
    height: n.h,
    rx: n.kind === 'end' ? 24 :
        n.kind === 'op'  ? 12 :
                           8
  }));
  if (n.kind === 'op') {
    g.append(el(':title', {}, `${n.line.op}: ${n.line.equation}`));
    g.append(label(n.x, n.y - 14, 't-op', n.line.op));
    g.append(label(
        n.x, n.y + 6, 't-eq',
        n.line.equation.length > 22 ? n.line.equation.slice(0, 21) + '\u2026' : n.line.equation));
    g.append(label(n.x, n.y + 25, 't-small', n.line.layer));
    g.append(
        el(':text', {x: n.x - n.w / 2 + 4, y: n.y + 54, class: 't-small t-left'}, at.spent(n.i)));
    return g;
  }
  const shown = n.kind === 'leaf' || at.forward === lines.length;
  g.append(label(n.x, n.y - 3, 't-name', n.value.name));
  g.append(label(
      n.x, n.y + 14, 't-small',
      n.kind === 'end' && shown ? num(n.value.v[0]) : shapeText(n.value.shape)));
  const grad = n.kind === 'leaf' && n.param && at.hasGrad(n.value.name);
  if (grad) {
    g.append(
        el(':circle',
           {cx: n.x + n.w / 2 - 3, cy: n.y - n.h / 2 + 3, r: 6.5, fill: 'var(--backward)'}));
    g.append(el(':title', {}, 'has its gradient'));
  }
  return g;
}
)js";

}  // namespace wattle::cli::explain
