# The attacks of peerhub-stress, each as a test: the short forms, whose verdicts do not depend on how fast
# the machine is. Sizes, times and ratios are judged by `ci/soak attack --full`.
#
# With thread sanitizer only those that are not in every build already: where several threads meet.
if(TARGET peerhub-stress)
	set(ATTACKS silent trickle half-open vanish backlog table descriptors stalled goodbye messages
		growth pings resets key-updates records early ids groups duplicates chains storm)
	if(PEERHUB_SANITIZE MATCHES "thread")
		set(ATTACKS vanish resets ids duplicates storm)
	endif()
	foreach(attack ${ATTACKS})
		add_test(NAME attack_${attack} COMMAND with_ring
			$<TARGET_FILE:peerhub-stress> attack ${attack} --patience 250)
		set_tests_properties(attack_${attack} PROPERTIES TIMEOUT 300 SKIP_RETURN_CODE 77)
	endforeach()
	add_test(NAME attack_command_line
		COMMAND with_ring /bin/bash ${CMAKE_CURRENT_LIST_DIR}/attack/command_line.sh ${CMAKE_BINARY_DIR})
	set_tests_properties(attack_command_line PROPERTIES TIMEOUT 300 SKIP_RETURN_CODE 77)
endif()
