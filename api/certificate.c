/*
 * Certificates made and read. The extensions and who carries which:
 *
 *   extension                OID                        IDC  GRC  GMC  value
 *   kind                     1.3.6.1.4.1.311.44.0.1      x    x    x   u32, little-endian
 *   version                  1.3.6.1.4.1.311.44.0.4      x    x    x   u32 0x01000200
 *   subject alternative name 2.5.29.17                   x    x    x   otherName 44.0.2, UTF8String
 *   issuer alternative name  2.5.29.18                             x   the same
 *   group name               1.3.6.1.4.1.311.44.3.1           x    x   UTF8String
 *   identity flags           1.3.6.1.4.1.311.44.2.2      x             u32 0
 *   group flags              1.3.6.1.4.1.311.44.3.2           x    x   u32 0
 *   roles                    1.3.6.1.4.1.311.44.3.3                x   16-byte GUIDs
 *   classifiers              1.3.6.1.4.1.311.44.3.5                x   SEQUENCE OF UTF8String
 *   authority key id         2.5.29.35                             x   issuer's authority, 20 bytes
 *   extended key usage       2.5.29.37                   x    x    x   44.3.4, server, client
 *   friendly name            2.25.6530...7691 (ours)     o    o    o   UTF8String
 *
 * All of the 44.* ones are critical. x must be there, o may be, anything else of the table must not
 * be there, each at most once; an unknown extension must not be critical. The key that a name
 * stands for is the key in the certificate: reading checks that its hash is the name's authority.
 */
#include "api/certificate.h"

#include "api/crypto.h"
#include "api/der.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define CERTIFICATE_VERSION 0x01000200u
#define EXTENSIONS_MAX 32 /* of one certificate, ours are 11 */
#define SIGNATURE_BYTES_MAX 80 /* ECDSA P-256 in DER is at most 72, Ed25519 64 */
#define ROLES_MAX 4u
#define PARTICIPANT "participant"

/* ---- extensions by OID ------------------------------------------------------------------ */

enum extension {
	EXT_KIND,
	EXT_VERSION,
	EXT_SUBJECT_NAME,
	EXT_ISSUER_NAME,
	EXT_GROUP_NAME,
	EXT_IDENTITY_FLAGS,
	EXT_GROUP_FLAGS,
	EXT_ROLES,
	EXT_CLASSIFIERS,
	EXT_AUTHORITY_KEY,
	EXT_KEY_USAGE,
	EXT_FRIENDLY_NAME,
	EXT_COUNT,
};
#define BIT(extension) (1u << (extension))

#define PEERNET 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x2c
#define OURS                                                                                      \
	0x69, 0xe2, 0xa1, 0xc4, 0xc4, 0x83, 0xd6, 0xd2, 0x97, 0x9f, 0x91, 0xb7, 0xe3, 0xc5, 0xba, \
		0xcc, 0xaa, 0xc0, 0x1b

static const struct {
	const char *name; /* for refusals */
	const char *text; /* the OID, for writing */
	uint8_t critical, bytes;
	uint8_t oid[20]; /* the same, for reading */
} extensions[EXT_COUNT] = {
	[EXT_KIND] = {"kind", "1.3.6.1.4.1.311.44.0.1", 1, 10, {PEERNET, 0, 1}},
	[EXT_VERSION] = {"version", "1.3.6.1.4.1.311.44.0.4", 1, 10, {PEERNET, 0, 4}},
	[EXT_SUBJECT_NAME] = {"subject alternative name", "2.5.29.17", 1, 3, {0x55, 0x1d, 0x11}},
	[EXT_ISSUER_NAME] = {"issuer alternative name", "2.5.29.18", 1, 3, {0x55, 0x1d, 0x12}},
	[EXT_GROUP_NAME] = {"group name", "1.3.6.1.4.1.311.44.3.1", 1, 10, {PEERNET, 3, 1}},
	[EXT_IDENTITY_FLAGS] = {"identity flags", "1.3.6.1.4.1.311.44.2.2", 1, 10, {PEERNET, 2, 2}},
	[EXT_GROUP_FLAGS] = {"group flags", "1.3.6.1.4.1.311.44.3.2", 1, 10, {PEERNET, 3, 2}},
	[EXT_ROLES] = {"roles", "1.3.6.1.4.1.311.44.3.3", 1, 10, {PEERNET, 3, 3}},
	[EXT_CLASSIFIERS] = {"classifiers", "1.3.6.1.4.1.311.44.3.5", 1, 10, {PEERNET, 3, 5}},
	[EXT_AUTHORITY_KEY] = {"authority key id", "2.5.29.35", 0, 3, {0x55, 0x1d, 0x23}},
	[EXT_KEY_USAGE] = {"extended key usage", "2.5.29.37", 0, 3, {0x55, 0x1d, 0x25}},
	[EXT_FRIENDLY_NAME] = {"friendly name", "2.25.65306297556662368685046784727758577691", 0,
		19, {OURS}},
};

