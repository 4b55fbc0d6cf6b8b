# Installs this build into a folder of its own, then configures, builds and runs the README's program
# as a project that knows nothing but find_package(wattle); and a test with the installed test kit.
# Run as: cmake -DROOT=<repository> -DBUILD=<build folder> -DGENERATOR=Ninja -P install.cmake
set(work ${BUILD}/tests/installed)
file(REMOVE_RECURSE ${work})
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE code OUTPUT_VARIABLE out ERROR_VARIABLE out)
  if(code)
    message(FATAL_ERROR "${ARGN}\n${out}")
  endif()
endfunction()
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${work}/prefix)
file(COPY_FILE ${ROOT}/examples/readme.cpp ${work}/main.cpp)
file(COPY_FILE ${ROOT}/tests/installed/kit.cpp ${work}/kit.cpp)
file(WRITE ${work}/CMakeLists.txt "cmake_minimum_required(VERSION 3.24)
project(app CXX)
find_package(wattle REQUIRED)
add_executable(app main.cpp)
target_link_libraries(app wattle::wattle)
add_executable(kit kit.cpp)
target_link_libraries(kit wattle::wattle)
")
run(${CMAKE_COMMAND} -G ${GENERATOR} -S ${work} -B ${work}/build -DCMAKE_PREFIX_PATH=${work}/prefix
    "-DCMAKE_CXX_FLAGS=${FLAGS}")
run(${CMAKE_COMMAND} --build ${work}/build)
run(${work}/build/app)
# The kit for tests without meters: scripted files, and NVIDIA's library with scripted GPUs.
file(GLOB_RECURSE nvml ${work}/prefix/libwattle_fake_nvml.so)
run(${work}/build/kit ${nvml} ${work}/nvml.txt)
