# The CUDA plugin: everything that needs CUDA is in one module that is loaded at run time. Included
# by CMakeLists.txt; defines the target wattle_cuda where it can be built.
#   WATTLE_CUDA=AUTO  built where a compiler for it and cuDNN are found (the default)
#   WATTLE_CUDA=ON    an error where they are not
#   WATTLE_CUDA=OFF   not built
set(WATTLE_CUDA "AUTO" CACHE STRING "Build the CUDA plugin: AUTO, ON or OFF")
set_property(CACHE WATTLE_CUDA PROPERTY STRINGS AUTO ON OFF)
# Machine code for Hopper; what the driver compiles for every other card from Ampere on.
set(WATTLE_CUDA_ARCHITECTURES "80-virtual;90-real" CACHE STRING "As CMAKE_CUDA_ARCHITECTURES")

set(missing "")
if(WATTLE_CUDA STREQUAL "OFF")
  set(missing "switched off")
else()
  include(CheckLanguage)
  set(CMAKE_CUDA_ARCHITECTURES ${WATTLE_CUDA_ARCHITECTURES})
  check_language(CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    set(missing "no nvcc")
  else()
    enable_language(CUDA)
    find_package(CUDAToolkit QUIET)
    find_path(CUDNN_HEADERS cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
    find_library(CUDNN_LIBRARY NAMES cudnn libcudnn.so.9
                 HINTS ${CUDAToolkit_LIBRARY_DIR} ${CUDAToolkit_TARGET_DIR}/lib
                       ${CUDAToolkit_TARGET_DIR}/lib64)
    if(NOT CUDAToolkit_FOUND OR NOT TARGET CUDA::cublasLt)
      set(missing "no CUDA toolkit with cuBLASLt")
    elseif(NOT CUDNN_HEADERS OR NOT CUDNN_LIBRARY)
      set(missing "no cuDNN 9")
    elseif(CUDAToolkit_VERSION VERSION_LESS 12)
      set(missing "CUDA ${CUDAToolkit_VERSION}, 12 or later is needed")
    endif()
  endif()
endif()

if(missing)
  if(WATTLE_CUDA STREQUAL "ON")
    message(FATAL_ERROR "WATTLE_CUDA=ON: ${missing}")
  endif()
  message(STATUS "CUDA plugin: not built (${missing})")
  return()
endif()

set(WATTLE_CUDA_SOURCES "")
foreach(folder core/cuda ops quant moe snn)
  file(GLOB files CONFIGURE_DEPENDS ${folder}/*.cu)
  list(APPEND WATTLE_CUDA_SOURCES ${files})
endforeach()
file(GLOB files CONFIGURE_DEPENDS core/cuda/*.cpp)
list(APPEND WATTLE_CUDA_SOURCES ${files})
# A neuron fires at equality, so its equation is evaluated as written, without fused multiply-adds.
file(GLOB neurons CONFIGURE_DEPENDS snn/*.cu)
set_source_files_properties(${neurons} PROPERTIES COMPILE_OPTIONS --fmad=false)

string(REPLACE ";" ", " architectures "${WATTLE_CUDA_ARCHITECTURES}")
add_library(wattle_cuda MODULE ${WATTLE_CUDA_SOURCES})
set_target_properties(wattle_cuda PROPERTIES OUTPUT_NAME wattle_cuda13
                      CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON CUDA_RUNTIME_LIBRARY Shared
                      CXX_VISIBILITY_PRESET hidden CUDA_VISIBILITY_PRESET hidden)
target_include_directories(wattle_cuda PRIVATE ${PROJECT_SOURCE_DIR})
target_include_directories(wattle_cuda SYSTEM PRIVATE ${CUDNN_HEADERS})
target_compile_definitions(wattle_cuda PRIVATE
                           WATTLE_CUDA_ARCHITECTURES="${architectures}")
target_compile_options(wattle_cuda PRIVATE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra>
  # 186: comparing an unsigned with 0 in a template; unused: the emulation needs no dtype tag.
  "$<$<COMPILE_LANGUAGE:CUDA>:-diag-suppress=186;--extended-lambda;--expt-relaxed-constexpr;-Xcompiler=-Wall,-Wextra,-Wno-unused-parameter>")
target_link_libraries(wattle_cuda PRIVATE CUDA::cudart CUDA::cublasLt ${CUDNN_LIBRARY})
list(LENGTH WATTLE_CUDA_SOURCES count)
message(STATUS "CUDA plugin: ${count} files for ${architectures}, "
               "CUDA ${CUDAToolkit_VERSION}, cuDNN at ${CUDNN_LIBRARY}")
