/*
 * Included before every file of the engine when it is compiled for the simulator (-include): each
 * atomic step becomes a place where the simulator may let another thread run, a weak compare-and-swap
 * may fail without cause, a store of one byte (a mailbox's `sleeping` flag) may reach the others
 * late, as from a store buffer, unless a full fence or a read-modify-write stands behind it, and the
 * calls of tls.h go through tls_sim.c, which chooses between the real ones and a stub. The engine's own
 * text is compiled unchanged.
 *
 * A system header to the compiler, as <stdatomic.h> is: its macros nest in each other's arguments.
 */
#ifndef PEERHUB_TESTS_SIM_POINT_H
#define PEERHUB_TESTS_SIM_POINT_H
#pragma GCC system_header

#include <stdatomic.h>
#include <stdbool.h>

extern int sim_countdown; /* steps of the running fiber until another may run */
void sim_point_slow(void);
bool sim_spurious(void);

extern void *sim_kept; /* what the running fiber has stored and nobody else sees yet, or NULL */
bool sim_keep(void *at, unsigned char value, int order);
void sim_kept_out(void);

static inline void sim_point(void)
{
	if (--sim_countdown <= 0)
		sim_point_slow();
}

/* Whatever was stored before is seen before what follows. */
static inline void sim_order(void)
{
	if (sim_kept)
		sim_kept_out();
}

#undef atomic_thread_fence
#define atomic_thread_fence(order) \
	((order) == __ATOMIC_SEQ_CST ? sim_order() : (void)0, __atomic_thread_fence(order))

#undef atomic_init
#undef atomic_load_explicit
#undef atomic_store_explicit
#undef atomic_exchange_explicit
#undef atomic_compare_exchange_strong_explicit
#undef atomic_compare_exchange_weak_explicit
#undef atomic_fetch_add_explicit
#undef atomic_fetch_sub_explicit
#undef atomic_fetch_or_explicit
#undef atomic_fetch_and_explicit
#undef atomic_load
#undef atomic_store
#undef atomic_exchange
#undef atomic_compare_exchange_strong
#undef atomic_compare_exchange_weak
#undef atomic_fetch_add
#undef atomic_fetch_sub
#undef atomic_fetch_or
#undef atomic_fetch_and

/* The builtins of gcc, which clang takes too when the pointer is not to an _Atomic: same steps, same seeds. */
#define SIM_VALUE(at) __typeof__((void)0, *(at))
#define SIM_AT(at) ((SIM_VALUE(at) *)(void *)(at))
/* No step: nobody else knows the object yet. */
#define atomic_init(at, value)                                                \
	__extension__({                                                       \
		__auto_type sim_at = (at);                                    \
		SIM_VALUE(sim_at) sim_value = (value);                        \
		__atomic_store(SIM_AT(sim_at), &sim_value, __ATOMIC_RELAXED); \
	})
#define atomic_load_explicit(at, order)                                                        \
	__extension__({                                                                        \
		__auto_type sim_at = (at);                                                     \
		SIM_VALUE(sim_at) sim_value;                                                   \
		sim_point();                                                                   \
		if (sim_kept == (const void *)sim_at)                                          \
			sim_kept_out();                                                        \
		__atomic_load(                                                                 \
			(const SIM_VALUE(sim_at) *)(const void *)sim_at, &sim_value, (order)); \
		sim_value;                                                                     \
	})
#define atomic_store_explicit(at, value, order)                                           \
	__extension__({                                                                   \
		__auto_type sim_at = (at);                                                \
		SIM_VALUE(sim_at) sim_value = (value);                                    \
		sim_point();                                                              \
		sim_order();                                                              \
		if (sizeof(sim_value) != 1 ||                                             \
			!sim_keep((void *)sim_at, *(unsigned char *)&sim_value, (order))) \
			__atomic_store(SIM_AT(sim_at), &sim_value, (order));              \
	})
#define atomic_exchange_explicit(at, value, order)                                   \
	__extension__({                                                              \
		__auto_type sim_at = (at);                                           \
		SIM_VALUE(sim_at) sim_value = (value);                               \
		SIM_VALUE(sim_at) sim_before;                                        \
		sim_point();                                                         \
		sim_order();                                                         \
		__atomic_exchange(SIM_AT(sim_at), &sim_value, &sim_before, (order)); \
		sim_before;                                                          \
	})
