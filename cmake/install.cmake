# `cmake --install` gives a package that find_package(wattle) finds.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS wattle_core wattle EXPORT wattle_targets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(WATTLE_TOOLS)
  install(TARGETS wattle_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
if(TARGET wattle_cuda)
  install(TARGETS wattle_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/wattle)
endif()
if(WATTLE_TESTS)  # with energy/test_kit.h the kit for tests without meters
  install(TARGETS wattle_fake_nvml LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/wattle)
endif()
foreach(folder ${WATTLE_FOLDERS})
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/${folder}
          DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/wattle FILES_MATCHING PATTERN "*.h")
endforeach()
install(EXPORT wattle_targets NAMESPACE wattle:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/wattle)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/wattle-config.cmake.in
                              ${PROJECT_BINARY_DIR}/wattle-config.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/wattle)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/wattle-config-version.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/wattle-config.cmake
              ${PROJECT_BINARY_DIR}/wattle-config-version.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/wattle)