static const uint8_t oid_peer_name[] = {PEERNET, 0, 2};
static const uint8_t oid_usage_peer[] = {PEERNET, 3, 4};
static const uint8_t oid_usage_server[] = {0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01};
static const uint8_t oid_usage_client[] = {0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02};

#define REQUIRED_ALL (BIT(EXT_KIND) | BIT(EXT_VERSION) | BIT(EXT_SUBJECT_NAME) | BIT(EXT_KEY_USAGE))
static const struct {
	const char *name;
	uint32_t required;
} kinds[] = {
	[CERTIFICATE_GMC] = {"membership certificate",
		REQUIRED_ALL | BIT(EXT_ISSUER_NAME) | BIT(EXT_GROUP_NAME) | BIT(EXT_GROUP_FLAGS) |
			BIT(EXT_ROLES) | BIT(EXT_CLASSIFIERS) | BIT(EXT_AUTHORITY_KEY)},
	[CERTIFICATE_GRC] = {"group root certificate",
		REQUIRED_ALL | BIT(EXT_GROUP_NAME) | BIT(EXT_GROUP_FLAGS)},
	[CERTIFICATE_IDC] = {"identity certificate", REQUIRED_ALL | BIT(EXT_IDENTITY_FLAGS)},
};

/* GUIDs in their layout in memory (MS-DTYP: first three fields little-endian). */
static const uint8_t role_guids[][16] = {
	[ROLE_MEMBER] = {0xc7, 0xc4, 0x2d, 0xf1, 0x57, 0x08, 0xa0, 0x4c, 0x93, 0xfc, 0xb1, 0xbb,
		0x19, 0xa3, 0xd8, 0xc2},
	[ROLE_INVITING_MEMBER] = {0x89, 0xfd, 0x70, 0x43, 0x18, 0xdc, 0xfb, 0x4c, 0x8d, 0xbf, 0x98,
		0x53, 0xa8, 0xa9, 0xf9, 0x05},
	[ROLE_ADMIN] = {0x27, 0x71, 0x38, 0x04, 0x56, 0xaa, 0x0a, 0x45, 0x8c, 0xe5, 0x4f, 0x56,
		0x5c, 0x67, 0x90, 0xf4},
};

bool role_may_issue(enum peer_role issuer, enum peer_role role)
{
	if (role < ROLE_MEMBER || role > ROLE_ADMIN)
		return false;
	switch (issuer) {
	case ROLE_GROUP:
	case ROLE_ADMIN:
		return true;
	case ROLE_INVITING_MEMBER:
		return role <= ROLE_INVITING_MEMBER;
	default:
		return false;
	}
}

const char *role_name(enum peer_role role)
{
	static const char *const names[] = {
		[ROLE_NONE] = "none",
		[ROLE_MEMBER] = "member",
		[ROLE_INVITING_MEMBER] = "inviting member",
		[ROLE_ADMIN] = "administrator",
		[ROLE_GROUP] = "group",
	};

	return (unsigned)role <= ROLE_GROUP ? names[role] : "unknown";
}

/* ---- reading ---------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static int refuse(
	char refusal[REFUSAL_BYTES], const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(refusal, REFUSAL_BYTES, format, arguments);
	va_end(arguments);
	return -EINVAL;
}

static bool span_is(struct der_span span, const uint8_t *data, size_t bytes)
{
	return span.bytes == bytes && memcmp(span.data, data, bytes) == 0;
}

/* Text without NUL inside, well-formed, at most units_max; written with NUL. */
static bool read_text(struct der_span span, size_t units_max, char *text, size_t text_bytes)
{
	if (span.bytes >= text_bytes || memchr(span.data, 0, span.bytes) != NULL)
		return false;
	memcpy(text, span.data, span.bytes);
	text[span.bytes] = '\0';
	return peer_text_fits(text, units_max);
}

