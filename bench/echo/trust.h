/*
 * What peerhub-echo shows in TLS and whom it believes: credentials and trust anchors out of PEM
 * files. Made once by the main thread, then read by all shards; nothing in it changes.
 */
#ifndef PEERHUB_ECHO_TRUST_H
#define PEERHUB_ECHO_TRUST_H

#include "peerhub.h"

#define TRUST_WHY_BYTES 512u

struct trust;

/* Read the three files. 0, or -EINVAL with a line in why[TRUST_WHY_BYTES] that names the file. */
int trust_create(const char *cert_path, const char *key_path, const char *ca_path,
	struct trust **trust, char *why);
void trust_destroy(struct trust *trust); /* NULL allowed */

/* One new reference for the engine. */
struct ph_credentials *trust_credentials(const struct trust *trust);

/*
 * Build and check the path from a client's leaf to a trusted CA: signatures, validity, purpose.
 * identity[PH_NAME_BYTES_MAX] gets the leaf's common name (or its whole subject), refusal
 * [PH_TEXT_BYTES_MAX] the reason when refused. 0, -EACCES (refused), -ENOMEM. Any thread.
 */
int trust_verify(
	const struct trust *trust, const struct ph_chain *chain, char *identity, char *refusal);

#endif
