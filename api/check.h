/*
 * Assertions of this folder, on in release too. They check ourselves, never the client or the world.
 */
#ifndef PEERHUB_API_CHECK_H
#define PEERHUB_API_CHECK_H

#include <assert.h>

_Noreturn void api_check_failed(const char *expression, const char *file, int line);

#undef assert
#define assert(expression) \
	((expression) ? (void)0 : api_check_failed(#expression, __FILE__, __LINE__))

#endif
