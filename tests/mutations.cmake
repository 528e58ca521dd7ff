# The list of deliberately broken engines does not rot: every patch still applies, and docs/proof.md names
# what there is; in one build only.
# What catches which of them is told by ci/soak mutations.
if(NOT PEERHUB_SANITIZE AND NOT PEERHUB_COVERAGE AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
	add_test(NAME mutations COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/mutations/run
		${CMAKE_BINARY_DIR} --check)
	set_tests_properties(mutations PROPERTIES TIMEOUT 300)
endif()
