/*
 * Clients that give up after a second and are back at once, for ever. They stand for as many other
 * machines, but are one thread with an epoll loop, so what one costs is kept small: of those whose turn has
 * come the latest is first, and one whose turn comes late does not begin (another machine would not have
 * let the answer lie); and who has given up without having read a byte says the same ClientHello again, which
 * costs a socket and no cryptography.
 *
 * The thread that starts them stops them; counters are for any thread.
 */
#ifndef PEERHUB_STRESS_ATTACK_IMPATIENT_H
#define PEERHUB_STRESS_ATTACK_IMPATIENT_H

#include "attack.h"

#include <openssl/ssl.h>
#include <pthread.h>

struct impatient_client;

struct impatient {
	struct attack_run *run;
	ph_address to;
	SSL_CTX *context;
	struct impatient_client *clients;
	uint32_t *ready; /* a stack of those with something to read or to say */
	uint32_t count, ready_count;
	uint32_t look_at; /* where the next look goes on */
	bool is_humble; /* at the lowest priority: where the hub has no processor of its own */
	int epoll;
	pthread_t thread;
	atomic_bool is_ending;
	_Atomic uint64_t tried, done, given_up, turned_away;
	_Atomic uint64_t late; /* of those given up: after the hub's first answer had come */
	_Atomic int error; /* of a socket that could not be made */
};

/* `context` stays the caller's until impatient_stop. False: said so as a fault. */
bool impatient_start(struct impatient *crowd, struct attack_run *run, const ph_address *to,
	SSL_CTX *context, uint32_t count, bool is_humble);
/* A fault when a client could not be made. */
void impatient_stop(struct impatient *crowd);
uint64_t impatient_cpu_ns(const struct impatient *crowd); /* of the thread, before it is stopped */

#endif
