/*
 * Allocations that fail on purpose, for `peerhub-stress spin --fail-allocations`: one in N of all those
 * of the engine and of the p2p layer, and one in FAULT_MEMORY_OPENSSL times N of OpenSSL's: it makes
 * thousands of them in a handshake, and with one in 100 none would ever succeed. Which ones is decided
 * by the seed and a count of the allocations, so a thread's luck depends on the others', as in life.
 *
 * What OpenSSL 3.0 does not survive, and is therefore not asked to:
 *   - keys decoded by the short cut of PH_HUB_TLS_FAST_DECODE: without memory for the copy that its old
 *     methods work on, ECDSA_verify dereferences NULL (ECDSA_verify <- EVP_DigestVerifyFinal <- libssl <-
 *     SSL_do_handshake). Hubs do without the short cut while allocations fail.
 *   - contexts that are made: ciphers and algorithms for which there was no memory are left out of them
 *     without a word, and every handshake of such a hub fails. fault_memory_spare_making.
 *   - names of algorithms (core_namemap.c): where the copy of one fails, entries that are entered again
 *     replace those in the map, which nobody frees (also in tests/nth/openssl-known.txt).
 *   - fault_memory_spare_openssl says where else.
 *
 * The program is linked with --wrap for malloc, calloc, realloc and memory_map, so what fails are
 * calls from our own objects, not from shared libraries. The program's own objects are among them:
 * whoever starts this allocates before, or counts with NULL, or spares its thread. Any thread, except
 * where a call says otherwise.
 */
#ifndef PEERHUB_STRESS_FAULT_MEMORY_H
#define PEERHUB_STRESS_FAULT_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#define FAULT_MEMORY_OPENSSL 100u

/* OpenSSL allocates through us from now on: before the first use of OpenSSL in this process.
 * 0 or -EBUSY: it has allocated already. */
int fault_memory_take_openssl(void);

/* From now on one of `one_of` fails; 0: none any more. */
void fault_memory_set(uint64_t seed, uint32_t one_of);
bool fault_memory_is_on(void);

/* Allocations of the calling thread do not fail between these two; they nest. */
void fault_memory_spare(void);
void fault_memory_spare_end(void);

/* OpenSSL's allocations of the calling thread do not fail from now on: those of p2p.h's callers, whose
 * calls parse chains and keys. OpenSSL says there that a certificate is bad when it lacked memory, and
 * nobody above it can tell the two apart reliably. */
void fault_memory_spare_openssl(void);

/* OpenSSL's allocations of no thread fail between these two: around a call that starts a hub, whose
 * shards make their contexts. Any threads. */
void fault_memory_spare_making(void);
void fault_memory_spare_making_end(void);

/* How many have failed, ours and OpenSSL's. */
uint64_t fault_memory_count(void);

#endif