static bool read_name(struct der_span span, char name[PH_NAME_BYTES_MAX])
{
	return read_text(span, PH_NAME_BYTES_MAX, name, PH_NAME_BYTES_MAX) &&
		peer_name_is_secure(name);
}

/* GeneralNames with exactly one otherName of ours; a second form as dNSName is allowed. */
static bool read_alternative(struct der_span span, char name[PH_NAME_BYTES_MAX])
{
	struct der_span names, value, oid, explicit, text;
	bool found = false;
	uint8_t tag;

	if (!der_take(&span, DER_SEQUENCE, &names) || span.bytes != 0)
		return false;
	while (names.bytes > 0) {
		if (!der_take_any(&names, &tag, &value))
			return false;
		if (tag == DER_CONTEXT(2))
			continue;
		if (tag != DER_CONTEXT_CONSTRUCTED(0) || found)
			return false;
		if (!der_take(&value, DER_OID, &oid) ||
			!span_is(oid, oid_peer_name, sizeof(oid_peer_name)))
			return false;
		if (!der_take(&value, DER_CONTEXT_CONSTRUCTED(0), &explicit) || value.bytes != 0)
			return false;
		if (!der_take(&explicit, DER_UTF8, &text) || explicit.bytes != 0)
			return false;
		if (!read_name(text, name))
			return false;
		found = true;
	}
	return found;
}

static bool read_utf8_name(struct der_span span, char name[PH_NAME_BYTES_MAX])
{
	struct der_span text;

	return der_take(&span, DER_UTF8, &text) && span.bytes == 0 && read_name(text, name);
}

static bool read_u32(struct der_span span, uint32_t *value)
{
	if (span.bytes != 4)
		return false;
	*value = (uint32_t)span.data[0] | (uint32_t)span.data[1] << 8 |
		(uint32_t)span.data[2] << 16 | (uint32_t)span.data[3] << 24;
	return true;
}

static bool read_roles(struct der_span span, enum peer_role *role)
{
	*role = ROLE_NONE;
	if (span.bytes == 0 || span.bytes % 16 != 0 || span.bytes / 16 > ROLES_MAX)
		return false;
	for (size_t at = 0; at < span.bytes; at += 16) {
		enum peer_role each = ROLE_NONE;

		for (enum peer_role known = ROLE_MEMBER; known <= ROLE_ADMIN; known++)
			if (memcmp(span.data + at, role_guids[known], 16) == 0)
				each = known;
		if (each == ROLE_NONE)
			return false;
		if (each > *role)
			*role = each;
	}
	return true;
}

/* Empty, or the one classifier that this library delegates. */
static bool read_classifiers(struct der_span span, bool *has_classifiers)
{
	struct der_span list, text;

	if (!der_take(&span, DER_SEQUENCE, &list) || span.bytes != 0)
		return false;
	*has_classifiers = list.bytes > 0;
	if (list.bytes == 0)
		return true;
	return der_take(&list, DER_UTF8, &text) && list.bytes == 0 &&
		span_is(text, (const uint8_t *)PARTICIPANT, strlen(PARTICIPANT));
}

static bool read_authority_key(struct der_span span, char authority[PEER_AUTHORITY_BYTES])
{
	struct der_span list, key_id;

	if (!der_take(&span, DER_SEQUENCE, &list) || span.bytes != 0)
		return false;
	if (!der_take(&list, DER_CONTEXT(0), &key_id) || list.bytes != 0 || key_id.bytes != 20)
		return false;
	for (size_t index = 0; index < key_id.bytes; index++)
		snprintf(authority + 2 * index, 3, "%02x", key_id.data[index]);
	return true;
}

static bool read_usage(struct der_span span)
{
	struct der_span list, oid;
	bool peer = false, server = false, client = false;

	if (!der_take(&span, DER_SEQUENCE, &list) || span.bytes != 0)
		return false;
	while (list.bytes > 0) {
		if (!der_take(&list, DER_OID, &oid))
			return false;
		peer |= span_is(oid, oid_usage_peer, sizeof(oid_usage_peer));
		server |= span_is(oid, oid_usage_server, sizeof(oid_usage_server));
		client |= span_is(oid, oid_usage_client, sizeof(oid_usage_client));
	}
	return peer && server && client;
}

