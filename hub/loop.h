/*
 * loop.h: time, signals and waiting. SIGINT and SIGTERM come through a descriptor, never through a
 * handler, so that ending is an ordinary event of the main loop. One thread.
 */
#ifndef PEERHUB_HUB_LOOP_H
#define PEERHUB_HUB_LOOP_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOOP_NEVER UINT64_MAX

/* CLOCK_MONOTONIC in ms, at least 1. */
uint64_t loop_now_ms(void);

/*
 * Block SIGINT and SIGTERM, ignore SIGPIPE. Before the library starts threads, so that they inherit
 * it. Returns 0 or a negative errno.
 */
int loop_begin(void);
/* From now on SIGHUP asks for a reload instead of ending the program. After loop_begin, before threads. */
int loop_take_hangups(void); /* 0 or a negative errno */
/* Readable while a SIGHUP waits; -1: they are not taken. */
int loop_hangup_fd(void);
/* Has there been a SIGHUP since the last look? */
bool loop_hangup(void);
/* Readable while a signal waits; -1 before loop_begin. */
int loop_signal_fd(void);
/*
 * The signal taken since loop_begin, or 0. Looks without waiting. From the first one on a graceful end
 * has LOOP_END_S seconds, then SIGALRM ends the program. Another signal changes nothing: some
 * supervisors send each one twice.
 */
#define LOOP_END_S 30u /* the library closes within 5 s; beyond this something is stuck */
int loop_signal(void);
/* How often it was told to end, for who ends in two steps: nothing is latched, no time is running. Several that
 * wait together count as one. */
unsigned loop_signals(void);
/* The end begins without a signal: the same seconds from now on. */
void loop_end_soon(void);

/* Wait for a descriptor, a signal or the deadline (LOOP_NEVER: none). polls[0] is the signals':
 * filled here. Returns 0 or a negative errno; an early return is allowed. */
int loop_wait(struct pollfd *polls, size_t count, uint64_t deadline_ms);

/* The earlier of two times. */
uint64_t loop_earlier(uint64_t left_ms, uint64_t right_ms);

#endif
