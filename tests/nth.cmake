# Nth-failure loops: see docs/testing.md. Every 16th point here, all of them in ci/soak nth. With the
# address sanitizer each point costs several times as much, so fewer are taken there. Most of it is one
# thread on the script: the thread sanitizer has nothing to see there.
if(PEERHUB_SANITIZE MATCHES "thread")
	return()
endif()
set(NTH_COMMON nth/inject.c nth/known.c nth/runner.c)
function(nth_program name)
	add_executable(${name} ${ARGN} ${NTH_COMMON})
	target_compile_definitions(${name} PRIVATE
		NTH_KNOWN="${CMAKE_CURRENT_SOURCE_DIR}/nth/openssl-known.txt")
endfunction()
function(nth_test name)
	add_test(NAME nth_${name} COMMAND ${ARGN})
	set_tests_properties(nth_${name} PROPERTIES TIMEOUT 600 SKIP_RETURN_CODE 77)
endfunction()

# The engine on the scripted ring.
nth_program(nth nth/nth.c nth/world.c nth/errnos.c)
peerhub_link(nth peerhub_engine peerhub_fake)
# p2p.h and the store on the kernel.
nth_program(nth-api nth/nth_api.c)
peerhub_link(nth-api peerhub_api peerhub_engine peerhub_seam)
target_link_options(nth-api PRIVATE
	-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=free,--wrap=memory_map
	-Wl,--wrap=pthread_create,--wrap=XML_ParserCreate)
peerhub_warnings_only(nth nth-api)
# The same points in every run, so that a red test is a change of ours; ci/soak nth takes all of them. Those with the
# sanitizers are among those without.
set(NTH_SEED --seed 1)
# Of OpenSSL's own allocations there are ten thousands.
set(NTH_EVERY 16)
set(NTH_EVERY_OPENSSL 16)
set(NTH_EVERY_LONG 16)
set(NTH_EVERY_ANY 128)
if(PEERHUB_SANITIZE)
	set(NTH_EVERY 96)
	set(NTH_EVERY_OPENSSL 384)
	set(NTH_EVERY_LONG 384)
	set(NTH_EVERY_ANY 512)
endif()
nth_test(self_test nth --self-test)
nth_test(points nth --points ${CMAKE_CURRENT_SOURCE_DIR}/nth/points.txt)
nth_test(alloc nth ${NTH_SEED} --kind alloc --every ${NTH_EVERY})
nth_test(openssl nth ${NTH_SEED} --kind openssl --every ${NTH_EVERY_OPENSSL})
nth_test(any nth ${NTH_SEED} --kind any --every ${NTH_EVERY_ANY})
nth_test(errno nth ${NTH_SEED} --kind errno --every ${NTH_EVERY_LONG})
foreach(kind ours sqlite expat)
	nth_test(api_${kind} with_ring $<TARGET_FILE:nth-api> ${NTH_SEED} --kind ${kind} --every ${NTH_EVERY_LONG})
endforeach()
nth_test(api_threads with_ring $<TARGET_FILE:nth-api> ${NTH_SEED} --kind ours-all --every ${NTH_EVERY})
