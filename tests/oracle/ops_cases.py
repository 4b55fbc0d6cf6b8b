"""All op cases: `draw(op, index)` for op in OPS. Run it to see them: ops_cases.py [OP ...]."""
import sys

import cases_elementwise  # noqa: F401  (registers its generators)
import cases_nn  # noqa: F401
from case_core import GENERATORS, attr_text, draw, own_error, relative_error  # noqa: F401

OPS = list(GENERATORS)
CASES_PER_OP = 20


def main():
    redraws = 0
    for op in sys.argv[1:] or OPS:
        worst = 0.0
        for index in range(CASES_PER_OP):
            case = draw(op, index)
            redraws += case.redraws
            worst = max(worst, own_error(case) if case.spec.check == "values" else 0.0)
            if sys.argv[1:]:
                attrs = " ".join(f"{k}={attr_text(v)}" for k, v in case.spec.attrs.items())
                shapes = " ".join("-" if a is None else f"{a.dtype}{list(a.shape)}" for a in case.spec.ins)
                print(f"{case.name:18} {shapes}  {attrs}  -> {[list(o.shape) for o in case.outs]}")
        print(f"{op:16} {CASES_PER_OP} cases, PyTorch f32 against its f64: {worst:.1e}")
    print(f"{len(sys.argv[1:] or OPS)} ops, {redraws} ill-conditioned draws replaced")


if __name__ == "__main__":
    main()
