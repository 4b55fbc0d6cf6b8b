// A copyable callable of any type behind one signature: what std::function is, in twenty lines, as
// <functional> is heavy for a header that everything includes.
#pragma once
#include <memory>
#include <type_traits>
#include <utility>

namespace wattle {

template <class Signature>
class Callable;

template <class R, class... Args>
class Callable<R(Args...)> {
 public:
  Callable() = default;
  template <class F>
  requires(!std::is_same_v<std::decay_t<F>, Callable> && std::is_invocable_r_v<R, F&, Args...>)
      Callable(F f)
      : held_(std::make_shared<Held<F>>(std::move(f))) {}
  /// Undefined when empty.
  R operator()(Args... args) const { return held_->call(std::forward<Args>(args)...); }
  explicit operator bool() const { return held_ != nullptr; }

 private:
  struct Base {
    virtual ~Base() = default;
    virtual R call(Args... args) = 0;
  };
  template <class F>
  struct Held final : Base {
    explicit Held(F f) : function(std::move(f)) {}
    R call(Args... args) override { return function(std::forward<Args>(args)...); }
    F function;
  };
  std::shared_ptr<Base> held_;
};

}  // namespace wattle