static bool read_friendly(struct der_span span, char friendly_name[PEER_TEXT_BYTES])
{
	struct der_span text;

	return der_take(&span, DER_UTF8, &text) && span.bytes == 0 &&
		read_text(text, PEER_TEXT_UNITS_MAX, friendly_name, PEER_TEXT_BYTES);
}

static bool read_value(
	enum extension extension, struct der_span span, struct certificate_info *info)
{
	uint32_t value;

	switch (extension) {
	case EXT_KIND:
		if (!read_u32(span, &value) || value < CERTIFICATE_GMC || value > CERTIFICATE_IDC)
			return false;
		info->kind = (enum certificate_kind)value;
		return true;
	case EXT_VERSION:
		return read_u32(span, &value) && value == CERTIFICATE_VERSION;
	case EXT_IDENTITY_FLAGS:
	case EXT_GROUP_FLAGS:
		return read_u32(span, &value) && value == 0;
	case EXT_SUBJECT_NAME:
		return read_alternative(span, info->name);
	case EXT_ISSUER_NAME:
		return read_alternative(span, info->issuer);
	case EXT_GROUP_NAME:
		return read_utf8_name(span, info->group);
	case EXT_ROLES:
		return read_roles(span, &info->role);
	case EXT_CLASSIFIERS:
		return read_classifiers(span, &info->has_classifiers);
	case EXT_AUTHORITY_KEY:
		return read_authority_key(span, info->issuer_authority);
	case EXT_KEY_USAGE:
		return read_usage(span);
	case EXT_FRIENDLY_NAME:
		return read_friendly(span, info->friendly_name);
	default:
		return false;
	}
}

static enum extension extension_of(const ASN1_OBJECT *object)
{
	struct der_span oid = {OBJ_get0_data(object), OBJ_length(object)};

	for (enum extension each = 0; each < EXT_COUNT; each++)
		if (span_is(oid, extensions[each].oid, extensions[each].bytes))
			return each;
	return EXT_COUNT;
}

static int read_extensions(
	X509 *x509, struct certificate_info *info, uint32_t *seen, char refusal[REFUSAL_BYTES])
{
	int count = X509_get_ext_count(x509);

	if (count > EXTENSIONS_MAX)
		return refuse(refusal, "certificate with too many extensions");
	*seen = 0;
	for (int index = 0; index < count; index++) {
		X509_EXTENSION *extension = X509_get_ext(x509, index);
		const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(extension);
		int critical = X509_EXTENSION_get_critical(extension);
		enum extension which = extension_of(X509_EXTENSION_get_object(extension));
		struct der_span span = {
			ASN1_STRING_get0_data(value), (size_t)ASN1_STRING_length(value)};

		if (which == EXT_COUNT && critical)
			return refuse(refusal, "certificate with an unknown critical extension");
		if (which == EXT_COUNT)
			continue;
		if (*seen & BIT(which))
			return refuse(refusal, "certificate with two extensions %s",
				extensions[which].name);
		*seen |= BIT(which);
		if (extensions[which].critical && !critical)
			return refuse(
				refusal, "extension %s is not critical", extensions[which].name);
		if (!read_value(which, span, info))
			return refuse(refusal, "extension %s is malformed", extensions[which].name);
	}
	return 0;
}

static int read_presence(
	const struct certificate_info *info, uint32_t seen, char refusal[REFUSAL_BYTES])
{
	uint32_t required;

	if (!(seen & BIT(EXT_KIND)))
		return refuse(refusal, "not a peer certificate: extension kind is missing");
	required = kinds[info->kind].required;
	for (enum extension each = 0; each < EXT_COUNT; each++) {
		if ((required & BIT(each)) && !(seen & BIT(each)))
			return refuse(refusal, "%s without extension %s", kinds[info->kind].name,
				extensions[each].name);
		if (each != EXT_FRIENDLY_NAME && !(required & BIT(each)) && (seen & BIT(each)))
			return refuse(refusal, "%s with extension %s", kinds[info->kind].name,
				extensions[each].name);
	}
	return 0;
}

