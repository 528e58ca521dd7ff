/*
 * Who takes part in an attack: an authority made in memory, credentials for hubs, and TLS contexts for
 * attackers that need a name to get in. With a remote victim the three come out of PEM files instead.
 * Made once by the main thread; reading it is for any thread.
 */
#ifndef PEERHUB_STRESS_ATTACK_PKI_H
#define PEERHUB_STRESS_ATTACK_PKI_H

#include "peerhub.h"

#include <openssl/ssl.h>
#include <stdbool.h>

struct pki;

int pki_create(struct pki **pki); /* 0, -ENOMEM, -EIO (the crypto library refused) */
/* why[512] tells which file is bad. 0 or -EINVAL. */
int pki_create_files(
	const char *cert, const char *key, const char *ca, struct pki **pki, char *why);
void pki_destroy(struct pki *pki); /* NULL allowed */

/* A P-256 key and a leaf for it that the authority signed; own authority only. False: no memory. */
bool pki_leaf(const struct pki *pki, const char *name, EVP_PKEY **key, X509 **leaf);
X509 *pki_root(const struct pki *pki); /* borrowed */
/* One reference for the caller; `name` counts with our own authority only. NULL: no memory. */
struct ph_credentials *pki_credentials(const struct pki *pki, const char *name);
/* A client's context that believes every server; SSL_CTX_free it. NULL: no memory. */
SSL_CTX *pki_client(const struct pki *pki, const char *name);
/* The name that goes with what pki_credentials and pki_client show. */
const char *pki_name(const struct pki *pki, const char *name);
/* 0 and the leaf's name in identity[PH_NAME_BYTES_MAX], or a negative errno and a refusal. */
int pki_verify(const struct pki *pki, const struct ph_chain *chain, int accepted, char *identity,
	char *refusal);

#endif
