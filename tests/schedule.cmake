# How ci/test puts all builds' tests together (ci/collect-tests reads it; included after every test is
# known). Nothing here changes what a test does.
#
# waits  spends most of its time waiting, for timers and far ends: takes half a core, so that others
#        work meanwhile. It still has all its time; it only has company.
# not-repeated   is run by ci/test in other builds only, because the same would be proved again (docs/testing.md
#        has the table): with the second compiler what is not a unit test on its code; with ThreadSanitizer
#        what has one thread, or the same threads as another test; with AddressSanitizer what none of our C
#        code runs in, and what runs the same code as another test there.
# COST   the dearest begin first, so that no long one is left alone at the end.
# TIMEOUT   what a test gave itself, three times: it is there to end what hangs, and a machine with other
#        work to do is no failure.
#
# Simulator, failure loops, kept corpora and the crash test are not even built with ThreadSanitizer.
set(WAITS "^(attack_.*|bench_echo_test|tls_interop_test|engine_hostile_test|leak_wrap_test|hub_(cli|service|dashboard|top)_test)$"
	"^stress_(spin|storm|fault|exit|many|job)_test$")
set(DEAR "^(nth_.*|store_crash|sim|sim_replay|leak_.*|attack_.*|bench_.*|tls_.*|corpus_.*|install)$"
	"^(hub_(cli|service|dashboard|top)_test|hub_relay_script|engine_hostile_test|guard_work)$"
	"^(stress_(spin|storm|fault|exit|many|job)_test|api_two_process_test)$")
# hub_relay_script: the threads of a hub and its members are those of stress_job_test and hub_service_test.
set(UNTHREADED "^(.*_script_test|hub_cli_test|hub_relay_script|engine_hostile_test|guard_work|bench_.*)$"
	"^(stress_(exit|fault|audit|p2p_audit|histogram)_test|leak_cycles)$")
# stress_job_test: hub_relay_script passes files through the same programs. tls_interop_test proves what goes
# over the wire; the code of both sides is walked by engine_tls_test, engine_hostile_test and the corpora.
# engine_slot_step_test is about the instructions of the optimised code. In the loops of sqlite and expat
# what fails is theirs, and not instrumented.
set(UNCHANGED "^(bench_(report|peers|million)_test|stress_job_test|tls_interop_test|engine_slot_step_test)$"
	"^nth_api_(sqlite|expat)$")
# PATTERN:SECONDS, about; the first that matches.
set(COSTS "^sim$:200" "^models$:90" "^store_crash$:60" "^nth_(openssl|errno|api_.*)$:50"
	"^hub_(cli_test|service_test|dashboard_test|top_test|relay_script)$:40" "^stress_(spin|storm|fault|job)_test$:35" "^bench_.*$:30"
	"^(nth_|tls_|leak_|guard|sim_|api_two_process|stress_exit).*$:15"
	"^(attack_|hub_|stress_|api_direct_|engine_tls|engine_hostile).*$:8")

function(matches name patterns out)
	set(${out} FALSE PARENT_SCOPE)
	foreach(pattern ${patterns})
		if(name MATCHES "${pattern}")
			set(${out} TRUE PARENT_SCOPE)
			return()
		endif()
	endforeach()
endfunction()

get_property(SCHEDULED DIRECTORY PROPERTY TESTS)
foreach(test ${SCHEDULED})
	matches(${test} "${WAITS}" is_waiting)
	if(is_waiting)
		set_property(TEST ${test} APPEND PROPERTY LABELS waits)
	endif()
	get_test_property(${test} TIMEOUT timeout)
	if(timeout)
		math(EXPR timeout "${timeout} * 3")
		set_tests_properties(${test} PROPERTIES TIMEOUT ${timeout})
	endif()
	set(is_repeated TRUE)
	if(CMAKE_C_COMPILER_ID MATCHES "Clang")
		matches(${test} "${DEAR}" is_dear)
		if(is_dear)
			set(is_repeated FALSE)
		endif()
	elseif(PEERHUB_SANITIZE MATCHES "thread")
		matches(${test} "${UNTHREADED}" is_elsewhere)
		if(is_elsewhere)
			set(is_repeated FALSE)
		endif()
	elseif(PEERHUB_SANITIZE MATCHES "address" AND NOT PEERHUB_FUZZ)
		matches(${test} "${UNCHANGED}" is_elsewhere)
		if(is_elsewhere)
			set(is_repeated FALSE)
		endif()
	endif()
	if(NOT is_repeated)
		set_property(TEST ${test} APPEND PROPERTY LABELS not-repeated)
	endif()
	foreach(entry ${COSTS})
		string(REGEX MATCH "^(.*):([0-9]+)$" all "${entry}")
		set(pattern "${CMAKE_MATCH_1}")
		set(cost ${CMAKE_MATCH_2})
		if(test MATCHES "${pattern}")
			if(PEERHUB_SANITIZE)
				math(EXPR cost "${cost} * 2")
			endif()
			set_tests_properties(${test} PROPERTIES COST ${cost})
			break()
		endif()
	endforeach()
endforeach()
