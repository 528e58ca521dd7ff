# What opens and closes must leave nothing behind: leak_cycles counts it (tests/leak/main.c), and the wrap
# tests bring slots to their last generation. The long form is ci/soak leak.
set(LEAK_SOURCES leak/main.c leak/count.c leak/cycles.c leak/inspect.c leak/p2p.c)
list(TRANSFORM LEAK_SOURCES PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/)
add_executable(leak_cycles ${LEAK_SOURCES})
peerhub_link(leak_cycles peerhub_api peerhub_engine peerhub_seam)
peerhub_warnings_only(leak_cycles)
if(PEERHUB_SANITIZE)
	add_test(NAME leak_cycles
		COMMAND with_ring $<TARGET_FILE:leak_cycles> --cycles 1200 --p2p 100 --groups 40 --lives 8)
else()
	add_test(NAME leak_cycles
		COMMAND with_ring $<TARGET_FILE:leak_cycles> --cycles 20000 --p2p 1000 --groups 400 --lives 40)
endif()
set_tests_properties(leak_cycles PROPERTIES TIMEOUT 300 SKIP_RETURN_CODE 77)

add_executable(leak_wrap_test ${CMAKE_CURRENT_SOURCE_DIR}/leak/wrap_test.c
	${CMAKE_CURRENT_SOURCE_DIR}/leak/inspect.c ${CMAKE_CURRENT_SOURCE_DIR}/leak/count.c)
peerhub_link(leak_wrap_test peerhub_engine peerhub_seam)
target_link_libraries(leak_wrap_test PRIVATE PkgConfig::CMOCKA)
add_test(NAME leak_wrap_test COMMAND with_ring $<TARGET_FILE:leak_wrap_test>)
set_tests_properties(leak_wrap_test PROPERTIES TIMEOUT 300 SKIP_RETURN_CODE 77)
if(NOT PEERHUB_SANITIZE MATCHES "thread")
	peerhub_test(leak ${CMAKE_CURRENT_SOURCE_DIR}/leak/wrap_script_test.c peerhub_engine peerhub_fake)
endif()