/* Allowed signature algorithms, the same in both places (RFC 5280 section 4.1.1.2). */
static int read_signature(X509 *x509, char refusal[REFUSAL_BYTES])
{
	const X509_ALGOR *outer, *inner = X509_get0_tbs_sigalg(x509);
	const ASN1_BIT_STRING *signature;
	const ASN1_OBJECT *object;
	int parameter_kind, kind;

	X509_get0_signature(&signature, &outer, x509);
	X509_ALGOR_get0(&object, &parameter_kind, NULL, outer);
	kind = OBJ_obj2nid(object);
	if (kind != NID_ecdsa_with_SHA256 && kind != NID_ED25519)
		return refuse(refusal, "signature algorithm is neither ECDSA-SHA256 nor Ed25519");
	if (parameter_kind != V_ASN1_UNDEF || X509_ALGOR_cmp(outer, inner) != 0)
		return refuse(refusal, "signature algorithm is not given consistently");
	if (ASN1_STRING_length(signature) > SIGNATURE_BYTES_MAX)
		return refuse(refusal, "signature is too long");
	return 0;
}

static bool read_time(const ASN1_TIME *time, int64_t *time_s)
{
	struct tm parts;

	if (ASN1_TIME_check(time) != 1 || ASN1_TIME_to_tm(time, &parts) != 1)
		return false;
	*time_s = (int64_t)timegm(&parts);
	return true;
}

static bool read_serial(const X509 *x509, uint8_t serial[CERTIFICATE_SERIAL_BYTES])
{
	const ASN1_INTEGER *integer = X509_get0_serialNumber(x509);
	int bytes = ASN1_STRING_length(integer);

	if (ASN1_STRING_type(integer) != V_ASN1_INTEGER || bytes < 1 ||
		bytes > (int)CERTIFICATE_SERIAL_BYTES)
		return false; /* negative ones have another type */
	memset(serial, 0, CERTIFICATE_SERIAL_BYTES);
	memcpy(serial + CERTIFICATE_SERIAL_BYTES - bytes, ASN1_STRING_get0_data(integer),
		(size_t)bytes);
	return true;
}

static int read_fields(X509 *x509, struct certificate_info *info, char refusal[REFUSAL_BYTES])
{
	const ASN1_BIT_STRING *issuer_id, *subject_id;

	if (X509_get_version(x509) != X509_VERSION_3)
		return refuse(refusal, "certificate is not X.509 version 3");
	X509_get0_uids(x509, &issuer_id, &subject_id);
	if (issuer_id != NULL || subject_id != NULL)
		return refuse(refusal, "certificate with a unique id");
	if (read_signature(x509, refusal) < 0)
		return -EINVAL;
	if (key_spki_of_field(X509_get_X509_PUBKEY(x509), info->spki, &info->spki_bytes) < 0)
		return refuse(refusal, "key is neither P-256 nor Ed25519");
	if (!read_serial(x509, info->serial))
		return refuse(refusal, "serial number is not 1 to 16 bytes");
	if (!read_time(X509_get0_notBefore(x509), &info->valid_from_s) ||
		!read_time(X509_get0_notAfter(x509), &info->valid_to_s) ||
		info->valid_from_s > info->valid_to_s)
		return refuse(refusal, "validity period is malformed");
	return 0;
}

/* The subject is one common name: the authority, byte for byte, so that nobody reads another there. */
static bool subject_is(X509 *x509, const char *authority)
{
	const X509_NAME *subject = X509_get_subject_name(x509);
	const X509_NAME_ENTRY *entry;
	const ASN1_STRING *text;

	if (X509_NAME_entry_count(subject) != 1)
		return false;
	entry = X509_NAME_get_entry(subject, 0);
	text = X509_NAME_ENTRY_get_data(entry);
	if (ASN1_STRING_type(text) != V_ASN1_UTF8STRING &&
		ASN1_STRING_type(text) != V_ASN1_PRINTABLESTRING)
		return false;
	return OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry)) == NID_commonName &&
		ASN1_STRING_length(text) == (int)PEER_AUTHORITY_CHARS &&
		memcmp(ASN1_STRING_get0_data(text), authority, PEER_AUTHORITY_CHARS) == 0;
}

