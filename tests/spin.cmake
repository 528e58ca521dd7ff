# The spins of stress_spin_test: 30 seconds of spinning, and what a slow machine with a sanitizer adds.
if(TEST stress_spin_test)
	set_tests_properties(stress_spin_test PROPERTIES TIMEOUT 900)
endif()
