/*
 * Identities behind the public functions: made, renamed, read from and written as XML. UTF-8.
 * identity_resolve and identity_create are in api/credential.h. Any thread; keys are made and
 * certificates signed without the store's lock.
 */
#ifndef PEERHUB_API_IDENTITY_H
#define PEERHUB_API_IDENTITY_H

#include "api/credential.h"

#define IDENTITY_PASSWORD_UNITS_MAX 1024u /* of an export */

/* Seconds since 1970. */
int64_t identity_now_s(void);

/*
 * An identity made or read but not stored yet: its name is known, so whatever else a caller needs
 * can be had before the store changes. Zeroed by the caller; identity_draft_free on success and
 * failure.
 */
struct identity_draft {
	struct store_identity identity;
	uint8_t *key; /* PKCS #8, by key_to_der */
	size_t key_bytes;
};
/* E_INVALIDARG: texts too long; not an export, altered, another password. */
HRESULT identity_draft_create(
	struct identity_draft *draft, const char *classifier, const char *friendly_name);
HRESULT identity_draft_import(struct identity_draft *draft, PCWSTR xml, const char *password);
/* PEER_E_ALREADY_EXISTS, PEER_E_TOO_MANY_IDENTITIES, PEER_E_NO_KEY_ACCESS. */
HRESULT identity_draft_store(const struct identity_draft *draft);
void identity_draft_free(struct identity_draft *draft);

/* The friendly name, the peer name when there is none. identity: a full name.
 * PEER_E_NOT_FOUND, PEER_E_NO_KEY_ACCESS. */
HRESULT identity_friendly_name(const char *name, char friendly_name[PEER_TEXT_BYTES]);
/* Signs a new certificate with the new name. E_INVALIDARG (too long), PEER_E_NOT_FOUND,
 * PEER_E_NO_KEY_ACCESS. */
HRESULT identity_rename(const char *name, const char *friendly_name);

/* The certificate of a stored identity, read and checked but for its dates: a bit turned on the disk must
 * not go out to others. PEER_E_CERT_STORE_CORRUPTED, E_OUTOFMEMORY; *x509 is then NULL. */
HRESULT identity_certificate(const struct store_identity *identity, X509 **x509);
/* PEERIDENTITYINFO text, malloc'd. PEER_E_NOT_FOUND, PEER_E_CERT_STORE_CORRUPTED. */
HRESULT identity_to_xml(const char *name, char **xml);
/* Read and verify PEERIDENTITYINFO: an identity certificate, self-signed, valid at now_s.
 * E_INVALIDARG (detail says why). */
HRESULT identity_from_xml(PCWSTR xml, int64_t now_s, struct certificate_info *info);
/* The same rules for a bare certificate. */
HRESULT identity_certificate_check(X509 *x509, int64_t now_s, struct certificate_info *info);

/* PEERIDENTITYEXPORT text, malloc'd: PKCS #12, AES-256. PEER_E_NOT_FOUND, PEER_E_NO_KEY_ACCESS. */
HRESULT identity_export(const char *name, const char *password, char **xml);
/* A private key of the store, as an object. Codes of store_identity_key; PEER_E_NO_KEY_ACCESS also
 * when the file holds no key or not this name's. */
HRESULT identity_load_key(const char *name, EVP_PKEY **key);
/* 0: the key belongs to the name, and its private half to its public one; -EINVAL: not; -ENOMEM. */
int identity_key_check(const char *name, EVP_PKEY *key);
/* Bytes of a key file to a key that fits `name`. PEER_E_NO_KEY_ACCESS, E_OUTOFMEMORY. */
HRESULT identity_key_decode(const char *name, const struct store_bytes *der, EVP_PKEY **key);

/* UTF-16 text of at most units_max units and not over `bytes` to malloc'd UTF-8.
 * E_INVALIDARG (`what` is named in detail), E_OUTOFMEMORY. */
HRESULT identity_text(const char *what, PCWSTR wide, size_t units_max, char **utf8);
/* Codes for a failed certificate_issue, key or pkcs7 call. */
HRESULT identity_crypto_failure(int status, const char *doing);

#endif