static int read_agreement(const struct certificate_info *info, char refusal[REFUSAL_BYTES])
{
	if (strncmp(info->name, info->authority, PEER_AUTHORITY_CHARS) != 0)
		return refuse(refusal, "%s: the key is not the one its name stands for",
			kinds[info->kind].name);
	if (info->kind == CERTIFICATE_GRC && strcmp(info->name, info->group) != 0)
		return refuse(refusal, "group root certificate: two group names");
	if (info->kind == CERTIFICATE_GMC && info->has_classifiers != (info->role != ROLE_ADMIN))
		return refuse(refusal, "membership certificate: classifiers do not fit the role");
	return 0;
}

int certificate_read(X509 *x509, struct certificate_info *info, char refusal[REFUSAL_BYTES])
{
	uint32_t seen = 0;

	memset(info, 0, sizeof(*info));
	refusal[0] = '\0';
	if (read_fields(x509, info, refusal) < 0)
		return -EINVAL;
	if (read_extensions(x509, info, &seen, refusal) < 0)
		return -EINVAL;
	if (read_presence(info, seen, refusal) < 0)
		return -EINVAL;
	if (info->kind == CERTIFICATE_GRC)
		info->role = ROLE_GROUP;
	peer_authority_of_key(info->spki, info->spki_bytes, info->authority);
	if (read_agreement(info, refusal) < 0)
		return -EINVAL;
	if (!subject_is(x509, info->authority))
		return refuse(refusal, "%s: its common name is not its key's authority",
			kinds[info->kind].name);
	return 0;
}

int certificate_key(X509 *x509, EVP_PKEY **key)
{
	uint8_t spki[KEY_SPKI_BYTES_MAX];
	size_t spki_bytes;

	/* Made when the certificate was read, or never. */
	*key = X509_get0_pubkey(x509);
	if (*key != NULL)
		return 0;
	if (key_spki_of_field(X509_get_X509_PUBKEY(x509), spki, &spki_bytes) < 0)
		return crypto_failure(-EINVAL);
	return key_spki_failure(spki, spki_bytes);
}

int certificate_verify(X509 *x509, X509 *issuer)
{
	EVP_PKEY *key;
	int status = certificate_key(issuer, &key), is_marked;

	if (status < 0)
		return status;
	is_marked =
		ERR_set_mark(); /* the caller may be inside a TLS handshake with its own error queue */
	if (X509_verify(x509, key) != 1)
		return crypto_failure_since(is_marked, -EINVAL);
	ERR_pop_to_mark();
	return 0;
}

int certificate_from_der(const uint8_t *der, size_t der_bytes, X509 **x509)
{
	const unsigned char *at = der;

	*x509 = NULL;
	if (der_bytes == 0 || der_bytes > CERTIFICATE_DER_BYTES_MAX)
		return -EINVAL;
	ERR_clear_error();
	*x509 = d2i_X509(NULL, &at, (long)der_bytes);
	if (*x509 == NULL)
		return crypto_failure(-EINVAL);
	ERR_clear_error();
	if (at == der + der_bytes)
		return 0;
	X509_free(*x509);
	*x509 = NULL;
	return -EINVAL;
}

int certificate_to_der(X509 *x509, uint8_t **der, size_t *der_bytes)
{
	unsigned char *out = NULL;
	int bytes = i2d_X509(x509, &out);

	if (bytes <= 0) {
		ERR_clear_error();
		return -ENOMEM;
	}
	*der = out;
	*der_bytes = (size_t)bytes;
	return 0;
}

/* ---- issuing ---------------------------------------------------------------------------- */

static int add_value(X509 *x509, enum extension which, const void *data, size_t bytes)
{
	ASN1_OBJECT *object = OBJ_txt2obj(extensions[which].text, 1);
	ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
	X509_EXTENSION *extension = NULL;
	int status = -ENOMEM;

	if (object == NULL || value == NULL || ASN1_OCTET_STRING_set(value, data, (int)bytes) != 1)
		goto done;
	extension = X509_EXTENSION_create_by_OBJ(NULL, object, extensions[which].critical, value);
	if (extension != NULL && X509_add_ext(x509, extension, -1) == 1)
		status = 0;
done:
	X509_EXTENSION_free(extension);
	ASN1_OCTET_STRING_free(value);
	ASN1_OBJECT_free(object);
	return status;
}

