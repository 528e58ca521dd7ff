# The nouns of the measuring programs that need no connection.
peerhub_test(bench ${CMAKE_CURRENT_SOURCE_DIR}/bench/pace_test.c peerhub_engine peerhub_seam)
target_sources(bench_pace_test PRIVATE ${PROJECT_SOURCE_DIR}/bench/million/pace.c)
# They start some dozens of processes each, which on a starved machine takes minutes.
set_tests_properties(bench_report_test bench_peers_test PROPERTIES TIMEOUT 900)
