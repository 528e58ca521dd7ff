/*
 * What a process holds, counted from outside the library: descriptors, threads, OpenSSL's objects, bytes.
 * A leak shows as a number that does not come back, and the number has a name.
 *
 * OpenSSL's objects are counted exactly: an ex_data index of each class has a constructor and a
 * destructor of ours, so every object of the process made after count_begin is seen to come and go.
 */
#ifndef PEERHUB_TESTS_LEAK_COUNT_H
#define PEERHUB_TESTS_LEAK_COUNT_H

#include <stdbool.h>
#include <stdint.h>

/* X(field, text): what must be back exactly. Bytes are judged apart, by a share. */
#define COUNTS(X)                          \
	X(descriptors, "descriptors")      \
	X(threads, "threads")              \
	X(ssl, "SSL objects")              \
	X(ssl_contexts, "SSL_CTX objects") \
	X(sessions, "SSL_SESSION objects") \
	X(certificates, "X509 objects")    \
	X(keys, "EVP_PKEY objects")        \
	X(bios, "BIO objects")

struct counts {
#define COUNTS_FIELD(field, text) uint64_t field;
	COUNTS(COUNTS_FIELD)
#undef COUNTS_FIELD
	uint64_t allocated_kib; /* by the allocator's own books: an outline */
	uint64_t
		resident_kib; /* median of several looks, after free pages went back to the kernel */
};

void count_begin(void); /* before OpenSSL has made anything */
void count_take(struct counts *counts);
/* Which of the exact counts differ, one line each on stderr. True: none. */
bool count_is_back(const struct counts *before, const struct counts *now);
/* Growth of resident memory in tenths of a percent; negative when it shrank. */
int64_t count_growth_permille(const struct counts *before, const struct counts *now);

uint64_t count_cpu_ns(void); /* of the process */
uint64_t count_now_ns(void);

#endif
