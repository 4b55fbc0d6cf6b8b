// embedding: y[i] = weight[index[i]], rows of a table.   gw[index[i]] += gy[i]
#include "ops/indexing.h"

namespace wattle {
namespace {

// ---- embedding_grad: gy [.., D], index [..] -> gw [num_embeddings, D] ----

struct EmbeddingGradAttr {
  int64_t num_embeddings = 0;
  template <class V>
  void visit(V&& v) {
    v("num_embeddings", num_embeddings);
  }
};

void embedding_grad_ref(Ins in, Outs out, const EmbeddingGradAttr& a) {
  indexing::check_range("embedding_grad", in[1], a.num_embeddings);
  dispatch_floating("embedding_grad", in[0].dtype(), [&]<class T>() {
    indexing::add_rows(in[0].data<T>(), in[1], out[0].data<T>(), 1, a.num_embeddings,
                       out[0].size(1));
  });
}

Metas embedding_grad_shape(Ins in, const EmbeddingGradAttr& a) {
  rules::arity("embedding_grad", in, 2, 2);
  rules::floating("embedding_grad", in, 0);
  rules::index_dtype("embedding_grad", in, 1);
  Shape rows = in[1].shape();
  const int64_t width = in[0].rank() ? in[0].size(-1) : 0;
  rows.push_back(width);
  if (in[0].shape() != rows)
    throw shape_error(str("embedding_grad: gradient ", in[0], " found for index ", in[1],
                          ", expected shape ", rows));
  return {{{a.num_embeddings, width}, in[0].dtype()}};
}

const Op<EmbeddingGradAttr> grad_op{{
    .name = "embedding_grad",
    .doc = "Gradient of embedding: the rows of gy summed into a dense table",
    .equation = "gw[index[i]] += gy[i], over zeros",
    .shape = embedding_grad_shape,
    .cost = [](Ins in, std::span<const Meta>,
               const EmbeddingGradAttr&) { return Cost{.add = in[0].numel()}; },
    .kernels = {{"ref", embedding_grad_ref}},
    .saves_in = {1},
    .backward =
        [](const Saved<EmbeddingGradAttr>& s, Ins g) {
          return Tensors{embedding(s.in(1), g[0]), {}};
        },
    .samples = {{{{{4, 3}}, {{4}, 0, 6, SampleIn::integers}}, {6}},
                {{{{1, 1}}, {{1}, 0, 1, SampleIn::integers}}, {1}},
                {{{{2, 3, 37}}, {{2, 3}, 0, 3, SampleIn::integers}}, {3}}},
}};

// ---- embedding: index [..], weight [V, D] -> [.., D] ----

void embedding_ref(Ins in, Outs out, const NoAttr&) {
  const Tensor &index = in[0], &weight = in[1];
  const int64_t rows = weight.size(0), width = weight.size(1);
  indexing::check_range("embedding", index, rows);
  dispatch_all("embedding", weight.dtype(), [&]<class T>() {
    indexing::copy_rows(weight.data<T>(), index, out[0].data<T>(), 1, rows, width);
  });
  report_executed({.read = index.nbytes() +
                           indexing::distinct(index, rows) * width * info(weight.dtype()).bytes,
                   .written = out[0].nbytes()});
}

const Op<> op{{
    .name = "embedding",
    .doc = "Rows of a table",
    .equation = "y[i] = weight[index[i]]",
    .shape =
        [](Ins in, const NoAttr&) {
          rules::arity("embedding", in, 2, 2);
          rules::index_dtype("embedding", in, 0);
          rules::rank("embedding", in, 1, 2);
          rules::room_for_one_more("embedding", in, 0);
          Shape s = in[0].shape();
          s.push_back(in[1].size(1));
          return Metas{{s, in[1].dtype()}};
        },
    .cost = [](Ins, std::span<const Meta>, const NoAttr&) { return Cost{}; },
    .bytes =
        [](Ins in, std::span<const Meta> out, const NoAttr&) {
          const int64_t rows = std::min(in[0].numel(), in[1].size(0));
          return Bytes{in[0].nbytes() + rows * in[1].size(1) * info(in[1].dtype()).bytes,
                       storage_bytes(out[0].shape, out[0].dtype)};
        },
    .kernels = {{"ref", embedding_ref}},
    .saves_in = {0},
    .data_dependent = true,
    .backward =
        [](const Saved<NoAttr>& s, Ins gy) {
          return Tensors{{}, grad_op.one({gy[0], s.in(0)}, {s.shape(1)[0]})};
        },
    .samples = {{{{{4}, 0, 6, SampleIn::integers}, {{6, 3}}}, {}},
                {{{{1}, 0, 1, SampleIn::integers}, {{1, 1}}}, {}},
                {{{{2, 3}, 0, 5, SampleIn::integers, {}, DType::i32}, {{5, 37}}}, {}}},
}};

}  // namespace

Tensor embedding(const Tensor& index, const Tensor& weight) { return op.one({index, weight}); }

}  // namespace wattle
