# Takes the blocks between "<!-- begin NAME -->" and "<!-- end -->" out of docs/ADDING_AN_OP.md.
# usage: cmake -DDOC=<page> -DOUT=<folder> -P adding_an_op.cmake
# writes OUT/leaky_relu.cpp (the op) and OUT/leaky_relu.h (its line of the catalogue)
cmake_minimum_required(VERSION 3.24)

function(extract name result)
  set(begin "<!-- begin ${name} -->\n```cpp\n")
  set(end "```\n<!-- end -->")
  file(READ ${DOC} page)
  string(FIND "${page}" "${begin}" at)
  if(at EQUAL -1)
    message(FATAL_ERROR "${DOC}: found no block '${name}'")
  endif()
  string(LENGTH "${begin}" skip)
  math(EXPR at "${at} + ${skip}")
  string(SUBSTRING "${page}" ${at} -1 rest)
  string(FIND "${rest}" "${end}" length)
  if(length EQUAL -1)
    message(FATAL_ERROR "${DOC}: block '${name}' has no end")
  endif()
  string(SUBSTRING "${rest}" 0 ${length} block)
  set(${result} "${block}" PARENT_SCOPE)
endfunction()

extract("ops/leaky_relu.cpp" source)
extract("ops/ops.h" line)
file(WRITE ${OUT}/leaky_relu.cpp "${source}")
file(WRITE ${OUT}/leaky_relu.h
     "#pragma once\n#include \"ops/ops.h\"\nnamespace wattle {\n${line}}  // namespace wattle\n")
