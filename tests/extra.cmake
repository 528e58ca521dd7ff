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

# Tests of the programs: tests/<folder>/*_test.sh is <folder>_<file>.
foreach(folder hub bench stress)
	file(GLOB scripts CONFIGURE_DEPENDS ${folder}/*_test.sh)
	foreach(script ${scripts})
		get_filename_component(name ${script} NAME_WE)
		if(NOT TEST ${folder}_${name})
			peerhub_shell_test(${folder}_${name} ${script})
		endif()
	endforeach()
endforeach()

# The nouns of peerhub-stress, its programs left out.
file(GLOB STRESS_TESTS CONFIGURE_DEPENDS stress/*_test.c)
if(STRESS_TESTS)
	add_library(stress_nouns STATIC)
	foreach(noun audit histogram id_map message p2p_audit)
		target_sources(stress_nouns PRIVATE ${PROJECT_SOURCE_DIR}/stress/${noun}.c)
	endforeach()
	target_link_libraries(stress_nouns PUBLIC peerhub_flags)
	foreach(source ${STRESS_TESTS})
		peerhub_test(stress ${source} stress_nouns peerhub_api peerhub_engine peerhub_seam)
	endforeach()
endif()

# What does not depend on how the code was compiled runs in one build only.
if(NOT PEERHUB_SANITIZE AND NOT PEERHUB_COVERAGE AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
	peerhub_shell_test(tutorial ${CMAKE_CURRENT_SOURCE_DIR}/tutorial_test.sh)
	set_tests_properties(tutorial PROPERTIES TIMEOUT 700 LABELS waits)
	peerhub_shell_test(readme ${CMAKE_CURRENT_SOURCE_DIR}/readme_test.sh)
	if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/models.sh)
		peerhub_shell_test(models ${CMAKE_CURRENT_SOURCE_DIR}/models.sh)
		set_tests_properties(models PROPERTIES TIMEOUT 1200)
	endif()
endif()

# What has a file of its own: the simulator, failure loops, attacks, and their like.
foreach(part sim nth attack crash guard mutations leak spin parsers tls bench)
	include(${CMAKE_CURRENT_SOURCE_DIR}/${part}.cmake OPTIONAL)
endforeach()
include(${CMAKE_CURRENT_SOURCE_DIR}/schedule.cmake)