static int add_written(X509 *x509, enum extension which, const struct der_writer *writer)
{
	return writer->overflow ? -EINVAL : add_value(x509, which, writer->data, writer->bytes);
}

static int add_u32(X509 *x509, enum extension which, uint32_t value)
{
	const uint8_t bytes[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16),
		(uint8_t)(value >> 24)};

	return add_value(x509, which, bytes, sizeof(bytes));
}

static int add_text(X509 *x509, enum extension which, const char *text)
{
	struct der_writer writer = {.bytes = 0};

	der_put_value(&writer, DER_UTF8, text, strlen(text));
	return add_written(x509, which, &writer);
}

static int add_alternative(X509 *x509, enum extension which, const char *name)
{
	struct der_writer writer = {.bytes = 0};
	size_t begin;

	der_put_value(&writer, DER_OID, oid_peer_name, sizeof(oid_peer_name));
	begin = writer.bytes;
	der_put_value(&writer, DER_UTF8, name, strlen(name));
	der_wrap(&writer, begin, DER_CONTEXT_CONSTRUCTED(0));
	der_wrap(&writer, 0, DER_CONTEXT_CONSTRUCTED(0));
	der_wrap(&writer, 0, DER_SEQUENCE);
	return add_written(x509, which, &writer);
}

static int add_usage(X509 *x509)
{
	struct der_writer writer = {.bytes = 0};

	der_put_value(&writer, DER_OID, oid_usage_peer, sizeof(oid_usage_peer));
	der_put_value(&writer, DER_OID, oid_usage_server, sizeof(oid_usage_server));
	der_put_value(&writer, DER_OID, oid_usage_client, sizeof(oid_usage_client));
	der_wrap(&writer, 0, DER_SEQUENCE);
	return add_written(x509, EXT_KEY_USAGE, &writer);
}

static int add_classifiers(X509 *x509, enum peer_role role)
{
	struct der_writer writer = {.bytes = 0};

	if (role != ROLE_ADMIN)
		der_put_value(&writer, DER_UTF8, PARTICIPANT, strlen(PARTICIPANT));
	der_wrap(&writer, 0, DER_SEQUENCE);
	return add_written(x509, EXT_CLASSIFIERS, &writer);
}

/* The authority is the hash's first 20 bytes, and so the key id is the authority unhexed. */
static int add_authority_key(X509 *x509, EVP_PKEY *signer)
{
	struct der_writer writer = {.bytes = 0};
	uint8_t spki[KEY_SPKI_BYTES_MAX], digest[PEER_DIGEST_BYTES];
	size_t spki_bytes;
	int status;

	status = key_spki(signer, spki, &spki_bytes);
	if (status < 0)
		return status;
	peer_digest(spki, spki_bytes, digest);
	der_put_value(&writer, DER_CONTEXT(0), digest, 20);
	der_wrap(&writer, 0, DER_SEQUENCE);
	return add_written(x509, EXT_AUTHORITY_KEY, &writer);
}

static int add_membership(X509 *x509, const struct certificate_request *request, EVP_PKEY *signer)
{
	int status = add_alternative(x509, EXT_ISSUER_NAME, request->issuer);

	if (status == 0)
		status = add_value(x509, EXT_ROLES, role_guids[request->role], 16);
	if (status == 0)
		status = add_classifiers(x509, request->role);
	if (status == 0)
		status = add_authority_key(x509, signer);
	return status;
}

static int add_extensions(X509 *x509, const struct certificate_request *request, EVP_PKEY *signer)
{
	bool is_identity = request->kind == CERTIFICATE_IDC;
	int status = add_u32(x509, EXT_KIND, request->kind);

	if (status == 0)
		status = add_u32(x509, EXT_VERSION, CERTIFICATE_VERSION);
	if (status == 0)
		status = add_alternative(x509, EXT_SUBJECT_NAME, request->name);
	if (status == 0)
		status = add_u32(x509, is_identity ? EXT_IDENTITY_FLAGS : EXT_GROUP_FLAGS, 0);
	if (status == 0 && !is_identity)
		status = add_text(x509, EXT_GROUP_NAME, request->group);
	if (status == 0 && request->kind == CERTIFICATE_GMC)
		status = add_membership(x509, request, signer);
	if (status == 0)
		status = add_usage(x509);
	if (status == 0 && request->friendly_name != NULL && request->friendly_name[0] != '\0')
		status = add_text(x509, EXT_FRIENDLY_NAME, request->friendly_name);
	return status;
}

