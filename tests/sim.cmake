# The simulator (docs/simulator.md). The engine is compiled once more for it, with tests/sim/point.h in
# front of each file; threads, locks, sockets and the seam are its own. All of it is one thread: the thread
# sanitizer has nothing to see there.
if(PEERHUB_SANITIZE MATCHES "thread")
	return()
endif()
file(GLOB SIM_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/sim/*.c)
file(GLOB SIM_ENGINE_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/engine/*.c)
if(PEERHUB_WARNINGS_ONLY)
	# Its own sources alone: those of the engine have been compiled.
	add_library(sim_warnings OBJECT ${SIM_SOURCES})
	target_link_libraries(sim_warnings PRIVATE peerhub_flags ${PEERHUB_DEPS})
	target_include_directories(sim_warnings PRIVATE ${PROJECT_SOURCE_DIR})
	target_compile_definitions(sim_warnings PRIVATE SIM_TLS_REAL)
	peerhub_warnings_only(sim_warnings)
	return()
endif()
set(SIM_POINT ${CMAKE_CURRENT_SOURCE_DIR}/sim/point.h)

function(peerhub_sim_objects name)
	add_library(${name} OBJECT ${ARGN})
	target_link_libraries(${name} PUBLIC peerhub_flags ${PEERHUB_DEPS})
	target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
	set_source_files_properties(${ARGN} PROPERTIES OBJECT_DEPENDS ${SIM_POINT})
endfunction()
# The files that are TLS keep their names; the others reach it through tests/sim/tls_sim.c.
set(SIM_TLS_SOURCES ${SIM_ENGINE_SOURCES})
list(FILTER SIM_TLS_SOURCES INCLUDE REGEX "/tls[a-z_]*\\.c$")
list(FILTER SIM_ENGINE_SOURCES EXCLUDE REGEX "/tls[a-z_]*\\.c$")
peerhub_sim_objects(sim_engine ${SIM_ENGINE_SOURCES})
peerhub_sim_objects(sim_tls ${SIM_TLS_SOURCES})
target_compile_options(sim_engine PRIVATE -include ${SIM_POINT})
target_compile_options(sim_tls PRIVATE -include ${SIM_POINT} -DSIM_TLS_REAL)

add_executable(peerhub-sim ${SIM_SOURCES} $<TARGET_OBJECTS:sim_engine> $<TARGET_OBJECTS:sim_tls>)
target_link_libraries(peerhub-sim PRIVATE peerhub_flags ${PEERHUB_DEPS})
target_include_directories(peerhub-sim PRIVATE ${PROJECT_SOURCE_DIR})
target_compile_definitions(peerhub-sim PRIVATE SIM_TLS_REAL)
foreach(call slot_send_enter slot_pin pthread_create pthread_join pthread_setname_np pthread_mutex_lock pthread_mutex_unlock
		sem_wait socket bind listen getsockname setsockopt getsockopt fcntl close)
	target_link_options(peerhub-sim PRIVATE -Wl,--wrap=${call})
endforeach()

# The kept seeds once broke a rule. With the sanitizers a run costs several times as much, and the build
# without them has covered the ground.
if(PEERHUB_SANITIZE OR PEERHUB_COVERAGE)
	set(SIM_COUNT 200)
else()
	set(SIM_COUNT 2000)
endif()
# The same seeds in every run, so that a red test is a change of ours; ci/soak sim goes on to new ones.
# A seed is the same run whichever compiler built it.
add_test(NAME sim COMMAND peerhub-sim --seeds 1 ${SIM_COUNT} --mode both --jobs 2)
set_tests_properties(sim PROPERTIES TIMEOUT 900 PROCESSORS 2)
add_test(NAME sim_kept COMMAND peerhub-sim --list ${CMAKE_CURRENT_SOURCE_DIR}/sim/seeds.txt)
add_test(NAME sim_replay COMMAND peerhub-sim --seeds 1 16 --mode both --twice)
set_tests_properties(sim_kept sim_replay PROPERTIES TIMEOUT 300)
