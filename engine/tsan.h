/*
 * Hand-overs that the thread sanitizer cannot see. Concurrency Kit's atomics are inline assembly, and
 * what passes through the kernel (a submission, its completion) is no memory access at all: at those
 * places, and nowhere else, the code says by hand what the hardware and the kernel already guarantee.
 *
 *   PH_TSAN_RELEASE(address)   before the store or push that hands over
 *   PH_TSAN_ACQUIRE(address)   after the load or pop that takes
 *
 * Both sides name the same address. They are annotations for a build with -fsanitize=thread and
 * nothing at all in any other: they order nothing, and there are no suppressions beside them.
 */
#ifndef PEERHUB_ENGINE_TSAN_H
#define PEERHUB_ENGINE_TSAN_H

#if defined(__SANITIZE_THREAD__)
#define PH_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PH_TSAN 1
#endif
#endif

#ifdef PH_TSAN
void __tsan_acquire(void *address); /* the sanitizer's run-time library */
void __tsan_release(void *address);
#define PH_TSAN_RELEASE(address) __tsan_release((void *)(address))
#define PH_TSAN_ACQUIRE(address) __tsan_acquire((void *)(address))
#else
#define PH_TSAN_RELEASE(address) ((void)(address))
#define PH_TSAN_ACQUIRE(address) ((void)(address))
#endif

#endif
