/*
 * Certificates: the three kinds of the Grouping protocol with modern algorithms, made and read.
 *
 *   IDC  an identity: self-signed, names the identity
 *   GRC  a group's root: self-signed by the group's key, names the group
 *   GMC  a membership: binds an identity's key to a group with a role, signed by the group's key
 *        or by an issuing member's identity key
 *
 * X.509 v3, ECDSA P-256 with SHA-256 made, Ed25519 read as well, 16-byte serial, CN = the
 * authority (40 characters). Peer names are otherNames of the alternative names, friendly names an
 * extension of ours. Reading is strict and does no public-key work. Pure functions, any thread.
 */
#ifndef PEERHUB_API_CERTIFICATE_H
#define PEERHUB_API_CERTIFICATE_H

#include "api/key.h"
#include "api/peer_name.h"

#include <openssl/x509.h>

/* Friendly names, comments, cloud names: 255 UTF-16 units, at most 3 bytes each, and NUL. */
#define PEER_TEXT_UNITS_MAX 255u
#define PEER_TEXT_BYTES 768u
#define CERTIFICATE_SERIAL_BYTES 16u
#define CERTIFICATE_DER_BYTES_MAX 16384u
#define CERTIFICATE_LIFETIME_MAX_S (1000ll * 31556952ll) /* "infinite": 1000 years */
#define CERTIFICATE_BACKDATE_S 300 /* notBefore of what we issue: clocks differ a little */

enum certificate_kind {
	CERTIFICATE_GMC = 1, /* values of the type extension */
	CERTIFICATE_GRC = 2,
	CERTIFICATE_IDC = 3,
};

/* Ordered: a higher role may do all that a lower one may. */
enum peer_role {
	ROLE_NONE = 0,
	ROLE_MEMBER = 1, /* issues nothing */
	ROLE_INVITING_MEMBER = 2, /* issues inviting members and members */
	ROLE_ADMIN = 3, /* issues all three */
	ROLE_GROUP = 4, /* the group's own key (GRC): issues all three */
};
/* May a holder of `issuer` issue a certificate with `role`? */
bool role_may_issue(enum peer_role issuer, enum peer_role role);
const char *role_name(enum peer_role role); /* "member", …; static text */

/* What a certificate says, copied out of it. */
struct certificate_info {
	enum certificate_kind kind;
	char name[PH_NAME_BYTES_MAX]; /* subject: identity, or the group (GRC) */
	char issuer[PH_NAME_BYTES_MAX]; /* GMC: member or group that issued it; else "" */
	char group[PH_NAME_BYTES_MAX]; /* GRC, GMC; else "" */
	char friendly_name[PEER_TEXT_BYTES]; /* of the subject; "" when absent */
	char authority[PEER_AUTHORITY_BYTES]; /* computed from the certificate's own key */
	char issuer_authority[PEER_AUTHORITY_BYTES]; /* authority key id (GMC); else "" */
	enum peer_role role; /* GMC: highest role; GRC: ROLE_GROUP */
	bool has_classifiers; /* GMC: its classifier list is not empty (a participant) */
	int64_t valid_from_s, valid_to_s; /* seconds since 1970, inclusive */
	uint8_t serial[CERTIFICATE_SERIAL_BYTES];
	uint8_t spki[KEY_SPKI_BYTES_MAX]; /* DER SubjectPublicKeyInfo */
	size_t spki_bytes;
};

/* Why a certificate, chain or text was refused; shorter than a receipt's text. */
#define REFUSAL_BYTES 128u

/* Read one certificate strictly. 0; -EINVAL (refusal says what is wrong); -ENOMEM. */
int certificate_read(X509 *x509, struct certificate_info *info, char refusal[REFUSAL_BYTES]);
/* Its key, which goes with it. 0; -EINVAL: no point of the curve, or no allowed kind; -ENOMEM. */
int certificate_key(X509 *x509, EVP_PKEY **key);
/* 0: signed by that certificate's key; -EINVAL: not; -ENOMEM: nobody knows. Costs one public-key
 * operation. */
int certificate_verify(X509 *x509, X509 *issuer);
/* 0; -EINVAL: not exactly one certificate, or too large; -ENOMEM. *x509 is NULL then. X509_free. */
int certificate_from_der(const uint8_t *der, size_t der_bytes, X509 **x509);
/* X509 to DER (malloc); 0 or -ENOMEM. */
int certificate_to_der(X509 *x509, uint8_t **der, size_t *der_bytes);

/* What to issue. */
struct certificate_request {
	enum certificate_kind kind;
	const char *name;
	const char *friendly_name; /* NULL or "" = none */
	const char *group; /* GRC, GMC */
	const char *issuer; /* GMC */
	enum peer_role role; /* GMC */
	int64_t valid_from_s, valid_to_s;
	const uint8_t *spki; /* subject's key, DER */
	size_t spki_bytes;
};
/* Make and sign a certificate with `signer` (P-256 or Ed25519; its own key for IDC and GRC).
 * 0, -EINVAL (names or key do not fit the rules), -ENOMEM. */
int certificate_issue(const struct certificate_request *request, EVP_PKEY *signer, X509 **x509);

#endif
