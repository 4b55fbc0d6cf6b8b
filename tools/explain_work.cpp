// The part of the page's script that works one element of a result by hand: which operand elements
// it takes, and the arithmetic with the numbers in it.
#include "tools/explain_page.h"

namespace wattle::cli::explain {

const std::string_view work_script = R"js(
const last = shape => shape.length ? shape[shape.length - 1] : 1;
const dot = (xs, ys) => xs.map((x, k) => fac(x) + ' \u00b7 ' + fac(ys[k])).join(' + ');
const take = (t, cells) => cells.map(i => t.v[i]);
const range = (n, f) => Array.from({length: n}, (_, k) => f(k));

// Each entry: (call, index of the result's element) -> {use: cells per operand, text}.
const works = {
  linear({in : [x, W, b], out: [y]}, at) {
    const n = last(y.shape), k = last(x.shape), i = Math.floor(at / n), j = at % n;
    const xs = range(k, c => i * k + c), ws = range(k, c => j * k + c);
    return {
      use: [xs, ws, b ? [j] : []],
      text: `y[${i},${j}] = x[${i}] \u00b7 W[${j}]` + (b ? ` + b[${j}]` : '') + '\n' +
          `= ${dot(take(x, xs), take(W, ws))}${b ? ' + ' + fac(b.v[j]) : ''}\n` +
          `= ${num(y.v[at])}`
    };
  },
  tanh({in : [x], out: [y]}, at) {
    return {
      use: [[at]],
      text: `tanh(${num(x.v[at])}) = ${num(y.v[at])}\n` +
          `slope here: 1 \u2212 y\u00b2 = 1 \u2212 ${fac(y.v[at])}\u00b2 = ${num(1 - y.v[at] ** 2)}`
    };
  },
  mse_loss({in : [x, t], out: [y]}) {
    const all = x.v.map((_, i) => i);
    return {
      use: [all, all],
      text: 'the squares of x \u2212 target, averaged\n= (' +
          all.map(i => `(${num(x.v[i])} \u2212 ${fac(t.v[i])})\u00b2`).join(' + ') +
          `) / ${all.length}\n= ${num(y.v[0])}`
    };
  },
  mse_loss_grad({in : [g, x, t], out: [y], attrs}, at) {
    const f = Number(attrs.factor);
    return {
      use: [[0], [at], [at]],
      text: `factor (x \u2212 t) gy = ${num(f)} \u00b7 (${num(x.v[at])} ` +
          `\u2212 ${fac(t.v[at])}) \u00b7 ${fac(g.v[0])} = ${num(y.v[at])}\n` +
          (y.v[at] > 0     ? 'positive: this prediction is too large' :
               y.v[at] < 0 ? 'negative: this prediction is too small' :
                             'zero: this prediction is right')
    };
  },
  tanh_grad({in : [g, y], out: [gx]}, at) {
    return {
      use: [[at], [at]],
      text: `gy (1 \u2212 y\u00b2) = ${fac(g.v[at])} \u00b7 (1 \u2212 ` +
          `${fac(y.v[at])}\u00b2) = ${fac(g.v[at])} \u00b7 ${num(1 - y.v[at] ** 2)} = ${
                num(gx.v[at])}`
    };
  },
  matmul({in : [a, b], out: [y], attrs}, at) {
    if (a.shape.length !== 2 || b.shape.length !== 2) return null;
    const ta = attrs.transpose_a === 'true', tb = attrs.transpose_b === 'true';
    const n = last(y.shape), i = Math.floor(at / n), j = at % n, k = a.shape[ta ? 0 : 1];
    const as = range(k, c => ta ? c * a.shape[1] + i : i * a.shape[1] + c);
    const bs = range(k, c => tb ? j * b.shape[1] + c : c * b.shape[1] + j);
    return {
      use: [as, bs],
      text: `y[${i},${j}] = ${ta ? 'column' : 'row'} ${i} of a \u00b7 ` +
          `${tb ? 'row' : 'column'} ${j} of b\n= ${dot(take(a, as), take(b, bs))}\n= ${
                num(y.v[at])}`
    };
  },
  sum({in : [x], out: [y]}, at) {
    if (x.shape.length !== 2 || y.v.length !== x.shape[1]) return null;
    const cells = range(x.shape[0], r => r * x.shape[1] + at);
    return {use: [cells], text: `${take(x, cells).map(fac).join(' + ')} = ${num(y.v[at])}`};
  },
  add({in : [a, b], out: [y]}, at) {
    if (a.v.length !== y.v.length || b.v.length !== y.v.length) return null;
    return {use: [[at], [at]], text: `${num(a.v[at])} + ${fac(b.v[at])} = ${num(y.v[at])}`};
  },
  adam_step({in : [p, g, m, v], out: [q, m2, v2], attrs}, at) {
    const t = Number(attrs.step), b1 = Number(attrs.beta1), b2 = Number(attrs.beta2);
    const mh = m2.v[at] / (1 - b1 ** t), vh = v2.v[at] / (1 - b2 ** t), lr = Number(attrs.lr);
    return {
      use: [[at], [at], [at], [at]],
      text: `m = ${num(b1)} \u00b7 ${fac(m.v[at])} + ${num(1 - b1)} \u00b7 ${fac(g.v[at])} = ${
                num(m2.v[at])}\n` +
          `v = ${num(b2)} \u00b7 ${fac(v.v[at])} + ${num(1 - b2)} \u00b7 ${fac(g.v[at])}\u00b2 = ${
                num(v2.v[at])}\n` +
          `without the bias of the start: m / (1 \u2212 beta1^${t}) = ${num(mh)},  ` +
          `v / (1 \u2212 beta2^${t}) = ${num(vh)}\n` +
          `param = ${num(p.v[at])} \u2212 ${num(lr)} \u00b7 ${fac(mh)} / (\u221a${
                num(vh)} + eps) ` +
          `= ${num(q.v[at])}`
    };
  },
  sgd_step({in : [p, g, buf], out: [q, buf2], attrs}, at) {
    const lr = Number(attrs.lr), d = buf2 ? buf2.v[at] : g.v[at], momentum = Number(attrs.momentum);
    const push = !buf2 ?
        '' :
        Number(attrs.step) === 1 ?
        `buf = grad = ${num(d)}\n` :
        `buf = ${num(momentum)} \u00b7 ${fac(buf.v[at])} + ${fac(g.v[at])} = ${num(d)}\n`;
    return {
      use: [[at], [at], [at]],
      text: push + `param = ${num(p.v[at])} \u2212 ${num(lr)} \u00b7 ${fac(d)} = ${num(q.v[at])}`
    };
  },
};

const whole = t => !t || t.v.length === t.shape.reduce((a, b) => a * b, 1);
// Null when nobody wrote it down for this op, or a tensor is too large to be in the page.
function work(call, at) {
  const f = works[call.op];
  return f && [...call.in, ...call.out].every(whole) ? f(call, at) : null;
}
)js";

}  // namespace wattle::cli::explain
