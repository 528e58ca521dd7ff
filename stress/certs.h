/*
 * Certificates for a run of peerhub-stress, made in memory and forgotten with it: one authority and
 * one leaf that it signed, both P-256. All hubs of the run show the same chain; trust means that
 * the peer's leaf was signed by the authority. Made once, then read from any thread.
 */
#ifndef PEERHUB_STRESS_CERTS_H
#define PEERHUB_STRESS_CERTS_H

#include "peerhub.h"

struct certs;

int certs_create(struct certs **certs); /* 0, -ENOMEM, -EIO (the crypto library refused) */
void certs_destroy(struct certs *certs); /* NULL allowed */

struct ph_credentials *certs_credentials(const struct certs *certs); /* borrowed */
/* The same chain and key, as credentials of their own. 0, -ENOMEM, -EIO. */
int certs_credentials_create(const struct certs *certs, struct ph_credentials **credentials);
/* 0: the chain is the leaf and root of this run, byte for byte; -EACCES: anything else. TLS itself
 * proves that the peer holds the leaf's key. */
int certs_verify(const struct certs *certs, const struct ph_chain *chain);

#endif
