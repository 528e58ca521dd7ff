/*
 * What the files of the simulator share: the seed's random numbers, simulated time, the trace, faults and
 * their counts, breaches of a rule. Everything runs on one thread; main.c tells the whole story.
 */
#ifndef PEERHUB_TESTS_SIM_SIM_H
#define PEERHUB_TESTS_SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- random numbers: every decision of a run comes from here, in order ---------------------- */

void random_seed(uint64_t seed);
uint64_t random_next(void);
uint32_t random_below(uint32_t count); /* 0 .. count - 1; 0 for count 0 */
bool random_one_in(uint32_t count); /* 0: never; else true once in about so many */
uint32_t random_between(uint32_t least, uint32_t most); /* both included */
uint32_t random_size(uint32_t most); /* 1 .. most, small ones more often */

/* ---- what happened: faults, branches, situations; counted over all seeds -------------------- */

/* clang-format off */
#define SIM_EVENTS(X) \
	X(short_send) X(send_waits) X(send_error_end) X(send_error_middle) X(short_receive) \
	X(one_byte_segment) X(receive_multishot_ended) X(no_buffers) X(no_buffers_at_arm) \
	X(network_reset) X(half_open) X(partition) X(reset_by_close_unread) X(reset_by_late_data) \
	X(cq_overflow) X(sq_full) X(sq_reserve_used_up) X(submit_refused) X(enter_error) \
	X(cancel_hit) X(cancel_target_first) X(cancel_none) X(cancel_already) X(cancel_answer_first) \
	X(cancel_partial_send) X(completion_late) X(completion_reordered) \
	X(disconnect_refused) X(option_error) X(name_error) X(unsent_error) X(close_error) \
	X(shutdown_error) X(socket_error) X(connect_error) X(connect_refused) X(connect_hangs) \
	X(connect_cancelled) X(accept_error) X(accept_batch) X(accept_multishot_ended) X(file_table_full) \
	X(backlog_full) X(file_index_reused) X(waker_merged) X(waker_poll_ended) \
	X(allocation_failed) X(allocation_drought) X(clock_jump) X(entropy_failed) \
	X(listen_error) X(start_failed) X(cas_spurious) X(sender_preempted_inside) \
	X(mail_to_sleeper) X(held_inside) X(closed_while_inside) \
	X(accept_cancel_refused) X(hub_restarted) X(generation_retired) X(table_full) \
	X(close_won) X(close_lost) X(close_upgraded) X(close_in_connecting) X(close_in_handshake) \
	X(close_in_greeting) X(close_in_open) X(close_in_draining) X(close_in_leaving) \
	X(close_in_closing) X(close_in_callback) X(close_with_reason) X(close_stale) \
	X(close_wrong_tag) X(close_made_up) X(send_accepted) X(send_full) X(send_no_memory) \
	X(send_dead) X(send_stale) X(data_refused) X(writable) X(paused) X(tag_ended) \
	X(close_where) X(close_where_spread) X(listen_ended) X(listen_ended_in_callback) \
	X(stop_in_callback) X(find) X(snapshot) X(resumed) \
	X(verify_refused) X(hello_refused) X(connect_refused_by_user) X(opened) X(closed) \
	X(whole_delivery) X(cut_delivery) X(dropped_bytes) X(ended_graceful) X(ended_abort) \
	X(reason_local_close) X(reason_local_abort) X(reason_group_end) X(reason_stop) \
	X(reason_remote_close) X(reason_remote_reset) X(reason_remote_truncated) \
	X(reason_remote_refused) X(reason_remote_leaving) X(reason_limit_memory) \
	X(reason_connect) X(reason_connect_timeout) X(reason_handshake_timeout) \
	X(reason_welcome_timeout) X(reason_dead) X(reason_handshake_lost) X(reason_transport) \
	X(reason_protocol) X(refused_told) X(refused_reset) X(limit_in_open) X(reason_duplicate) \
	X(retry_after_heard) X(limits_changed)
/* clang-format on */
enum sim_event {
#define SIM_EVENT(name) SIM_##name,
	SIM_EVENTS(SIM_EVENT)
#undef SIM_EVENT
	SIM_EVENT_COUNT
};
void sim_count(enum sim_event event);
extern uint64_t *sim_counts; /* shared with the process that started this one */

