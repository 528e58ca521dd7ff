/*
 * Failures by count: the n-th allocation, or thread creation, of this thread from now on fails, once.
 * The test's own file includes this; its program is linked with --wrap (tests/headers.cmake), so that
 * only calls of our code and of the test come here.
 */
#ifndef PEERHUB_TESTS_FAILING_H
#define PEERHUB_TESTS_FAILING_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
int __real_pthread_create(
	pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *context);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
int __wrap_pthread_create(
	pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *context);

static _Thread_local unsigned failing_in; /* 0: nothing fails */

static bool failing_now(void)
{
	return failing_in > 0 && --failing_in == 0;
}

void *__wrap_malloc(size_t bytes)
{
	return failing_now() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
	return failing_now() ? NULL : __real_calloc(count, bytes);
}

int __wrap_pthread_create(
	pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *context)
{
	return failing_now() ? EAGAIN : __real_pthread_create(thread, attributes, run, context);
}

#endif
