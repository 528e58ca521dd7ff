/*
 * A group for fuzz targets: keys and certificates made once, the same in every run, and certificates
 * whose extensions an input bends before they are signed again, so that what is looked at behind the
 * signature is reached.
 */
#ifndef PEERHUB_TESTS_FUZZ_GROUP_H
#define PEERHUB_TESTS_FUZZ_GROUP_H

#include "api/trust.h"
#include "tests/fuzz/input.h"

#define GROUP_NOW_S 1800000000ll

struct member {
	EVP_PKEY *key;
	char name[PH_NAME_BYTES_MAX];
	uint8_t spki[KEY_SPKI_BYTES_MAX];
	size_t spki_bytes;
};

static inline void member_make(struct member *member, bool is_ed25519, const char *classifier)
{
	char authority[PEER_AUTHORITY_BYTES];

	member->key = is_ed25519 ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519") : key_create();
	FUZZ_MUST(member->key != NULL);
	FUZZ_MUST(key_spki(member->key, member->spki, &member->spki_bytes) == 0);
	peer_authority_of_key(member->spki, member->spki_bytes, authority);
	FUZZ_MUST(peer_name_make(authority, classifier, member->name) == 0);
}

/* NULL group: a certificate of its own (IDC); issuer == group: the root issues. */
static inline X509 *member_certify(const struct member *subject, const struct member *issuer,
	const struct member *group, enum peer_role role)
{
	struct certificate_request request = {
		.kind = group == NULL	   ? CERTIFICATE_IDC
			: subject == group ? CERTIFICATE_GRC
					   : CERTIFICATE_GMC,
		.name = subject->name,
		.friendly_name = "Somebody",
		.group = group != NULL ? group->name : NULL,
		.issuer = subject != issuer ? issuer->name : NULL,
		.role = role,
		.valid_from_s = GROUP_NOW_S - 1000,
		.valid_to_s = GROUP_NOW_S + 1000000,
		.spki = subject->spki,
		.spki_bytes = subject->spki_bytes,
	};
	X509 *x509;

	FUZZ_MUST(certificate_issue(&request, issuer->key, &x509) == 0);
	return x509;
}

static inline void member_sign(X509 *x509, const struct member *issuer)
{
	FUZZ_MUST(X509_sign(x509, issuer->key, key_is_ed25519(issuer->key) ? NULL : EVP_sha256()) >
		0);
}

/* Extensions by number: those that we know first, then any of the certificate's. */
static inline void extension_bend(X509 *x509, struct input *input)
{
	static const char *const names[] = {"1.3.6.1.4.1.311.44.0.1", "1.3.6.1.4.1.311.44.0.4",
		"2.5.29.17", "2.5.29.18", "1.3.6.1.4.1.311.44.3.1", "1.3.6.1.4.1.311.44.2.2",
		"1.3.6.1.4.1.311.44.3.2", "1.3.6.1.4.1.311.44.3.3", "1.3.6.1.4.1.311.44.3.5",
		"2.5.29.35", "2.5.29.37", "2.25.65306297556662368685046784727758577691",
		"2.5.29.19", "2.5.29.15", "2.25.1.1"};
	uint8_t what = input_byte(input);
	ASN1_OBJECT *object = OBJ_txt2obj(names[what % 15], 1);
	int index = X509_get_ext_by_OBJ(x509, object, -1);
	X509_EXTENSION *extension = index >= 0 ? X509_get_ext(x509, index) : NULL;
	ASN1_OCTET_STRING *value;
	const uint8_t *taken;
	size_t bytes, at;

	switch (what >> 5) {
	case 0:
	case 1:
	case 2:
		/* A byte of what is there. */
		if (extension == NULL)
			break;
		value = X509_EXTENSION_get_data(extension);
		at = input_byte(input);
		if (ASN1_STRING_length(value) > 0)
			((uint8_t *)(uintptr_t)ASN1_STRING_get0_data(
				value))[at % (size_t)ASN1_STRING_length(value)] = input_byte(input);
		break;
	case 3:
		if (index >= 0)
			X509_EXTENSION_free(X509_delete_ext(x509, index));
		break;
	case 4:
		if (extension != NULL)
			(void)X509_EXTENSION_set_critical(extension, what & 16 ? 1 : 0);
		break;
	default:
		/* All of it, added or in its place. */
		taken = input_take(input, input_byte(input), &bytes);
		value = ASN1_OCTET_STRING_new();
		FUZZ_MUST(value != NULL && ASN1_OCTET_STRING_set(value, taken, (int)bytes) == 1);
		if (index >= 0 && what >> 5 < 7)
			X509_EXTENSION_free(X509_delete_ext(x509, index));
		extension = X509_EXTENSION_create_by_OBJ(NULL, object, what & 16 ? 1 : 0, value);
		FUZZ_MUST(extension != NULL && X509_add_ext(x509, extension, -1) == 1);
		X509_EXTENSION_free(extension);
		ASN1_OCTET_STRING_free(value);
		break;
	}
	ASN1_OBJECT_free(object);
}

/* The fields outside of extensions. */
static inline void field_bend(X509 *x509, struct input *input, const struct member *other)
{
	uint8_t what = input_byte(input);
	X509_NAME *name;
	const uint8_t *taken;
	size_t bytes;

	switch (what % 8) {
	case 0:
		(void)X509_set_version(x509, what >> 4 & 3);
		break;
	case 1:
		(void)ASN1_TIME_adj(X509_getm_notBefore(x509), GROUP_NOW_S,
			(int)input_number(input, 2) - 30000, 0);
		break;
	case 2:
		(void)ASN1_TIME_adj(X509_getm_notAfter(x509), GROUP_NOW_S,
			(int)input_number(input, 2) - 30000, 0);
		break;
	case 3:
		taken = input_take(input, what >> 4, &bytes);
		(void)ASN1_STRING_set(X509_get_serialNumber(x509), taken, (int)bytes);
		break;
	case 4:
	case 5:
		name = X509_NAME_new();
		taken = input_take(input, input_byte(input) % 60, &bytes);
		(void)X509_NAME_add_entry_by_NID(name,
			what & 16 ? NID_commonName : NID_organizationName,
			what & 32 ? V_ASN1_BMPSTRING : V_ASN1_UTF8STRING, taken, (int)bytes, -1, 0);
		if (what & 64)
			(void)X509_NAME_add_entry_by_NID(name, NID_commonName,
				V_ASN1_PRINTABLESTRING, (const uint8_t *)"two", 3, -1, 0);
		(void)(what % 8 == 4 ? X509_set_subject_name(x509, name)
				     : X509_set_issuer_name(x509, name));
		X509_NAME_free(name);
		break;
	case 6:
		(void)X509_set_pubkey(x509, other->key);
		break;
	default:
		taken = input_take(input, 1 + (what >> 4), &bytes);
		(void)ASN1_TIME_set_string(X509_getm_notAfter(x509), "99991231235959Z");
		if (bytes > 1)
			(void)ASN1_STRING_set(X509_getm_notBefore(x509), taken, (int)bytes);
		break;
	}
}

#endif
