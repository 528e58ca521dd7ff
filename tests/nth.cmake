# Nth-failure loops: see docs/testing.md. Every 16th point here, all of them in ci/soak nth.
set(NTH_COMMON nth/inject.c nth/known.c nth/runner.c)
function(nth_program name)
	add_executable(${name} ${ARGN} ${NTH_COMMON})
	target_compile_definitions(${name} PRIVATE
		NTH_KNOWN="${CMAKE_CURRENT_SOURCE_DIR}/nth/openssl-known.txt")
endfunction()
function(nth_test name)
	add_test(NAME nth_${name} COMMAND ${ARGN})
	set_tests_properties(nth_${name} PROPERTIES TIMEOUT 600)
endfunction()

# The engine on the scripted ring.
nth_program(nth nth/nth.c nth/world.c nth/errnos.c)
peerhub_link(nth peerhub_engine peerhub_fake)
# One thread: the thread sanitizer has nothing to see in it.
if(NOT PEERHUB_SANITIZE MATCHES "thread")
	nth_test(self_test nth --self-test)
	nth_test(points nth --points ${CMAKE_CURRENT_SOURCE_DIR}/nth/points.txt)
	nth_test(alloc nth --kind alloc --every 16)
	nth_test(errno nth --kind errno --every 16)
endif()
