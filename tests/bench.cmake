# The nouns of the measuring programs that need no connection.
peerhub_test(bench ${CMAKE_CURRENT_SOURCE_DIR}/bench/pace_test.c peerhub_engine peerhub_seam)
target_sources(bench_pace_test PRIVATE ${PROJECT_SOURCE_DIR}/bench/million/pace.c)
