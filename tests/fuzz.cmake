# The parsers of outside bytes: tests/fuzz/<name>_fuzz.c with kept inputs in tests/fuzz/corpus/<name>/.
# With PEERHUB_FUZZ each is a libFuzzer program fuzz_<name>, run for PEERHUB_FUZZ_SECONDS; what it
# finds new goes to the build directory, and what is worth keeping is copied to the corpus by hand.
# In all other builds, but for the thread sanitizer's, it is corpus_<name>, which runs every kept input
# once (tests/fuzz/replay.c).
set(PEERHUB_FUZZ_SECONDS 15 CACHE STRING "How long a test run fuzzes each target")
set(PEERHUB_FUZZ_SEED 1 CACHE STRING "With which seed a test run fuzzes")
# An input may take a processor three seconds (an identity that is exported derives keys), and a busy machine
# made a minute of that: a hang is 200 s (-timeout below).

# What a target needs beside the library: sources; the scripted seam of tests/fake/ instead of the
# kernel's; allocations of our code that fail when the input says so (tests/fuzz/failing.h). TLS keeps
# its peers' memory across inputs, so LeakSanitizer looks there at the end only, not after every input.
set(FUZZ_SOURCES_relay hub/relay.c hub/transfer.c hub/text.c)
set(FUZZ_FAKE conn record tls)
set(FUZZ_SOURCES_command hub/options.c hub/text.c)
set(FUZZ_FAILING chain command invitation store text xml)
set(FUZZ_LEAKS_LATE chain conn invitation tls)

if(NOT TARGET peerhub_fake)
	file(GLOB FAKE_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/fake/*.c)
	peerhub_part(peerhub_fake ${FAKE_SOURCES})
endif()
function(peerhub_fuzz name)
	set(kept ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name})
	set(sources ${PROJECT_SOURCE_DIR}/tests/fuzz/${name}_fuzz.c)
	foreach(source ${FUZZ_SOURCES_${name}})
		list(APPEND sources ${PROJECT_SOURCE_DIR}/${source})
	endforeach()
	set(seam peerhub_seam)
	if(name IN_LIST FUZZ_FAKE)
		set(seam peerhub_fake)
	endif()
	set(wrapped)
	if(name IN_LIST FUZZ_FAILING)
		set(wrapped -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc)
	endif()
	if(PEERHUB_SANITIZE MATCHES "thread")
		return() # one thread each: nothing to see
	endif()
	if(NOT PEERHUB_FUZZ)
		add_executable(corpus_${name} ${sources} ${PROJECT_SOURCE_DIR}/tests/fuzz/replay.c)
		peerhub_link(corpus_${name} peerhub_api peerhub_engine ${seam})
		target_link_options(corpus_${name} PRIVATE ${wrapped})
		peerhub_warnings_only(corpus_${name})
		add_test(NAME corpus_${name} COMMAND corpus_${name} ${kept})
		set_tests_properties(corpus_${name} PROPERTIES TIMEOUT 300)
		return()
	endif()
	add_executable(fuzz_${name} ${sources})
	target_link_libraries(fuzz_${name} PRIVATE -fsanitize=fuzzer)
	peerhub_link(fuzz_${name} peerhub_api peerhub_engine ${seam})
	target_link_options(fuzz_${name} PRIVATE ${wrapped})
	# A test run takes the same inputs each time, so that red is a change of ours: one seed, the kept
	# inputs in one order (libFuzzer would take them as the file system lists them), nothing of the last
	# run. How many it gets through depends on the machine. `ci/soak fuzz` has a seed of its own each time.
	set(found ${CMAKE_BINARY_DIR}/corpus/${name})
	set(inputs ${CMAKE_BINARY_DIR}/fuzz_${name}.inputs)
	file(GLOB kept CONFIGURE_DEPENDS ${kept}/*)
	list(JOIN kept "," kept)
	file(CONFIGURE OUTPUT ${inputs} CONTENT "${kept}" @ONLY)
	if(kept)
		set(kept -seed_inputs=@${inputs})
	endif()
	set(leaks 1)
	if(name IN_LIST FUZZ_LEAKS_LATE)
		set(leaks 0)
	endif()
	add_test(NAME fuzz_${name} COMMAND sh -c "rm -rf \"$0\" && mkdir -p \"$0\" && exec \"$@\""
		${found} $<TARGET_FILE:fuzz_${name}> -seed=${PEERHUB_FUZZ_SEED} -detect_leaks=${leaks}
		-max_total_time=${PEERHUB_FUZZ_SECONDS}
		-timeout=200 -rss_limit_mb=2048 -print_final_stats=1
		-artifact_prefix=${CMAKE_BINARY_DIR}/fuzz_${name}- ${kept} ${found})
	math(EXPR limit "${PEERHUB_FUZZ_SECONDS} + 240")
	set_tests_properties(fuzz_${name} PROPERTIES TIMEOUT ${limit} COST 20)
endfunction()

file(GLOB FUZZ_FILES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/fuzz/*_fuzz.c)
foreach(file ${FUZZ_FILES})
	get_filename_component(name ${file} NAME_WE)
	string(REGEX REPLACE "_fuzz$" "" name ${name})
	peerhub_fuzz(${name})
endforeach()
