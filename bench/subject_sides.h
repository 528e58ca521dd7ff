/*
 * A mutual TLS 1.3 handshake in memory, and what each side of it costs: by plain OpenSSL as a well made server
 * and client use it, and by ours in its several ways. See subject.h for why this is C.
 */
#ifndef PEERHUB_BENCH_SUBJECT_SIDES_H
#define PEERHUB_BENCH_SUBJECT_SIDES_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum subject_way {
	SUBJECT_PLAIN, /* OpenSSL alone; a leaf of an authority that both trust, no tickets */
	SUBJECT_FULL, /* ours; a membership and its group's root, judged anew each time */
	SUBJECT_KNOWN, /* the same, of a chain that has been judged before */
	SUBJECT_RESUMED, /* by a secret; the chain of then is judged once more, as on_verify does */
	SUBJECT_WAYS,
};

struct subject_sides;
/* hub_flags: PH_HUB_TLS_*; FAST_DECODE stays on for the process. NULL: no memory, or OpenSSL refused. */
struct subject_sides *subject_sides_create(uint32_t hub_flags);
void subject_sides_destroy(struct subject_sides *sides);
/* One handshake with all that belongs to it, objects made and freed: ns at the side that accepts and at the one
 * that dials. 0 or < 0. */
int subject_sides_run(
	struct subject_sides *sides, enum subject_way way, uint64_t *accept_ns, uint64_t *dial_ns);

#ifdef __cplusplus
}
#endif
#endif
