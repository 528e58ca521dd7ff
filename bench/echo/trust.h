/*
 * What a program shows in TLS and whom it believes: credentials and trust anchors out of PEM files
 * (peerhub-echo, and peerhub-stress when it dials one). Made once by the main thread, then read by
 * all shards; nothing in it changes. An identity is the common name of a leaf.
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

struct ph_credentials *trust_credentials(const struct trust *trust); /* borrowed */
const char *trust_identity(const struct trust *trust); /* our own leaf's; borrowed */

/*
 * Build and check the path from a peer's leaf to a trusted CA: signatures, validity, purpose (a TLS
 * client's when it was accepted, else a server's). identity[PH_NAME_BYTES_MAX] gets the leaf's
 * common name (or its whole subject), refusal[PH_TEXT_BYTES_MAX] the reason when refused.
 * 0, -EACCES (refused), -ENOMEM. Any thread.
 */
int trust_judge(const struct trust *trust, const struct ph_chain *chain, int accepted,
	char *identity, char *refusal);

#endif
