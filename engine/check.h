/*
 * Assertions that stay on in release. They check ourselves, never the world.
 * assert_hot is for per-byte paths and only lives in builds with PEERHUB_DEBUG_ASSERTS.
 */
#ifndef PEERHUB_ENGINE_CHECK_H
#define PEERHUB_ENGINE_CHECK_H

#include <assert.h>

_Noreturn void check_failed(const char *expression, const char *file, int line);

#undef assert
#define assert(expression) ((expression) ? (void)0 : check_failed(#expression, __FILE__, __LINE__))

#ifdef PEERHUB_DEBUG_ASSERTS
#define assert_hot(expression) assert(expression)
#else
#define assert_hot(expression) ((void)0)
#endif

#define likely(expression) __builtin_expect(!!(expression), 1)
#define unlikely(expression) __builtin_expect(!!(expression), 0)

#endif
