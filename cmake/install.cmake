# What `cmake --install` lays down: both libraries, headers, programs, pkg-config file, CMake
# package, docs. Paths inside the pkg-config file and the package are relative to themselves, so
# that `cmake --install --prefix` may move the tree.
include(CMakePackageConfigHelpers)

set(PEERHUB_PC_REQUIRES "libssl >= 3.0, libcrypto, liburing, ck, sqlite3, expat")
set(PEERHUB_CMAKE_MODULES "liburing ck sqlite3 expat")
if(PEERHUB_JEMALLOC)
	string(APPEND PEERHUB_PC_REQUIRES ", jemalloc")
	string(APPEND PEERHUB_CMAKE_MODULES " jemalloc")
endif()
# Who links the static library needs what it was built on; cmake/peerhub-config.cmake.in finds it.
target_link_libraries(peerhub-static INTERFACE
	"$<INSTALL_INTERFACE:OpenSSL::SSL;OpenSSL::Crypto;PkgConfig::PEERHUB_DEPS;Threads::Threads>")

install(TARGETS peerhub EXPORT peerhub-shared
	LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS peerhub-static EXPORT peerhub-static
	ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")

get_property(PROGRAM_TARGETS GLOBAL PROPERTY PEERHUB_PROGRAM_TARGETS)
if(PROGRAM_TARGETS)
	install(TARGETS ${PROGRAM_TARGETS} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
	# Installed programs find the library beside them, wherever the prefix is moved.
	file(RELATIVE_PATH LIB_FROM_BIN "/${CMAKE_INSTALL_BINDIR}" "/${CMAKE_INSTALL_LIBDIR}")
	set_target_properties(${PROGRAM_TARGETS} PROPERTIES
		INSTALL_RPATH "$ORIGIN/${LIB_FROM_BIN}")
endif()

if(TARGET peerhub-cli)
	install(DIRECTORY hub/monitoring/ DESTINATION ${CMAKE_INSTALL_DATADIR}/peerhub)
endif()

set(PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/peerhub)
foreach(kind shared static)
	install(EXPORT peerhub-${kind} NAMESPACE peerhub:: FILE peerhub-${kind}.cmake
		DESTINATION ${PACKAGE_DIR})
endforeach()
configure_package_config_file(cmake/peerhub-config.cmake.in
	${CMAKE_CURRENT_BINARY_DIR}/peerhub-config.cmake INSTALL_DESTINATION ${PACKAGE_DIR}
	NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/peerhub-config-version.cmake
	COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/peerhub-config.cmake
	${CMAKE_CURRENT_BINARY_DIR}/peerhub-config-version.cmake DESTINATION ${PACKAGE_DIR})

file(RELATIVE_PATH PREFIX_FROM_PC "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
string(REGEX REPLACE "/$" "" PREFIX_FROM_PC "${PREFIX_FROM_PC}")
configure_file(cmake/peerhub.pc.in ${CMAKE_CURRENT_BINARY_DIR}/peerhub.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/peerhub.pc
	DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

foreach(document README.md LICENSE CHANGELOG.md)
	if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${document})
		install(FILES ${document} DESTINATION ${CMAKE_INSTALL_DOCDIR})
	endif()
endforeach()
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs)

# An outside program on the installed tree; also in the build without tests, for the library alone.
if(TARGET peerhub_api AND NOT PEERHUB_SANITIZE AND NOT PEERHUB_COVERAGE)
	add_test(NAME install
		COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/tests/install_test.sh ${CMAKE_BINARY_DIR})
	set_tests_properties(install PROPERTIES TIMEOUT 300)
endif()
