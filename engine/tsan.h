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

/*
 * Pages. An address that one thread gives back to the kernel may come to another thread from the kernel,
 * where liburing asks with system calls of its own that the sanitizer does not see. Said of all pages at
 * once: release before pages go, acquire after a ring's have come.
 */
#ifdef PH_TSAN
__attribute__((weak)) char ph_tsan_pages;
#define PH_TSAN_PAGES_RELEASE() PH_TSAN_RELEASE(&ph_tsan_pages)
#define PH_TSAN_PAGES_ACQUIRE() PH_TSAN_ACQUIRE(&ph_tsan_pages)
#else
#define PH_TSAN_PAGES_RELEASE() ((void)0)
#define PH_TSAN_PAGES_ACQUIRE() ((void)0)
#endif

/*
 * Fences. gcc's thread sanitizer knows none (-Wtsan), so in such a build a full fence is a sequentially
 * consistent read-modify-write of one common word, and the lesser ones only keep the compiler from
 * moving code: what they order is atomic, so the sanitizer has nothing to say about it.
 */
#include <stdatomic.h>

#ifdef PH_TSAN
static inline void ph_fence_full(void)
{
	static _Atomic int word;

	atomic_fetch_add(&word, 1);
}
static inline void ph_fence_acquire(void)
{
	atomic_signal_fence(memory_order_acquire);
}
static inline void ph_fence_release(void)
{
	atomic_signal_fence(memory_order_release);
}
#else
static inline void ph_fence_full(void)
{
	atomic_thread_fence(memory_order_seq_cst);
}
static inline void ph_fence_acquire(void)
{
	atomic_thread_fence(memory_order_acquire);
}
static inline void ph_fence_release(void)
{
	atomic_thread_fence(memory_order_release);
}
#endif

#endif
