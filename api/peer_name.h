/*
 * Peer names: `authority.classifier` in UTF-8, and the TLS server names made of their authorities.
 *
 * The authority is "0" (unsecured) or 40 lower-case hex digits: the first 160 bits of the SHA-256
 * of a public key's DER SubjectPublicKeyInfo. The classifier is 0 to 149 UTF-16 units. Names are
 * compared byte by byte (they are case-sensitive). Pure functions, any thread.
 */
#ifndef PEERHUB_API_PEER_NAME_H
#define PEERHUB_API_PEER_NAME_H

#include "peerhub.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PEER_AUTHORITY_CHARS 40u
#define PEER_AUTHORITY_BYTES 41u /* with NUL */
#define PEER_CLASSIFIER_UNITS_MAX 149u
#define PEER_SNI_BYTES 96u /* 40 + 1 + 40 + ".p2p" + NUL, rounded up */

/* SHA-256, straight: no provider look-up and so no lock that all shards would meet at. */
#define PEER_DIGEST_BYTES 32u
void peer_digest(const void *data, size_t bytes, uint8_t digest[PEER_DIGEST_BYTES]);

/* UTF-16 units of well-formed UTF-8 text; -1 when it is not well-formed. */
int64_t peer_text_units(const char *text);
/* Well-formed UTF-8 of at most units_max UTF-16 units. */
bool peer_text_fits(const char *text, size_t units_max);

bool peer_classifier_is_valid(const char *classifier);
bool peer_authority_is_valid(const char *authority); /* 40 lower-case hex digits */
bool peer_name_is_valid(const char *name); /* secure or "0.classifier" */
bool peer_name_is_secure(const char *name); /* valid, with an authority of 40 digits */

/* The authority of a secure name. 0 or -EINVAL. */
int peer_name_authority(const char *name, char authority[PEER_AUTHORITY_BYTES]);
/* The part behind the first dot, inside name; "" when there is no dot. */
const char *peer_name_classifier(const char *name);
/* authority "." classifier; NULL classifier = "". 0, -EINVAL (either part). */
int peer_name_make(const char *authority, const char *classifier, char name[PH_NAME_BYTES_MAX]);
/* Both are secure names of the same key. */
bool peer_name_same_authority(const char *name, const char *other);
/* The authority that a public key gives; spki is the DER SubjectPublicKeyInfo. */
void peer_authority_of_key(
	const uint8_t *spki, size_t spki_bytes, char authority[PEER_AUTHORITY_BYTES]);

/* "<identity authority>.<group authority>.p2p"; identity NULL = "any.<group authority>.p2p".
 * 0, -EINVAL (a name is not a secure one). */
int peer_sni_format(const char *identity, const char *group, char sni[PEER_SNI_BYTES]);
/* The two authorities in a server name; identity "" when it says any. Upper-case hex is folded.
 * 0, -EINVAL. */
int peer_sni_parse(
	const char *sni, char identity[PEER_AUTHORITY_BYTES], char group[PEER_AUTHORITY_BYTES]);

#endif
