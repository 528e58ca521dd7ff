# TLS against other implementations, with the engine as a client of theirs.
add_executable(tls_dial tls/dial.c ${PROJECT_SOURCE_DIR}/bench/echo/trust.c)
target_include_directories(tls_dial PRIVATE ${PROJECT_SOURCE_DIR})
target_link_libraries(tls_dial PRIVATE peerhub_flags peerhub OpenSSL::Crypto)
if(TARGET peerhub-echo AND NOT PEERHUB_SANITIZE MATCHES "thread")
	peerhub_shell_test(tls_interop_test ${CMAKE_CURRENT_SOURCE_DIR}/tls/interop_test.sh)
	set_tests_properties(tls_interop_test PROPERTIES TIMEOUT 900)
endif()
