/*
 * The allocator of the scripted seam: the C library's, but the n-th allocation from now can be made to
 * fail, once or with all that follow it. Blocks are counted, so that a test sees a leak without ASan too.
 */
#ifndef PEERHUB_TESTS_FAKE_MEMORY_SCRIPT_H
#define PEERHUB_TESTS_FAKE_MEMORY_SCRIPT_H

#include <stdbool.h>
#include <stdint.h>

/* nth counts from 1; 0: none fails. for_ever: the n-th and all after it. */
void memory_script_fail(uint64_t nth, bool for_ever);
uint64_t memory_script_tries(void); /* allocations asked for since memory_script_fail */
uint64_t memory_script_failed(void); /* how many of them failed */
int64_t memory_script_live(void); /* blocks and mappings in use */

#endif
