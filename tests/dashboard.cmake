# What shows a running hub: its dashboard, "peerhub top", the files for monitoring.
if(TARGET peerhub-cli)
	add_executable(hub_many_peers hub/many_peers.c)
	target_sources(hub_many_peers PRIVATE ${PROBE_SOURCES})
	target_include_directories(hub_many_peers PRIVATE ${PROJECT_SOURCE_DIR})
	target_link_libraries(hub_many_peers PRIVATE peerhub_flags peerhub)
	add_test(NAME hub_dashboard_test COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/hub/dashboard_test.sh
		$<TARGET_FILE:peerhub-cli> $<TARGET_FILE:hub_many_peers>)
	add_test(NAME hub_top_test COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/hub/top_test.sh
		$<TARGET_FILE:peerhub-cli> $<TARGET_FILE:hub_many_peers>)
	set_tests_properties(hub_dashboard_test hub_top_test PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600)
endif()

# GNU's: LLVM's shows these notes as bytes.
find_program(PEERHUB_READELF readelf)
if(PEERHUB_PROBES AND PEERHUB_READELF AND TARGET peerhub AND NOT PEERHUB_SANITIZE)
	add_test(NAME probes COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/probes_test.sh $<TARGET_FILE:peerhub> ${PEERHUB_READELF})
endif()