/* How often faults come in this run: one in so many, 0 never. Set from the seed (app.c); all of them
 * fall silent together when a run ends, so that everything can come to its end. */
struct sim_rates {
	uint32_t preempt; /* steps between two switches, about */
	uint32_t spurious; /* a weak compare-and-swap */
	uint32_t memory, drought;
	uint32_t short_send, send_error, short_receive, receive_end, one_byte;
	uint32_t network_reset, half_open, partition, delay;
	uint32_t no_buffers;
	uint32_t submit, enter, cancel_already, completion_late;
	uint32_t disconnect, option, name, unsent, close, shutdown, socket, connect, accept;
	uint32_t clock_jump, entropy, listen;
	uint32_t hold; /* a thread stands still inside a connection */
	uint32_t accept_cancel;
};
extern struct sim_rates sim_rates;
extern bool sim_is_calm; /* no fault comes any more */
bool fault(uint32_t rate, enum sim_event event); /* true, counted, when it shall happen */

/* ---- time ----------------------------------------------------------------------------------- */

extern uint64_t sim_now_ns;
extern uint64_t sim_jumped_ns; /* sum of all clock jumps */
#define SIM_MS 1000000ull
#define SIM_NEVER UINT64_MAX

/* ---- trace and breach ----------------------------------------------------------------------- */

/* Format: %llx, %llu, %lld only, at most five; static text. Kept as numbers, written when it is asked for. */
void sim_trace(const char *format, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e);
#define TRACE0(format) sim_trace(format, 0, 0, 0, 0, 0)
#define TRACE1(format, a) sim_trace(format, (uint64_t)(a), 0, 0, 0, 0)
#define TRACE2(format, a, b) sim_trace(format, (uint64_t)(a), (uint64_t)(b), 0, 0, 0)
#define TRACE3(format, a, b, c) sim_trace(format, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), 0, 0)
#define TRACE4(format, a, b, c, d) \
	sim_trace(format, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d), 0)
#define TRACE5(format, a, b, c, d, e) \
	sim_trace(format, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d), (uint64_t)(e))
uint64_t sim_trace_hash(void);
void sim_trace_print(uint32_t lines);
extern bool sim_trace_all; /* write every line at once */

/* A rule is broken: says which, with seed, mode and the last steps, and ends the process with 1. */
__attribute__((format(printf, 1, 2))) _Noreturn void breach(const char *format, ...);
void breach_report(const char *what); /* the head and the trace, from a signal handler too */
extern uint64_t sim_seed;
extern bool sim_tls_is_real;
extern uint64_t sim_steps;

/* ---- fibers: shards and users, each as a thread of the simulated process (fiber.c) ----------- */

struct fiber;
struct fiber *fiber_start(void *(*run)(void *), void *argument);
void fiber_join(struct fiber *fiber);
void fiber_run_all(void); /* until the first one has ended */
/* Until ready(on) or the time. */
void fiber_wait(bool (*ready)(void *on), void *on, uint64_t until_ns);
void fiber_sleep(uint64_t nanoseconds);
void fiber_yield(void);
/* Stand still for so many steps, or until nobody else can do anything; not while masked or with a lock. */
void fiber_hold(uint32_t steps);
uint32_t fiber_number(void); /* of the running one; 0 is the first */
bool fiber_mask(bool masked); /* no switch at points while masked; what it was before */
uint32_t fiber_count(void);
#define FIBERS_MAX 64u

/* ---- the rest of the world ------------------------------------------------------------------- */

int64_t memory_sim_live(void); /* blocks and mappings in use */
void memory_sim_check(void); /* guards of what was freed lately */

bool net_step(
	bool any); /* one thing of the network happens; any: search for one. False: nothing can */
uint64_t net_next_ns(void); /* when the next could, SIM_NEVER */
void net_calm(void); /* lost links come to an error, partitions heal */
bool rings_step(bool any); /* the same of the kernels */
uint64_t rings_next_ns(void);
void net_end(void); /* nothing is left open */

void check_step(void); /* after every step */
void check_turn(void *shard); /* between two turns of a shard */
void check_quiet(void); /* nobody can do anything but wait */

void *app_main(void *argument); /* a run: the first fiber */
void app_init(void); /* once, before the first seed */

#endif