/* CN = authority: a fixed form of 40 characters (an X.520 common name holds 64). */
static int set_common_name(X509_NAME *name, const char *peer_name)
{
	const unsigned char *text = (const unsigned char *)peer_name;

	return X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_ASC, text,
		       (int)PEER_AUTHORITY_CHARS, -1, 0) == 1
		? 0
		: -ENOMEM;
}

static int set_serial(X509 *x509)
{
	uint8_t serial[CERTIFICATE_SERIAL_BYTES];
	BIGNUM *number;
	int status = -ENOMEM;

	if (RAND_bytes(serial, sizeof(serial)) != 1)
		return -ENOMEM;
	serial[0] = (uint8_t)((serial[0] & 0x7f) | 0x40); /* positive, and always 16 bytes */
	number = BN_bin2bn(serial, sizeof(serial), NULL);
	if (number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x509)) != NULL)
		status = 0;
	BN_free(number);
	return status;
}

static int set_key(X509 *x509, const uint8_t *spki, size_t spki_bytes)
{
	const unsigned char *at = spki;
	EVP_PKEY *key = d2i_PUBKEY(NULL, &at, (long)spki_bytes);
	bool is_set = key != NULL && X509_set_pubkey(x509, key) == 1;

	EVP_PKEY_free(key);
	/* Else the right form, but perhaps not a point of the curve. */
	return is_set ? 0 : key_spki_failure(spki, spki_bytes);
}

static int set_fields(X509 *x509, const struct certificate_request *request)
{
	const char *issuer = request->kind == CERTIFICATE_GMC ? request->issuer : request->name;
	int status = set_serial(x509);

	if (status == 0 && X509_set_version(x509, X509_VERSION_3) != 1)
		status = -ENOMEM;
	if (status == 0)
		status = set_common_name(X509_get_subject_name(x509), request->name);
	if (status == 0)
		status = set_common_name(X509_get_issuer_name(x509), issuer);
	if (status == 0 &&
		(ASN1_TIME_set(X509_getm_notBefore(x509), (time_t)request->valid_from_s) == NULL ||
			ASN1_TIME_set(X509_getm_notAfter(x509), (time_t)request->valid_to_s) ==
				NULL))
		status = crypto_failure(-EINVAL);
	if (status == 0)
		status = set_key(x509, request->spki, request->spki_bytes);
	return status;
}

static bool request_is_valid(const struct certificate_request *request)
{
	const char *friendly_name = request->friendly_name != NULL ? request->friendly_name : "";

	if (!peer_name_is_secure(request->name) ||
		!key_spki_is_valid(request->spki, request->spki_bytes) ||
		!peer_text_fits(friendly_name, PEER_TEXT_UNITS_MAX))
		return false;
	if (request->valid_from_s > request->valid_to_s)
		return false;
	if (request->kind == CERTIFICATE_IDC)
		return true;
	if (!peer_name_is_secure(request->group))
		return false;
	if (request->kind == CERTIFICATE_GRC)
		return true;
	return peer_name_is_secure(request->issuer) && request->role >= ROLE_MEMBER &&
		request->role <= ROLE_ADMIN;
}

int certificate_issue(const struct certificate_request *request, EVP_PKEY *signer, X509 **x509)
{
	const EVP_MD *digest;
	X509 *made;
	int status;

	*x509 = NULL;
	ERR_clear_error();
	if (!request_is_valid(request) || !key_is_allowed(signer))
		return crypto_failure(-EINVAL);
	made = X509_new();
	if (made == NULL)
		return -ENOMEM;
	status = set_fields(made, request);
	if (status == 0)
		status = add_extensions(made, request, signer);
	digest = key_is_ed25519(signer) ? NULL : EVP_sha256();
	if (status == 0 && X509_sign(made, signer, digest) <= 0)
		status = -ENOMEM;
	ERR_clear_error();
	if (status < 0) {
		X509_free(made);
		return status;
	}
	*x509 = made;
	return 0;
}
