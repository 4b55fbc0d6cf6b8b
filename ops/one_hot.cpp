// one_hot: y[.., c] = 1 where c == index[..], else 0, as i64.
#include "ops/indexing.h"

namespace wattle {
namespace {

struct OneHotAttr {
  int64_t num_classes = -1;  ///< -1 = the largest index + 1
  template <class V>
  void visit(V&& v) {
    v("num_classes", num_classes);
  }
};

// -1 asks the data, which only a real tensor has.
int64_t classes(const Tensor& index, const OneHotAttr& a) {
  if (a.num_classes > 0) return a.num_classes;
  if (a.num_classes != -1)
    throw value_error(
        str("one_hot: num_classes ", a.num_classes, " found, expected at least 1, or -1"));
  if (index.is_meta())
    throw value_error(
        "one_hot: num_classes -1 found for an index without data, expected at least 1");
  if (index.numel() == 0)
    throw value_error("one_hot: num_classes -1 found for an empty index, expected at least 1");
  const Tensor dense = contiguous(index);
  int64_t largest = 0;
  for (int64_t i = 0; i < dense.numel(); ++i)
    largest = std::max(largest, rules::index_at(dense, i));
  return largest + 1;
}

void one_hot_ref(Ins in, Outs out, const OneHotAttr&) {
  const int64_t n = in[0].numel(), width = out[0].size(-1);
  indexing::check_range("one_hot", in[0], width);
  int64_t* const y = out[0].data<int64_t>();
  parallel_for(n, 1 + (1 << 15) / (width + 1), [&](int64_t begin, int64_t end) {
    std::fill(y + begin * width, y + end * width, int64_t{0});
    for (int64_t i = begin; i < end; ++i) y[i * width + rules::index_at(in[0], i)] = 1;
  });
}

const Op<OneHotAttr> op{{
    .name = "one_hot",
    .doc = "Class numbers as rows of zeros with a one",
    .equation = "y[.., c] = 1 where c == index[..], else 0",
    .shape =
        [](Ins in, const OneHotAttr& a) {
          rules::arity("one_hot", in, 1, 1);
          rules::index_dtype("one_hot", in, 0);
          rules::room_for_one_more("one_hot", in, 0);
          Shape s = in[0].shape();
          s.push_back(classes(in[0], a));
          return Metas{{s, DType::i64}};
        },
    .cost = [](Ins, std::span<const Meta>, const OneHotAttr&) { return Cost{}; },
    .kernels = {{"ref", one_hot_ref}},
    .samples = {{{{{5}, 0, 4, SampleIn::integers}}, {4}},
                {{{{1, 1}, 0, 1, SampleIn::integers}}, {1}},
                {{{{2, 37}, 0, 3, SampleIn::integers, {}, DType::i32}}, {5}}},
}};

}  // namespace

Tensor one_hot(const Tensor& index, int64_t num_classes) { return op.one({index}, {num_classes}); }

}  // namespace wattle
