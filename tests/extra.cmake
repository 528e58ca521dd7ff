# Tests that are no cmocka program of one noun: headers as a user compiles them, the programs, the
# models, the installed tree, the kept corpora of the fuzz targets.
include(${CMAKE_CURRENT_SOURCE_DIR}/headers.cmake OPTIONAL)
include(${CMAKE_CURRENT_SOURCE_DIR}/hub.cmake OPTIONAL)

# Shell tests get the build directory as their argument and in PEERHUB_BUILD_DIR.
function(peerhub_shell_test name script)
	add_test(NAME ${name} COMMAND bash ${script} ${CMAKE_BINARY_DIR})
	set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300
		ENVIRONMENT "PEERHUB_BUILD_DIR=${CMAKE_BINARY_DIR}")
endfunction()

file(GLOB HUB_SCRIPTS CONFIGURE_DEPENDS hub/*_test.sh)
foreach(script ${HUB_SCRIPTS})
	get_filename_component(name ${script} NAME_WE)
	if(NOT TEST hub_${name})
		peerhub_shell_test(hub_${name} ${script})
	endif()
endforeach()

# What does not depend on how the code was compiled runs in one build only.
if(NOT PEERHUB_SANITIZE AND NOT PEERHUB_COVERAGE AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
	peerhub_shell_test(readme ${CMAKE_CURRENT_SOURCE_DIR}/readme_test.sh)
	if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/models.sh)
		peerhub_shell_test(models ${CMAKE_CURRENT_SOURCE_DIR}/models.sh)
		set_tests_properties(models PROPERTIES TIMEOUT 600)
	endif()
endif()