#define SIM_CAS(at, expected, value, weak, won, lost)                                        \
	__extension__({                                                                      \
		__auto_type sim_at = (at);                                                   \
		__auto_type sim_expected = (expected);                                       \
		SIM_VALUE(sim_at) sim_value = (value);                                       \
		_Bool sim_won = 0;                                                           \
		sim_point();                                                                 \
		sim_order();                                                                 \
		if ((weak) && sim_spurious())                                                \
			__atomic_load(SIM_AT(sim_at), sim_expected, (lost));                 \
		else                                                                         \
			sim_won = __atomic_compare_exchange(                                 \
				SIM_AT(sim_at), sim_expected, &sim_value, 0, (won), (lost)); \
		sim_won;                                                                     \
	})
#define atomic_compare_exchange_strong_explicit(at, expected, value, won, lost) \
	SIM_CAS(at, expected, value, 0, won, lost)
#define atomic_compare_exchange_weak_explicit(at, expected, value, won, lost) \
	SIM_CAS(at, expected, value, 1, won, lost)
#define SIM_FETCH(builtin, at, value, order)                 \
	__extension__({                                      \
		__auto_type sim_at = (at);                   \
		SIM_VALUE(sim_at) sim_value = (value);       \
		sim_point();                                 \
		sim_order();                                 \
		builtin(SIM_AT(sim_at), sim_value, (order)); \
	})
#define atomic_fetch_add_explicit(at, value, order) SIM_FETCH(__atomic_fetch_add, at, value, order)
#define atomic_fetch_sub_explicit(at, value, order) SIM_FETCH(__atomic_fetch_sub, at, value, order)
#define atomic_fetch_or_explicit(at, value, order) SIM_FETCH(__atomic_fetch_or, at, value, order)
#define atomic_fetch_and_explicit(at, value, order) SIM_FETCH(__atomic_fetch_and, at, value, order)

#define atomic_load(at) atomic_load_explicit(at, __ATOMIC_SEQ_CST)
#define atomic_store(at, value) atomic_store_explicit(at, value, __ATOMIC_SEQ_CST)
#define atomic_exchange(at, value) atomic_exchange_explicit(at, value, __ATOMIC_SEQ_CST)
#define atomic_compare_exchange_strong(at, expected, value) \
	atomic_compare_exchange_strong_explicit(            \
		at, expected, value, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
#define atomic_compare_exchange_weak(at, expected, value) \
	atomic_compare_exchange_weak_explicit(            \
		at, expected, value, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
#define atomic_fetch_add(at, value) atomic_fetch_add_explicit(at, value, __ATOMIC_SEQ_CST)
#define atomic_fetch_sub(at, value) atomic_fetch_sub_explicit(at, value, __ATOMIC_SEQ_CST)
#define atomic_fetch_or(at, value) atomic_fetch_or_explicit(at, value, __ATOMIC_SEQ_CST)
#define atomic_fetch_and(at, value) atomic_fetch_and_explicit(at, value, __ATOMIC_SEQ_CST)

/* The engine's TLS, by way of the simulator's choice; not in the files that are that TLS. */
#ifndef SIM_TLS_REAL
#define tls_shard_create sim_tls_shard_create
#define tls_shard_destroy sim_tls_shard_destroy
#define tls_open sim_tls_open
#define tls_destroy sim_tls_destroy
#define tls_input sim_tls_input
#define tls_input_left sim_tls_input_left
#define tls_input_drop sim_tls_input_drop
#define tls_handshake_step sim_tls_handshake_step
#define tls_verify_refused sim_tls_verify_refused
#define tls_resume sim_tls_resume
#define tls_is_resumed sim_tls_is_resumed
#define tls_read sim_tls_read
#define tls_write sim_tls_write
#define tls_goodbye sim_tls_goodbye
#define tls_failure_text sim_tls_failure_text
#define tls_bytes_estimate sim_tls_bytes_estimate
#endif

#endif
