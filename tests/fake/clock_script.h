/* The clock of the scripted seam: stands still until a test moves it. Entropy is a seeded sequence. */
#ifndef PEERHUB_TESTS_FAKE_CLOCK_SCRIPT_H
#define PEERHUB_TESTS_FAKE_CLOCK_SCRIPT_H

#include <stdint.h>

void clock_script_set_ns(uint64_t now_ns);
void clock_script_advance_ms(uint64_t milliseconds);
void entropy_script_seed(uint64_t seed);
void entropy_script_fail(int status); /* 0: works; else what entropy_fill answers */

#endif
