/*
 * Why libcrypto could not. It tells in its thread's error queue, several entries deep: the last one names
 * only the layer that gave up, and want of memory may be any of them. So whoever turns a failure of
 * libcrypto into a code asks here, before the queue is emptied by anybody else; otherwise a machine that
 * is short of memory reads as a damaged key, certificate or signature.
 */
#ifndef PEERHUB_API_CRYPTO_H
#define PEERHUB_API_CRYPTO_H

/*
 * The status of a libcrypto call that failed: -ENOMEM when any entry of the calling thread's queue is
 * want of memory, else `other`. Empties the queue. Inside a TLS handshake, too: a step of it that fails
 * adds an entry of its own behind us.
 */
int crypto_failure(int other);

/*
 * The same for a caller that may have entries of its own, which stay: is_marked is what ERR_set_mark() said
 * before the call, 0 for a queue that was empty. Of one that was not, libcrypto shows the last entry alone.
 */
int crypto_failure_since(int is_marked, int other);

#endif
