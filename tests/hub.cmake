# Tests of the program peerhub: its codecs alone, and the program itself from a shell.
function(peerhub_hub_test name)
	add_executable(hub_${name} hub/${name}.c ${ARGN})
	target_include_directories(hub_${name} PRIVATE ${PROJECT_SOURCE_DIR})
	target_link_libraries(hub_${name} PRIVATE peerhub_flags PkgConfig::CMOCKA)
	add_test(NAME hub_${name} COMMAND hub_${name})
	set_tests_properties(hub_${name} PROPERTIES TIMEOUT 120)
endfunction()
peerhub_hub_test(relay_test ${PROJECT_SOURCE_DIR}/hub/relay.c ${PROJECT_SOURCE_DIR}/hub/text.c)
peerhub_hub_test(transfer_test ${PROJECT_SOURCE_DIR}/hub/transfer.c ${PROJECT_SOURCE_DIR}/hub/text.c)
peerhub_hub_test(backoff_test ${PROJECT_SOURCE_DIR}/hub/backoff.c)

peerhub_hub_test(link_test ${PROJECT_SOURCE_DIR}/hub/link.c ${PROJECT_SOURCE_DIR}/hub/asked.c
	${PROJECT_SOURCE_DIR}/hub/backoff.c ${PROJECT_SOURCE_DIR}/hub/names.c ${PROJECT_SOURCE_DIR}/hub/say.c
	${PROJECT_SOURCE_DIR}/hub/loop.c ${PROJECT_SOURCE_DIR}/hub/text.c)
target_link_libraries(hub_link_test PRIVATE peerhub)
peerhub_hub_test(ends_test ${PROJECT_SOURCE_DIR}/hub/ends.c ${PROJECT_SOURCE_DIR}/hub/log.c
	${PROJECT_SOURCE_DIR}/hub/loop.c ${PROJECT_SOURCE_DIR}/hub/text.c)
target_link_libraries(hub_ends_test PRIVATE peerhub)

# The machines of a transfer without a network: the test brings its own route.c.
set(EXCHANGE_SOURCES sender receiver relay say loop names text transfer)
list(TRANSFORM EXCHANGE_SOURCES PREPEND ${PROJECT_SOURCE_DIR}/hub/)
list(TRANSFORM EXCHANGE_SOURCES APPEND .c)
peerhub_hub_test(exchange_test ${EXCHANGE_SOURCES})
target_link_libraries(hub_exchange_test PRIVATE peerhub OpenSSL::Crypto)

if(TARGET peerhub-cli)
	add_test(NAME hub_cli_test COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/hub/cli_test.sh
		$<TARGET_FILE:peerhub-cli>)
	set_tests_properties(hub_cli_test PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600)
endif()

if(TARGET peerhub-cli)
	add_test(NAME hub_revoke_test COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/hub/revoke_test.sh
		$<TARGET_FILE:peerhub-cli>)
	set_tests_properties(hub_revoke_test PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600)
endif()

# A member that does not keep to the rules, for the script beside it.
add_executable(hub_relay_probe hub/relay_probe.c)
set(PROBE_SOURCES files log loop members names node relay say text)
list(TRANSFORM PROBE_SOURCES PREPEND ${PROJECT_SOURCE_DIR}/hub/)
list(TRANSFORM PROBE_SOURCES APPEND .c)
target_sources(hub_relay_probe PRIVATE ${PROBE_SOURCES})
target_include_directories(hub_relay_probe PRIVATE ${PROJECT_SOURCE_DIR})
target_link_libraries(hub_relay_probe PRIVATE peerhub_flags peerhub)
if(TARGET peerhub-cli)
	add_test(NAME hub_relay_script COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/hub/relay_test.sh
		$<TARGET_FILE:peerhub-cli> $<TARGET_FILE:hub_relay_probe>)
	set_tests_properties(hub_relay_script PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600)
endif()
include(${CMAKE_CURRENT_SOURCE_DIR}/dashboard.cmake)
