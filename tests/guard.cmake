# Instructions of fixed work on the hot paths against tests/guard/counts.tsv (ci/guard). Counts are of one
# compiler and of the optimised build, so one build has the test; the program itself runs in all.
if(PEERHUB_SANITIZE MATCHES "thread")
	return()
endif()
add_executable(guard ${CMAKE_CURRENT_SOURCE_DIR}/guard/guard.c ${PROJECT_SOURCE_DIR}/bench/subject.c)
peerhub_link(guard peerhub_engine peerhub_fake)
add_test(NAME guard_work COMMAND guard)
set_tests_properties(guard_work PROPERTIES TIMEOUT 300)
if(NOT PEERHUB_SANITIZE AND NOT PEERHUB_COVERAGE AND NOT PEERHUB_DEBUG_ASSERTS
	AND CMAKE_C_COMPILER_ID STREQUAL "GNU" AND CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo")
	add_test(NAME guard COMMAND python3 ${PROJECT_SOURCE_DIR}/ci/guard --build ${CMAKE_BINARY_DIR})
	set_tests_properties(guard PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600)
endif()
