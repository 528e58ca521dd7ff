# Processes that change a store are killed, and the next one must find all that was acknowledged and
# nothing half: store_crash (tests/crash/main.c). The long form is ci/soak crash. Its processes have one
# thread each: the thread sanitizer has nothing to see there.
if(PEERHUB_SANITIZE MATCHES "thread")
	return()
endif()
set(CRASH_SOURCES crash/main.c crash/model.c crash/worker.c crash/checker.c crash/points.c
	crash/damage.c)
list(TRANSFORM CRASH_SOURCES PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/)
add_executable(store_crash ${CRASH_SOURCES})
peerhub_link(store_crash peerhub_api peerhub_engine peerhub_seam)
peerhub_warnings_only(store_crash)
if(PEERHUB_SANITIZE)
	add_test(NAME store_crash COMMAND with_ring $<TARGET_FILE:store_crash> --kills 6 --damages 12)
else()
	add_test(NAME store_crash COMMAND with_ring $<TARGET_FILE:store_crash> --kills 100 --damages 45)
endif()
set_tests_properties(store_crash PROPERTIES TIMEOUT 600 SKIP_RETURN_CODE 77)
